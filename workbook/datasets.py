"""Named data sets: where each one lies, how it is opened, and a fingerprint of what was found there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mula_lib.anatomy import LIP, PASCAL, Anatomy
from mula_lib.data import lip, pascal
from mula_lib.data.lip import LipSplit
from mula_lib.data.pascal import PascalSplit
from mula_lib.files import ConfigError, DataError, read_json
from rendered_people import CrowdConfig, PeopleConfig, ensure_people

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURES = {name: REPOSITORY / "tests" / "fixture" / name for name in ("people", "crowds")}
VARIABLES = {"lip": "MULA_LIP", "pascal": "MULA_PASCAL"}  # environment variables with the paths of the real data sets
SINGLE = ("fixture", "people", "lip")
CROWDS = ("crowd-fixture", "crowds", "pascal")


@dataclass(frozen=True)
class Source:
    """An opened data set: its splits, its anatomy and a fingerprint of its annotations."""

    name: str
    root: Path
    anatomy: Anatomy
    train: LipSplit | PascalSplit
    val: LipSplit | PascalSplit
    fingerprint: str

    def __str__(self) -> str:
        skipped = sum(len(getattr(split, "skipped", ())) for split in (self.train, self.val))
        without = f" ({skipped} ids without annotations skipped)" if skipped else ""
        return f"{self.name}, {len(self.train)} train and {len(self.val)} val images{without}"


def is_given(name: str) -> bool:
    """Whether the data set can be opened by its name alone: it is made here, or its environment variable is set."""
    return name not in VARIABLES or bool(os.environ.get(VARIABLES[name]))


def open_source(name: str, *, path: Path | str | None = None) -> Source:
    """Open a data set by name.

    Args:
        name: ``fixture`` (36 tiny rendered people in the repository), ``people`` (rendered on first use; takes a
            few minutes) or ``lip`` (the real one); with several people an image ``crowd-fixture``, ``crowds`` or
            ``pascal`` (extended PASCAL-Person-Part).
        path: where the tree lies; the real ones also look at the environment variables ``MULA_LIP`` and
            ``MULA_PASCAL``.

    Raises:
        ConfigError: an unknown name, or a path that is none.
        DataError: the tree is missing or broken.
    """
    if not isinstance(name, str) or name not in SINGLE + CROWDS:  # a notebook may be given anything
        raise ConfigError(f"unknown data set {name!r:.80}; known: {', '.join(SINGLE + CROWDS)}")
    _require_path(path)
    if name in ("fixture", "crowd-fixture"):
        root = Path(path or FIXTURES["people" if name == "fixture" else "crowds"])
    elif name in ("people", "crowds"):
        config = PeopleConfig() if name == "people" else CrowdConfig()
        root = Path(path) if path else ensure_people(config, REPOSITORY / "data")
    else:
        given = path or os.environ.get(VARIABLES[name])
        if not given:
            raise DataError(
                f"data set {name!r}: no path given; pass one, or set {VARIABLES[name]} to the folder it lies in"
            )
        root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; data set {name!r} is read from there")
    reader, anatomy = (lip, LIP) if name in SINGLE else (pascal, PASCAL)
    train, val = reader.read_split(root, "train"), reader.read_split(root, "val")
    return Source(name, root, anatomy, train, val, _fingerprint(root, train, val))


def _require_path(path: object) -> None:
    """ConfigError for what cannot be the name of a folder, whether there is one or not."""
    wrong = f"data_path={str(path)!r:.80}: give the path of a folder, or None for the data set's usual place"
    if path is None:
        return
    if not isinstance(path, (str, Path)) or "\0" in str(path):
        raise ConfigError(wrong)
    try:
        Path(path).is_dir()
    except OSError as error:  # a name that is too long
        raise ConfigError(f"{wrong} ({error.strerror})") from None


def _fingerprint(root: Path, *splits: LipSplit | PascalSplit) -> str:
    """Of the recipe for rendered trees, which is the same on every machine, and of the annotations for others."""
    recipe = root / "people.json"
    if recipe.is_file():
        mend = "delete the folder and render it again"
        found = read_json(recipe, "the recipe of rendered pictures", ("fingerprint",), fix=mend)
        return str(found["fingerprint"])[:16]
    digest = hashlib.sha256()
    for split in splits:
        for record in split.records:
            digest.update(record.name.encode())
            digest.update(record.joints.tobytes())
    return digest.hexdigest()[:16]
