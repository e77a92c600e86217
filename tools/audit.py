"""Are the pins of requirements.lock older than the release that mended a known hole?

    python tools/audit.py            # 0: none is; 1: some are, a line each

Compares with tools/advisories.csv and asks nobody, so it works anywhere; what became known after the date at that
file's head it cannot know. The workflow in .github asks a live database besides (pip-audit).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from oldest import REPOSITORY, pinned_version, read_lock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ADVISORIES = REPOSITORY / "tools" / "advisories.csv"
COLUMNS = ("package", "id", "fixed", "accepted")


@dataclass(frozen=True)
class Advisory:
    """One known hole: of which package, its public id, and the first release without it.

    ``fixed`` is None where no release is named that mends it; then ``accepted`` says why it does not matter here.
    """

    package: str
    id: str
    fixed: Version | None
    accepted: str = ""

    def concerns(self, version: Version) -> bool:
        """Whether a release has the hole and nobody has said why that is all right."""
        return not self.accepted and (self.fixed is None or version < self.fixed)


def read_advisories(text: str) -> list[Advisory]:
    """The advisories of a CSV file with ``#`` lines at its head; ValueError names the line that is wrong."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = csv.DictReader(lines, strict=True)
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise ValueError(f"advisories: columns are {rows.fieldnames}, not {list(COLUMNS)}")
    found = []
    for row in rows:
        if None in row or None in row.values() or not row["package"] or not row["id"]:
            raise ValueError(f"advisories: not four fields with a package and an id: {row}")
        if bool(row["fixed"]) == bool(row["accepted"]):
            raise ValueError(f"advisories: {row['id']} needs a first fixed release, or else why it is accepted")
        try:
            fixed = Version(row["fixed"]) if row["fixed"] else None
        except InvalidVersion as error:
            raise ValueError(f"advisories: {row['id']}: {error}") from error
        found.append(Advisory(canonicalize_name(row["package"]), row["id"], fixed, row["accepted"]))
    return found


def holes(pins: Iterable[Requirement], advisories: Iterable[Advisory]) -> list[str]:
    """A line for each pin that has a known hole, whatever Python or platform the pin is for; empty if none has."""
    advisories = list(advisories)
    return [
        f"{pin}: {advisory.id}, {f'fixed in {advisory.fixed}' if advisory.fixed else 'no release mends it'}"
        for pin in pins
        for advisory in advisories
        if advisory.package == canonicalize_name(pin.name) and advisory.concerns(pinned_version(pin))
    ]


def main() -> int:
    """Print what is found; returns 1 if any pin has a known hole."""
    pins = read_lock((REPOSITORY / "requirements.lock").read_text(encoding="utf-8"))
    advisories = read_advisories(ADVISORIES.read_text(encoding="utf-8"))
    found = holes(pins, advisories)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(pins)} pins, {len(advisories)} advisories: {len(found) or 'no'} known holes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
