"""Evaluate a network on a split: per-image counts, small enough to commit, from which all scores follow."""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import Anatomy
from mula_lib.data.lip import LipRecord, LipSplit
from mula_lib.data.pascal import PascalRecord, PascalSplit
from mula_lib.data.samples import load_pair
from mula_lib.files import CheckpointError, DataError, atomic_path
from mula_lib.inference import Prediction, Testing, predict
from mula_lib.metrics.parsing import confusion_matrix, parsing_scores
from mula_lib.metrics.people import Matches, match_people, people_scores, reference_lengths
from mula_lib.metrics.pose import pckh, pckh_hits
from mula_lib.models.network import Network


def evaluate(
    model: Network, split: LipSplit | PascalSplit, crop: int, testing: Testing, anatomy: Anatomy,
    *, progress: str | None = None,
) -> Evaluation | CrowdEvaluation:
    """Test ``model`` on the images of ``split``, at the annotations' own size: per-image counts.

    ``progress`` is the text of a progress bar; None shows none. Raises :class:`DataError` for a split without
    annotations or a mask that does not fit its image.
    """
    if not split.records:
        raise DataError(f"{split.root}: no images in the {split.split} split to test on")
    if bare := next((each for each in split.records if each.mask is None), None):
        raise DataError(f"{bare.image}: no mask to score against; the {split.split} split has no annotations")

    def read(records: Sequence[LipRecord | PascalRecord]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [load_pair(each, anatomy) for each in records]

    batches = [split.records[start : start + testing.batch] for start in range(0, len(split), testing.batch)]
    was_training = model.training
    model.eval()
    counted = []
    with ThreadPoolExecutor(1) as reader:  # the next batch is read while the network computes this one
        reading = reader.submit(read, batches[0])
        bar = tqdm(batches, desc=progress, disable=progress is None, leave=False)
        for batch, following in zip(bar, [*batches[1:], ()], strict=True):
            images, masks = zip(*reading.result(), strict=True)
            reading = reader.submit(read, following)
            found = zip(predict(model, images, crop, testing, anatomy), masks, batch, strict=True)
            counted += [_count(*each, anatomy) for each in found]
    model.train(was_training)
    confusions, poses = zip(*counted, strict=True)
    names, confusions = tuple(record.name for record in split.records), np.stack(confusions)
    if anatomy.crowds:
        return CrowdEvaluation(names, confusions, poses)
    return Evaluation(names, confusions, np.stack(poses))


def _count(
    prediction: Prediction, mask: np.ndarray, record: LipRecord | PascalRecord, anatomy: Anatomy
) -> tuple[np.ndarray, np.ndarray | Matches]:
    """Confusion matrix, and hits or matches, of one image; empty, with scores of nan, for a task not predicted."""
    confusion = np.zeros((len(anatomy.parts),) * 2, np.int64)
    if prediction.mask is not None:
        confusion = confusion_matrix(prediction.mask, mask, len(anatomy.parts))
    truth, joints, scores = record.joints, prediction.joints, prediction.scores
    if joints is None:
        truth = joints = np.full_like(truth, np.nan)
        scores = joints[..., 0]
    if not anatomy.crowds:
        return confusion, pckh_hits(joints[None], truth[None], anatomy)[0]
    lengths, headed = reference_lengths(truth, record.boxes, anatomy)
    return confusion, match_people(joints, scores, truth, lengths, headed)


@dataclass(frozen=True)
class _Counts:
    """Counts of M images, however many people they show."""

    names: tuple[str, ...]  # M stems
    confusions: np.ndarray  # (M, P, P) int64

    def only(self, index: int) -> _Counts:
        """The counts of one image."""
        return replace(self, **{each.name: getattr(self, each.name)[index : index + 1] for each in fields(self)})


@dataclass(frozen=True)
class Evaluation(_Counts):
    """Counts of M images of one person; any subset can be scored, so runs can be compared image by image."""

    hits: np.ndarray  # (M, N) float64: 1 a hit, 0 a miss, nan where a joint does not count

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """PCK and its columns, mIoU, PixelAcc, MeanAcc, in percent, over all M images."""
        return {**pckh(self.hits, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def save(self, path: Path) -> None:
        """Write everything as a small ``.npz``, atomically; 500 images take about 20 kB."""
        hits = {"hits": np.packbits(self.hits == 1), "unknown": np.packbits(np.isnan(self.hits))}
        _write(path, {**_packed(self.names, self.confusions), **hits, "joints": np.uint8(self.hits.shape[1])})

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote; CheckpointError for a damaged file."""
        arrays, names, confusions = _read(path)
        count = len(names) * int(arrays["joints"])
        hits, unknown = (np.unpackbits(arrays[name], count=count) for name in ("hits", "unknown"))
        return cls(names, confusions, np.where(unknown, np.nan, hits).reshape(len(names), -1))


@dataclass(frozen=True)
class CrowdEvaluation(_Counts):
    """Counts of M images of several people; any subset can be scored."""

    matches: tuple[Matches, ...]  # M

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """mAP in both variants, the joints' columns, mIoU, PixelAcc and MeanAcc, in percent, over all M images."""
        return {**people_scores(self.matches, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def save(self, path: Path) -> None:
        """Write everything as a small ``.npz``, atomically."""
        columns = {each.name: np.concatenate([getattr(m, each.name) for m in self.matches]) for each in fields(Matches)}
        columns |= {name: np.packbits(columns[name]) for name in ("right", "headed")}
        columns |= {name: columns[name].astype(np.uint8) for name in ("joint", "annotated", "annotated_headed")}
        score = columns["score"].astype("<f4")  # as networks predict them; planes of bytes compress better
        columns["score"] = score.view(np.uint8).reshape(-1, 4).T
        found = np.array([len(each.joint) for each in self.matches], np.uint16)
        _write(path, {**_packed(self.names, self.confusions), **columns, "found": found})

    @classmethod
    def load(cls, path: Path) -> CrowdEvaluation:
        """Read what :meth:`save` wrote; CheckpointError for a damaged file."""
        arrays, names, confusions = _read(path)
        found = arrays["found"].astype(int)
        cuts, images = found.cumsum()[:-1], len(names)
        score = np.ascontiguousarray(arrays["score"].T).view("<f4").ravel().astype(np.float64)
        bits = {name: np.unpackbits(arrays[name], count=found.sum()).astype(bool) for name in ("right", "headed")}
        found = {"joint": arrays["joint"].astype(np.int16), "score": score, **bits}
        found = {name: np.split(values, cuts) for name, values in found.items()}
        found |= {name: arrays[name].reshape(images, -1).astype(int) for name in ("annotated", "annotated_headed")}
        rows = zip(*found.values(), strict=True)
        return cls(names, confusions, tuple(Matches(**dict(zip(found, row, strict=True))) for row in rows))


def load_evaluation(path: Path, anatomy: Anatomy) -> Evaluation | CrowdEvaluation:
    """Read what the evaluation of a network for ``anatomy`` wrote."""
    return CrowdEvaluation.load(path) if anatomy.crowds else Evaluation.load(path)


def _packed(names: Sequence[str], confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Few of an image's P² cells are not zero: a bit for each cell, then the counts of those cells in byte planes."""
    cells = confusions.reshape(len(names), -1).T
    counts = cells[cells > 0].astype("<u4")
    planes = counts.view(np.uint8).reshape(-1, 4).T
    return {
        "names": np.frombuffer("\n".join(names).encode(), np.uint8),
        "classes": np.uint8(confusions.shape[1]),
        "cells": np.packbits(cells > 0),
        "counts": planes[: 4 if planes[2:].any() else 2],
    }


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An ``.npz`` compressed by LZMA, a third smaller than NumPy's own; the same bytes for the same arrays."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_LZMA) as file:
        for name, array in arrays.items():
            np.save(content := io.BytesIO(), array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)


def _read(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...], np.ndarray]:
    """All arrays of a file, and the names and confusions among them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise CheckpointError(f"{path}: not the counts of a test ({error}); delete it and metrics.json") from error
    names, classes = tuple(arrays["names"].tobytes().decode().split("\n")), int(arrays["classes"])
    cells = np.unpackbits(arrays["cells"], count=len(names) * classes**2).astype(np.int64)
    cells[cells > 0] = sum(plane.astype(np.int64) << 8 * place for place, plane in enumerate(arrays["counts"]))
    return arrays, names, cells.reshape(classes, classes, len(names)).transpose(2, 0, 1)
