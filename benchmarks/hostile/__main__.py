"""``python -m benchmarks.hostile``: tries hostile inputs of every kind and publishes what was tried."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.hostile.harness import REFUSED, RIGHT, VIOLATION, Outcome, all_kinds, counts, run_case
from mula_lib.files import write_text

RESULTS = Path(__file__).parents[1] / "hostile.csv"
CASES = 12_000
_SHOWN, _LONGEST = 30, 600  # violations printed, and characters of each


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 no violations, 1 some."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    kinds = all_kinds()
    parser.add_argument("--cases", type=int, default=CASES, help=f"of all kinds together; default: {CASES:,}")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--kind", choices=sorted(kinds), action="append", help="repeatable; default: all")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="this one only, as a violation names it")
    options = parser.parse_args(arguments)
    chosen = [kinds[name] for name in options.kind or kinds]
    numbers = {name: range(count) for name, count in counts(chosen, options.cases).items()}
    if options.case is not None:
        numbers = {each.name: [options.case] for each in chosen}
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    with tqdm(total=sum(map(len, numbers.values())), unit="case", disable=None) as bar:
        for each in chosen:
            bar.set_description(each.name)
            for number in numbers[each.name]:
                outcomes.append(run_case(each, options.seed, number))
                bar.update()
    if options.case is not None:
        print("\n".join(f"{each.end}: {each}" for each in outcomes))
    else:
        _report(outcomes, time.perf_counter() - started)
    if options.kind is None and options.case is None:  # a part is not what is published
        write_text(RESULTS, as_csv(outcomes))
        print(f"written: {RESULTS.name}")
    return 1 if any(each.end == VIOLATION for each in outcomes) else 0


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """A row a variant: how many cases were tried, and how they ended."""
    ends = Counter((each.kind, each.what, each.end) for each in outcomes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "variant", "cases", "right samples", "clear errors", "violations"])
    for kind, what in sorted({(each.kind, each.what) for each in outcomes}):
        numbers = [ends[kind, what, end] for end in (RIGHT, REFUSED, VIOLATION)]
        writer.writerow([kind, what, sum(numbers), *numbers])
    return text.getvalue()


def _report(outcomes: Sequence[Outcome], seconds: float) -> None:
    violations = [each for each in outcomes if each.end == VIOLATION]
    for each in violations[:_SHOWN]:
        print(f"{each!s:.{_LONGEST}}")
    ends = Counter((each.kind, each.end) for each in outcomes)
    variants = Counter(kind for kind, _ in {(each.kind, each.what) for each in outcomes})
    print(f"{'kind':32}{'variants':>10}{'cases':>8}{'right':>8}{'refused':>9}{'violations':>12}")
    for kind in dict.fromkeys(each.kind for each in outcomes):
        numbers = [ends[kind, end] for end in (RIGHT, REFUSED, VIOLATION)]
        print(f"{kind:32}{variants[kind]:>10}{sum(numbers):>8,}{numbers[0]:>8,}{numbers[1]:>9,}{numbers[2]:>12,}")
    print(f"{len(outcomes):,} cases in {seconds:.0f} s, {len(violations):,} violations")


if __name__ == "__main__":
    sys.exit(main())
