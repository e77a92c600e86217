"""What the tree checks of all data sets share: reports, their table, and the decoding of an image and its mask."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from mula_lib.data.pictures import decode_mask, load_image, stray_ids
from mula_lib.files import DataError, shown

NAMED = 10  # offenders printed per check, the rest is counted

NO_IMAGE, BAD_IMAGE = "missing image", "unreadable image"
NO_MASK, BAD_MASK = "missing mask", "unreadable mask"
SIZES_DIFFER = "mask and image sizes differ"

Finding = tuple[str, str]  # (check, what was found: the file and the particulars)
Found = TypeVar("Found")


def ids_above(classes: int) -> str:
    """The name of the check for mask ids that are none of ``classes`` parts."""
    return f"mask ids above {classes - 1}"


def _nothing(tallies: Counter[str]) -> list[Finding]:
    return []


@dataclass(frozen=True)
class Checks:
    """What is checked in the trees of one data set."""

    data_set: str
    full: dict[str, int]  # ids of each split
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    tallies: tuple[str, ...] = ()  # numbers to show that are neither
    judge: Callable[[Counter[str]], list[Finding]] = _nothing  # the tallies of a whole tree: what to warn of

    @property
    def not_full(self) -> str:
        """The warning about a split of another size; it needs no row in the table, which shows both sizes."""
        return f"not the full {self.data_set}"


@dataclass
class SplitReport:
    """What was found in one split: its number of ids, the offenders of each check, and what could not be checked."""

    split: str
    checks: Checks
    listed: int = 0
    offenders: dict[str, list[str]] = field(init=False)
    tallies: Counter[str] = field(default_factory=Counter)
    unchecked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.offenders = {name: [] for name in (*self.checks.errors, *self.checks.warnings, self.checks.not_full)}

    def add(self, check: str, what: str) -> None:
        self.offenders[check].append(what)

    def add_listed(self, names: Sequence[str], path: Path) -> None:
        """Note the ids that file ``path`` lists, and whether they are all that there should be."""
        self.listed, full = len(names), self.checks.full[self.split]
        if len(names) != full:
            self.add(
                self.checks.not_full, f"{shown(path)}: {len(names):,} ids; the full {self.checks.data_set} has {full:,}"
            )

    def count(self, check: str) -> str:
        """The table's cell: a dash for what could not be checked, which is not the same as no offenders."""
        number = self.tallies[check] if check in self.checks.tallies else len(self.offenders[check])
        return "–" if check in self.unchecked else f"{number:,}"

    @property
    def sound(self) -> bool:
        """True if there are no errors; warnings are allowed."""
        return not any(self.offenders[check] for check in self.checks.errors)


def decode_pair(
    image: Path | None, mask: Path | None, classes: int
) -> tuple[list[Finding], np.ndarray | None, np.ndarray | None]:
    """Decode an image and its mask of ``classes`` parts; None for a file that the tree has no folder for.

    Returns what is wrong with them, the (H, W, 3) uint8 image and the (H, W) mask, None where it cannot be had.
    """
    findings: list[Finding] = []
    pixels = ids = None
    if image is not None:
        try:
            pixels = load_image(image)
        except DataError as error:
            findings.append((BAD_IMAGE, str(error)) if os.path.lexists(image) else (NO_IMAGE, shown(image)))
    if mask is not None:
        try:
            ids = decode_mask(mask)
        except DataError as error:
            findings.append((BAD_MASK, str(error)) if os.path.lexists(mask) else (NO_MASK, shown(mask)))
        else:
            stray = stray_ids(ids, classes)
            if stray:
                some = f"{', '.join(map(str, stray[:5]))}{', …' * (len(stray) > 5)}"
                findings.append((ids_above(classes), f"{shown(mask)}: {some}"))
    if pixels is not None and ids is not None and ids.shape != pixels.shape[:2]:
        sizes = f"{ids.shape[1]}×{ids.shape[0]}, the image {pixels.shape[1]}×{pixels.shape[0]}"
        findings.append((SIZES_DIFFER, f"{shown(mask)}: the mask is {sizes}"))
    return findings, pixels, ids


def in_threads(check: Callable[[str], Found], names: Sequence[str], jobs: int, split: str) -> list[Found]:
    """Decoding releases the interpreter's lock, so threads do; the order of ``names`` is kept."""
    pool = ThreadPoolExecutor(jobs)
    try:  # disable=None: no bar where nobody watches
        return list(tqdm(pool.map(check, names), total=len(names), desc=split, unit="image", leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt does not first decode the rest


def format_reports(reports: Sequence[SplitReport]) -> str:
    """One table, checks as rows and splits as columns, then the offenders by name, errors first.

    ``reports`` are those of one tree, at least one.
    """
    checks = reports[0].checks
    rows = [("", *(r.split for r in reports)), ("ids listed", *(f"{r.listed:,}" for r in reports))]
    rows.append((f"ids in the full {checks.data_set}", *(f"{checks.full[r.split]:,}" for r in reports)))
    rows += [(each, *(r.count(each) for r in reports)) for each in (*checks.errors, *checks.warnings, *checks.tallies)]
    width = max(len(row[0]) for row in rows)
    lines = [row[0].ljust(width) + "".join(cell.rjust(9) for cell in row[1:]) for row in rows]
    for kind, names in (("error", checks.errors), ("warning", (*checks.warnings, checks.not_full))):
        for check in names:
            for report in reports:
                offenders = report.offenders[check]
                if offenders:
                    lines += ["", f"{kind}: {report.split}: {check}"]
                    lines += [f"  {what}" for what in offenders[:NAMED]]
                if len(offenders) > NAMED:
                    lines.append(f"  and {len(offenders) - NAMED:,} more")
    for check, what in checks.judge(sum((report.tallies for report in reports), Counter())):
        lines += ["", f"warning: {check}", f"  {what}"]
    return "\n".join(lines)
