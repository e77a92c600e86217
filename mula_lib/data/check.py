"""Checks a data set before a run depends on it: ``python -m mula_lib.data.check PATH``.

Errors would stop a run or spoil its numbers; warnings are what a user should know, such as that a whole PASCAL tree
speaks against ``pascal.FIRST_PIXEL`` or ``anatomy.PASCAL_FIRST_SIDE``, which its annotations do not say. Exit status 0:
no errors; 1: errors, each file named; 2: there is no LIP or extended PASCAL-Person-Part tree at PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mula_lib.anatomy import IGNORE, LIP, PASCAL, PASCAL_FIRST_SIDE, PASCAL_OTHER_SIDE, Anatomy
from mula_lib.data import lip, pascal
from mula_lib.data.images import decode_mask, load_image, some, stray_ids
from mula_lib.data.lip import Layout, LipRecord, LipSplit, read_ids, read_pose_csv
from mula_lib.data.pascal import PascalRecord
from mula_lib.files import DataError, exit_status, usable_cores, write_text

FULL = {LIP.name: {"train": 30_462, "val": 10_000, "test": 10_000}, PASCAL.name: {"train": 1_716, "val": 1_817}}
NAMED = 10  # offenders printed per finding, the rest is counted
LEAST_COORDINATES = 10  # at an edge, to speak about where counting begins: single slips of a hand do not
LEAST_FACING = 50  # people, to speak about the sides
FEW = 0.4  # of them; most people who are photographed, and whose face is seen, face the camera

Findings = list[tuple[str, str]]  # what is wrong, and the file with the particulars


@dataclass
class Report:
    """What was found in a tree: ids of each split, the files of each error and warning, and counts over all files."""

    data_set: str
    listed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    warnings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str | int] = field(default_factory=Counter)  # by name; of masks that hold an id by the id

    @property
    def sound(self) -> bool:
        """True if there are no errors; warnings are allowed."""
        return not self.errors

    def __str__(self) -> str:
        lines = [f"{self.data_set}: {', '.join(f'{count:,} {split} ids' for split, count in self.listed.items())}"]
        for kind, findings in (("error", self.errors), ("warning", self.warnings)):
            for what, files in findings.items():
                lines += ["", f"{kind}: {what} ({len(files):,})", *(f"  {file}" for file in files[:NAMED])]
                lines += [f"  and {len(files) - NAMED:,} more"] * (len(files) > NAMED)
        return "\n".join([*lines, "", "no errors" if self.sound else "fix the errors before a run"])


def check_tree(root: str | Path, splits: Sequence[str] = (), *, jobs: int = 1) -> Report:
    """Check ``splits`` of the tree at ``root``, or all that it has an id file for; ``jobs`` threads decode.

    Raises :class:`DataError` if ``root`` is no folder, holds no tree, or lacks one of the ``splits`` asked for.
    """
    reader, anatomy = (pascal, PASCAL) if pascal.is_pascal(root) else (lip, LIP)
    unknown = [split for split in splits if split not in reader.SPLITS]
    if unknown:
        raise DataError(f"{root}: {anatomy.name} has no {unknown[0]} split; the papers' test images are its val")
    layouts = {split: reader.find_layout(root, split) for split in splits or reader.SPLITS}
    absent = [split for split, layout in layouts.items() if layout is None]
    if absent and (splits or len(absent) == len(layouts)):
        raise DataError(reader.missing_tree(root, absent[0]))
    report = Report(anatomy.name)
    for split in (split for split in layouts if split not in absent):
        try:
            _check_split(report, (pascal.read_records if anatomy.crowds else lip.read_split)(root, split), layouts[split], jobs, anatomy)
        except DataError as error:  # a list or folder that the files cannot be checked without
            report.errors[f"{split} cannot be read"].append(str(error))
    for what, particulars in _suspicions(report.counts):
        report.warnings[what].append(particulars)
    return report


def require_sound(root: str | Path, stamp: Path) -> None:
    """Check all of the tree at ``root`` unless ``stamp`` says that it was; write ``stamp`` if it is sound.

    Raises :class:`DataError` with the whole report if it is not.
    """
    if stamp.is_file() and stamp.read_text(encoding="utf-8", errors="replace").startswith(f"{Path(root).resolve()}\n"):
        return
    report = check_tree(root, jobs=min(8, usable_cores()))
    if not report.sound:
        raise DataError(f"{root}: fix what is named here and run again\n{report}")
    write_text(stamp, f"{Path(root).resolve()}\n{report}\n")


def _check_split(report: Report, split: LipSplit, layout: Layout, jobs: int, anatomy: Anatomy) -> None:
    names, full = read_ids(layout.ids), FULL[anatomy.name][split.split]
    report.listed[split.split] = len(names)
    warnings = [("id without .mat", f"{layout.poses / name}.mat") for name in getattr(split, "skipped", ())]
    if len(names) != full:
        warnings.append((f"not the full {anatomy.name}", f"{layout.ids}: {len(names):,} ids; the full one has {full:,}"))
    if layout.poses and not anatomy.crowds:
        warnings += [("CSV row without id", f"{layout.poses}: {row}") for row in {*read_pose_csv(layout.poses)} - {*names}]
    found = [((), warnings, Counter())]
    pool = ThreadPoolExecutor(jobs)  # decoding releases the interpreter's lock
    try:
        check = pool.map(lambda record: _check_record(record, anatomy, layout), split.records)
        found += tqdm(check, total=len(split), desc=split.split, unit="image", leave=False, disable=None)
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt does not first decode the rest
    for *kinds, counts in found:
        for kind, findings in zip((report.errors, report.warnings), kinds, strict=True):
            for what, file in findings:
                kind[f"{split.split}: {what}"].append(file)
        report.counts.update(counts)


def _check_record(
    record: LipRecord | PascalRecord, anatomy: Anatomy, layout: Layout
) -> tuple[Findings, Findings, Counter]:
    """Decode the files of one id: errors, warnings, and counts for the whole tree."""
    errors, warnings, counts = [], [], Counter()

    def decoded(load: Callable[[Path], np.ndarray], path: Path, what: str) -> np.ndarray | None:
        try:
            return load(path)
        except DataError as error:
            errors.append((f"{'unreadable' if os.path.lexists(path) else 'missing'} {what}", str(error)))
            return None

    image, mask = decoded(load_image, record.image, "image"), None
    if layout.masks:
        mask = decoded(decode_mask, record.mask or layout.masks / f"{record.name}.png", "mask")
    if mask is not None:
        counts.update(["masks", *np.unique(mask).tolist()])
        stray = stray_ids(mask, len(anatomy.parts))
        if stray:
            errors.append((f"mask ids above {len(anatomy.parts) - 1}", f"{record.mask}: {some(stray)}"))
        if image is not None and mask.shape != image.shape[:2]:
            sizes = f"{mask.shape[1]}×{mask.shape[0]}, the image {image.shape[1]}×{image.shape[0]}"
            errors.append(("mask and image sizes differ", f"{record.mask}: the mask is {sizes}"))
        elif anatomy.crowds and pascal.numbered_differently(mask, record.joints, record.occluded):
            errors.append(("mask numbered like the other release", f"{record.mask}: {pascal.OTHER_RELEASE}"))
    if anatomy.crowds and not len(record.joints):
        warnings.append(("image without people", f"{layout.poses / record.name}.mat"))
    elif anatomy.crowds and image is not None:
        warnings += _check_people(record, layout.poses / f"{record.name}.mat", image.shape[1::-1], counts)
    elif layout.poses and np.isnan(record.joints).all():
        warnings.append(("no joint annotated", f"{layout.poses}: {record.name}"))
    return errors, warnings, counts


def _check_people(record: PascalRecord, path: Path, size_wh: tuple[int, int], counts: Counter) -> Findings:
    """Warn of joints outside of the image; count coordinates that are, in the file, 0 or the size of the image, and
    people who show forehead and both shoulders, and the right shoulder in a column left of the other's."""
    written = np.rint(np.concatenate([record.joints.reshape(-1, 2), record.boxes.reshape(-1, 2)])) + pascal.FIRST_PIXEL
    columns = np.where(record.occluded, np.nan, record.joints[..., 0])
    forehead, right, left = (columns[:, PASCAL.joint(name)] for name in ("forehead", "right_shoulder", "left_shoulder"))
    facing = np.isfinite(forehead + right + left) & (right != left)
    counts.update(
        at_zero=int((written == 0).sum()), at_size=int((written == size_wh).sum()),
        facing=int(facing.sum()), right_is_left=int((facing & (right < left)).sum()),
    )  # fmt: skip
    places = np.rint(record.joints)
    people, indices = np.nonzero(((places < 0) | (places >= size_wh)).any(axis=2))  # nan is nowhere
    if not len(people):
        return []
    column, row = record.joints[people[0], indices[0]] + pascal.FIRST_PIXEL  # as in the file, where it is to be found
    what = f"{len(people)}, such as {PASCAL.joints[indices[0]]} of person {people[0] + 1} at ({column:g}, {row:g})"
    return [("joints outside of the image", f"{path}: {what} in an image of {size_wh[0]}×{size_wh[1]}")]


def _suspicions(counts: Counter[str | int]) -> Findings:
    """What whole trees say against their masks, ``FIRST_PIXEL`` and ``PASCAL_FIRST_SIDE``."""
    found: Findings = []
    ids = sorted(key for key in counts if isinstance(key, int))
    if 2 * counts[0] < counts["masks"] < 2 * counts[IGNORE]:
        found.append(("masks seem shifted by one", "most have 255 where background, 0, should be; add 1 to all ids"))
    elif ids and len(set(ids) - {0, IGNORE}) < 2:
        found.append(("masks of one part only", f"ids {', '.join(map(str, ids))}; masks of people instead of parts?"))
    # Counted from 0, the last pixel is one less than the size; counted from 1, there is no 0.
    against, in_favor = ("at_size", "at_zero") if pascal.FIRST_PIXEL == 0 else ("at_zero", "at_size")
    if counts[against] >= LEAST_COORDINATES and counts[against] > 2 * counts[in_favor]:
        other, what = 1 - pascal.FIRST_PIXEL, f"{counts['at_zero']:,} are 0 and {counts['at_size']:,} the image's"
        fix = f"{what} width or height: make FIRST_PIXEL {other} in mula_lib/data/pascal.py"
        found.append((f"coordinates seem to count from {other}, not {pascal.FIRST_PIXEL}", fix))
    if counts["facing"] >= LEAST_FACING and counts["right_is_left"] < FEW * counts["facing"]:
        what = (
            f"of {counts['facing']:,} people who show forehead and shoulders, only {counts['right_is_left']:,} have the "
            f"right shoulder left of the left one: exchange PASCAL_FIRST_SIDE and PASCAL_OTHER_SIDE in mula_lib/anatomy.py"
        )
        found.append((f"joints 2 to 7 seem to be of the {PASCAL_OTHER_SIDE} side, not the {PASCAL_FIRST_SIDE}", what))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.data.check", description="Check a LIP or PASCAL tree.")
    parser.add_argument("path", type=Path, help="the folder that LIP or PASCAL was unzipped, or people were rendered, into")
    parser.add_argument("--split", choices=lip.SPLITS, action="append", default=[], help="repeatable; default: all")
    parser.add_argument("--jobs", type=int, default=min(8, usable_cores()), help="threads that decode")
    options = parser.parse_args(arguments)

    def command() -> int:
        report = check_tree(options.path, options.split, jobs=max(1, options.jobs))
        print(report)
        return 0 if report.sound else 1

    return exit_status(command, kept="a check writes nothing")


if __name__ == "__main__":
    sys.exit(main())
