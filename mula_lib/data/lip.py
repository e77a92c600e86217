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

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image  # comes with matplotlib; OpenCV cannot give a palette PNG's stored indices, only its colours

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.errors import DataError

SPLITS = ("train", "val", "test")
JOINTS = len(LIP.joints)
CSV_COLUMNS = 1 + 3 * JOINTS
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
        raise DataError(f"{root}: no such folder; give the folder that LIP was unzipped into")
    archive = "Testing_images" if split == "test" else "TrainVal_images"
    image_folder = "testing_images" if split == "test" else f"{split}_images"
    prefix = "Test" if split == "test" else "TrainVal"
    ids = _first(root, (archive, "images"), f"{split}_id.txt")
    if ids is None:
        return None
    return LipLayout(
        ids=ids,
        images=_first(root, (archive, "images"), image_folder, f"{split}_images"),
        masks=_first(root, (f"{prefix}_parsing_annotations", "parsing_annotations"), f"{split}_segmentations"),
        poses=_first(root, (f"{prefix}_pose_annotations", "pose_annotations"), f"lip_{split}_set.csv"),
    )


def _first(root: Path, archives: tuple[str, ...], *names: str) -> Path | None:
    """The first of ``names`` that exists in ``root`` itself or in an archive's folder, nested once or twice."""
    folders = [root] + [folder for archive in archives for folder in (root / archive, root / archive / archive)]
    return next((folder / name for folder in folders for name in names if (folder / name).exists()), None)


def read_split(root: str | Path, split: str, *, limit: int | None = None) -> LipSplit:
    """Read the records of ``split`` ("train", "val" or "test") of the LIP tree at ``root``.

    Nothing is decoded yet. ``limit`` keeps the first so many ids. The test split's annotations are withheld by the
    authors: without them its masks are None and its joints nan.

    Raises :class:`DataError` if a folder, the id file or the CSV is missing or malformed, an id is listed twice, or
    an id has no row in the CSV; ``ValueError`` for an unknown split or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: keep at least one record, or None for all")
    layout = find_layout(root, split)
    if layout is None:
        raise DataError(f"{root}: no {split}_id.txt here or in the unzipped folders; is this a LIP tree?")
    if layout.images is None:
        raise DataError(f"{root}: there is a {layout.ids.name} but no folder of {split} images; unzip them there")
    if split != "test" and layout.masks is None:
        raise DataError(f"{root}: no {split}_segmentations folder; unzip TrainVal_parsing_annotations.zip there")
    if split != "test" and layout.poses is None:
        raise DataError(f"{root}: no lip_{split}_set.csv; unzip TrainVal_pose_annotations.zip there")

    names = read_ids(layout.ids)[:limit]
    poses = read_pose_csv(layout.poses) if layout.poses else None
    masks = set(os.listdir(layout.masks)) if layout.masks else set()
    unannotated = np.full((JOINTS, 3), np.nan)
    records = []
    for name in names:
        if poses is not None and name not in poses:
            raise DataError(f"{layout.poses}: no row for {name}.jpg, which {layout.ids} lists; unzip both again")
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

    Raises :class:`DataError` if it cannot be read, is empty, or lists an id twice.
    """
    line_of: dict[str, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        if name in line_of:
            raise DataError(f"{path}, line {number}: {name} was already listed in line {line_of[name]}; remove one")
        line_of[name] = number
    if not line_of:
        raise DataError(f"{path}: the file lists no ids; unzip or copy it again")
    return list(line_of)


def read_pose_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Read a LIP pose CSV into ``{stem: (16, 3) float64}`` of x, y (image pixels) and v (0 visible, 1 occluded).

    A joint without both coordinates is missing and all nan. Raises :class:`DataError`, naming the file and line, for
    a file that cannot be read, a row without 49 columns, a cell that is no number, or a second row for one image.
    """
    rows = read_rows(path, CSV_COLUMNS, f"image, then x,y,v of {JOINTS} joints")
    poses = np.array(list(rows.values())).reshape(len(rows), JOINTS, 3)
    poses[np.isnan(poses[:, :, :2]).any(axis=2)] = np.nan
    return dict(zip(rows, poses, strict=True))


def read_rows(path: str | Path, columns: int, what: str) -> dict[str, np.ndarray]:
    """Read a CSV without header, ``stem.jpg`` and numbers, into ``{stem: (columns - 1,) float64}``.

    ``what`` says in an error what the columns hold. Raises :class:`DataError` as :func:`read_pose_csv` does.
    """
    names: list[str] = []
    lines: list[int] = []
    rows: list[list[float]] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        file_name, *cells = line.split(",")
        if len(cells) + 1 != columns:
            raise DataError(f"{path}, line {number}: {len(cells) + 1} columns instead of {columns} ({what})")
        try:
            rows.append(list(map(float, cells)))
        except ValueError:
            raise DataError(_not_a_number(path, number, cells)) from None
        names.append(Path(file_name.strip()).stem)
        lines.append(number)

    if len(set(names)) != len(names):
        first: dict[str, int] = {}
        for name, number in zip(names, lines, strict=True):
            if name in first:
                raise DataError(f"{path}, line {number}: {name} already has a row in line {first[name]}; remove one")
            first[name] = number

    table = np.array(rows, dtype=np.float64).reshape(len(rows), columns - 1)
    infinite = np.isinf(table).any(axis=1)
    if infinite.any():
        raise DataError(f"{path}, line {lines[int(infinite.argmax())]}: an infinite number; write nan if it is missing")
    return dict(zip(names, table, strict=True))


def _not_a_number(path: str | Path, number: int, cells: list[str]) -> str:
    for column, cell in enumerate(cells, start=2):
        try:
            float(cell)
        except ValueError:
            return f"{path}, line {number}, column {column}: {cell.strip()!r} is not a number; write nan if missing"
    raise AssertionError("called for a row of numbers")


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); unzip or copy it again") from None


def load_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 **RGB**, in the order in which its pixels are stored.

    Grey images become RGB, 16 bits become 8, transparency is dropped. An EXIF orientation is ignored, because LIP's
    masks and joints follow the stored pixels; ``upright`` follows it, as a photograph should. Raises :class:`DataError` for a missing or unreadable file.
    """
    try:
        encoded = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: the image cannot be opened ({error.strerror})") from None
    kind = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(encoded, kind) if encoded.size else None
    if image is None:
        raise DataError(f"{path}: the image cannot be decoded; unzip or download it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load_mask(path: str | Path, *, classes: int = len(LIP.parts)) -> np.ndarray:
    """Decode a mask to (H, W) uint8 part ids, each below ``classes`` or 255 (ignore).

    Raises :class:`DataError` for a missing or unreadable file, a picture in colours, or any other id.
    """
    mask = decode_mask(path)
    stray = stray_ids(mask, classes)
    if stray:
        shown = ", ".join(map(str, stray[:5])) + (", …" if len(stray) > 5 else "")
        raise DataError(f"{path}: ids {shown} in a mask of parts 0 to {classes - 1}; is it a mask of this data set?")
    return mask.astype(np.uint8, copy=False)


def decode_mask(path: str | Path) -> np.ndarray:
    """Decode a mask to its stored (H, W) integers, unchecked: a palette PNG gives indices, not colours.

    Raises :class:`DataError` for a missing or unreadable file, or a picture in colours.
    """
    try:
        content = Path(path).read_bytes()
        if _is_plain_grey(content):  # as most masks are; OpenCV takes two thirds of Pillow's time
            stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if stored is not None and stored.ndim == 2:
                return stored
        with Image.open(io.BytesIO(content)) as picture:
            stored = np.asarray(picture)
    except FileNotFoundError:
        raise DataError(f"{path}: no such mask; unzip or copy the part masks there again") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        raise DataError(f"{path}: the mask cannot be decoded; unzip or copy it again") from None
    if stored.ndim == 3:  # some tools store the ids as three equal channels
        colours = stored[:, :, : 3 if stored.shape[2] > 2 else 1]  # without transparency
        if (colours != colours[:, :, :1]).any():
            raise DataError(f"{path}: a picture in colours, not a mask of part ids; use the data set's own PNGs")
        stored = stored[:, :, 0]
    if stored.dtype.kind == "f":
        raise DataError(f"{path}: floating-point numbers, not part ids; use the data set's own PNGs")
    return stored.astype(np.int32) if stored.dtype.itemsize > 1 else stored.astype(np.uint8)


def _is_plain_grey(png: bytes) -> bool:
    """Whether the bytes are of a whole PNG of one channel of 8 bits, without a palette."""
    return png.startswith(b"\x89PNG\r\n\x1a\n") and png[24:26] == b"\x08\x00" and png.endswith(b"IEND\xaeB`\x82")


def stray_ids(mask: np.ndarray, classes: int) -> list[int]:
    """The ids in ``mask``, sorted, that are neither one of ``classes`` parts nor 255 (ignore)."""
    # In bytes, 255 + 1 is 0: one maximum tells whether there is anything to list.
    if mask.dtype == np.uint8 and (mask + np.uint8(1)).max(initial=0) <= classes:
        return []
    ids = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
    return [int(i) for i in ids if not 0 <= i < classes and i != IGNORE]
