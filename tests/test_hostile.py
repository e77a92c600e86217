"""Hostile inputs end in a right sample or one clear line; and what tries them notices when they do not."""

import csv
import io
import sys
import time
import warnings

import pytest
from conftest import REPOSITORY

from benchmarks.hostile import __main__ as benchmark
from benchmarks.hostile import harness
from benchmarks.hostile.harness import REFUSED, RIGHT, VIOLATION, Kind, Trial, all_kinds, counts, run_case, run_command
from mula_lib.files import DataError

SEED = 20_180_908  # other cases than the benchmark's
CASES = {
    "photograph": 4, "tree check": 12, "LIP tree": 20, "PASCAL-Person-Part tree": 20, "predicted masks": 25,
    "files of a run": 25, "network for photographs": 20,
}  # fmt: skip
FEW = 60  # cases of the other kinds


@pytest.mark.parametrize("name", all_kinds())
def test_hostile_inputs_end_in_a_right_sample_or_in_one_clear_line(name):
    outcomes = [run_case(all_kinds()[name], SEED, number) for number in range(CASES.get(name, FEW))]
    assert [str(each) for each in outcomes if each.end == VIOLATION] == []
    assert {each.end for each in outcomes} == {RIGHT, REFUSED}


def judged(**changes) -> harness.Outcome:
    """How a trial ends that reads 5 from a file of the name a.txt, but for what ``changes`` says."""

    def make(folder, rng):
        asked = {"what": "", "act": lambda: 5, "names": ("a.txt",), "judge": require_5} | changes
        return Trial(**asked)

    return run_case(Kind("of this test", 1, make), 0, 0)


def require_5(found):
    assert found == 5, f"{found} instead of 5"


def raises(error):
    def act():
        raise error

    return act


def prints(text, status=0):
    def main(arguments):
        print(text, file=sys.stderr)
        return status

    return main


def test_a_right_sample_and_a_clear_line_are_allowed():
    assert judged().end == RIGHT
    assert judged(act=raises(DataError("a.txt: not a number; write one"))).end == REFUSED


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"act": lambda: 6}, "6 instead of 5"),
        ({"act": lambda: {}["a.txt"]}, "KeyError: 'a.txt' [test_hostile.py, line"),
        ({"act": raises(OSError(5, "Input/output error", "a.txt"))}, "OSError: "),
        ({"act": raises(DataError("the file is damaged"))}, "names none of a.txt: the file is damaged"),
        ({"act": raises(DataError("a.txt: damaged\nTraceback"))}, "not one printable line"),
        ({"act": raises(DataError("a.txt: " + "damaged " * 50))}, "characters: a.txt"),
        ({"act": lambda: warnings.warn("odd", stacklevel=1) or 5}, "warned: odd"),
        ({"act": lambda: print("odd") or 5}, "printed: odd"),
        ({"must": REFUSED}, "right, but must be refused"),
        ({"act": raises(DataError("a.txt: no")), "must": RIGHT}, "refused, but must be right. a.txt: no"),
        ({"after": raises(AssertionError("left over"))}, "left over"),
        ({"act": lambda: run_command(prints("Traceback …"), [])}, "status 0, but stderr has: Traceback"),
        ({"act": lambda: run_command(prints("a.txt: no", 2), [])}, "status 2, but stderr has: 'a.txt: no"),
        ({"act": lambda: run_command(prints("error: a.txt: no\nat line 3", 2), [])}, "status 2, but stderr has"),
    ],
)  # fmt: skip
def test_everything_else_is_a_violation(changes, why):
    outcome = judged(**changes)
    assert outcome.end == VIOLATION
    assert why in outcome.why


def test_what_does_not_end_is_a_violation(monkeypatch):
    monkeypatch.setattr(harness, "LONGEST", 0.2)
    outcome = judged(act=lambda: time.sleep(20))
    assert outcome.end == VIOLATION
    assert "more than 0.2 seconds" in outcome.why


def test_the_line_of_a_command_is_judged_like_a_message():
    assert judged(act=lambda: run_command(prints("error: a.txt: no", 2), [])).end == REFUSED
    assert judged(act=lambda: run_command(prints("error: no", 2), [])).end == VIOLATION


def test_a_case_can_be_repeated_from_what_names_it():
    kind = all_kinds()["mask"]
    written = []

    def make(folder, rng):
        trial = kind.make(folder, rng)
        written.append(sorted((path.name, path.lstat().st_size) for path in folder.iterdir()))
        return trial

    for seed, number in ((0, 3), (0, 4), (1, 3), (0, 3)):
        run_case(Kind(kind.name, 1, make), seed, number)
    assert written[0] == written[3]
    assert written[0] != written[1] or written[0] != written[2]


def test_every_kind_gets_its_share_of_the_cases():
    kinds = list(all_kinds().values())
    dealt = counts(kinds, 10_000)
    assert sum(dealt.values()) >= 10_000
    assert all(number >= 1 for number in dealt.values())


def test_every_variant_is_a_row_of_what_is_published():
    outcomes = [
        harness.Outcome("mask", 0, number, what, end)
        for number, (what, end) in enumerate([("cut", REFUSED), ("cut", RIGHT), ("palette", RIGHT)])
    ]
    rows = list(csv.DictReader(io.StringIO(benchmark.as_csv(outcomes))))
    assert [row["variant"] for row in rows] == ["cut", "palette"]
    assert rows[0] == {
        "kind": "mask", "variant": "cut", "cases": "2", "right samples": "1", "clear errors": "1", "violations": "0",
    }  # fmt: skip


def test_what_is_published_has_10000_cases_of_every_kind_without_a_violation():
    with open(REPOSITORY / "benchmarks" / "hostile.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["cases"]) for row in rows) >= 10_000
    assert {row["violations"] for row in rows} == {"0"}
    assert {row["kind"] for row in rows} == set(all_kinds())
    assert all(int(row["right samples"]) + int(row["clear errors"]) == int(row["cases"]) for row in rows)


def test_the_page_has_the_numbers_that_are_published():
    page = (REPOSITORY / "docs" / "robustness.md").read_text(encoding="utf-8")
    with open(REPOSITORY / "benchmarks" / "hostile.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for kind in (*all_kinds(), "all"):
        own = [row for row in rows if kind in (row["kind"], "all")]
        sums = [sum(int(row[name]) for row in own) for name in ("cases", "right samples", "clear errors", "violations")]
        assert f"\n| {kind} | {' | '.join(f'{number:,}' for number in (len(own), *sums))} |\n" in page


def test_the_command_says_of_a_part_what_became_of_it(capsys):
    assert benchmark.main(["--kind", "list of ids", "--cases", "20", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "list of ids" in out
    assert "20 cases" in out
    assert benchmark.main(["--kind", "mask", "--case", "3"]) == 0
    assert "mask, seed 0, case 3" in capsys.readouterr().out


def test_trials_get_an_empty_folder_that_is_gone_afterwards():
    folders = []

    def make(folder, rng):
        assert list(folder.iterdir()) == []
        folders.append(folder)
        (folder / "inner").mkdir()
        return Trial("", lambda: rng.integers(9), (), lambda found: None)

    assert run_case(Kind("of this test", 1, make), 0, 0).end == RIGHT
    assert not folders[0].exists()
