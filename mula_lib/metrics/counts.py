"""What an evaluation keeps: counts of every image, small enough to be committed, from which all scores are computed."""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.files import CheckpointError, atomic_path
from mula_lib.metrics.parsing import parsing_scores
from mula_lib.metrics.people import Matches, people_scores
from mula_lib.metrics.pose import pckh


@dataclass(frozen=True)
class Evaluation:
    """Counts of M images of one person; scores are of any subset, so that runs can be compared image by image."""

    names: tuple[str, ...]  # M stems
    confusions: np.ndarray  # (M, P, P) int64
    hits: np.ndarray  # (M, N) float64: 1 a hit, 0 a miss, nan where a joint takes no part

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """PCK and its columns, mIoU, PixelAcc, MeanAcc, in percent, over all M images."""
        return {**pckh(self.hits, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def only(self, index: int) -> Evaluation:
        """The counts of one image."""
        one = slice(index, index + 1)
        return Evaluation(self.names[one], self.confusions[one], self.hits[one])

    def save(self, path: Path) -> None:
        """Write everything as a small ``.npz``, atomically; 500 images take about 20 kB."""
        hits = {"hits": np.packbits(self.hits == 1), "unknown": np.packbits(np.isnan(self.hits))}
        _write(path, {**_packed(self.names, self.confusions), **hits, "joints": np.uint8(self.hits.shape[1])})

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote; CheckpointError for any other file."""
        arrays, names, confusions = _read(path)
        hits, unknown = (
            np.unpackbits(arrays[name], count=len(names) * int(arrays["joints"])) for name in ("hits", "unknown")
        )
        return cls(names, confusions, np.where(unknown, np.nan, hits).reshape(len(names), -1))


@dataclass(frozen=True)
class CrowdEvaluation:
    """Counts of M images of several people; scores are of any subset."""

    names: tuple[str, ...]  # M stems
    confusions: np.ndarray  # (M, P, P) int64
    matches: tuple[Matches, ...]  # M

    def scores(self, anatomy: Anatomy) -> dict[str, float]:
        """mAP in both variants, the joints' columns, mIoU, PixelAcc and MeanAcc, in percent, over all M images."""
        return {**people_scores(self.matches, anatomy), **parsing_scores(self.confusions.sum(axis=0))}

    def only(self, index: int) -> CrowdEvaluation:
        """The counts of one image."""
        one = slice(index, index + 1)
        return CrowdEvaluation(self.names[one], self.confusions[one], self.matches[one])

    def save(self, path: Path) -> None:
        """Write everything as a small ``.npz``, atomically."""
        columns = {each.name: np.concatenate([getattr(m, each.name) for m in self.matches]) for each in fields(Matches)}
        score = columns["score"].astype(np.float32)  # as networks predict them
        score = score if np.array_equal(score, columns["score"]) else columns["score"]
        columns |= {name: np.packbits(columns[name]) for name in ("right", "headed")}
        columns |= {name: columns[name].astype(np.uint8) for name in ("joint", "annotated", "annotated_headed")}
        columns["score"] = score.view(np.uint8).reshape(len(score), score.itemsize).T  # planes of bytes compress better
        found = np.array([len(each.joint) for each in self.matches], np.uint16)
        _write(path, {**_packed(self.names, self.confusions), **columns, "found": found})

    @classmethod
    def load(cls, path: Path) -> CrowdEvaluation:
        """Read what :meth:`save` wrote; CheckpointError for any other file."""
        arrays, names, confusions = _read(path)
        found = arrays["found"].astype(int)
        cuts, images = found.cumsum()[:-1], len(names)
        score = np.ascontiguousarray(arrays["score"].T).view(f"f{len(arrays['score'])}").ravel().astype(np.float64)
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
    """Few of an image's P² cells are not zero: which, as bits, and their counts in planes of bytes, cell by cell."""
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
        names, classes = tuple(arrays["names"].tobytes().decode().split("\n")), int(arrays["classes"])
        cells = np.unpackbits(arrays["cells"], count=len(names) * classes**2).astype(np.int64)
        cells[cells > 0] = sum(plane.astype(np.int64) << 8 * place for place, plane in enumerate(arrays["counts"]))
        return arrays, names, cells.reshape(classes, classes, len(names)).transpose(2, 0, 1)
    except (OSError, LookupError, ValueError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        why = f"{type(error).__name__}; delete it and the metrics.json beside it: the network is tested again"
        raise CheckpointError(f"{path}: not the counts of a test ({why})") from error
