"""Pose of several people: average precision (AP) of their joints, after MPII's multi-person protocol.

Each annotated person has a reference length. MPII's is 0.6 times the diagonal of the head's box, which
PASCAL-Person-Part does not have: :func:`reference_lengths` takes the distance from forehead to neck, and where one of
them is unannotated a fixed share of the longer edge of the person's box (:data:`HEAD_OF_BOX`). Because that is our own
choice, scores come in two variants: ``mAP`` over everybody, and ``mAP (annotated heads)``, which leaves out people
without both joints, and the predictions that fit them best and match a joint of theirs.

In an image without predictions all annotated joints are missed. (The authors' script skips such images.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.metrics.parsing import mean_of_known, ratio

HEAD = ("forehead", "neck")
HEAD_OF_BOX = 0.12  # forehead to neck over the longer edge of the box: median of the 1,000 rendered training crowds
NEAR = 0.5  # of the reference length: a joint this near to the truth matches
ANNOTATED_HEADS = "mAP (annotated heads)"


@dataclass(frozen=True)
class Matches:
    """What one image adds to the curves: K predicted joints, right or wrong, and how many there were to find.

    ``headed`` is False for the joints of a prediction that best fits somebody without an annotated head.
    """

    joint: np.ndarray  # (K,) index of the joint
    score: np.ndarray  # (K,) confidence
    right: np.ndarray  # (K,) bool: a true positive
    headed: np.ndarray  # (K,) bool: counts in the variant of annotated heads
    annotated: np.ndarray  # (N,) annotated joints of all people
    annotated_headed: np.ndarray  # (N,) those of people with an annotated head


def reference_lengths(truth: np.ndarray, boxes: np.ndarray, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """The reference length of each of M people, in pixels.

    ``truth`` (M, N, 2) joints, nan where unannotated; ``boxes`` (M, 4) x1, y1, x2, y2, nan where unknown, in which
    case the extent of the person's joints stands for it. Returns (M,) lengths and (M,) bool: from an annotated head.
    """
    top, neck = (truth[:, anatomy.joint(name)] for name in HEAD)
    head = np.hypot(*(top - neck).T)
    edges = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    known = ~np.isnan(truth).any(axis=2)  # (M, N)
    low = np.where(known[..., None], truth, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known[..., None], truth, -np.inf).max(axis=1, initial=-np.inf)
    edges = np.where(np.isnan(edges), (high - low).max(axis=1, initial=0.0), edges)
    headed = ~np.isnan(head)
    return np.where(headed, head, HEAD_OF_BOX * edges), headed


def match_people(
    predicted: np.ndarray, scores: np.ndarray, truth: np.ndarray, lengths: np.ndarray, headed: np.ndarray
) -> Matches:
    """Assign the predicted people of one image to the annotated ones and mark every predicted joint right or wrong.

    Args:
        predicted: (Q, N, 2) joints of Q predicted people, nan where one has no such joint.
        scores: (Q, N) confidence of each.
        truth: (M, N, 2) joints of M annotated people, nan where unannotated, in the same pixels.
        lengths: (M,) their reference lengths, from :func:`reference_lengths` or, for MPII, 0.6 of the diagonal of
            each head's box.
        headed: (M,) bool, who counts in the variant of annotated heads.

    A joint matches if it lies within half the reference length. The fit of a prediction and a person is their matches
    over the person's annotated joints. Each prediction keeps the person it fits best; each person then takes the best
    of the predictions that kept it, if any joint matches at all (of equals the first). A joint of an assigned
    prediction is right if it matches; one that is unannotated on that person is wrong, and so is every joint of an
    unassigned prediction.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    q, m = len(predicted), len(truth)
    apart = predicted[:, None] - truth[None]
    matches = np.hypot(apart[..., 0], apart[..., 1]) <= NEAR * np.reshape(lengths, (m, 1))  # (Q, M, N); nan is False
    annotated = ~np.isnan(truth).any(axis=2)  # (M, N)
    has = ~np.isnan(predicted).any(axis=2)  # (Q, N)
    right = np.zeros_like(has)
    counts = np.ones(q, bool)
    if m:
        fit = matches.sum(axis=2) / np.maximum(annotated.sum(axis=1), 1)  # (Q, M)
        best = fit.argmax(axis=1)
        best_fit = fit[np.arange(q), best]
        for person in range(m):
            rivals = np.flatnonzero((best == person) & (best_fit > 0))
            if len(rivals):
                winner = rivals[best_fit[rivals].argmax()]
                right[winner] = matches[winner, person]
            counts[rivals] = headed[person]
    who, which = np.nonzero(has)
    return Matches(
        joint=which.astype(np.int16),
        score=np.asarray(scores, np.float64)[who, which],
        right=right[who, which],
        headed=counts[who],
        annotated=annotated.sum(axis=0),
        annotated_headed=annotated[headed].sum(axis=0),
    )


def average_precision(
    scores: np.ndarray, right: np.ndarray, annotated: int | np.ndarray, drawn: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the precision-recall curve's monotone envelope at all points, in percent.

    ``scores`` (K,) and ``right`` (K,) bool of all predictions; ``annotated`` is the number of joints to find. Equal
    scores are one point of the curve, so the order of the images does not matter. nan if nothing was annotated.
    In D resamples, ``drawn`` (D, K) says how often each prediction counts; ``annotated`` and the result are (D,).
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]  # the last of each run of equal scores
    drawn = (np.ones(len(scores)) if drawn is None else drawn)[..., order]
    found, all_ = (np.cumsum(each, axis=-1)[..., last] for each in (drawn * right[order], drawn))
    recall = found / np.maximum(annotated, 1)[..., None]
    envelope = np.maximum.accumulate(np.nan_to_num(ratio(found, all_))[..., ::-1], axis=-1)[..., ::-1]
    area = 100.0 * np.sum(np.diff(recall, prepend=0.0) * envelope, axis=-1)
    return np.where(np.equal(annotated, 0), np.nan, area)[()]


def people_scores(matches: Sequence[Matches], anatomy: Anatomy) -> dict[str, float]:
    """AP over images, in percent: ``mAP``, the mean over joints, and ``mAP (annotated heads)``, see above.

    A column of ``anatomy.columns`` ("Head", "Sho.", …) is the mean of its joints' AP in the first variant. Joints
    that nobody annotated (nan) are left out of every mean.
    """
    joint, score, right, headed = (
        np.concatenate([getattr(each, name) for each in matches]) for name in ("joint", "score", "right", "headed")
    )
    annotated, annotated_headed = (
        sum(getattr(each, name) for each in matches) for name in ("annotated", "annotated_headed")
    )

    def of_joints(takes_part: np.ndarray, there: np.ndarray) -> np.ndarray:
        chosen = [(joint == index) & takes_part for index in range(len(there))]
        return np.array([average_precision(score[c], right[c], n) for c, n in zip(chosen, there, strict=True)])

    everybody = of_joints(np.ones(len(joint), bool), annotated)
    scores = {
        column: mean_of_known(everybody[[anatomy.joint(name) for name in names]]) for column, names in anatomy.columns
    }
    scores["mAP"] = mean_of_known(everybody)
    scores[ANNOTATED_HEADS] = mean_of_known(of_joints(headed, annotated_headed))
    return scores
