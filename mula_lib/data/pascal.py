"""Reads extended PASCAL-Person-Part (several people): images, masks of six parts, fourteen joints and a box a person.

The layout, directly in the given folder or in ``pascal_data`` below it::

    JPEGImages/<id>.jpg  SegmentationPart/<id>.png  PersonJoints/<id>.mat  train_id.txt  val_id.txt

A ``.mat`` holds two cell arrays with an element a person: ``boxes``, [x1 y1 x2 y2], and ``joints``, 14 × [x y v] with
v = 0 for an absent joint, 1 for a visible and 2 for an occluded one. Some ids of the lists have none: they are skipped,
and named in :attr:`PascalSplit.skipped`. In masks 255 means "ignore".

What the annotations do not state is a named constant each: :data:`FIRST_PIXEL` here and, in ``anatomy.py``, the side
that joints 2 to 7 belong to. ``python -m mula_lib.data.check`` reports what in a tree contradicts them.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from mula_lib.anatomy import PASCAL
from mula_lib.data.images import images_in
from mula_lib.data.lip import Layout, LipSplit, read_ids
from mula_lib.files import DataError

SPLITS = ("train", "val")  # the papers' "test" is val
FOLDERS = ("JPEGImages", "SegmentationPart", "PersonJoints")
FIRST_PIXEL = 1  # coordinate of the first row and column in the .mat files; MATLAB counts from 1
ABSENT, VISIBLE, OCCLUDED = 0, 1, 2
JOINTS = len(PASCAL.joints)

# Another release of the masks numbers the parts differently: its id -> the name of the part.
OTHER_PARTS = ("background", "lower_arm", "head", "upper_leg", "torso", "lower_leg", "upper_arm")
OTHER_LOOKUP = np.arange(256, dtype=np.uint8)
OTHER_LOOKUP[: len(OTHER_PARTS)] = [PASCAL.part(name) for name in OTHER_PARTS]


@dataclass(frozen=True)
class PascalRecord:
    """One image with M people: files, and joints and boxes in image pixels (column, row), counted from 0."""

    name: str
    image: Path
    mask: Path
    joints: np.ndarray  # (M, 14, 2) float32, nan where absent
    occluded: np.ndarray  # (M, 14) bool
    boxes: np.ndarray  # (M, 4) float32: x1, y1, x2, y2


@dataclass(frozen=True)
class PascalSplit(LipSplit):
    """The records of one split, in the order of its id file."""

    records: tuple[PascalRecord, ...]
    skipped: tuple[str, ...] = ()  # ids without a .mat

    @cached_property
    def most_people(self) -> int:
        """In any image of the split; 1 where there is nobody at all, so that arrays of people have a row."""
        return max(1, *(len(record.joints) for record in self.records))


def find_layout(root: str | Path, split: str) -> Layout | None:
    """Find the pieces of ``split`` ("train" or "val") under ``root``; None if its id file is not there."""
    root = Path(root).expanduser()
    for folder in (root, root / "pascal_data"):
        ids = folder / f"{split}_id.txt"
        if ids.exists():
            return Layout(ids, *(part if (part := folder / name).is_dir() else None for name in FOLDERS))
    return None


def is_pascal(root: str | Path) -> bool:
    """Whether a PASCAL-Person-Part tree lies at ``root``, be it one that lacks some of its folders."""
    root = Path(root).expanduser()
    return any((folder / name).is_dir() for folder in (root, root / "pascal_data") for name in FOLDERS)


def missing_tree(root: str | Path, split: str) -> str:
    """Why there is no ``split`` of PASCAL-Person-Part at ``root``, in one line."""
    return f"{root}: no {split}_id.txt here or in pascal_data; copy the lists of PASCAL-Person-Part there"


def read_split(root: str | Path, split: str) -> PascalSplit:
    """Read the records of ``split`` ("train" or "val") of the tree at ``root``; images and masks are not decoded yet.

    Raises :class:`DataError` if a folder or the id list is missing or malformed, no listed id has a ``.mat``, or one is
    not what it should be.
    """
    layout = find_layout(root, split)
    if layout is None:
        raise DataError(missing_tree(root, split))
    for name, folder in zip(FOLDERS, (layout.images, layout.masks, layout.poses), strict=True):
        if folder is None:
            raise DataError(f"{layout.ids.parent / name}: no such folder, or a broken link; copy it there")
    names, images, masks = read_ids(layout.ids), images_in(layout.images), images_in(layout.masks)
    records, skipped = [], []
    for name in names:
        people = layout.poses / f"{name}.mat"
        if people.exists():
            files = images.get(name) or layout.images / f"{name}.jpg", masks.get(name) or layout.masks / f"{name}.png"
            records.append(PascalRecord(name, *files, *read_people(people)))
        else:
            skipped.append(name)
    if not records:
        raise DataError(f"{layout.poses}: no .mat of any of the {len(names)} ids of {layout.ids.name}; copy them there")
    return PascalSplit(Path(root), split, tuple(records), tuple(skipped))


def read_people(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one ``.mat``: (M, 14, 2) float32 joints, nan where absent, (M, 14) bool occluded, (M, 4) float32 boxes.

    All in pixels counted from 0. Raises :class:`DataError` for a file that is missing or no MATLAB file, lacks a field,
    or holds other shapes or states than it should.
    """
    try:
        content = loadmat(io.BytesIO(Path(path).read_bytes()))
        boxes = np.array([box.ravel() for box in content["boxes"].ravel()], np.float64).reshape(-1, 4)
        rows = np.array(content["joints"].ravel().tolist(), np.float64).reshape(-1, JOINTS, 3)
    except Exception as error:  # SciPy raises nearly anything for damaged files
        what = f"not cell arrays 'boxes' and 'joints' of everybody's 4 and {JOINTS} × 3 numbers"
        raise DataError(f"{path}: {what} ({error}); copy the file again") from None
    present = rows[..., 2] != ABSENT
    if len(boxes) != len(rows) or not np.isin(rows[..., 2], (ABSENT, VISIBLE, OCCLUDED)).all():
        fault = f"{len(boxes)} boxes and {len(rows)} people's joints; states should be 0 (absent), 1 (visible) or 2"
        raise DataError(f"{path}: {fault}; copy the file again")
    joints = np.where(present[..., None], rows[..., :2] - FIRST_PIXEL, np.nan)
    return joints.astype(np.float32), rows[..., 2] == OCCLUDED, (boxes - FIRST_PIXEL).astype(np.float32)
