"""Checks a data set before a run depends on it: ``python -m mula_lib.data.check PATH``.

Errors would stop a run or spoil its numbers; warnings are what a user should know, such as that a whole PASCAL tree
contradicts ``pascal.FIRST_PIXEL`` or ``anatomy.PASCAL_FIRST_SIDE``, which its annotations do not state. Exit status 0:
no errors; 1: errors, each file named; 2: there is no LIP or extended PASCAL-Person-Part tree at PATH.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.contrib.concurrent import thread_map

from mula_lib.anatomy import IGNORE, LIP, PASCAL, PASCAL_FIRST_SIDE, PASCAL_OTHER_SIDE, Anatomy
from mula_lib.data import lip, pascal
from mula_lib.data.images import decode_mask, load_image, some, stray_ids
from mula_lib.data.lip import Layout, LipRecord, LipSplit, read_ids, read_pose_csv
from mula_lib.data.pascal import PascalRecord
from mula_lib.files import DataError, exit_status, usable_cores, write_text

FULL = {LIP.name: {"train": 30_462, "val": 10_000, "test": 10_000}, PASCAL.name: {"train": 1_716, "val": 1_817}}
NAMED = 10  # offenders printed per finding, the rest is counted
LEAST_ZEROS = 10  # coordinates, to doubt where counting begins; fewer may be slips
LEAST_FACING = 50  # people, to doubt the sides
FEW = 0.4  # of them; most people who are photographed, and whose face is seen, face the camera


@dataclass
class Report:
    """What was found in a tree; several threads may add to it."""

    anatomy: Anatomy
    listed: dict[str, int] = field(default_factory=dict)  # ids of each split
    # ("error" or "warning", what is wrong) -> the files, with particulars
    findings: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    masks: list[set[int]] = field(default_factory=list)  # the ids in each
    torsos: list[int] = field(default_factory=list)  # the mask's id in the middle of each visible torso

    def add(self, kind: str, what: str, file: str) -> None:
        """Add a finding."""
        self.findings[kind, what].append(file)

    @property
    def sound(self) -> bool:
        """True if there are no errors; warnings are allowed."""
        return all(kind != "error" for kind, _ in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.anatomy.name}: {', '.join(f'{count:,} {split} ids' for split, count in self.listed.items())}"]
        for (kind, what), files in sorted(self.findings.items()):  # errors first
            lines += ["", f"{kind}: {what} ({len(files):,})", *(f"  {file}" for file in sorted(files)[:NAMED])]
            lines += [f"  and {len(files) - NAMED:,} more"] * (len(files) > NAMED)
        return "\n".join([*lines, "", "no errors" if self.sound else "fix the errors before a run"])


def check_tree(root: str | Path, splits: Sequence[str] = ()) -> Report:
    """Check ``splits`` of the tree at ``root``, or all that it has an id file for.

    Raises :class:`DataError` if ``root`` holds no tree, or lacks one of the ``splits`` asked for.
    """
    reader, anatomy = (pascal, PASCAL) if pascal.is_pascal(root) else (lip, LIP)
    layouts = {split: reader.find_layout(root, split) for split in splits or reader.SPLITS}
    absent = [split for split, layout in layouts.items() if layout is None]
    if absent and (splits or len(absent) == len(layouts)):
        raise DataError(reader.missing_tree(root, absent[0]))
    report, records = Report(anatomy), []
    for split, layout in layouts.items():
        try:
            if layout:
                found = reader.read_split(root, split)
                records += found.records
                _check_split(report, found, layout)
        except DataError as error:  # a list or folder that the files cannot be checked without
            report.add("error", f"{split}: cannot be read", str(error))
    _check_all_masks(report)
    if anatomy.crowds and records:
        _check_all_people(report, records)
    return report


def require_sound(root: str | Path, stamp: Path) -> None:
    """Check all of the tree at ``root`` unless ``stamp`` says that it was; print the report, write ``stamp`` if sound.

    Raises :class:`DataError` with the whole report if it is not.
    """
    if stamp.is_file() and stamp.read_text(encoding="utf-8").startswith(f"{Path(root).resolve()}\n"):
        return
    report = check_tree(root)
    if not report.sound:
        raise DataError(f"{root}: fix what is named here and run again\n{report}")
    print(report)  # its warnings
    write_text(stamp, f"{Path(root).resolve()}\n{report}\n")


def _check_split(report: Report, split: LipSplit, layout: Layout) -> None:
    name, ids, anatomy = split.split, read_ids(layout.ids), report.anatomy
    report.listed[name], full = len(ids), FULL[anatomy.name].get(name, len(ids))
    if len(ids) != full:
        sizes = f"{layout.ids}: {len(ids):,} ids; the full one has {full:,}"
        report.add("warning", f"{name}: not the full {anatomy.name}", sizes)
    for skipped in getattr(split, "skipped", ()):
        report.add("warning", f"{name}: id without .mat", f"{layout.poses / skipped}.mat")
    for row in {*read_pose_csv(layout.poses)} - {*ids} if layout.poses and not anatomy.crowds else ():
        report.add("warning", f"{name}: CSV row without id", f"{layout.poses}: {row}")
    threads = min(8, usable_cores())  # decoding releases the interpreter's lock
    options = {"max_workers": threads, "desc": name, "unit": "image", "leave": False, "disable": None}
    thread_map(lambda record: _check_record(report, name, record, layout), split.records, **options)


def _check_record(report: Report, split: str, record: LipRecord | PascalRecord, layout: Layout) -> None:
    """Decode the files of one record."""

    def decoded(load: Callable[[Path], np.ndarray], path: Path, what: str) -> np.ndarray | None:
        try:
            return load(path)
        except DataError as error:
            report.add("error", f"{split}: {'unreadable' if path.exists() else 'missing'} {what}", str(error))
            return None

    image = decoded(load_image, record.image, "image")
    path = record.mask or (layout.masks and layout.masks / f"{record.name}.png")
    mask = decoded(decode_mask, path, "mask") if path else None
    if mask is None:
        return
    report.masks.append(set(np.unique(mask).tolist()))
    classes = len(report.anatomy.parts)
    if stray := stray_ids(mask, classes):
        report.add("error", f"{split}: mask ids above {classes - 1}", f"{path}: {some(stray)}")
    if image is not None and mask.shape != image.shape[:2]:
        sizes = f"{mask.shape[1]}×{mask.shape[0]}, the image {image.shape[1]}×{image.shape[0]}"
        report.add("error", f"{split}: mask and image sizes differ", f"{path}: the mask is {sizes}")
    if report.anatomy.crowds:
        torso = [PASCAL.joint(name) for name in ("neck", "left_hip", "right_hip")]
        middles = np.where(record.occluded[..., None], np.nan, record.joints)[:, torso].mean(axis=1)
        inside = ((middles >= -0.5) & (middles < np.array(mask.shape[::-1]) - 0.5)).all(axis=1)  # nan is nowhere
        columns, rows = np.rint(middles[inside]).astype(int).T
        report.torsos += mask[rows, columns].tolist()


def _check_all_masks(report: Report) -> None:
    """Whether the ids of all masks seem shifted, of another release, or not to be parts."""
    ids = set().union(*report.masks)
    if 2 * sum(0 in mask for mask in report.masks) < len(report.masks):
        fix = "most have no background, 0; where they have 255 instead, add 1 to all ids, else subtract 1"
        report.add("warning", "masks seem shifted by one", fix)
    elif ids and len(ids - {0, IGNORE}) < 2:
        fix = f"ids {', '.join(map(str, sorted(ids)))}; masks of people instead of parts?"
        report.add("warning", "masks of one part only", fix)
    ours, other = (report.torsos.count(parts.index("torso")) for parts in (PASCAL.parts, pascal.OTHER_PARTS))
    if other > 2 * ours:
        fix = "write all masks again as cv2.LUT(mask, mula_lib.data.pascal.OTHER_LOOKUP)"
        report.add("error", "parts numbered like PASCAL-Person-Part's other release (1 lower arm, 2 head, …)", fix)


def _check_all_people(report: Report, records: Sequence[PascalRecord]) -> None:
    """What all people together say against ``FIRST_PIXEL`` and ``PASCAL_FIRST_SIDE``."""
    joints = np.concatenate([np.where(each.occluded[..., None], np.nan, each.joints) for each in records])
    places = np.concatenate([joints.reshape(-1, 2), *(each.boxes.reshape(-1, 2) for each in records)])
    zeros = int((np.rint(places) == -pascal.FIRST_PIXEL).sum())
    if pascal.FIRST_PIXEL == 1 and zeros >= LEAST_ZEROS:
        fix = f"{zeros:,} are 0: make FIRST_PIXEL 0 in mula_lib/data/pascal.py"
        report.add("warning", "coordinates seem to count from 0, not 1", fix)
    columns = ("forehead", "right_shoulder", "left_shoulder")
    forehead, right, left = (joints[:, PASCAL.joint(each), 0] for each in columns)
    facing = np.isfinite(forehead + right + left) & (right != left)
    right_is_left = int((facing & (right < left)).sum())
    if facing.sum() >= LEAST_FACING and right_is_left < FEW * facing.sum():
        what = f"joints 2 to 7 seem to be of the {PASCAL_OTHER_SIDE} side, not the {PASCAL_FIRST_SIDE}"
        fix = (
            f"of {facing.sum():,} people with forehead and shoulders, only {right_is_left:,} have the right shoulder "
            f"left of the left one: exchange PASCAL_FIRST_SIDE and PASCAL_OTHER_SIDE in mula_lib/anatomy.py"
        )
        report.add("warning", what, fix)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.data.check", description="Check a LIP or PASCAL tree.")
    parser.add_argument("path", type=Path, help="the folder that was unzipped or rendered into")
    parser.add_argument("--split", choices=lip.SPLITS, action="append", default=[], help="repeatable; default: all")
    options = parser.parse_args(arguments)

    def command() -> int:
        report = check_tree(options.path, options.split)
        print(report)
        return 0 if report.sound else 1

    return exit_status(command, kept="a check writes nothing")


if __name__ == "__main__":
    sys.exit(main())
