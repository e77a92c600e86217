"""Named data sets: where each one lies, how it is opened, and a fingerprint of what was found there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mula_lib.anatomy import LIP, Anatomy
from mula_lib.data.lip import LipSplit, read_split
from mula_lib.data.people import PeopleConfig, ensure_people
from mula_lib.errors import ConfigError, DataError

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURE = REPOSITORY / "tests" / "fixture" / "people"
LIP_VARIABLE = "MULA_LIP"  # environment variable with the path of the real LIP


@dataclass(frozen=True)
class Source:
    """An opened data set: its splits, its anatomy and a fingerprint of its annotations."""

    name: str
    root: Path
    anatomy: Anatomy
    train: LipSplit
    val: LipSplit
    fingerprint: str


def open_source(name: str, *, path: Path | str | None = None) -> Source:
    """Open a data set by name.

    Args:
        name: ``fixture`` (36 tiny rendered people in the repository), ``people`` (rendered on first use; takes a
            few minutes) or ``lip`` (the real one).
        path: where the tree lies; ``lip`` also looks at the environment variable ``MULA_LIP``.

    Raises:
        ConfigError: an unknown name.
        DataError: the tree is missing or broken.
    """
    if name == "fixture":
        root = Path(path or FIXTURE)
    elif name == "people":
        root = Path(path) if path else ensure_people(PeopleConfig(), REPOSITORY / "data")
    elif name == "lip":
        given = path or os.environ.get(LIP_VARIABLE)
        if not given:
            raise DataError(f"data set 'lip': no path given; pass one, or set {LIP_VARIABLE} to the folder of LIP")
        root = Path(given)
    else:
        raise ConfigError(f"unknown data set {name!r}; known: fixture, people, lip")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; data set {name!r} is read from there")
    train, val = read_split(root, "train"), read_split(root, "val")
    return Source(name, root, LIP, train, val, _fingerprint(root, train, val))


def _fingerprint(root: Path, *splits: LipSplit) -> str:
    """Of the recipe for rendered trees, which is the same on every machine, and of the annotations for others."""
    recipe = root / "people.json"
    if recipe.is_file():
        return json.loads(recipe.read_text())["fingerprint"][:16]
    digest = hashlib.sha256()
    for split in splits:
        for record in split.records:
            digest.update(record.name.encode())
            digest.update(record.joints.tobytes())
    return digest.hexdigest()[:16]
