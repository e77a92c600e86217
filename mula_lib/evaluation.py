"""Evaluate a network on a split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import Anatomy
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import LipRecord, LipSplit
from mula_lib.data.pascal import PascalRecord, PascalSplit
from mula_lib.files import DataError
from mula_lib.inference import Prediction, Testing, predict
from mula_lib.metrics.counts import CrowdEvaluation, Evaluation, load_evaluation
from mula_lib.metrics.parsing import confusion_matrix
from mula_lib.metrics.people import Matches, match_people, reference_lengths
from mula_lib.metrics.pose import pckh_hits
from mula_lib.models.network import Network

__all__ = ["CrowdEvaluation", "Evaluation", "evaluate", "load_evaluation"]


def evaluate(
    model: Network, split: LipSplit | PascalSplit, crop: int, testing: Testing, anatomy: Anatomy,
    *, progress: str | None = None,
) -> Evaluation | CrowdEvaluation:
    """Test ``model`` on the images of ``split``, at the annotations' own size: per-image counts.

    ``progress`` is the text of a progress bar; None shows none. Raises :class:`DataError` for a split without
    annotations or a mask that does not fit its image.
    """
    if not split.records:
        raise DataError(f"{split.root}: no image in the {split.split} split to test with")
    records = split.records
    batches = [records[start : start + testing.batch] for start in range(0, len(records), testing.batch)]
    was_training = model.training
    model.eval()
    confusions, predictions = [], []
    with ThreadPoolExecutor(1) as reader:  # the next batch is read while the network computes this one
        reading = [reader.submit(_read_batch, batch, split.split, anatomy) for batch in batches[:1]]
        for number in tqdm(range(len(batches)), desc=progress, disable=progress is None, leave=False):
            images, truths = reading.pop().result()
            reading += [reader.submit(_read_batch, batch, split.split, anatomy) for batch in batches[number + 1 :][:1]]
            for prediction, truth in zip(predict(model, images, crop, testing, anatomy), truths, strict=True):
                confusions.append(_confusion(prediction, truth, len(anatomy.parts)))
                predictions.append(prediction)
    model.train(was_training)
    names, confusions = tuple(record.name for record in records), np.stack(confusions)
    if anatomy.crowds:
        matches = tuple(_matches(*each, anatomy) for each in zip(predictions, records, strict=True))
        return CrowdEvaluation(names, confusions, matches)
    truth = np.stack([record.joints for record in records])
    if predictions[0].joints is None:
        return Evaluation(names, confusions, np.full(truth.shape[:2], np.nan))
    predicted = np.stack([prediction.joints for prediction in predictions])
    return Evaluation(names, confusions, pckh_hits(predicted, truth, anatomy))


def _confusion(prediction: Prediction, truth: np.ndarray, classes: int) -> np.ndarray:
    """Counts of one image; no pixel counts where the network has no parsing, so that its scores are nan."""
    if prediction.mask is None:
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(prediction.mask, truth, classes)


def _matches(prediction: Prediction, record: PascalRecord, anatomy: Anatomy) -> Matches:
    """Matches of one image; where the network has no pose, as if nobody was annotated: its scores are nan."""
    if prediction.joints is None:
        nobody = np.empty((0, len(anatomy.joints), 2))
        return match_people(nobody, nobody[..., 0], nobody, np.empty(0))
    lengths, headed = reference_lengths(record.joints, record.boxes, anatomy)
    return match_people(prediction.joints, prediction.scores, record.joints, lengths, headed)


def _read_batch(
    records: Sequence[LipRecord | PascalRecord], split: str, anatomy: Anatomy
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and annotated masks."""
    images, masks = [], []
    for record in records:
        if record.mask is None:
            raise DataError(f"{record.image}: no mask to score against; the {split} split has no annotations")
        images.append(load_image(record.image))
        masks.append(load_mask(record.mask, classes=len(anatomy.parts)))
        if masks[-1].shape != images[-1].shape[:2]:
            raise DataError(f"{record.mask}: its size differs from that of {record.image}; unzip both again")
    return images, masks
