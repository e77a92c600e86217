"""A network's confidence thresholds: chosen on rendered people, stored beside its weights.

``python -m tools.confidence [WEIGHTS]`` chooses again.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.data.images import load_image
from mula_lib.files import write_json
from mula_lib.inference import Prediction
from mula_lib.metrics.pose import pckh_hits
from workbook.datasets import open_source
from workbook.predictor import Confidence, load_predictor

DATASET = "people-photo"  # some of its pictures show nobody


def best_threshold(scores: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """The threshold on (K,) ``scores`` with the best F1, with its precision and recall; ``right`` is (K,) bool."""
    order, there = np.argsort(-scores, kind="stable"), max(int(right.sum()), 1)
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
    return Confidence(joint[0], picture[0], chosen_on, *joint[1:], *picture[1:])


def main() -> None:
    """Choose the thresholds of a single-person network on rendered validation pictures."""
    predictor, source = load_predictor(Path(sys.argv[1]) if sys.argv[1:] else None), open_source(DATASET)
    found = [predictor(load_image(record.image)) for record in source.val.records]
    truth = np.stack([record.joints for record in source.val.records])
    chosen_on = f"{len(source.val)} validation pictures of {DATASET} ({source.fingerprint})"
    chosen = choose(found, truth, predictor.anatomy, chosen_on)
    write_json(predictor.weights.with_suffix(".confidence.json"), asdict(chosen))
    print(chosen)


if __name__ == "__main__":
    main()
