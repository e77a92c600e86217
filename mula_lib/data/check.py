"""Checks a LIP tree before a run depends on it: ``python -m mula_lib.data.check PATH``.

Every file is decoded once. Errors are what would stop a run or spoil its numbers; warnings are what a user should
know. Exit status 0: no errors; 1: errors, each file named; 2: there is no LIP tree at PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mula_lib.anatomy import LIP
from mula_lib.data.lip import (
    SPLITS,
    LipLayout,
    decode_mask,
    find_layout,
    load_image,
    read_ids,
    read_pose_csv,
    stray_ids,
)
from mula_lib.errors import DataError

FULL_LIP = {"train": 30_462, "val": 10_000, "test": 10_000}
NAMED = 10  # offenders printed per check, the rest is counted

ERRORS = (
    "missing folder or CSV",
    "malformed id file or CSV",
    "missing image",
    "unreadable image",
    "missing mask",
    "unreadable mask",
    f"mask ids above {len(LIP.parts) - 1}",
    "mask and image sizes differ",
    "id without CSV row",
    "CSV row without id",
)
(MISSING_PIECE, MALFORMED, NO_IMAGE, BAD_IMAGE, NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER, NO_ROW, NO_ID) = ERRORS
NO_JOINTS = "no joint annotated"
NOT_FULL = "not the full LIP"
WARNINGS = (NO_JOINTS, NOT_FULL)
# what cannot be checked without each piece of the tree
OF_IMAGES = (NO_IMAGE, BAD_IMAGE, SIZES_DIFFER)
OF_MASKS = (NO_MASK, BAD_MASK, STRAY_IDS, SIZES_DIFFER)
OF_POSES = (NO_ROW, NO_ID, NO_JOINTS)

Finding = tuple[str, str]  # (check, what was found: the file and the particulars)


@dataclass
class SplitReport:
    """What was found in one split: its number of ids, the offenders of each check, and what could not be checked."""

    split: str
    listed: int = 0
    offenders: dict[str, list[str]] = field(default_factory=lambda: {check: [] for check in ERRORS + WARNINGS})
    unchecked: set[str] = field(default_factory=set)

    def add(self, check: str, what: str) -> None:
        self.offenders[check].append(what)

    def count(self, check: str) -> str:
        """The table's cell: a dash for what could not be checked, which is not the same as no offenders."""
        return "–" if check in self.unchecked else f"{len(self.offenders[check]):,}"

    @property
    def sound(self) -> bool:
        """True if there are no errors; warnings are allowed."""
        return not any(self.offenders[check] for check in ERRORS)


def check_tree(root: str | Path, splits: Sequence[str] = (), *, jobs: int = 1) -> list[SplitReport]:
    """Check ``splits`` of the LIP tree at ``root``, or all that it has an id file for; ``jobs`` threads decode.

    Raises :class:`DataError` if ``root`` is no folder, holds no LIP tree, or lacks one of the ``splits`` asked for.
    """
    layouts = {split: find_layout(root, split) for split in splits or SPLITS}
    absent = [split for split, layout in layouts.items() if layout is None]
    if splits and absent:
        raise DataError(f"{root}: no {absent[0]}_id.txt here or in the unzipped folders; is this a LIP tree?")
    if len(absent) == len(layouts):
        raise DataError(f"{root}: not a LIP tree: no train_id.txt, val_id.txt or test_id.txt; unzip LIP there")
    return [_check_split(split, layout, jobs) for split, layout in layouts.items() if layout is not None]


def _check_split(split: str, layout: LipLayout, jobs: int) -> SplitReport:
    report = SplitReport(split)
    required = {"images": layout.images}
    if split != "test":  # whose annotations are withheld
        required |= {"segmentations": layout.masks, "pose CSV": layout.poses}
    for what, path in required.items():
        if path is None:
            report.add(MISSING_PIECE, f"{layout.ids}: there are no {split} {what} beside it")
    for path, checks in ((layout.images, OF_IMAGES), (layout.masks, OF_MASKS), (layout.poses, OF_POSES)):
        if path is None:
            report.unchecked.update(checks)
    try:
        names = read_ids(layout.ids)
    except DataError as error:
        report.add(MALFORMED, str(error))
        report.unchecked.update(OF_IMAGES + OF_MASKS + OF_POSES)
        return report
    report.listed = len(names)
    if len(names) != FULL_LIP[split]:
        report.add(NOT_FULL, f"{layout.ids}: {len(names):,} ids; the full LIP has {FULL_LIP[split]:,}")
    if layout.poses is not None:
        _check_poses(names, layout.poses, report)
    for findings in _in_threads(lambda name: _check_files(name, layout), names, jobs, split):
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
            report.add(NO_ROW, f"{path}: {name}.jpg")
        elif np.isnan(poses[name]).all():
            report.add(NO_JOINTS, f"{path}: {name}.jpg")
    listed = set(names)
    for name in poses:
        if name not in listed:
            report.add(NO_ID, f"{path}: {name}.jpg")


def _check_files(name: str, layout: LipLayout) -> list[Finding]:
    """Decode one image and its mask, as far as the tree has such folders."""
    findings: list[Finding] = []
    image = mask = None
    if layout.images is not None:
        path = layout.images / f"{name}.jpg"
        try:
            image = load_image(path)
        except DataError as error:
            findings.append((BAD_IMAGE, str(error)) if path.exists() else (NO_IMAGE, str(path)))
    if layout.masks is not None:
        path = layout.masks / f"{name}.png"
        try:
            mask = decode_mask(path)
        except DataError as error:
            findings.append((BAD_MASK, str(error)) if path.exists() else (NO_MASK, str(path)))
        else:
            stray = stray_ids(mask, len(LIP.parts))
            if stray:
                findings.append((STRAY_IDS, f"{path}: {', '.join(map(str, stray[:5]))}{', …' * (len(stray) > 5)}"))
    if image is not None and mask is not None and mask.shape != image.shape[:2]:
        sizes = f"{mask.shape[1]}×{mask.shape[0]}, the image {image.shape[1]}×{image.shape[0]}"
        findings.append((SIZES_DIFFER, f"{path}: the mask is {sizes}"))
    return findings


def _in_threads(check, names: list[str], jobs: int, split: str) -> list[list[Finding]]:
    """Decoding releases the interpreter's lock, so threads do; the order of ``names`` is kept."""
    pool = ThreadPoolExecutor(jobs)
    try:  # disable=None: no bar where nobody watches
        return list(tqdm(pool.map(check, names), total=len(names), desc=split, unit="image", leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt does not first decode the rest


def format_reports(reports: Sequence[SplitReport]) -> str:
    """One table, checks as rows and splits as columns, then the offenders by name, errors first."""
    rows = [("", *(r.split for r in reports)), ("ids listed", *(f"{r.listed:,}" for r in reports))]
    rows.append(("ids in the full LIP", *(f"{FULL_LIP[r.split]:,}" for r in reports)))
    rows += [(check, *(r.count(check) for r in reports)) for check in (*ERRORS, NO_JOINTS)]
    width = max(len(row[0]) for row in rows)
    lines = [row[0].ljust(width) + "".join(cell.rjust(9) for cell in row[1:]) for row in rows]
    for kind, checks in (("error", ERRORS), ("warning", WARNINGS)):
        for check in checks:
            for report in reports:
                offenders = report.offenders[check]
                if offenders:
                    lines += ["", f"{kind}: {report.split}: {check}"]
                    lines += [f"  {what}" for what in offenders[:NAMED]]
                if len(offenders) > NAMED:
                    lines.append(f"  and {len(offenders) - NAMED:,} more")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.data.check", description="Check a LIP tree.")
    parser.add_argument("path", help="the folder that LIP was unzipped, or people were rendered, into")
    parser.add_argument("--split", choices=SPLITS, action="append", default=[], help="repeatable; default: all")
    parser.add_argument("--jobs", type=_positive, default=min(8, os.cpu_count() or 1), help="threads that decode")
    options = parser.parse_args(arguments)
    try:
        reports = check_tree(options.path, options.split, jobs=options.jobs)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(format_reports(reports))
    return 0 if all(report.sound for report in reports) else 1


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
