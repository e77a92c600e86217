"""Verdicts on the paper's claims: the fast bootstrap against a slow one; and runs compared image by image."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import workbook.runs as runs_module
from mula_lib.anatomy import LIP, PASCAL
from mula_lib.evaluation import CrowdEvaluation, Evaluation
from mula_lib.files import DataError, write_json
from mula_lib.metrics.people import Matches
from workbook import claims
from workbook.claims import better_on_both, draw_pictures, interval, resampled
from workbook.experiments import SMOKE, find_experiment
from workbook.inspection import changes, image_gains, image_scores, telling_images
from workbook.runs import Run
from workbook.tables import table_rows

PARTS, JOINTS = len(LIP.parts), len(LIP.joints)
PICTURES = 60


def one_person(seed, *, hit=0.6, right=0.7, pictures=PICTURES):
    """Counts of made-up pictures: joints are hits with probability ``hit``, pixels right with about ``right``."""
    rng, same = np.random.default_rng(seed), np.random.default_rng(99)
    hits = (rng.random((pictures, JOINTS)) < hit).astype(float)
    hits[same.random((pictures, JOINTS)) < 0.1] = np.nan
    true = same.multinomial(400, np.full(PARTS, 1 / PARTS), size=pictures)
    correct = rng.binomial(true, right)
    confusions = np.zeros((pictures, PARTS, PARTS), np.int64)
    confusions[:, range(PARTS), range(PARTS)] = correct
    confusions[:, range(PARTS), np.roll(range(PARTS), 1)] = true - correct
    return Evaluation(tuple(f"p{n}" for n in range(pictures)), confusions, hits)


def crowd(seed, pictures=40):
    rng = np.random.default_rng(seed)
    joints = len(PASCAL.joints)

    def one():
        found, score = rng.integers(1, joints, 30), rng.integers(0, 20, 30) / 20  # no joint 0; many equal scores
        there = rng.integers(1, 4, joints)
        return Matches(found, score, rng.random(30) < score, np.ones(30, bool), there, there)

    names, shape = tuple(f"c{n}" for n in range(pictures)), (pictures, len(PASCAL.parts), len(PASCAL.parts))
    return CrowdEvaluation(names, rng.integers(0, 50, shape), tuple(one() for _ in names))


def drawn_one_by_one(found, places):
    """The pictures at ``places``, each as often as it occurs there."""
    fields = {"confusions": found.confusions[places]}
    if isinstance(found, Evaluation):
        fields["hits"] = found.hits[places]
    else:
        fields["matches"] = tuple(found.matches[place] for place in places)
    return replace(found, names=tuple(found.names[place] for place in places), **fields)


@pytest.mark.parametrize("metric", ["PCK", "mIoU", "PixelAcc", "MeanAcc", "mAP"])
def test_resampled_scores_are_the_metrics_of_the_pictures_drawn(metric):
    found, anatomy = (crowd(0), PASCAL) if metric == "mAP" else (one_person(0), LIP)
    weights = draw_pictures(len(found.names), 20)
    places = [np.repeat(np.arange(len(row)), row.astype(int)) for row in weights]
    expected = [drawn_one_by_one(found, each).scores(anatomy)[metric] for each in places]
    np.testing.assert_allclose(resampled(found, metric, weights), expected, rtol=1e-12)


def test_the_interval_is_that_of_an_independent_slow_bootstrap():
    seeds = 3
    first = [one_person(seed, hit=0.60 + 0.02 * seed) for seed in range(seeds)]
    second = [one_person(10 + seed, hit=0.55) for seed in range(seeds)]
    weights = draw_pictures(PICTURES)
    fast = interval(np.stack([resampled(a, "PCK", weights) - resampled(b, "PCK", weights)
                              for a, b in zip(first, second, strict=True)]))  # fmt: skip

    def pck(found, places):
        return drawn_one_by_one(found, places).scores(LIP)["PCK"]

    rng, means = np.random.default_rng(5), []
    for _ in range(1500):
        chosen, places = rng.integers(seeds, size=seeds), rng.integers(PICTURES, size=PICTURES)
        means.append(np.mean([pck(first[s], places) - pck(second[s], places) for s in chosen]))
    np.testing.assert_allclose(fast[1:], np.percentile(means, [2.5, 97.5]), atol=0.7)
    every = range(PICTURES)
    exact = np.mean([pck(a, every) - pck(b, every) for a, b in zip(first, second, strict=True)])
    assert fast[0] == pytest.approx(exact)


def test_pictures_better_on_both_tasks_are_counted_one_by_one():
    first, second = one_person(0, hit=0.7), one_person(1)
    better = [
        all(first.only(n).scores(LIP)[metric] > second.only(n).scores(LIP)[metric] for metric in ("PCK", "mIoU"))
        for n in range(PICTURES)
    ]
    assert better_on_both(first, second, np.ones((1, PICTURES))) == pytest.approx(100 * np.mean(better))


def study(*, pictures=PICTURES, seeds=(0, 1, 2), without=(), **hits):
    """Counts of every system of the claims, ``hits`` by system; the rest hit 60 % of the joints."""

    def counts(name, seed):
        if name in without or seed not in seeds:
            return None
        number = sum(map(ord, name)) * 7 + seed
        return crowd(number) if name.endswith("crowds") else one_person(
            number, hit=hits.get(name, 0.6), right=hits.get(name, 0.6), pictures=pictures
        )  # fmt: skip

    return counts


MULA, FCN = "VGG16-FCN-MuLA", "VGG16-FCN"


def verdicts(counts, measured=None):
    return claims.verdicts(claims.measure(counts), measured or {}).set_index("id")


def test_a_known_effect_is_found_and_its_reverse_refuted():
    table = verdicts(study(**{MULA: 0.8, FCN: 0.6, "HG-2s-1u-MuLA": 0.5, "HG-2×1u": 0.7}))
    assert table.loc[["C01", "C02"], "verdict"].tolist() == ["supported"] * 2
    assert table.loc[["C10", "C19"], "verdict"].tolist() == ["not supported"] * 2
    assert 15 < table.loc["C01", "ours"] < 25
    assert table.loc["C01", "ci95_low"] < table.loc["C01", "ours"] < table.loc["C01", "ci95_high"]
    assert table.loc["C01", "n"] == 3 * PICTURES
    assert "Refuted" in table.loc["C10", "meaning"]
    assert "To settle it" in table.loc["C10", "meaning"]


def test_what_two_equal_systems_differ_in_is_undecided():
    same = one_person(0)
    table = verdicts(lambda name, seed: crowd(seed) if name.endswith("crowds") else same)
    assert table.loc["C01", ["ours", "ci95_low", "ci95_high", "verdict"]].tolist() == [0, 0, 0, "undecided"]
    assert table.loc["C12", "verdict"] == "supported"  # a sixth stage gains less than a point
    assert table.loc["C15", "verdict"] == "undecided"


@pytest.mark.parametrize(("given", "why"), [({"without": (MULA,)}, f"Not run: {MULA}"), ({"seeds": (0,)}, "few")])
def test_without_counts_or_seeds_nothing_is_decided_and_the_reason_is_given(given, why):
    table = verdicts(study(**{MULA: 0.9, FCN: 0.4}, **given))
    assert table.loc[["C03", "C08"], "verdict"].tolist() == ["undecided"] * 2
    assert why in table.loc["C08", "meaning"]
    assert verdicts(study(seeds=()))["verdict"].eq("undecided").all()


def test_one_comparison_refutes_a_claim_whatever_is_missing_of_the_others():
    full = study(**{MULA: 0.4})
    table = verdicts(lambda name, seed: full(name, seed) if name != f"{FCN}-LA-Parsing" or seed == 0 else None)
    assert table.loc["C08", "verdict"] == "not supported"
    assert f"{MULA} − {FCN}-LA-Pose (seeds: 3" in table.loc["C08", "meaning"]
    table = verdicts(lambda name, seed: full(name, seed) if name != f"{FCN}-LA-Parsing" else None)
    assert table.loc["C08", "verdict"] == "not supported"
    assert table.loc["C07", "verdict"] == "undecided"


def test_a_claim_hangs_on_its_weakest_effect():
    lines = claims.measure(study(**{MULA: 0.9, f"{FCN}-LA-Parsing": 0.85}))
    lines = lines[lines["id"] == "C08"]
    row = claims.verdicts(lines, {}).set_index("id").loc["C08"]
    assert row["ours"] == round(lines["ours"].min(), 2)
    assert f"{FCN}-LA-Parsing" in row["meaning"]


def test_counts_of_different_pictures_are_refused():
    def counts(name, seed):
        return one_person(0, pictures=20 if name == FCN else 30) if not name.endswith("crowds") else None

    with pytest.raises(DataError, match="different pictures"):
        claims.measure(counts)


def test_the_same_counts_give_the_same_table():
    measured = {"C17": (64, 64, 64, 1, "supported"), "C18": (40.0, 30.0, 50.0, 30, "not supported")}
    table, again = (claims.verdicts(claims.measure(study()), measured) for _ in range(2))
    pd.testing.assert_frame_equal(table, again)
    assert tuple(table.columns) == (*claims.COLUMNS, "meaning")
    assert table["id"].tolist() == [f"C{n:02d}" for n in range(1, 20)] + ["B01", "B02", "B03", "D01"]
    assert set(table["verdict"]) <= {"supported", "not supported", "undecided"}
    assert table.set_index("id").loc[["C17", "C18"], "verdict"].tolist() == ["supported", "not supported"]


def test_the_papers_differences_are_those_of_its_tables():
    paper = {}
    for row in (*table_rows(1), *table_rows(2)):
        paper |= {(row.name, metric): number for metric, number in row.paper.items()}
    checked = 0
    for effect in (effect for claim in claims.CLAIMS for effect in claim["effects"]):
        keys = [(name, effect.metric) for name in effect.weights]
        if effect.paper is not None and all(key in paper for key in keys):
            expected = sum(weight * paper[key] for key, weight in zip(keys, effect.weights.values(), strict=True))
            assert effect.paper == pytest.approx(expected, abs=0.05), str(effect)
            checked += 1
    assert checked > 25


def test_counts_are_those_of_runs_of_one_person_and_of_several_and_those_of_exchanged_kernels(
    tmp_path, monkeypatch, source, crowds
):
    monkeypatch.setattr(runs_module, "RESULTS", tmp_path)
    monkeypatch.setattr(Run.__init__, "__defaults__", (0, tmp_path / "runs"))
    run = Run(find_experiment("HG-2×1u"), SMOKE.for_crowds(), crowds)
    run.shipped_counts.parent.mkdir(parents=True)
    crowd(0).save(run.shipped_counts)
    write_json(run.shipped_counts.with_suffix(".json"), {"testing_fingerprint": run.testing_fingerprint})
    one_person(0).save(run.shipped_counts.with_name("hg-2x1u-its-own-kernels-seed-1.npz"))
    counts = claims.study_counts(SMOKE, source, crowds)
    np.testing.assert_array_equal(counts("HG-2×1u (its own kernels)", 1).hits, one_person(0).hits)
    assert isinstance(counts("HG-2×1u crowds", 0), CrowdEvaluation)
    for missing in ("HG-2×1u", "HG-2s-1u-MuLA crowds", "VGG16-FCN-MuLA (another image's kernels)"):
        assert counts(missing, 0) is None
    assert claims.study_counts(SMOKE, source, None)("HG-2×1u crowds", 0) is None


def test_the_score_of_an_image_is_its_own_by_the_metrics_that_are_asked_for() -> None:
    right, wrong = np.zeros((2, PARTS, PARTS), dtype=np.int64)
    right[0, 0] = right[2, 2] = 5
    wrong[0, 2] = wrong[2, 0] = 5
    hits = np.stack([np.ones(JOINTS), np.zeros(JOINTS), np.full(JOINTS, np.nan)])
    evaluation = Evaluation(("a", "b", "c"), np.stack([right, wrong, right]), hits)
    assert image_scores(evaluation, LIP)[:2].tolist() == pytest.approx([100, 0])
    assert np.isnan(image_scores(evaluation, LIP)["c"])
    assert image_scores(evaluation, LIP, ["mIoU"]).tolist() == pytest.approx([100, 0, 100])
    assert image_scores(evaluation, LIP, ["PCK"])[:2].tolist() == pytest.approx([100, 0])


def test_the_images_to_look_at_are_the_best_the_median_and_the_worst() -> None:
    gains = pd.Series({"a": 1.0, "b": -7.0, "c": 9.0, "d": 0.0, "e": 2.0})
    assert telling_images(gains) == {"c": "largest gain", "a": "median", "b": "largest loss"}
    assert list(telling_images(pd.Series({"only": 0.0}))) == ["only"]


def test_images_are_spread_from_gain_to_loss_and_none_comes_twice() -> None:
    gains = pd.Series(np.arange(12.0)[::-1], index=[f"i{n:02d}" for n in range(12)])
    assert list(telling_images(gains, 2)) == ["i00", "i01", "i05", "i06", "i10", "i11"]
    assert list(telling_images(gains[:4], 3)) == ["i00", "i02", "i03"]


def test_what_changed_on_an_image_is_what_its_counts_say(make_run, source, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path)
    recipe = replace(make_run().recipe, epochs=1)
    before, after = (make_run(name, recipe=recipe).do() for name in ("VGG16-FCN", "VGG16-FCN-MuLA"))
    name = before.evaluation().names[0]
    ((corrected, lost),) = changes([name], before, after)
    hits = [run.evaluation().hits[0] for run in (before, after)]
    assert corrected.tolist() == [(a, b) == (0, 1) for a, b in zip(*hits, strict=True)]
    assert not (corrected & lost).any()
    gains = image_gains(after, before, ["mIoU"])
    assert list(gains.index) == list(before.evaluation().names)
