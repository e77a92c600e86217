"""A data set by name: where it lies, its fingerprint, how it is opened; rendered people are rendered if need be."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mula_lib.anatomy import LIP, PASCAL, Anatomy
from mula_lib.data import lip, pascal
from mula_lib.data.lip import LipSplit
from mula_lib.data.pascal import PascalSplit
from mula_lib.files import ConfigError, DataError, read_json
from rendered_people.dataset import RECIPE_FILE, CrowdConfig, PeopleConfig, PhotoConfig, ensure_people

_CHECKOUT = Path(__file__).resolve().parents[1]
# The checkout; for a library that is installed elsewhere, the one that MULA_HOME names, or the current folder.
REPOSITORY = Path(
    os.environ.get("MULA_HOME") or (_CHECKOUT if (_CHECKOUT / "run_all.sh").is_file() else Path.cwd())
).resolve()
FIXTURES = {name: REPOSITORY / "tests" / "fixture" / name for name in ("people", "crowds")}
RENDERED = {
    "people": PeopleConfig(),
    "people-256": PeopleConfig(train=20_000, val=1_000, size=256),
    "people-photo": PhotoConfig(),
    "crowds": CrowdConfig(),
    "crowds-256": CrowdConfig(train=4_000, val=500, size=256),
}
VARIABLES = {"lip": "MULA_LIP", "pascal": "MULA_PASCAL"}  # environment variables with the paths of the real data sets
SINGLE = ("fixture", "people", "people-256", "people-photo", "lip")  # fixtures are in the repository
CROWDS = ("crowd-fixture", "crowds", "crowds-256", "pascal")


@dataclass(frozen=True)
class Source:
    """An opened data set. Of people rendered in their usual place, the training split is rendered when first used."""

    name: str
    root: Path
    anatomy: Anatomy
    val: LipSplit | PascalSplit
    fingerprint: str  # of the recipe of rendered people, of the annotations of other data
    other_train: LipSplit | PascalSplit | None = None  # None: rendered when it is first used

    @cached_property
    def train(self) -> LipSplit | PascalSplit:
        """The training split."""
        if self.other_train is not None:
            return self.other_train
        ensure_people(RENDERED[self.name], self.root.parent, splits=("train",))
        return (pascal if self.anatomy.crowds else lip).read_split(self.root, "train")

    def __str__(self) -> str:
        skipped = len(getattr(self.val, "skipped", ()))
        without = f" ({skipped} ids without annotations skipped)" if skipped else ""
        return f"{self.name}, {len(self.val)} validation images{without}"


def user_path(text: str) -> Path:
    """A path from a command line; the shell leaves the ``~`` of ``--out=~/DIR`` as it is."""
    return Path(os.path.expanduser(text))


def open_source(name: str, *, path: Path | str | None = None, crowds: bool | None = None) -> Source:
    """Open a data set by name: one of :data:`SINGLE`, or of :data:`CROWDS` with several people an image.

    Of the rendered ones what is to be tested on is rendered on first use, which takes minutes. ``path`` is the folder
    it lies in; for the real ones MULA_LIP and MULA_PASCAL (extended PASCAL-Person-Part) are looked at too. Raises
    :class:`ConfigError` for an unknown name, and where ``crowds`` asks for several people an image, or for one, and
    ``name`` shows the other; and :class:`DataError` for a tree that is missing or broken.
    """
    if name not in SINGLE + CROWDS:
        raise ConfigError(f"unknown data set {name!r:.80}; known: {', '.join(SINGLE + CROWDS)}")
    if crowds not in (None, name in CROWDS):
        fitting = f"several people: {', '.join(CROWDS)}" if crowds else f"one person: {', '.join(SINGLE)}"
        raise ConfigError(f"dataset={name!r}: this needs images of {fitting}")
    path = path or os.environ.get(VARIABLES.get(name, ""))
    rendered = name in RENDERED and not path
    if name in VARIABLES and not path:
        raise DataError(f"data set {name!r}: no path given; pass one, or set {VARIABLES[name]} to its folder")
    if rendered:
        path = ensure_people(RENDERED[name], REPOSITORY / "data", splits=("val",))
    root = Path(path or FIXTURES["people" if name == "fixture" else "crowds"]).expanduser()
    if not root.is_dir():
        of_checkout = "; set MULA_HOME to a checkout of the repository" if name.endswith("fixture") else ""
        raise DataError(f"{root}: no such folder, or a broken link, for data set {name!r}{of_checkout}")
    reader, anatomy = (lip, LIP) if name in SINGLE else (pascal, PASCAL)
    val = reader.read_split(root, "val")
    train = None if rendered else reader.read_split(root, "train")
    if (recipe := root / RECIPE_FILE).is_file():
        fix = "delete the folder and render it again"
        fingerprint = read_json(recipe, "the recipe of a rendering", ("fingerprint",), fix=fix)["fingerprint"]
    else:
        digest = hashlib.sha256()
        for each in (*train.records, *val.records):
            size = each.mask.stat().st_size if each.mask else 0  # other masks have other sizes
            digest.update(f"{each.name} {size} ".encode() + each.joints.tobytes())
        fingerprint = digest.hexdigest()
    return Source(name, root, anatomy, val, fingerprint[:16], train)
