"""A verdict on each of the paper's claims, with an interval: ``paper_claims.json`` tested against per-image counts.

A claim is tested by *effects*, weighted sums of systems' scores in points, each claimed to be on one side of a limit.
It is supported if all their intervals lie on that side, not supported if one lies wholly on the other side, and
undecided otherwise, as when counts are missing or seeds too few. Intervals come from a paired hierarchical bootstrap
over per-image counts: how far a score moves with other pictures and other seeds.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from timeit import timeit

import numpy as np
import pandas as pd
import torch

from mula_lib.anatomy import LIP
from mula_lib.evaluation import CrowdEvaluation, Evaluation, load_evaluation
from mula_lib.files import ConfigError, DataError
from mula_lib.metrics.parsing import ratio
from mula_lib.metrics.people import average_precision
from mula_lib.metrics.pose import NOT_IN_AVERAGE
from mula_lib.models.network import build_model
from workbook.datasets import Source
from workbook.experiments import Profile, find_experiment, slug
from workbook.runs import Run, results_folder

DRAWS = 2000  # resamples of an interval
ENOUGH_SEEDS = 2  # with one, an interval cannot show how training runs differ
TIMINGS = 200  # of each network; with 20 the interval reached over the limit in one run and not in the next
LEVEL = 0.1  # points: rows closer than this are equally good
SMALL_OVERHEAD = 25.0  # percent of the baseline's time
BOTH = "better on both, %"  # in place of a metric: PCK and mIoU of the same picture
CROWDS = " crowds"  # ends the name of a network for several people
COLUMNS = ("id", "claim", "paper_evidence", "ours", "ci95_low", "ci95_high", "n", "verdict")

Counts = Callable[[str, int], "Evaluation | CrowdEvaluation | None"]  # of a system and a seed; None where not run


@dataclass(frozen=True)
class Effect:
    """``metric`` of each system times its weight, added up: claimed to be above ``limit``, or below it."""

    metric: str
    weights: Mapping[str, float]
    paper: float | None = None  # the same sum of the paper's numbers
    limit: float = 0.0
    below: bool = False

    def __str__(self) -> str:
        if self.metric == BOTH:
            return "the share of pictures better on both tasks, {} against {}".format(*self.weights)
        signs = {1: "+", -1: "−", -2: "− 2 ×"}
        return f"{self.metric} of " + " ".join(f"{signs[w]} {n}" for n, w in self.weights.items()).removeprefix("+ ")


CLAIMS = json.loads(Path(__file__).with_name("paper_claims.json").read_text(encoding="utf-8"))
for _claim in CLAIMS:  # each a row of claims.csv; without effects it is counted or timed: measured_claims
    _claim["effects"] = [Effect(**effect) for effect in _claim["effects"]]


def draw_pictures(pictures: int, draws: int = DRAWS) -> np.ndarray:
    """(1 + draws, pictures) how often each picture is drawn, with replacement; once each in the first row."""
    drawn = np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)
    return np.vstack([np.ones(pictures), drawn])


def interval(drawn: np.ndarray) -> tuple[float, float, float]:
    """Mean over S seeds, and 2.5th and 97.5th percentile of its resamples; ``drawn`` (S, 1 + D), the full set first."""
    shares = np.random.default_rng(1).multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), drawn.shape[1] - 1)
    means = (shares / len(drawn) * drawn[:, 1:].T).sum(axis=1)
    return float(drawn[:, 0].mean()), *map(float, np.nanpercentile(means, [2.5, 97.5]))


def resampled(found: Evaluation | CrowdEvaluation, metric: str, weights: np.ndarray) -> np.ndarray:
    """(D,) scores in percent of D resamples; ``weights`` (D, M) says how often each of the M pictures was drawn."""
    if metric == "mAP":
        return _mean_average_precision(found, weights)
    if metric == "PCK":
        hits = found.hits[:, [LIP.joint(name) for name in LIP.joints if name not in NOT_IN_AVERAGE]]
        return 100 * ratio(weights @ np.nansum(hits, axis=1), weights @ (~np.isnan(hits)).sum(axis=1))
    right = weights @ np.diagonal(found.confusions, axis1=1, axis2=2)  # (D, P)
    true, predicted = (weights @ found.confusions.sum(axis=axis) for axis in (2, 1))
    if metric == "PixelAcc":
        return 100 * ratio(right.sum(axis=1), true.sum(axis=1))
    return 100 * np.nanmean(ratio(right, true if metric == "MeanAcc" else true + predicted - right), axis=1)


def _mean_average_precision(found: CrowdEvaluation, weights: np.ndarray) -> np.ndarray:
    """``metrics.people.average_precision`` of every joint in every resample, and their mean."""
    image = np.repeat(np.arange(len(found.names)), [len(each.joint) for each in found.matches])
    joint, score, right = (
        np.concatenate([getattr(each, name) for each in found.matches]) for name in ("joint", "score", "right")
    )
    annotated = weights @ np.stack([each.annotated for each in found.matches])  # (D, N)
    areas = []
    for number, there in enumerate(annotated.T):
        mine = joint == number
        areas.append(average_precision(score[mine], right[mine], there, weights[:, image[mine]]))
    return np.nanmean(areas, axis=0)


def better_on_both(first: Evaluation, second: Evaluation, weights: np.ndarray) -> np.ndarray:
    """(D,) percent of the pictures on which ``first`` has the higher PCK and the higher mIoU; others take no part."""
    alone = np.eye(len(first.names))
    gains = [resampled(first, metric, alone) - resampled(second, metric, alone) for metric in ("PCK", "mIoU")]
    known = ~np.isnan(gains).any(axis=0)
    return 100 * ratio(weights @ ((np.minimum(*gains) > 0) & known), weights @ known)


def measure(counts: Counts, seeds: Sequence[int] = range(10), claims: Sequence[dict] = CLAIMS) -> pd.DataFrame:
    """One line per effect of each claim: ``paper``, ``ours``, its 95 % interval (``low``, ``high``), ``by_seed``, ….

    ``worse`` and ``better`` say how far the interval's ends lie on the claimed side of the limit. Of ``seeds``, an
    effect takes those that all its systems have. Each draw takes seeds and pictures with replacement, the same pictures
    for all, because all were tested on them. Raises :class:`DataError` if counts cover different pictures.
    """
    kept, weights = cache(counts), cache(draw_pictures)

    @cache
    def scores(name: str, seed: int, metric: str) -> np.ndarray:
        return resampled(kept(name, seed), metric, weights(len(kept(name, seed).names)))

    def drawn(effect: Effect, seed: int) -> np.ndarray:
        if effect.metric == BOTH:
            first, second = (kept(name, seed) for name in effect.weights)
            return better_on_both(first, second, weights(len(first.names)))
        return sum(weight * scores(name, seed, effect.metric) for name, weight in effect.weights.items())

    lines = []
    for id_, effect in ((claim["id"], effect) for claim in claims for effect in claim["effects"]):
        missing = [name for name in effect.weights if not any(kept(name, seed) for seed in seeds)]
        common = [seed for seed in seeds if all(kept(name, seed) for name in effect.weights)]
        pictures = {kept(name, seed).names for name in effect.weights for seed in common}
        if len(pictures) > 1:
            raise DataError(f"counts of {', '.join(effect.weights)} cover different pictures; test them again")
        draws = np.stack([drawn(effect, seed) for seed in common]) if common else np.empty((0, 1))
        ours, low, high = interval(draws) if common else (np.nan,) * 3
        worse, better = sorted((end - effect.limit) * (-1 if effect.below else 1) for end in (low, high))
        line = {"id": id_, "effect": effect, "metric": effect.metric, "paper": effect.paper, "missing": missing}
        line |= {"seeds": len(common), "n": len(common) * sum(map(len, pictures)), "worse": worse, "better": better}
        lines.append(line | {"by_seed": draws[:, 0].round(2).tolist(), "ours": ours, "low": low, "high": high})
    return pd.DataFrame(lines)


def verdicts(effects: pd.DataFrame, measured: Mapping[str, tuple]) -> pd.DataFrame:
    """The claims in :data:`COLUMNS`, and ``meaning``: what each verdict does and does not say.

    ``effects`` come from :func:`measure`, ``measured`` from :func:`measured_claims`. The numbers belong to the effect
    that decides a claim: one that refutes it, whatever is missing of the others, or else one of too few seeds, or else
    the closest call.
    """
    rows = []
    for claim in CLAIMS:
        lines = effects[effects["id"] == claim["id"]]
        known = lines[lines["ours"].notna()]
        missing = ", ".join(sorted({name for names in lines["missing"] for name in names}))
        ours, low, high, n = np.nan, np.nan, np.nan, 0
        found, meaning = "undecided", f"Not run: {missing or 'no measurement was asked for'}."
        if claim["id"] in measured:
            ours, low, high, n, found = measured[claim["id"]]
            meaning = "Of untrained VGG networks of this profile's size, counted (C17) or timed here in turn (C18)."
        elif not known.empty:
            tested = known["seeds"] >= ENOUGH_SEEDS
            order = known.assign(open=(known["better"] >= 0) | ~tested, tested=tested)
            line = order.sort_values(["open", "tested", "worse"]).iloc[0]
            if not line["open"]:
                found = "not supported"
            elif line["tested"] and line["worse"] > 0 and len(known) == len(lines):
                found = "supported"
            ours, low, high, n = line[["ours", "low", "high", "n"]]
            meaning = meaning if missing and found == "undecided" else _meaning(found, line)
        if remark := claim.get("caveat" if found == "supported" else "next"):
            meaning = f"{meaning} {remark}"
        numbers = (round(value, 2) for value in (ours, low, high))
        rows.append((claim["id"], claim["text"], claim["evidence"], *numbers, n, found, meaning))
    return pd.DataFrame(rows, columns=[*COLUMNS, "meaning"])


def _meaning(found: str, line: pd.Series) -> str:
    where = f"{line['effect']} (seeds: {line['seeds']}, pictures: {line['n'] // line['seeds']})"
    if line["seeds"] < ENOUGH_SEEDS:
        return f"Too few seeds: the interval of {where} covers other pictures, not other training runs."
    return {
        "supported": f"Holds on these data at this budget; the closest call is {where}.",
        "not supported": f"Refuted on these data at this budget, not on the paper's, by {where}.",
        "undecided": f"The interval of {where} leaves both answers open; more seeds or pictures would narrow it.",
    }[found]


def measured_claims(profile: Profile) -> dict[str, tuple[float, float, float, int, str]]:
    """Ours, interval, n and verdict of C17, counted, and of C18, timed: the percent that MuLA's forward pass adds."""
    configs = [find_experiment(name).model_config(profile, LIP) for name in ("VGG16-FCN", "VGG16-FCN-MuLA")]
    models = [build_model(config, 0).eval() for config in configs]
    crop = profile.for_trunk("vgg").crop
    images = torch.zeros(2, 3, crop, crop, dtype=torch.uint8)
    with torch.inference_mode():
        taken = [[timeit(partial(model, images), number=1) for model in models] for _ in range(1 + TIMINGS)]
    plain, adapted = np.transpose(taken[1:])  # the first round warms up
    percent = 100 * (adapted / plain - 1)
    drawn = np.median(np.random.default_rng(0).choice(percent, (DRAWS, TIMINGS)), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    small = "supported" if high < SMALL_OVERHEAD else "not supported" if low > SMALL_OVERHEAD else "undecided"
    saving = configs[1].width  # h·h·c·c predicted numbers become h·h·c (Eq. 5)
    return {
        "C17": (saving, saving, saving, 1, "supported" if saving >= 10 else "not supported"),
        "C18": (float(np.median(percent)), low, high, TIMINGS, small),
    }


def study_counts(profile: Profile, source: Source, crowds: Source | None) -> Counts:
    """The counts of finished runs of one person and, if there are data, of several; and those of exchanged kernels."""

    def counts(name: str, seed: int) -> Evaluation | CrowdEvaluation | None:
        size, data = (profile.for_crowds(), crowds) if name.endswith(CROWDS) else (profile, source)
        try:
            run = Run(find_experiment(name.removesuffix(CROWDS)), size, data, seed) if data else None
        except ConfigError:  # exchanged kernels
            path = results_folder(profile, source) / "counts" / f"{slug(name)}-seed-{seed}.npz"
            return load_evaluation(path, LIP) if path.is_file() else None
        return run.evaluation() if run and run.metrics else None

    return counts


def scores_by_budget(
    pairs: Sequence[tuple[str, str]], epochs: Sequence[int], profile: Profile, source: Source
) -> pd.DataFrame:
    """Scores of networks, and what each pair's first gains over its second, after each number of ``epochs``.

    Lines of :func:`measure`, with ``method``, ``kind``, ``epochs`` and ``text``; those not trained are left out.
    """
    sums = [{name: 1} for name in dict.fromkeys(name for pair in pairs for name in reversed(pair))]
    sums += [{first: 1, second: -1} for first, second in pairs]
    claims = {"effects": [Effect(metric, each) for each in sums for metric in ("PCK", "mIoU")]}
    counts = [study_counts(profile.for_epochs(each), source, None) for each in epochs]
    table = pd.concat(measure(its, claims=[claims | {"id": each}]) for its, each in zip(counts, epochs, strict=True))
    methods = [next(iter(effect.weights)) for effect in table["effect"]]
    kinds = ["gain, points" if len(effect.weights) > 1 else "score, %" for effect in table["effect"]]
    texts = table.apply("{0.ours:+.1f} ({0.low:+.1f} to {0.high:+.1f}); by seed: {0.by_seed}".format, axis=1)
    return table.rename(columns={"id": "epochs"}).assign(method=methods, kind=kinds, text=texts).dropna(subset="ours")


def findings(table: pd.DataFrame, *methods: str) -> str:
    """Three sentences on a table of ``results.write_table``: what ``methods`` gain, the best rows, the spread."""
    ran = table.dropna(subset=["ours"])

    def gains(method: str, column: str) -> str:
        rows = ran[ran["method"] == method].dropna(subset=[column])
        return ", ".join(f"{line[column]:+.1f} {line['metric']}" for _, line in rows.iterrows())

    told = [
        f"{method} {ours}" + (f" (paper: {quoted})" if (quoted := gains(method, "paper_delta_vs_baseline")) else "")
        for method in dict.fromkeys(methods)
        if (ours := gains(method, "delta_vs_baseline"))
    ]
    if not told:
        return f"{methods[0]} or its baseline was not run here, so there is nothing to report."
    best = {
        metric: " and ".join(lines.loc[lines["ours"] >= lines["ours"].max() - LEVEL, "method"])
        for metric, lines in ran.groupby("metric", sort=False)
    }
    spread = ran["std"].astype(float).max()
    return " ".join([
        f"Differences from the baseline: {'; '.join(told)}.",
        f"Highest mean in {'; in '.join(f'{metric}: {name}' for metric, name in best.items())}.",
        "One seed each: a row's place may be chance."
        if np.isnan(spread)
        else f"The largest standard deviation over seeds is {spread:.1f} points; 09_claims has intervals.",
    ])  # fmt: skip
