"""Pose of one person: PCKh, the percentage of joints placed within half a head's length of the truth.

LIP's rules: the head's length is the distance from head top to upper neck of the ground truth, without MPII's factor
of 0.6; an image whose head top or upper neck is unannotated is dropped whole; occluded joints count, missing ones do
not.

Predicted coordinates are pixels counted from 0 and are taken as they are: a negative one lies outside the image; nan, a
joint that was not predicted, is a miss. The authors' script moves negative coordinates and missing predictions to
pixel 1, which may lie close enough to the truth to hit: on predictions that have them, its PCKh differs by up to 3
points.
"""

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.metrics.parsing import mean_of_known

HEAD = ("head_top", "upper_neck")  # their distance is the reference length
NOT_IN_AVERAGE = ("pelvis", "thorax")  # left out of the paper's "Avg"
UPPER_BODY = (
    "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
    "left_wrist",
)  # the paper's "U.Body"


def pckh_hits(predicted: np.ndarray, truth: np.ndarray, anatomy: Anatomy, *, threshold: float = 0.5) -> np.ndarray:
    """Score every joint: (M, N) float64, 1 a hit, 0 a miss, nan if it does not count.

    ``predicted`` and ``truth`` are (M, N, 2) in the same pixels, matched by image; nan in the truth is a missing
    joint, nan in a prediction a miss. A hit lies at most ``threshold`` head lengths from the truth. Missing joints
    and all joints of an image without an annotated head do not count. Where head top and upper neck coincide the
    length is zero, and only an exact prediction hits.
    """
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    top, neck = (truth[:, anatomy.joint(name)] for name in HEAD)
    head_length = np.hypot(*(top - neck).T)  # (M,), nan without a head; hypot neither overflows nor vanishes
    distance = np.hypot(*np.moveaxis(predicted - truth, -1, 0))  # (M, N)
    hits = (distance <= threshold * head_length[:, None]).astype(np.float64)  # nan compares False: a miss
    takes_part = ~np.isnan(truth).any(axis=2) & ~np.isnan(head_length)[:, None]
    return np.where(takes_part, hits, np.nan)


def pckh(hits: np.ndarray, anatomy: Anatomy) -> dict[str, float]:
    """Summarize (M, N) ``hits`` of :func:`pckh_hits`, in percent: the columns of the paper's pose tables.

    A column of ``anatomy.columns`` ("Head", "Sho.", …) is the mean of its joints' rates. "U.Body" pools the joints
    from the neck up and the arms; "PCK", the paper's Avg, pools all but pelvis and thorax: each annotated joint counts
    once, so neither is a mean of columns. A column without any annotated joint is nan.
    """
    counted = ~np.isnan(hits)
    right, all_ = np.where(counted, hits, 0.0).sum(axis=0), counted.sum(axis=0)  # (N,) each

    def pooled(names: tuple[str, ...]) -> float:
        chosen = [anatomy.joint(name) for name in names]
        total = all_[chosen].sum()
        return float(100.0 * right[chosen].sum() / total) if total else float("nan")

    scores = {
        column: mean_of_known(np.array([pooled((name,)) for name in names])) for column, names in anatomy.columns
    }
    scores["U.Body"] = pooled(UPPER_BODY)
    scores["PCK"] = pooled(tuple(name for name in anatomy.joints if name not in NOT_IN_AVERAGE))
    return scores
