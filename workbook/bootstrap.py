"""Paired hierarchical bootstrap from per-image counts: how far a score moves with other pictures and other seeds."""

from __future__ import annotations

import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.evaluation import CrowdEvaluation, Evaluation
from mula_lib.metrics.pose import NOT_IN_AVERAGE

DRAWS = 2000  # resamples of an interval


def draw_pictures(pictures: int, draws: int = DRAWS) -> np.ndarray:
    """(1 + draws, pictures) how often each picture is drawn, with replacement; once each in the first row."""
    drawn = np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)
    return np.vstack([np.ones(pictures), drawn])


def interval(drawn: np.ndarray) -> tuple[float, float, float]:
    """Mean over S seeds, and the 2.5th and 97.5th percentile of its resamples: ``drawn`` is (S, 1 + D), all first."""
    shares = np.random.default_rng(1).multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), drawn.shape[1] - 1)
    means = (shares / len(drawn) * drawn[:, 1:].T).sum(axis=1)
    return float(drawn[:, 0].mean()), *map(float, np.nanpercentile(means, [2.5, 97.5]))


def resampled(found: Evaluation | CrowdEvaluation, metric: str, weights: np.ndarray) -> np.ndarray:
    """(D,) scores in percent of D resamples; ``weights`` (D, M) says how often each of the M pictures was drawn."""
    if metric == "mAP":
        return _mean_average_precision(found, weights)
    if metric == "PCK":
        hits = found.hits[:, [LIP.joint(name) for name in LIP.joints if name not in NOT_IN_AVERAGE]]
        return 100 * _ratio(weights @ np.nansum(hits, axis=1), weights @ (~np.isnan(hits)).sum(axis=1))
    right = weights @ np.diagonal(found.confusions, axis1=1, axis2=2)  # (D, P)
    true, predicted = (weights @ found.confusions.sum(axis=axis) for axis in (2, 1))
    if metric == "PixelAcc":
        return 100 * _ratio(right.sum(axis=1), true.sum(axis=1))
    return 100 * np.nanmean(_ratio(right, true if metric == "MeanAcc" else true + predicted - right), axis=1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where the whole is zero."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean_average_precision(found: CrowdEvaluation, weights: np.ndarray) -> np.ndarray:
    """``metrics.people.average_precision`` of every joint in every resample, and their mean."""
    image = np.repeat(np.arange(len(found.names)), [len(each.joint) for each in found.matches])
    joint, score, right = (
        np.concatenate([getattr(each, name) for each in found.matches]) for name in ("joint", "score", "right")
    )
    annotated = weights @ np.stack([each.annotated for each in found.matches])  # (D, N)
    areas = []
    for number in range(annotated.shape[1]):
        order = np.flatnonzero(joint == number)
        order = order[np.argsort(-score[order], kind="stable")]
        last = np.append(np.diff(score[order]) != 0, True)[: len(order)]  # equal scores are one point of the curve
        drawn = weights[:, image[order]]
        hits, all_ = (np.cumsum(each, axis=1)[:, last] for each in (drawn * right[order], drawn))
        precision = np.maximum.accumulate(np.nan_to_num(_ratio(hits, all_))[:, ::-1], axis=1)[:, ::-1]
        areas.append(_ratio((np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1), annotated[:, number]))
    return 100 * np.nanmean(areas, axis=0)


def better_on_both(first: Evaluation, second: Evaluation, weights: np.ndarray) -> np.ndarray:
    """(D,) percent of the pictures on which ``first`` has the higher PCK and the higher mIoU; others take no part."""
    alone = np.eye(len(first.names))
    gains = [resampled(first, metric, alone) - resampled(second, metric, alone) for metric in ("PCK", "mIoU")]
    known = ~np.isnan(gains).any(axis=0)
    return 100 * _ratio(weights @ ((np.minimum(*gains) > 0) & known), weights @ known)
