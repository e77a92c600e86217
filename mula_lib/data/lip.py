"""Reads LIP (Look Into Person, single person): images, part masks and the sixteen joints of each person.

The layout is the authors' own; that of the validation split is the same::

    TrainVal_images/train_images/*.jpg                      TrainVal_images/train_id.txt
    TrainVal_parsing_annotations/train_segmentations/*.png  TrainVal_pose_annotations/lip_train_set.csv

Some tools nest each folder once more when they unzip, other projects flatten them or, as JPPNet's, have ``images/``,
``labels/`` and ``list/train_id.txt``: all of these are found.

A row of the joints' CSV is ``stem.jpg`` and sixteen times ``x,y,v``: column and row in pixels, and v = 0 for a visible
joint but **1 for an occluded one**, the reverse of COCO. A missing joint is three times ``nan``, or empty. Joints may
lie outside the image. Rows belong to images by file name only; their order means nothing.
"""

import codecs
import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.data.images import SUFFIXES, images_in
from mula_lib.files import DataError

SPLITS = ("train", "val", "test")
JOINTS = len(LIP.joints)
OCCLUDED = 1  # the visibility flag of a joint that was annotated although it cannot be seen
_IMAGE_SUFFIX = re.compile(f"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)


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
class Layout:
    """Where the pieces of one split lie; ``None`` for a piece that the tree does not have."""

    ids: Path
    images: Path | None
    masks: Path | None
    poses: Path | None  # LIP's CSV; of PASCAL-Person-Part the folder of .mat files


def find_layout(root: str | Path, split: str) -> Layout | None:
    """Find the pieces of ``split`` under ``root`` in any of the known nestings; None if there is no id file."""
    root, test = Path(root).expanduser(), split == "test"
    prefix, archive = ("Test", "Testing_images") if test else ("TrainVal", "TrainVal_images")
    ids = _first(root, (archive, "images", "list", "lists"), f"{split}_id.txt")
    if ids is None:
        return None
    return Layout(
        ids,
        _first(root, (archive, "images"), *["testing_images"] * test, f"{split}_images") or _first(root, (), "images"),
        _first(root, (f"{prefix}_parsing_annotations", "parsing_annotations"), f"{split}_segmentations")
        or _first(root, (), *["labels"] * (not test)),
        _first(root, (f"{prefix}_pose_annotations", "pose_annotations", "list", "lists"), f"lip_{split}_set.csv"),
    )


def _first(root: Path, archives: tuple[str, ...], *names: str) -> Path | None:
    """The first of ``names``, even broken, in ``root`` itself or in an archive's folder, nested once or twice."""
    folders = [root] + [folder for archive in archives for folder in (root / archive, root / archive / archive)]
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.exists() or path.is_symlink()), None)


def missing_tree(root: str | Path, split: str) -> str:
    """Why there is no ``split`` of LIP at ``root``, and what to do, in one line."""
    root, lists = Path(root).expanduser(), f"{split}_id.txt"
    zips, folders = sorted(path.name for path in root.glob("*.zip")), (root, *root.glob("*/"), *root.glob("*/*/"))
    for inside in folders:
        if layout := find_layout(inside, split):
            return f"{root}: no {lists} here, but {layout.ids}; give {inside}"
    if zips:
        return f"{root}: no {lists} here; unzip {', '.join(zips[:4])} first"
    for inside in folders:
        if (inside / "jsons").exists():
            return f"{inside}: the layout of the MuLA authors' code; copy LIP's {lists} and lip_{split}_set.csv there"
    if dead := _dead_link(root):
        return f"{dead}: no such folder, or a broken link"
    return f"{root}: no {lists} here or in the unzipped folders; is this a LIP tree?"


def _dead_link(root: Path) -> Path | None:
    """The first of ``root`` and its direct entries that does not exist, as a broken link; None if all do."""
    return next((path for path in (root, *root.glob("*")) if not path.exists()), None)


def read_split(root: str | Path, split: str) -> LipSplit:
    """Read the records of ``split`` ("train", "val" or "test") of the LIP tree at ``root``; nothing is decoded yet.

    The test split's annotations are withheld by the authors: without them its masks are None and its joints nan. Raises
    :class:`DataError` if a folder, the id file or the CSV is missing or malformed, or an id has no row in the CSV.
    """
    root, layout = Path(root).expanduser(), find_layout(root, split)
    if layout is None:
        raise DataError(missing_tree(root, split))
    annotations = {"parsing_annotations": layout.masks, "pose_annotations": layout.poses} if split != "test" else {}
    for piece, path in {"images": layout.images, **annotations}.items():
        if path is None or not path.exists():
            dead = path or _dead_link(root)
            fault = f"{dead}: a broken link" if dead else f"{root}: no {piece} of {split}"
            raise DataError(f"{fault}; unzip their archive there")

    names = read_ids(layout.ids)
    poses = read_pose_csv(layout.poses) if layout.poses else dict.fromkeys(names, np.full((JOINTS, 3), np.nan))
    images, masks = images_in(layout.images), images_in(layout.masks) if layout.masks else {}
    records = []
    for name in names:
        if name not in poses:
            raise DataError(f"{layout.poses}: no row for {name}.jpg, which {layout.ids} lists; unzip both again")
        image, pose = images.get(name) or layout.images / f"{name}.jpg", poses[name]
        records.append(LipRecord(name, image, masks.get(name), pose[:, :2].astype(np.float32), pose[:, 2] == OCCLUDED))
    return LipSplit(root, split, tuple(records))


def read_ids(path: str | Path) -> list[str]:
    """Read an id file: one stem a line, with or without an image's suffix; blank lines are skipped.

    Raises :class:`DataError` if it cannot be read, is empty, or lists an id twice.
    """
    names = [_IMAGE_SUFFIX.sub("", line.strip()) for line in _read_lines(path) if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        raise DataError(f"{path}: {f'{twice[0]} is listed twice' if twice else 'no ids'}; unzip or copy it again")
    return names


def _read_lines(path: str | Path) -> list[str]:
    """The lines of a text file in UTF-8, or in UTF-16 as PowerShell's ``>`` writes it."""
    try:
        content = Path(path).read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if utf16 else "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 ({error})") from None


def read_pose_csv(path: str | Path) -> dict[str, np.ndarray]:
    """Read a LIP pose CSV into ``{stem: (16, 3) float64}`` of x, y (image pixels) and v (0 visible, 1 occluded).

    A joint without both coordinates is missing and all nan; one without v counts as visible. Raises
    :class:`DataError` as :func:`read_rows` does.
    """
    rows = read_rows(path, 1 + 3 * JOINTS, f"image, then x,y,v of {JOINTS} joints")
    poses = np.array(list(rows.values())).reshape(len(rows), JOINTS, 3)
    poses[np.isnan(poses[:, :, :2]).any(axis=2)] = np.nan
    return dict(zip(rows, poses, strict=True))


def read_rows(path: str | Path, columns: int, what: str) -> dict[str, np.ndarray]:
    """Read a CSV of ``stem.jpg`` and numbers, with or without a header, into ``{stem: (columns - 1,) float64}``.

    Cells may be quoted and lie between commas, semicolons or tabs; an empty one, or R's NA, is nan. ``what`` says in an
    error what the columns hold. Raises :class:`DataError`, naming the file and line, for a file that cannot be read, a
    row with another number of columns, a cell that is no number, or a second row for one image.
    """
    rows: dict[str, list[float]] = {}
    lines = _read_lines(path)
    delimiter = max(",;\t", key="".join(lines[:1]).count)
    # line by line, because a stray quote would swallow those that follow
    parsed = (csv.reader([line], delimiter=delimiter, skipinitialspace=True) for line in lines)
    for number, file_name, *cells in ((n, *row) for n, reader in enumerate(parsed, start=1) for row in reader if row):
        where = f"{path}, line {number}"
        if len(cells) + 1 != columns:
            raise DataError(f"{where}: {len(cells) + 1} columns instead of {columns} ({what})")
        try:
            numbers = [float("nan" if cell in ("", "NA") else cell) for cell in cells]
        except ValueError as error:
            if not rows and not any(cell[:1].isdigit() for cell in cells):
                continue  # a header
            raise DataError(f"{where}: {str(error)[:80]}; write nan if it is missing") from None
        if not rows and numbers == [*range(1, columns)]:
            continue  # a header that pandas made up
        name = _IMAGE_SUFFIX.sub("", file_name.strip())
        if name in rows:
            raise DataError(f"{where}: {name} already has a row; remove one")
        rows[name] = numbers
    return {name: np.array(numbers) for name, numbers in rows.items()}

