"""A network judged on pictures of several people: verdicts and pixel counts of every image, and what they add up to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from mula_lib.anatomy import Anatomy
from mula_lib.errors import CheckpointError
from mula_lib.files import atomic_path, read_arrays
from mula_lib.metrics.parsing import parsing_scores
from mula_lib.metrics.people import Verdicts, people_scores


@contextlib.contextmanager
def counts_of(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of an ``evaluation.npz``; CheckpointError where they are not what they should be."""
    what, mend = "the counts of a test", "delete it and the metrics.json beside it: the network is tested again"
    arrays = read_arrays(path, what, mend=mend, error=CheckpointError)
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
