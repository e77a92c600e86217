"""The files of a rendered tree, written so that a reader never sees half of one; :class:`PeopleTree` is LIP's layout.

::

    ROOT/TrainVal_images/{train,val}_images/*.jpg   train_id.txt  val_id.txt
    ROOT/TrainVal_parsing_annotations/{train,val}_segmentations/*.png
    ROOT/TrainVal_pose_annotations/lip_{train,val}_set.csv
"""

from __future__ import annotations

import contextlib
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.files import remove_partials, write_bytes, write_text

if TYPE_CHECKING:
    from rendered_people.pictures import Crowd, Person

SPLITS = ("train", "val")
_QUALITY = 95  # of the JPEG files; a camera's own losses are already in the pixels


class Tree:
    """Paths below ``root``, as patterns of ``{split}`` and ``{stem}``.

    A picture's annotation is written last: where it is, the picture is whole. Layouts say which the patterns are, what
    an annotation holds (``encoded``), and whether a picture has one (``is_annotated``).
    """

    image: str
    mask: str
    annotation: str
    lists: tuple[str, ...]  # files of a split that are written when all its pictures are there; the first has their ids

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, pattern: str, split: str, index: int = 0) -> Path:
        """The file of a picture, or of a split."""
        return self.root / pattern.format(split=split, stem=_stem(split, index))

    def is_there(self, split: str, count: int) -> bool:
        """Whether a split's lists and ``count`` pictures with masks exist, by name alone."""
        folders = (self.path(pattern, split).parent for pattern in (self.image, self.mask))
        return all(self.path(pattern, split).exists() for pattern in self.lists) and all(
            len(list(folder.glob(f"{split}_*"))) >= count for folder in folders
        )

    def is_done(self, split: str, index: int) -> bool:
        """Whether a picture, its mask and its annotation are here and whole."""
        image, mask = (self.path(pattern, split, index) for pattern in (self.image, self.mask))
        return (
            self.is_annotated(split, index) and _ends_with(image, b"\xff\xd9") and _ends_with(mask, b"IEND\xaeB`\x82")
        )

    def write(self, split: str, index: int, picture: Person | Crowd) -> None:
        """Write one picture with its mask and annotation."""
        for pattern, content in (
            (self.image, cv2.imencode(".jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]),
            (self.mask, cv2.imencode(".png", picture.mask, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]),
            (self.annotation, self.encoded(split, index, picture)),
        ):
            write_bytes(self.path(pattern, split, index), content, durable=False)

    def clear(self, split: str) -> None:
        """Remove what killed processes left half-written."""
        for pattern in (self.image, self.mask, self.annotation, *self.lists):
            remove_partials(self.path(pattern, split).parent)

    def finish(self, split: str, count: int) -> None:
        """Write the lists of a split whose ``count`` pictures are all there."""
        write_text(self.path(self.lists[0], split), "".join(f"{_stem(split, index)}\n" for index in range(count)))


class PeopleTree(Tree):
    """LIP's layout. The row of each finished picture waits in ``.rows`` until the CSV is written."""

    image = "TrainVal_images/{split}_images/{stem}.jpg"
    mask = "TrainVal_parsing_annotations/{split}_segmentations/{stem}.png"
    annotation = ".rows/{split}/{stem}.csv"
    csv = "TrainVal_pose_annotations/lip_{split}_set.csv"
    lists = ("TrainVal_images/{split}_id.txt", csv)

    def is_annotated(self, split: str, index: int) -> bool:
        return self._row(split, index).count(",") == 3 * len(LIP.joints)

    def encoded(self, split: str, index: int, picture: Person) -> bytes:
        cells = [f"{_stem(split, index)}.jpg"]
        for (column, row), occluded in zip(picture.joints, picture.occluded, strict=True):
            cells += [str(round(column)), str(round(row)), str(int(occluded))] if np.isfinite(column) else ["nan"] * 3
        return (",".join(cells) + "\n").encode()

    def finish(self, split: str, count: int) -> None:
        write_text(self.path(self.csv, split), "".join(f"{self._row(split, index)}\n" for index in range(count)))
        super().finish(split, count)
        shutil.rmtree(self.path(self.annotation, split).parent, ignore_errors=True)
        with contextlib.suppress(OSError):  # rows of the other split wait there
            (self.root / ".rows").rmdir()

    def _row(self, split: str, index: int) -> str:
        """The CSV row of a picture; empty if it has none."""
        path = self.path(self.annotation, split, index)
        return path.read_text().strip() if path.exists() else self._rows_of_csv.get(_stem(split, index), "")

    @cached_property
    def _rows_of_csv(self) -> dict[str, str]:
        """By stem, of splits that were complete before."""
        texts = [path.read_text() for split in SPLITS if (path := self.path(self.csv, split)).exists()]
        return {line.split(".jpg,")[0]: line for text in texts for line in text.splitlines()}


def _stem(split: str, index: int) -> str:
    return f"{split}_{index:06d}"


def _ends_with(path: Path, ending: bytes) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(-len(ending), os.SEEK_END)
        return file.read() == ending
    return False
