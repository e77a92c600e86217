"""Reads extended PASCAL-Person-Part (several people): images, masks of six parts, fourteen joints and a box a person.

The layout, directly in the given folder or in ``pascal_data`` below it::

    JPEGImages/<id>.jpg  SegmentationPart/<id>.png  PersonJoints/<id>.mat  train_id.txt  val_id.txt

A ``.mat`` holds two cell arrays with an element a person: ``boxes``, [x1 y1 x2 y2], and ``joints``, 14 × [x y v] with
v = 0 for an absent joint, 1 for a visible and 2 for an occluded one. Some ids of the lists have none: they are skipped,
and named in :attr:`PascalSplit.skipped`. In masks 255 means "ignore".

What the annotations do not say is a named constant each: :data:`FIRST_PIXEL` here, and in ``anatomy.py`` whose side the
joints 2 to 7 are of. ``python -m mula_lib.data.check`` tells what speaks against them in a tree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mula_lib.anatomy import PASCAL
from mula_lib.data.lip import LARGEST_COORDINATE, read_ids
from mula_lib.data.matlab import NotMatlab, OtherVersion, Unread, read_variables
from mula_lib.data.pictures import load_mask
from mula_lib.files import DataError, read_regular, shown, visible_names

SPLITS = ("train", "val")  # the papers' "test" is val
FOLDERS = ("JPEGImages", "SegmentationPart", "PersonJoints")
FIRST_PIXEL = 1  # coordinate of the first row and column in the .mat files; MATLAB counts from 1
ABSENT, VISIBLE, OCCLUDED = 0, 1, 2
JOINTS = len(PASCAL.joints)

# Another release of the masks numbers the parts differently: its id -> the name of the part.
OTHER_PARTS = ("background", "lower_arm", "head", "upper_leg", "torso", "lower_leg", "upper_arm")
OTHER_LOOKUP = np.arange(256, dtype=np.uint8)
OTHER_LOOKUP[: len(OTHER_PARTS)] = [PASCAL.part(name) for name in OTHER_PARTS]
_MOST_BYTES = 2**26  # of one .mat, which has some hundred a person
_LOOKED_AT = 40  # masks of a split whose part numbers are checked when it is opened
_TELLING = 3  # votes that decide about a single mask


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
class PascalSplit:
    """The records of one split, in the order of its id file."""

    root: Path
    split: str
    records: tuple[PascalRecord, ...]
    skipped: tuple[str, ...] = ()  # ids without a .mat

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PascalRecord:
        return self.records[index]

    @cached_property
    def most_people(self) -> int:
        """In any image of the split; 1 where there is nobody at all, so that arrays of people have a row."""
        return max(1, *(len(record.joints) for record in self.records))


@dataclass(frozen=True)
class PascalLayout:
    """Where the pieces of a split lie; ``None`` for a folder that the tree does not have."""

    ids: Path
    images: Path | None
    masks: Path | None
    people: Path | None


def find_layout(root: str | Path, split: str) -> PascalLayout | None:
    """Find the pieces of ``split`` ("train" or "val") under ``root``; None if there is no PASCAL-Person-Part there.

    Raises ``ValueError`` for an unknown split and :class:`DataError` if ``root`` is not a folder.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder; give the folder that holds JPEGImages and PersonJoints")
    for folder in (root, root / "pascal_data"):
        ids = folder / f"{split}_id.txt"
        if os.path.lexists(ids):
            parts = (folder / name for name in FOLDERS)
            return PascalLayout(ids, *(part if os.path.isdir(part) else None for part in parts))
    return None


def is_pascal(root: str | Path) -> bool:
    """Whether a PASCAL-Person-Part tree lies at ``root``, be it one that lacks some of its folders."""
    root = Path(root)
    return any(os.path.isdir(folder / name) for folder in (root, root / "pascal_data") for name in FOLDERS)


def read_split(root: str | Path, split: str) -> PascalSplit:
    """Read the records of ``split`` of the tree at ``root``; images are not decoded yet, but for a few masks.

    Raises :class:`DataError` if a folder or the id list is missing or malformed, no listed id has a ``.mat``, one is
    not what it should be, a mask is missing, or masks number the parts like the other release.
    """
    layout = find_layout(root, split)
    if layout is None:
        raise DataError(f"{shown(root)}: no {split}_id.txt here or in pascal_data; is this a PASCAL-Person-Part tree?")
    for name, folder in zip(FOLDERS, (layout.images, layout.masks, layout.people), strict=True):
        if folder is None:
            raise DataError(f"{shown(layout.ids.parent)}: no {name} folder beside {layout.ids.name}; copy it there")
    names = read_ids(layout.ids)
    annotated = set(visible_names(layout.people))
    kept = [name for name in names if f"{name}.mat" in annotated]
    if not kept:
        raise DataError(
            f"{shown(layout.people)}: no .mat of any of the {len(names)} ids of {layout.ids.name}; copy them there"
        )
    records = [
        PascalRecord(name, layout.images / f"{name}.jpg", layout.masks / f"{name}.png", *read_people(path))
        for name in kept
        for path in (layout.people / f"{name}.mat",)
    ]
    masks = set(visible_names(layout.masks))
    for record in records:
        if record.mask.name not in masks:
            raise DataError(f"{shown(record.mask)}: no such mask; copy the part masks there again")
    kept_names = set(kept)
    result = PascalSplit(Path(root), split, tuple(records), tuple(name for name in names if name not in kept_names))
    _refuse_other_parts(result)
    return result


def read_people(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one ``.mat``: (M, 14, 2) float32 joints, nan where absent, (M, 14) bool occluded, (M, 4) float32 boxes.

    All in pixels counted from 0. Raises :class:`DataError`, naming the file, the person and the joint, for a file
    that is missing or no MATLAB file, lacks a field, holds other shapes than it should, coordinates that are no
    numbers or that no image has, or a box that ends before it begins.
    """
    file = shown(path)
    try:
        content = read_variables(read_regular(path, _MOST_BYTES), ("boxes", "joints"))
    except OSError as error:
        raise DataError(f"{file}: cannot be opened ({error.strerror}); copy it there again") from None
    except OtherVersion as version:
        raise DataError(f"{file}: a MATLAB file of version {version}; save it again with -v7") from None
    except NotMatlab as reason:
        raise DataError(f"{file}: not a MATLAB file ({reason}); copy it again") from None
    cells = {}
    for name in ("boxes", "joints"):
        if name not in content:
            there = shown(", ".join(sorted(content)))[:100] or "nothing"
            raise DataError(f"{file}: no field {name!r} (it holds {there}); copy the file again")
        value = content[name]
        if isinstance(value, Unread) or (value.dtype != object and value.size):
            raise DataError(f"{file}: {name!r} is no cell array of people; copy the file again")
        cells[name] = value.ravel().tolist()
    if len(cells["boxes"]) != len(cells["joints"]):
        found = f"{len(cells['boxes'])} boxes but joints of {len(cells['joints'])} people"
        raise DataError(f"{file}: {found}; copy the file again")
    count = len(cells["joints"])
    joints = np.full((count, JOINTS, 2), np.nan, np.float32)
    occluded = np.zeros((count, JOINTS), bool)
    boxes = np.zeros((count, 4), np.float32)
    for index, (box, rows) in enumerate(zip(cells["boxes"], cells["joints"], strict=True)):
        where = f"{file}, person {index + 1}"
        box, rows = _numbers(box, (4,), f"{where}: the box"), _numbers(rows, (JOINTS, 3), f"{where}: the joints")
        if not np.isfinite(box).all():
            raise DataError(f"{where}: a box of {box.tolist()}; write four numbers")
        if (np.abs(box) >= LARGEST_COORDINATE).any() or (box[2:] < box[:2]).any():
            raise DataError(f"{where}: a box of {box.tolist()}; write x1, y1, x2, y2 within the image, in this order")
        states = rows[:, 2]
        unknown = ~np.isin(states, (ABSENT, VISIBLE, OCCLUDED))
        if unknown.any():
            joint = int(unknown.argmax())
            found = f"the state of {PASCAL.joints[joint]} is {states[joint]:g}"
            raise DataError(f"{where}: {found}; write 0 (absent), 1 (visible) or 2 (occluded)")
        there = states != ABSENT
        lost = there & ~np.isfinite(rows[:, :2]).all(axis=1)
        if lost.any():
            name = PASCAL.joints[int(lost.argmax())]
            raise DataError(f"{where}: the coordinates of {name} are no numbers; write state 0 if it is absent")
        far = there & (np.abs(rows[:, :2]) >= LARGEST_COORDINATE).any(axis=1)
        if far.any():
            name = PASCAL.joints[int(far.argmax())]
            raise DataError(f"{where}: the coordinates of {name} are none of an image; write state 0 if it is absent")
        joints[index, there] = rows[there, :2] - FIRST_PIXEL
        occluded[index] = states == OCCLUDED
        boxes[index] = box - FIRST_PIXEL
    return joints, occluded, boxes


def _numbers(value: np.ndarray | Unread, shape: tuple[int, ...], what: str) -> np.ndarray:
    if isinstance(value, Unread):
        raise DataError(
            f"{what} should be {'×'.join(map(str, shape))} numbers, found {value.kind}; copy the file again"
        )
    value = value.ravel() if len(shape) == 1 else value
    if value.shape != shape or value.dtype.kind not in "iufb":
        wanted, found = ("×".join(map(str, sizes)) for sizes in (shape, value.shape))
        raise DataError(f"{what} should be {wanted} numbers, found {found} of {value.dtype}; copy the file again")
    return value.astype(np.float64)


def part_votes(mask: np.ndarray, joints: np.ndarray, occluded: np.ndarray) -> tuple[int, int]:
    """How many places on people's limbs have the part id of this numbering, and how many that of the other release.

    ``mask`` (H, W) ids; ``joints`` (M, 14, 2) and ``occluded`` (M, 14) as in a record. Looked at are the forehead, the
    middle of the trunk and the middles of upper and lower arms and legs, where all joints around are visible.
    """
    seen = np.where(occluded[..., None], np.nan, joints)

    def middle(*names: str) -> np.ndarray:
        return np.mean([seen[:, PASCAL.joint(name)] for name in names], axis=0)

    places = [("head", middle("forehead")), ("torso", middle("neck", "left_hip", "right_hip"))]
    for side in ("left", "right"):
        for part, pair in (
            ("upper_arm", ("shoulder", "elbow")), ("lower_arm", ("elbow", "wrist")),
            ("upper_leg", ("hip", "knee")), ("lower_leg", ("knee", "ankle")),
        ):  # fmt: skip
            places.append((part, middle(*(f"{side}_{joint}" for joint in pair))))
    height, width = mask.shape
    votes = [0, 0]
    for part, points in places:
        points = points[np.isfinite(points).all(axis=1)]
        columns, rows = np.rint(points).astype(int).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        found = mask[rows[inside], columns[inside]]
        votes[0] += int((found == PASCAL.part(part)).sum())
        votes[1] += int((found == OTHER_PARTS.index(part)).sum())
    return votes[0], votes[1]


def numbered_differently(mask: np.ndarray, joints: np.ndarray, occluded: np.ndarray) -> bool:
    """Whether a mask speaks plainly for the other release's part numbers; see :func:`part_votes`."""
    ours, other = part_votes(mask, joints, occluded)
    return other >= _TELLING and other > 2 * ours


def _refuse_other_parts(split: PascalSplit) -> None:
    """Look at some masks, evenly spread, so that a run does not first train for hours towards the wrong parts."""
    for record in split.records[:: max(1, len(split) // _LOOKED_AT)]:
        mask = load_mask(record.mask, classes=len(PASCAL.parts))
        if numbered_differently(mask, record.joints, record.occluded):
            raise DataError(
                f"{shown(record.mask)}: its parts are numbered like the other release of PASCAL-Person-Part (1 lower "
                f"arm, 2 head, …); convert: python -m mula_lib.data.convert_parts {shown(record.mask.parent)} OUT"
            )
