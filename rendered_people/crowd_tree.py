"""Files of rendered crowds: PASCAL-Person-Part's own layout, written so that a reader never sees half a file.

::

    ROOT/JPEGImages/*.jpg  SegmentationPart/*.png  PersonJoints/*.mat  train_id.txt  val_id.txt
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.io import savemat

from mula_lib.data.pascal import ABSENT, FIRST_PIXEL, OCCLUDED, VISIBLE, read_people
from mula_lib.files import DataError, write_text
from rendered_people.tree import SPLITS, are_whole, make_folders, stem, write_pictures, write_quickly

if TYPE_CHECKING:
    from rendered_people.crowd import Crowd

# A MATLAB file begins with 116 bytes of text, into which scipy writes the machine and the time.
_HEADER = b"MATLAB 5.0 MAT-file, rendered crowd".ljust(116)


class CrowdTree:
    """Paths and files below a root. A picture's ``.mat`` is written last and says that it is whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, split: str, index: int) -> Path:
        return self.root / "JPEGImages" / f"{stem(split, index)}.jpg"

    def mask(self, split: str, index: int) -> Path:
        return self.root / "SegmentationPart" / f"{stem(split, index)}.png"

    def people(self, split: str, index: int) -> Path:
        return self.root / "PersonJoints" / f"{stem(split, index)}.mat"

    def ids(self, split: str) -> Path:
        return self.root / f"{split}_id.txt"

    def make(self) -> None:
        """Create the folders; DataError where that cannot be."""
        make_folders(self.root, (path(SPLITS[0], 0) for path in (self.image, self.mask, self.people)))

    def is_there(self, counts: dict[str, int]) -> bool:
        """Whether every file that ``counts`` pictures of each split need exists, by name alone."""
        paths = (self.image, self.mask, self.people)
        folders = [path(SPLITS[0], 0).parent for path in paths]
        there = {folder: set(os.listdir(folder)) if folder.exists() else set() for folder in folders}
        return all(
            self.ids(split).exists()
            and all(path(split, i).name in there[path(split, i).parent] for path in paths for i in range(count))
            for split, count in counts.items()
        )

    def is_done(self, split: str, index: int) -> bool:
        """Whether a picture is here and whole."""
        if not self.people(split, index).is_file():
            return False
        try:
            read_people(self.people(split, index))
        except DataError:
            return False
        return are_whole(self.image(split, index), self.mask(split, index))

    def write(self, split: str, index: int, crowd: Crowd) -> None:
        """Write one picture."""
        write_pictures(self.image(split, index), crowd.image, self.mask(split, index), crowd.mask)
        write_quickly(self.people(split, index), people_mat(crowd.joints, crowd.occluded, crowd.boxes))

    def finish(self, counts: dict[str, int]) -> None:
        """Write the lists of ``counts`` pictures of each split."""
        for split, count in counts.items():
            write_text(self.ids(split), "".join(f"{stem(split, i)}\n" for i in range(count)))

    def tidy(self, splits: Iterable[str]) -> None:
        """Nothing is left over."""


def people_mat(joints: np.ndarray, occluded: np.ndarray, boxes: np.ndarray) -> bytes:
    """The content of a ``.mat``: of M people ``joints`` (M, 14, 2) in pixels from 0, nan where absent, ``occluded``
    (M, 14) bool and ``boxes`` (M, 4); coordinates are rounded to whole pixels. The same bytes at any time and place,
    as long as zlib packs alike."""
    cells = {"boxes": np.empty((1, len(joints)), object), "joints": np.empty((1, len(joints)), object)}
    for person in range(len(joints)):
        absent = np.isnan(joints[person]).any(axis=1)
        states = np.where(absent, ABSENT, np.where(occluded[person], OCCLUDED, VISIBLE))
        places = np.where(absent[:, None], 0.0, np.rint(joints[person]) + FIRST_PIXEL)
        cells["joints"][0, person] = np.column_stack([places, states])
        cells["boxes"][0, person] = (np.rint(boxes[person]) + FIRST_PIXEL)[None]
    content = io.BytesIO()
    savemat(content, cells, do_compression=True)
    return _HEADER + content.getvalue()[len(_HEADER) :]
