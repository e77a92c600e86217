"""Reads LIP (Look Into Person, single person): images, part masks and the sixteen joints of each person.

The layout is the authors' own. Unzipping nests the folders once or twice depending on the tool, and other projects
flatten them; all of these are found:

=================  ==============================================  ===========================
what               as unzipped                                     flattened
=================  ==============================================  ===========================
images             ``TrainVal_images/train_images/*.jpg``          ``train_images/*.jpg``
ids                ``TrainVal_images/train_id.txt``                ``train_id.txt``
masks              ``TrainVal_parsing_annotations/                 ``parsing_annotations/`` or
                   train_segmentations/*.png``                     ``train_segmentations/*.png``
joints             ``TrainVal_pose_annotations/                    ``pose_annotations/`` or
                   lip_train_set.csv``                             ``lip_train_set.csv``
=================  ==============================================  ===========================

A row of the joints' CSV (no header) is ``stem.jpg`` and sixteen times ``x,y,v``: column and row in pixels, and v = 0
for a visible joint but **1 for an occluded one**, the reverse of COCO. A missing joint is three times ``nan``. Joints
may lie outside the image. Rows belong to images by file name only; their order means nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.data.pictures import decode_mask, load_image, load_mask, stray_ids
from mula_lib.files import DataError, read_lines, shown, visible_names

__all__ = [
    "CSV_COLUMNS", "JOINTS", "LARGEST_COORDINATE", "OCCLUDED", "SPLITS", "LipLayout", "LipRecord", "LipSplit",
    "decode_mask", "find_layout", "load_image", "load_mask", "read_ids", "read_pose_csv", "read_rows", "read_split",
    "require_name", "stray_ids",
]  # fmt: skip

SPLITS = ("train", "val", "test")
JOINTS = len(LIP.joints)
CSV_COLUMNS = 1 + 3 * JOINTS
LONGEST_NAME = 200  # bytes of a stem: file systems take 255, and what is made of an image adds to its name
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_A_NAME = re.compile(r"\w[\w\- ]{0,40}")  # what nearly all names are; others are looked at more closely
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png)$", re.IGNORECASE)
LARGEST_COORDINATE = 1e6  # pixels; no picture is as large, and a joint beyond is a slip
OCCLUDED = 1  # the visibility flag of a joint that was annotated although it cannot be seen


@dataclass(frozen=True)
class LipRecord:
    """One person: where the image and mask are, and the joints in image pixels (column, row)."""

    name: str  # the file's stem, e.g. "100034_483681"
    image: Path
    mask: Path | None  # None where the tree has no mask for this image, as in LIP's test split
    joints: np.ndarray  # (16, 2) float32, nan where missing
    occluded: np.ndarray  # (16,) bool; False where missing


@dataclass(frozen=True)
class LipSplit:
    """The records of one split, in the order of its id file."""

    root: Path
    split: str
    records: tuple[LipRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> LipRecord:
        return self.records[index]


@dataclass(frozen=True)
class LipLayout:
    """Where the pieces of one split lie; ``None`` for a piece that the tree does not have."""

    ids: Path
    images: Path | None
    masks: Path | None
    poses: Path | None


def find_layout(root: str | Path, split: str) -> LipLayout | None:
    """Find the pieces of ``split`` under ``root`` in any of the known nestings; None if there is no id file.

    Raises ``ValueError`` for an unknown split and :class:`DataError` if ``root`` is not a folder.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown LIP split {split!r}: use one of {', '.join(SPLITS)}")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder; give the folder that LIP was unzipped into")
    archive = "Testing_images" if split == "test" else "TrainVal_images"
    image_folder = "testing_images" if split == "test" else f"{split}_images"
    prefix = "Test" if split == "test" else "TrainVal"
    ids = _first(root, (archive, "images"), f"{split}_id.txt")
    if ids is None:
        return None
    return LipLayout(
        ids=ids,
        images=_first(root, (archive, "images"), image_folder, f"{split}_images", exists=os.path.isdir),
        masks=_first(
            root, (f"{prefix}_parsing_annotations", "parsing_annotations"), f"{split}_segmentations",
            exists=os.path.isdir,
        ),
        poses=_first(root, (f"{prefix}_pose_annotations", "pose_annotations"), f"lip_{split}_set.csv"),
    )  # fmt: skip


def _first(
    root: Path, archives: tuple[str, ...], *names: str, exists: Callable[[Path], bool] = os.path.lexists
) -> Path | None:
    """The first of ``names`` that exists in ``root`` itself or in an archive's folder, nested once or twice.

    A link to nothing counts as existing: whoever reads it will name it.
    """
    folders = [root] + [folder for archive in archives for folder in (root / archive, root / archive / archive)]
    return next((folder / name for folder in folders for name in names if exists(folder / name)), None)


def read_split(root: str | Path, split: str, *, limit: int | None = None) -> LipSplit:
    """Read the records of ``split`` ("train", "val" or "test") of the LIP tree at ``root``.

    Nothing is decoded yet. ``limit`` keeps the first so many ids. The test split's annotations are withheld by the
    authors: without them its masks are None and its joints nan.

    Raises :class:`DataError` if a folder, the id file or the CSV is missing or malformed, an id is listed twice, or
    an id has no row in the CSV; ``ValueError`` for an unknown split or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: keep at least one record, or None for all")
    layout, where = find_layout(root, split), shown(root)
    if layout is None:
        raise DataError(f"{where}: no {split}_id.txt here or in the unzipped folders; is this a LIP tree?")
    if layout.images is None:
        folder = "testing_images" if split == "test" else f"{split}_images"
        raise DataError(
            f"{where}: there is a {layout.ids.name} but no folder of {split} images ({folder}); unzip them there"
        )
    if split != "test" and layout.masks is None:
        raise DataError(f"{where}: no {split}_segmentations folder; unzip TrainVal_parsing_annotations.zip there")
    if split != "test" and layout.poses is None:
        raise DataError(f"{where}: no lip_{split}_set.csv; unzip TrainVal_pose_annotations.zip there")

    names = read_ids(layout.ids)[:limit]
    poses = read_pose_csv(layout.poses) if layout.poses else None
    masks = set(visible_names(layout.masks)) if layout.masks else set()
    unannotated = np.full((JOINTS, 3), np.nan)
    records = []
    for name in names:
        if poses is not None and name not in poses:
            csv, ids = shown(layout.poses), shown(layout.ids)
            raise DataError(f"{csv}: no row for {shown(name)}.jpg, which {ids} lists; unzip both again")
        pose = unannotated if poses is None else poses[name]
        records.append(
            LipRecord(
                name=name,
                image=layout.images / f"{name}.jpg",
                mask=layout.masks / f"{name}.png" if f"{name}.png" in masks else None,
                joints=pose[:, :2].astype(np.float32),
                occluded=pose[:, 2] == OCCLUDED,
            )
        )
    return LipSplit(root=Path(root), split=split, records=tuple(records))


def read_ids(path: str | Path) -> list[str]:
    """Read an id file: one stem a line, blank lines skipped.

    Raises :class:`DataError` if it cannot be read, is empty, or lists an id twice or one that cannot be the name of a
    file in the data set's folders.
    """
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        name = line.strip()
        if not name:
            continue
        if _A_NAME.fullmatch(name) is None:
            require_name(name, f"{shown(path)}, line {number}")
        if name in line_of:
            where = f"{shown(path)}, line {number}"
            raise DataError(f"{where}: {shown(name)} was already listed in line {line_of[name]}; remove one")
        line_of[name] = number
    if not line_of:
        raise DataError(f"{shown(path)}: the file lists no ids; unzip or copy it again")
    return list(line_of)


def require_name(name: str, where: str) -> None:
    """Raises :class:`DataError`, beginning with ``where``, unless ``name`` is that of a file in a folder of ours.

    Files are read and written by such names: one such as ``../x`` would lead out of the folder, and hidden files,
    which begin with a dot, are passed over.
    """
    readable = shown(name)
    quoted = f"'{readable[:60]}…'" if len(readable) > 60 else f"'{readable}'"
    if not name or name.startswith("."):
        raise DataError(f"{where}: {quoted} is no name of an image: it is empty or begins with a dot")
    if len(name.encode()) > LONGEST_NAME:
        raise DataError(f"{where}: {quoted} has more than {LONGEST_NAME} bytes; shorten the name of the image")
    if _NOT_IN_NAMES.search(name):
        raise DataError(f"{where}: {quoted} is no name of an image: slashes and control characters are not allowed")


def read_pose_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Read a LIP pose CSV into ``{stem: (16, 3) float64}`` of x, y (image pixels) and v (0 visible, 1 occluded).

    A joint without both coordinates is missing and all nan; one without v counts as visible. Raises
    :class:`DataError`, naming the file and line, for a file that cannot be read, a row without 49 columns, a cell that
    is no number, a v that is not 0, 1 or nan, a second row for one image, or a name that is none.
    """
    rows = read_rows(path, CSV_COLUMNS, f"image, then x,y,v of {JOINTS} joints")
    poses = np.array(list(rows.values())).reshape(len(rows), JOINTS, 3)
    flags = poses[:, :, 2]
    strange = ~((flags == 0) | (flags == OCCLUDED) | np.isnan(flags))
    if strange.any():
        row, joint = np.argwhere(strange)[0]
        found = f"v of {LIP.joints[joint]} is {flags[row, joint]:g}"
        raise DataError(f"{shown(path)}: {shown(list(rows)[row])}: {found}; write 0 (visible), 1 (occluded) or nan")
    poses[np.isnan(poses[:, :, :2]).any(axis=2)] = np.nan
    return dict(zip(rows, poses, strict=True))


def read_rows(path: str | Path, columns: int, what: str) -> dict[str, np.ndarray]:
    """Read a CSV without header, ``stem.jpg`` and numbers, into ``{stem: (columns - 1,) float64}``.

    ``what`` says in an error what the columns hold. Numbers are decimal and below ``LARGEST_COORDINATE``. Raises
    :class:`DataError` as :func:`read_pose_csv` does.
    """
    names: list[str] = []
    lines: list[int] = []
    rows: list[list[float]] = []
    file = shown(path)
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        file_name, *cells = line.split(",")
        if len(cells) + 1 != columns:
            raise DataError(f"{file}, line {number}: {len(cells) + 1} columns instead of {columns} ({what})")
        numbers = line[len(file_name) :]
        if not numbers.isascii() or "_" in numbers:  # which float() would take
            raise DataError(_not_a_number(file, number, cells))
        try:
            rows.append(list(map(float, cells)))
        except ValueError:
            raise DataError(_not_a_number(file, number, cells)) from None
        name = _IMAGE_SUFFIX.sub("", file_name.strip())
        if _A_NAME.fullmatch(name) is None:
            require_name(name, f"{file}, line {number}")
        names.append(name)
        lines.append(number)

    if len(set(names)) != len(names):
        first: dict[str, int] = {}
        for name, number in zip(names, lines, strict=True):
            if name in first:
                found = f"{shown(name)} already has a row in line {first[name]}"
                raise DataError(f"{file}, line {number}: {found}; remove one")
            first[name] = number

    table = np.array(rows, dtype=np.float64).reshape(len(rows), columns - 1)
    for wrong, found in (
        (np.isinf(table), "an infinite number; write nan if it is missing"),
        (np.abs(table) >= LARGEST_COORDINATE, "a coordinate that no picture has; write nan if it is missing"),
    ):
        if wrong.any():
            raise DataError(f"{file}, line {lines[int(wrong.any(axis=1).argmax())]}: {found}")
    return dict(zip(names, table, strict=True))


def _not_a_number(file: str, number: int, cells: list[str]) -> str:
    for column, cell in enumerate(cells, start=2):
        try:
            float(cell if cell.isascii() and "_" not in cell else "none")
        except ValueError:
            found = shown(cell.strip())[:40]
            return f"{file}, line {number}, column {column}: '{found}' is not a number; write nan if missing"
    raise AssertionError("called for a row of numbers")
