"""Files of a rendered tree: LIP's own layout, written so that a reader never sees half a file.

::

    ROOT/TrainVal_images/{train,val}_images/*.jpg   train_id.txt  val_id.txt
    ROOT/TrainVal_parsing_annotations/{train,val}_segmentations/*.png
    ROOT/TrainVal_pose_annotations/lip_{train,val}_set.csv
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.files import PARTIAL, DataError, remove_partials, storage_error, write_text

if TYPE_CHECKING:
    from rendered_people.person import Person

SPLITS = ("train", "val")
_QUALITY = 95  # of the JPEG files; a camera's own losses are already in the pixels


def stem(split: str, index: int) -> str:
    """The file name of a picture, without its extension."""
    return f"{split}_{index:06d}"


class Tree:
    """Paths and files below a root. The row of each finished picture waits in ``.rows`` until the CSV is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, split: str, index: int) -> Path:
        return self.root / "TrainVal_images" / f"{split}_images" / f"{stem(split, index)}.jpg"

    def mask(self, split: str, index: int) -> Path:
        folder = self.root / "TrainVal_parsing_annotations" / f"{split}_segmentations"
        return folder / f"{stem(split, index)}.png"

    def csv(self, split: str) -> Path:
        return self.root / "TrainVal_pose_annotations" / f"lip_{split}_set.csv"

    def ids(self, split: str) -> Path:
        return self.root / "TrainVal_images" / f"{split}_id.txt"

    def row(self, split: str, index: int) -> Path:
        return self.root / ".rows" / split / f"{stem(split, index)}.csv"

    def make(self) -> None:
        """Create the folders; DataError where that cannot be."""
        make_folders(
            self.root,
            (path(split, 0) for split in SPLITS for path in (self.image, self.mask, self.row)),
            (self.csv(split) for split in SPLITS),
        )

    def is_there(self, counts: dict[str, int]) -> bool:
        """Whether every file that ``counts`` pictures of each split need exists, by name alone."""
        for split, count in counts.items():
            if not (self.csv(split).exists() and self.ids(split).exists()):
                return False
            for path in (self.image(split, 0), self.mask(split, 0)):
                names = set(os.listdir(path.parent)) if path.parent.exists() else set()
                if not all(f"{stem(split, index)}{path.suffix}" in names for index in range(count)):
                    return False
        return True

    def is_done(self, split: str, index: int) -> bool:
        """Whether a picture is here and whole."""
        return self._row(split, index) is not None

    def _row(self, split: str, index: int) -> str | None:
        """The CSV row of a picture that is here and whole, else None."""
        path = self.row(split, index)
        row = path.read_text(errors="replace").strip() if path.exists() else self._rows_of_csv.get(stem(split, index))
        if row is None or len(row.split(",")) != 1 + 3 * len(LIP.joints):
            return None
        return row if are_whole(self.image(split, index), self.mask(split, index)) else None

    @cached_property
    def _rows_of_csv(self) -> dict[str, str]:
        """By stem, of a tree that was complete before."""
        texts = [path.read_text(errors="replace") for split in SPLITS if (path := self.csv(split)).exists()]
        return {line.split(".jpg,")[0]: line for text in texts for line in text.splitlines()}

    def write(self, split: str, index: int, person: Person) -> None:
        """Write one picture; its row last, so that a row says that the picture is whole."""
        write_pictures(self.image(split, index), person.image, self.mask(split, index), person.mask)
        row = _csv_row(f"{stem(split, index)}.jpg", person)
        write_quickly(self.row(split, index), (row + "\n").encode())

    def finish(self, counts: dict[str, int]) -> None:
        """Write the lists of ``counts`` pictures of each split, which must all be there."""
        for split, count in counts.items():
            write_text(self.csv(split), "".join(f"{self._row(split, i)}\n" for i in range(count)))
            write_text(self.ids(split), "".join(f"{stem(split, i)}\n" for i in range(count)))

    def tidy(self, splits: Iterable[str]) -> None:
        """Remove what is not needed once the lists of ``splits`` hold everything."""
        for split in splits:
            shutil.rmtree(self.row(split, 0).parent, ignore_errors=True)
        with contextlib.suppress(OSError):  # the other split's rows still wait there
            (self.root / ".rows").rmdir()


def _csv_row(name: str, person: Person) -> str:
    cells = [name]
    for (column, row), occluded in zip(person.joints, person.occluded, strict=True):
        missing = not np.isfinite(column)
        cells += ["nan"] * 3 if missing else [str(round(column)), str(round(row)), str(int(occluded))]
    return ",".join(cells)


def make_folders(root: Path, *files: Iterable[Path]) -> None:
    """Create the folders of ``files`` below ``root``, and clear them of what killed processes left half-written.

    Raises :class:`DataError` where that cannot be.
    """
    for path in chain(*files):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write below {root}: {error.strerror}; give another folder") from error
        remove_partials(path.parent)


def are_whole(image: Path, mask: Path) -> bool:
    """Whether both files are there and end as a JPEG and a PNG must."""
    return _ends_with(image, b"\xff\xd9") and _ends_with(mask, b"IEND\xaeB`\x82")


def _ends_with(path: Path, ending: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(ending), os.SEEK_END)
            return file.read() == ending
    except OSError:
        return False


def write_pictures(image: Path, pixels: np.ndarray, mask: Path, parts: np.ndarray) -> None:
    """Write an (H, W, 3) RGB picture as JPEG and its (H, W) mask as PNG."""
    for path, values, options in (
        (image, pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]),
        (mask, parts, [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    ):
        write_quickly(path, cv2.imencode(path.suffix, values, options)[1])


def write_quickly(path: Path, content: bytes | np.ndarray) -> None:
    """Write a file of a folder that is there, atomically but without waiting for the disk.

    ``files.atomic_path`` does more and takes three times as long, which thousands of small files feel: no two
    processes write the same picture, and one that is lost in a power cut is found and rendered again.
    """
    temporary = f"{path.parent}{os.sep}.{path.name}.{os.getpid()}{PARTIAL}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        raise
