"""A network's confidence thresholds: chosen on rendered people, stored beside its weights.

``python -m tools.confidence [WEIGHTS]`` chooses again.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.data.images import load_image
from mula_lib.data.pascal import PascalRecord
from mula_lib.files import write_json
from mula_lib.inference import Prediction
from mula_lib.metrics.pose import pckh_hits
from workbook.datasets import open_source
from workbook.predictor import Confidence, Predictor, boxes_of, load_predictor

DATASET, CROWDS = "people-photo", "crowds"  # some of their pictures show nobody
CROWD_PICTURES = 40  # of training, which this network has not seen; it is measured on those of validation


def best_threshold(scores: np.ndarray, right: np.ndarray, there: int | None = None) -> tuple[float, float, float]:
    """The threshold on (K,) ``scores`` with the best F1, given which are ``right`` (K,) bool, with its precision and
    recall. ``there`` is how many there were to find, by default those that are right."""
    order, there = np.argsort(-scores, kind="stable"), there or max(int(right.sum()), 1)
    hits, believed = right[order].cumsum(), np.arange(1, len(scores) + 1)
    best = int(np.argmax(hits / (believed + there)))
    return float(scores[order][best]), float(hits[best] / believed[best]), float(hits[best] / there)


def choose(found: list[Prediction], truth: np.ndarray, anatomy: Anatomy, chosen_on: str) -> Confidence:
    """The thresholds for a joint and a picture with the best F1 on M pictures with ``truth`` (M, N, 2).

    A joint is right within half a head of the truth and wrong where there is none (nan); a picture is right if half of
    its joints are, so wrong with nobody in it. In a picture whose head is unannotated, no joint is known to be right.
    """
    said, scores = (np.stack([getattr(each, name) for each in found]) for name in ("joints", "scores"))
    hits, there = pckh_hits(said, truth, anatomy), ~np.isnan(truth).any(axis=2)
    believable = ~np.isnan(said).any(axis=2) & ~(there & np.isnan(hits))
    joint = best_threshold(scores[believable], hits[believable] == 1)
    rates = (hits == 1).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    judged = ~(there.any(axis=1) & np.isnan(hits).all(axis=1))
    picture = best_threshold(scores.mean(axis=1)[judged], rates[judged] >= 0.5)
    return Confidence(joint[0], picture[0], 0.0, chosen_on, *joint[1:], *picture[1:])


def choose_person(predictor: Predictor, records: Sequence[PascalRecord]) -> tuple[float, float, float]:
    """The threshold with the best F1 for people whom ``predictor`` crops from a crowd, its precision and its recall.

    A found person is right if the box around the joints overlaps an annotated one, not yet matched, by a half.
    """
    scores, right = [], []
    for record in records:
        photo, free = load_image(record.image), record.boxes.copy()
        found = predictor(photo)
        for box, heights in zip(boxes_of(found.joints, photo.shape[1::-1]), found.scores, strict=True):
            fits = overlaps(box, free) if len(free) else np.zeros(1)
            right.append(fits.max() >= 0.5)
            free = np.delete(free, fits.argmax(), axis=0) if right[-1] else free
            scores.append(heights.mean())
    return best_threshold(np.array(scores), np.array(right), sum(len(record.boxes) for record in records))


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(Q,) intersection over union of a box (4,) with each of (Q, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = sides.clip(0).prod(axis=1)
    return both / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - both)


def main() -> None:
    """Choose the thresholds of a single-person network on rendered validation pictures."""
    predictor, source = load_predictor(Path(sys.argv[1]) if sys.argv[1:] else None), open_source(DATASET)
    found = [predictor(load_image(record.image)) for record in source.val.records]
    truth = np.stack([record.joints for record in source.val.records])
    chosen_on = f"{len(source.val)} validation pictures of {DATASET} ({source.fingerprint})"
    chosen = choose(found, truth, predictor.anatomy, chosen_on)
    crowds = open_source(CROWDS)
    person = choose_person(replace(predictor, confidence=chosen, cuts_out=True), crowds.train.records[:CROWD_PICTURES])
    chosen_on += f", {CROWD_PICTURES} training pictures of {CROWDS} ({crowds.fingerprint})"
    chosen = replace(chosen, person=person[0], chosen_on=chosen_on, person_precision=person[1], person_recall=person[2])
    write_json(predictor.weights.with_suffix(".confidence.json"), asdict(chosen))
    print(chosen)


if __name__ == "__main__":
    main()
