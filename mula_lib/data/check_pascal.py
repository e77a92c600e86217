"""Checks an extended PASCAL-Person-Part tree; run by ``python -m mula_lib.data.check``, which also checks LIP.

Beside what is wrong with single files, a tree's coordinates and shoulders speak about what its annotations do not say:
whether coordinates count from 0 or 1 (``pascal.FIRST_PIXEL``) and whose side the joints 2 to 7 are of
(``anatomy.PASCAL_FIRST_SIDE``). What they say is in the table, and a warning if it is against what is assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mula_lib.anatomy import PASCAL, PASCAL_FIRST_SIDE, PASCAL_OTHER_SIDE
from mula_lib.data.check_report import (
    BAD_IMAGE,
    BAD_MASK,
    NO_IMAGE,
    NO_MASK,
    SIZES_DIFFER,
    Checks,
    Finding,
    SplitReport,
    decode_pair,
    ids_above,
    in_threads,
)
from mula_lib.data.lip import read_ids
from mula_lib.data.pascal import (
    FIRST_PIXEL,
    FOLDERS,
    SPLITS,
    PascalLayout,
    find_layout,
    numbered_differently,
    read_people,
)
from mula_lib.files import DataError, shown, visible_names

MISSING_PIECE = "missing folder"
MALFORMED = "malformed id file"
MALFORMED_MAT = "malformed .mat"
STRAY_IDS = ids_above(len(PASCAL.parts))
OTHER_RELEASE = "mask numbered like the other release"
NO_MAT = "id without .mat"
NOBODY = "image without people"
OUTSIDE = "joints outside of the image"
PEOPLE = "people"
AT_ZERO, AT_SIZE = "coordinates of 0", "coordinates of the width or height"
FACING, RIGHT_IS_LEFT = "people with visible forehead and shoulders", "… whose right shoulder is further left"
OF_IMAGES = (NO_IMAGE, BAD_IMAGE, SIZES_DIFFER, OUTSIDE, AT_ZERO, AT_SIZE)
OF_MASKS = (NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER, OTHER_RELEASE)
OF_PEOPLE = (
    MALFORMED_MAT, OTHER_RELEASE, NO_MAT, NOBODY, OUTSIDE, PEOPLE, AT_ZERO, AT_SIZE, FACING, RIGHT_IS_LEFT,
)  # fmt: skip

LEAST_COORDINATES = 10  # at an edge, to speak about where counting begins: single slips of a hand do not
LEAST_FACING = 50  # people, to speak about the sides
FEW = 0.4  # of them; most people who are photographed, and whose face is seen, face the camera


def judge(tallies: Counter[str]) -> list[Finding]:
    """What the ``tallies`` of a whole tree say against FIRST_PIXEL and PASCAL_FIRST_SIDE."""
    findings = []
    # Counted from 0, the last pixel is one less than the size; counted from 1, there is no 0.
    against, in_favour = (AT_SIZE, AT_ZERO) if FIRST_PIXEL == 0 else (AT_ZERO, AT_SIZE)
    if tallies[against] >= LEAST_COORDINATES and tallies[against] > 2 * tallies[in_favour]:
        other = 1 - FIRST_PIXEL
        what = (
            f"{tallies[AT_ZERO]:,} are 0 and {tallies[AT_SIZE]:,} the image's width or height: "
            f"make FIRST_PIXEL {other} in mula_lib/data/pascal.py"
        )
        findings.append((f"coordinates seem to count from {other}, not {FIRST_PIXEL}", what))
    if tallies[FACING] >= LEAST_FACING and tallies[RIGHT_IS_LEFT] < FEW * tallies[FACING]:
        first, other = PASCAL_FIRST_SIDE, PASCAL_OTHER_SIDE
        what = (
            f"of {tallies[FACING]:,} people whose forehead and shoulders are visible, who mostly face the camera, "
            f"only {tallies[RIGHT_IS_LEFT]:,} have the right shoulder left of the left one: make "
            f"PASCAL_FIRST_SIDE {other!r} and PASCAL_OTHER_SIDE {first!r} in mula_lib/anatomy.py"
        )
        findings.append((f"joints 2 to 7 seem to be of the {other} side, not the {first}", what))
    return findings


CHECKS = Checks(
    data_set="PASCAL-Person-Part",
    full={"train": 1_716, "val": 1_817},
    errors=(
        MISSING_PIECE, MALFORMED, NO_IMAGE, BAD_IMAGE, NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER, MALFORMED_MAT,
        OTHER_RELEASE,
    ),
    warnings=(NO_MAT, NOBODY, OUTSIDE),
    tallies=(PEOPLE, AT_ZERO, AT_SIZE, FACING, RIGHT_IS_LEFT),
    judge=judge,
)  # fmt: skip


def check_tree(root: str | Path, splits: Sequence[str] = (), *, jobs: int = 1) -> list[SplitReport]:
    """Check ``splits`` of the tree at ``root``, or all that it has an id file for; ``jobs`` threads decode.

    Files of ids without a ``.mat`` are not looked at, because the reader skips them too.

    Raises :class:`DataError` if ``root`` is no folder, has no id file, or lacks that of one of ``splits``.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise DataError(
            f"{shown(root)}: PASCAL-Person-Part has no {unknown[0]} split; the papers' test images are its val"
        )
    layouts = {split: find_layout(root, split) for split in splits or SPLITS}
    absent = [split for split, layout in layouts.items() if layout is None]
    if absent and (splits or len(absent) == len(layouts)):
        lists = " or ".join(f"{split}_id.txt" for split in absent)
        raise DataError(f"{shown(root)}: no {lists} here or in pascal_data; copy the lists of PASCAL-Person-Part there")
    return [_check_split(split, layout, jobs) for split, layout in layouts.items() if layout is not None]


def _check_split(split: str, layout: PascalLayout, jobs: int) -> SplitReport:
    report = SplitReport(split, CHECKS)
    pieces = ((layout.images, OF_IMAGES), (layout.masks, OF_MASKS), (layout.people, OF_PEOPLE))
    for name, (path, checks) in zip(FOLDERS, pieces, strict=True):
        if path is None:
            report.add(MISSING_PIECE, f"{shown(layout.ids)}: there is no {name} beside it; copy it there")
            report.unchecked.update(checks)
    try:
        names = read_ids(layout.ids)
    except DataError as error:
        report.add(MALFORMED, str(error))
        report.unchecked.update(OF_IMAGES + OF_MASKS + OF_PEOPLE)
        return report
    report.add_listed(names, layout.ids)
    if layout.people is not None:
        names = _with_people(names, layout.people, report)
    for findings, tallies in in_threads(lambda name: _check_files(name, layout), names, jobs, split):
        report.tallies.update(tallies)
        for check, what in findings:
            report.add(check, what)
    return report


def _with_people(names: list[str], folder: Path, report: SplitReport) -> list[str]:
    """Those of ``names`` that have a ``.mat``; the others are reported, as an error if they are all."""
    there = set(visible_names(folder))
    lacking = [name for name in names if f"{name}.mat" not in there]
    for name in lacking:
        report.add(NO_MAT, shown(folder / f"{name}.mat"))
    if len(lacking) == len(names):
        report.add(MISSING_PIECE, f"{shown(folder)}: no .mat of any of the {len(names):,} ids; copy them there")
    return [name for name in names if f"{name}.mat" in there]


def _check_files(name: str, layout: PascalLayout) -> tuple[list[Finding], Counter[str]]:
    """Read the files of one id, as far as the tree has such folders."""
    image = layout.images / f"{name}.jpg" if layout.images is not None else None
    mask = layout.masks / f"{name}.png" if layout.masks is not None else None
    findings, pixels, ids = decode_pair(image, mask, len(PASCAL.parts))
    tallies: Counter[str] = Counter()
    if layout.people is None:
        return findings, tallies
    path = layout.people / f"{name}.mat"
    try:
        joints, occluded, boxes = read_people(path)
    except DataError as error:
        return [*findings, (MALFORMED_MAT, str(error))], tallies
    tallies[PEOPLE] = len(joints)
    if not len(joints):
        return [*findings, (NOBODY, shown(path))], tallies
    tallies.update(_facing(joints, occluded))
    if pixels is not None:
        height, width = pixels.shape[:2]
        findings += _outside(path, joints, width, height)
        tallies.update(_at_edges(joints, boxes, width, height))
    # A mask of another size is wrong already, and would be looked at in the wrong places.
    fits = ids is not None and (pixels is None or ids.shape == pixels.shape[:2])
    if fits and numbered_differently(ids, joints, occluded):
        mend = f"renumber those of the other release: python -m mula_lib.data.convert_parts {shown(mask.parent)} OUT"
        findings.append((OTHER_RELEASE, f"{shown(mask)}: {mend}"))
    return findings, tallies


def _facing(joints: np.ndarray, occluded: np.ndarray) -> dict[str, int]:
    """How many people show forehead and both shoulders, and the right shoulder in a column left of the other's."""
    columns = np.where(occluded, np.nan, joints[..., 0])
    forehead, right, left = (columns[:, PASCAL.joint(name)] for name in ("forehead", "right_shoulder", "left_shoulder"))
    shown = np.isfinite(forehead + right + left) & (right != left)
    return {FACING: int(shown.sum()), RIGHT_IS_LEFT: int((shown & (right < left)).sum())}


def _outside(path: Path, joints: np.ndarray, width: int, height: int) -> list[Finding]:
    places = np.rint(joints)
    # a comparison with nan is False, so that absent joints are nowhere
    people, indices = np.nonzero(((places < 0) | (places >= (width, height))).any(axis=2))
    if not len(people):
        return []
    column, row = joints[people[0], indices[0]] + FIRST_PIXEL  # as in the file, where it is to be found
    joint = f"{PASCAL.joints[indices[0]]} of person {people[0] + 1} at ({column:g}, {row:g})"
    if len(people) > 1:
        joint = f"{len(people)} joints, such as {joint}"
    return [(OUTSIDE, f"{shown(path)}: {joint} in an image of {width}×{height}")]


def _at_edges(joints: np.ndarray, boxes: np.ndarray, width: int, height: int) -> dict[str, int]:
    """How many coordinates of joints and boxes are, in the file, 0 or the size of the image."""
    written = np.rint(np.concatenate([joints.reshape(-1, 2), boxes.reshape(-1, 2)])) + FIRST_PIXEL
    return {AT_ZERO: int((written == 0).sum()), AT_SIZE: int((written == (width, height)).sum())}
