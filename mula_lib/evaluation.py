"""A network judged on a split: per-image counts, and the scores they add up to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import Anatomy
from mula_lib.data.lip import LipRecord, LipSplit, load_image, load_mask
from mula_lib.data.pascal import PascalRecord, PascalSplit
from mula_lib.files import CheckpointError, DataError, atomic_path, read_arrays
from mula_lib.inference import Prediction, Testing, predict
from mula_lib.metrics.parsing import confusion_matrix, parsing_scores
from mula_lib.metrics.people import Verdicts, judge, people_scores
from mula_lib.metrics.pose import pckh, pckh_hits
from mula_lib.models.network import Network


@contextlib.contextmanager
def counts_of(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of an ``evaluation.npz``; CheckpointError where they are not what they should be."""
    what, mend = "the counts of a test", "delete it and the metrics.json beside it: the network is tested again"
    arrays = read_arrays(path, what, fix=mend, error=CheckpointError)
    try:
        yield arrays
    except (LookupError, TypeError, ValueError) as why:
        raise CheckpointError(f"{path}: not {what} ({type(why).__name__}); {mend}") from why


@dataclass(frozen=True)
class CrowdEvaluation:
    """Of M images; scores are of any subset, so that runs can be compared image by image."""

    names: tuple[str, ...]  # M stems
    confusions: np.ndarray  # (M, P, P) int64
    verdicts: tuple[Verdicts, ...]  # M

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """mAP in both variants, the joints' columns, mIoU, PixelAcc and MeanAcc, in percent, over all M images."""
        return {**people_scores(self.verdicts, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def only(self, index: int) -> CrowdEvaluation:
        """The counts of one image."""
        one = slice(index, index + 1)
        return CrowdEvaluation(self.names[one], self.confusions[one], self.verdicts[one])

    def save(self, path: Path) -> None:
        """Write everything as a compressed ``.npz``, atomically."""
        lengths = np.array([len(each.joint) for each in self.verdicts])
        # one value a predicted joint in some columns, one a joint and image in the others
        columns = {
            field.name: np.concatenate([np.atleast_1d(getattr(each, field.name)) for each in self.verdicts])
            for field in fields(Verdicts)
        }
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            confusions = self.confusions.astype(np.uint32)
            np.savez_compressed(file, names=np.array(self.names), confusions=confusions, lengths=lengths, **columns)

    @classmethod
    def load(cls, path: Path) -> CrowdEvaluation:
        """Read what :meth:`save` wrote; CheckpointError for a damaged file."""
        with counts_of(path) as file:
            names, cuts = tuple(file["names"].tolist()), np.cumsum(file["lengths"])[:-1]
            columns = {
                field.name: np.split(file[field.name], len(names))
                if field.name.startswith("annotated")
                else np.split(file[field.name], cuts)
                for field in fields(Verdicts)
            }
            verdicts = tuple(
                Verdicts(**{name: values[index] for name, values in columns.items()}) for index in range(len(names))
            )
            return cls(names, file["confusions"].astype(np.int64), verdicts)


@dataclass(frozen=True)
class Evaluation:
    """Counts of M images of one person; scores are of any subset, so that runs can be compared image by image."""

    names: tuple[str, ...]  # M stems
    confusions: np.ndarray  # (M, P, P) int64
    hits: np.ndarray  # (M, N) float, nan where a joint takes no part

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """PCK and its columns, mIoU, PixelAcc, MeanAcc, in percent, over all M images."""
        return {**pckh(self.hits, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def only(self, index: int) -> Evaluation:
        """The counts of one image."""
        one = slice(index, index + 1)
        return Evaluation(self.names[one], self.confusions[one], self.hits[one])

    def save(self, path: Path) -> None:
        """Write the counts as a compressed ``.npz``, atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            confusions = self.confusions.astype(np.uint32)
            np.savez_compressed(file, names=np.array(self.names), confusions=confusions, hits=self.hits)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote; CheckpointError for a damaged file."""
        with counts_of(path) as file:
            return cls(tuple(file["names"].tolist()), file["confusions"].astype(np.int64), file["hits"])


def load_evaluation(path: Path, anatomy: Anatomy) -> Evaluation | CrowdEvaluation:
    """Read what the evaluation of a network for ``anatomy`` wrote."""
    return CrowdEvaluation.load(path) if anatomy.crowds else Evaluation.load(path)


def evaluate(
    model: Network,
    split: LipSplit | PascalSplit,
    crop: int,
    testing: Testing,
    anatomy: Anatomy,
    *,
    limit: int | None = None,
    progress: str | None = None,
) -> Evaluation | CrowdEvaluation:
    """Test ``model`` on the first ``limit`` images of ``split``, at the annotations' own size.

    ``progress`` is the text of a progress bar; None shows none. Raises :class:`DataError` for a split without
    annotations or a mask that does not fit its image.
    """
    records = split.records[:limit]
    if not records:
        raise DataError(f"{split.root}: no image in the {split.split} split to test with")
    batches = [records[start : start + testing.batch] for start in range(0, len(records), testing.batch)]
    was_training = model.training
    model.eval()
    confusions, predictions = [], []
    with ThreadPoolExecutor(1) as reader:  # the next batch is read while the network is at work on this one
        coming = reader.submit(_read, batches[0], split.split, anatomy)
        for number in tqdm(range(len(batches)), desc=progress, disable=progress is None, leave=False):
            images, truths = coming.result()
            if number + 1 < len(batches):
                coming = reader.submit(_read, batches[number + 1], split.split, anatomy)
            for prediction, truth in zip(predict(model, images, crop, testing, anatomy), truths, strict=True):
                confusions.append(_confusion(prediction, truth, len(anatomy.parts)))
                predictions.append(prediction)
    model.train(was_training)
    names = tuple(record.name for record in records)
    if anatomy.crowds:
        verdicts = tuple(_verdicts(*each, anatomy) for each in zip(predictions, records, strict=True))
        return CrowdEvaluation(names, np.stack(confusions), verdicts)
    truth = np.stack([record.joints for record in records])
    if predictions[0].joints is None:
        return Evaluation(names, np.stack(confusions), np.full(truth.shape[:2], np.nan))
    predicted = np.stack([prediction.joints for prediction in predictions])
    return Evaluation(names, np.stack(confusions), pckh_hits(predicted, truth, anatomy))


def _confusion(prediction: Prediction, truth: np.ndarray, classes: int) -> np.ndarray:
    """Counts of one image; no pixel counts where the network has no parsing, so that its scores are nan."""
    if prediction.mask is None:
        return np.zeros((classes, classes), np.int64)
    return confusion_matrix(prediction.mask, truth, classes)


def _verdicts(prediction: Prediction, record: PascalRecord, anatomy: Anatomy) -> Verdicts:
    """Verdicts of one image; where the network has no pose, as if nobody was annotated: its scores are nan."""
    if prediction.joints is None:
        nobody = np.empty((0, len(anatomy.joints), 2))
        return judge(nobody, nobody[..., 0], nobody, np.empty((0, 4)), anatomy)
    return judge(prediction.joints, prediction.scores, record.joints, record.boxes, anatomy)


def _read(
    records: Sequence[LipRecord | PascalRecord], split: str, anatomy: Anatomy
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and annotated masks."""
    images, masks = [], []
    for record in records:
        image = load_image(record.image)
        if record.mask is None:
            raise DataError(f"{record.image}: no mask to score against; the {split} split has no annotations")
        mask = load_mask(record.mask, classes=len(anatomy.parts))
        if mask.shape != image.shape[:2]:
            raise DataError(f"{record.mask}: its size differs from that of {record.image}; unzip both again")
        images.append(image)
        masks.append(mask)
    return images, masks
