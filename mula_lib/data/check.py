"""Checks a data set before a run depends on it: ``python -m mula_lib.data.check PATH``.

PATH holds a LIP or an extended PASCAL-Person-Part tree (:mod:`mula_lib.data.check_pascal`). Every file is decoded
once. Errors are what would stop a run or spoil its numbers; warnings are what a user should know. Exit status 0: no
errors; 1: errors, each file named; 2: there is no such tree at PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mula_lib.anatomy import LIP
from mula_lib.commands import exit_status
from mula_lib.data import check_pascal
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
    format_reports,
    ids_above,
    in_threads,
)
from mula_lib.data.lip import SPLITS, LipLayout, find_layout, read_ids, read_pose_csv
from mula_lib.data.pascal import is_pascal
from mula_lib.files import DataError, shown, write_text
from mula_lib.machine import usable_cores

MISSING_PIECE = "missing folder or CSV"
MALFORMED = "malformed id file or CSV"
STRAY_IDS = ids_above(len(LIP.parts))
NO_ROW, NO_ID = "id without CSV row", "CSV row without id"
NO_JOINTS = "no joint annotated"
CHECKS = Checks(
    data_set="LIP",
    full={"train": 30_462, "val": 10_000, "test": 10_000},
    errors=(
        MISSING_PIECE, MALFORMED, NO_IMAGE, BAD_IMAGE, NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER, NO_ROW, NO_ID,
    ),
    warnings=(NO_JOINTS,),
)  # fmt: skip
# what cannot be checked without each piece of the tree
OF_IMAGES = (NO_IMAGE, BAD_IMAGE, SIZES_DIFFER)
OF_MASKS = (NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER)
OF_POSES = (NO_ROW, NO_ID, NO_JOINTS)


def check_tree(root: str | Path, splits: Sequence[str] = (), *, jobs: int = 1) -> list[SplitReport]:
    """Check ``splits`` of the tree at ``root``, or all that it has an id file for; ``jobs`` threads decode.

    Raises :class:`DataError` if ``root`` is no folder, holds no tree, or lacks one of the ``splits`` asked for.
    """
    if is_pascal(root):
        return check_pascal.check_tree(root, splits, jobs=jobs)
    layouts = {split: find_layout(root, split) for split in splits or SPLITS}
    absent = [split for split, layout in layouts.items() if layout is None]
    if splits and absent:
        raise DataError(f"{shown(root)}: no {absent[0]}_id.txt here or in the unzipped folders; is this a LIP tree?")
    if len(absent) == len(layouts):
        raise DataError(
            f"{shown(root)}: not a LIP tree: no train_id.txt, val_id.txt or test_id.txt; nor PASCAL: no PersonJoints"
        )
    return [_check_split(split, layout, jobs) for split, layout in layouts.items() if layout is not None]


def require_sound(root: str | Path, stamp: Path) -> None:
    """Check all of the tree at ``root`` unless ``stamp`` says that it was; write ``stamp`` if it is sound.

    Raises :class:`DataError` with the whole report if it is not.
    """
    if stamp.is_file() and stamp.read_text(encoding="utf-8", errors="replace").startswith(f"{Path(root).resolve()}\n"):
        return
    reports = check_tree(root, jobs=min(8, usable_cores()))
    text = format_reports(reports)
    if not all(report.sound for report in reports):
        raise DataError(f"{shown(root)}: not as it should be; mend what is named here and run again\n{text}")
    write_text(stamp, f"{Path(root).resolve()}\n{text}\n")


def _check_split(split: str, layout: LipLayout, jobs: int) -> SplitReport:
    report = SplitReport(split, CHECKS)
    required = {"images": layout.images}
    if split != "test":  # whose annotations are withheld
        required |= {"segmentations": layout.masks, "pose CSV": layout.poses}
    for what, path in required.items():
        if path is None:
            report.add(MISSING_PIECE, f"{shown(layout.ids)}: there are no {split} {what} beside it")
    for path, checks in ((layout.images, OF_IMAGES), (layout.masks, OF_MASKS), (layout.poses, OF_POSES)):
        if path is None:
            report.unchecked.update(checks)
    try:
        names = read_ids(layout.ids)
    except DataError as error:
        report.add(MALFORMED, str(error))
        report.unchecked.update(OF_IMAGES + OF_MASKS + OF_POSES)
        return report
    report.add_listed(names, layout.ids)
    if layout.poses is not None:
        _check_poses(names, layout.poses, report)
    for findings in in_threads(lambda name: _check_files(name, layout), names, jobs, split):
        for check, what in findings:
            report.add(check, what)
    return report


def _check_poses(names: list[str], path: Path, report: SplitReport) -> None:
    try:
        poses = read_pose_csv(path)
    except DataError as error:
        report.add(MALFORMED, str(error))
        report.unchecked.update(OF_POSES)
        return
    for name in names:
        if name not in poses:
            report.add(NO_ROW, f"{shown(path)}: {shown(name)}.jpg")
        elif np.isnan(poses[name]).all():
            report.add(NO_JOINTS, f"{shown(path)}: {shown(name)}.jpg")
    listed = set(names)
    for name in poses:
        if name not in listed:
            report.add(NO_ID, f"{shown(path)}: {shown(name)}.jpg")


def _check_files(name: str, layout: LipLayout) -> list[Finding]:
    """Decode one image and its mask, as far as the tree has such folders."""
    image = layout.images / f"{name}.jpg" if layout.images is not None else None
    mask = layout.masks / f"{name}.png" if layout.masks is not None else None
    return decode_pair(image, mask, len(LIP.parts))[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.data.check", description="Check a LIP or PASCAL tree.")
    parser.add_argument("path", help="the folder that LIP or PASCAL was unzipped, or people were rendered, into")
    parser.add_argument("--split", choices=SPLITS, action="append", default=[], help="repeatable; default: all")
    parser.add_argument("--jobs", type=_positive, default=min(8, os.cpu_count() or 1), help="threads that decode")
    options = parser.parse_args(arguments)

    def command() -> int:
        reports = check_tree(options.path, options.split, jobs=options.jobs)
        print(format_reports(reports))
        return 0 if all(report.sound for report in reports) else 1

    return exit_status(command, kept="a check writes nothing")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
