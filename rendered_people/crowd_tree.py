"""The files of rendered crowds, in PASCAL-Person-Part's layout.

::

    ROOT/JPEGImages/*.jpg  SegmentationPart/*.png  PersonJoints/*.mat  train_id.txt  val_id.txt
"""

import io

import numpy as np
from scipy.io import savemat

from rendered_people.tree import Tree

_FIRST_PIXEL = 1  # MATLAB counts from 1
_ABSENT, _VISIBLE, _OCCLUDED = 0, 1, 2
# A MATLAB file begins with 116 bytes of text, into which scipy writes the machine and the time.
_HEADER = b"MATLAB 5.0 MAT-file, rendered crowd".ljust(116)


class CrowdTree(Tree):
    """PASCAL-Person-Part's layout."""

    image = "JPEGImages/{stem}.jpg"
    mask = "SegmentationPart/{stem}.png"
    annotation = "PersonJoints/{stem}.mat"
    lists = ("{split}_id.txt",)

    def is_annotated(self, split: str, index: int) -> bool:
        path = self.path(self.annotation, split, index)
        return path.exists() and path.stat().st_size > len(_HEADER)  # after a power cut a file may be there but empty

    def encoded(self, split: str, index: int, picture) -> bytes:
        return people_mat(picture.joints, picture.occluded, picture.boxes)


def people_mat(joints: np.ndarray, occluded: np.ndarray, boxes: np.ndarray) -> bytes:
    """The content of a ``.mat``: of M people ``joints`` (M, 14, 2) in pixels from 0, nan where absent, ``occluded``
    (M, 14) bool and ``boxes`` (M, 4); coordinates are rounded to whole pixels. The same bytes at any time and place,
    as long as zlib packs alike."""
    cells = {"boxes": np.empty((1, len(joints)), object), "joints": np.empty((1, len(joints)), object)}
    for person in range(len(joints)):
        absent = np.isnan(joints[person]).any(axis=1)
        states = np.where(absent, _ABSENT, np.where(occluded[person], _OCCLUDED, _VISIBLE))
        places = np.where(absent[:, None], 0.0, np.rint(joints[person]) + _FIRST_PIXEL)
        cells["joints"][0, person] = np.column_stack([places, states])
        cells["boxes"][0, person] = (np.rint(boxes[person]) + _FIRST_PIXEL)[None]
    content = io.BytesIO()
    savemat(content, cells, do_compression=True)
    return _HEADER + content.getvalue()[len(_HEADER) :]
