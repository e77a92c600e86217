"""The oldest versions that pyproject.toml allows, as constraints for pip.

    python tools/oldest.py > constraints.txt && PIP_CONSTRAINT=constraints.txt pip install -e ".[test]"

Every direct dependency, of the package, of its tests and of its build, is pinned to the lower end of its range, so a
lower end has to be a release that exists. What those need in turn, pip chooses. PyTorch is the locked one unless
``--torch`` asks for the oldest: of older ones a package index has the CUDA build only, several gigabytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRA = "test"  # the one that CI needs


def read_toml(path: Path) -> dict:
    """What a TOML file says. Before Python 3.11 this needs the package tomli, which pytest brings."""
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    return tomllib.loads(path.read_text(encoding="utf-8"))


def direct_requirements(project: dict) -> list[Requirement]:
    """The requirements that a pyproject.toml, as read, names: of the package, of its tests and of its build."""
    named = project["project"]
    texts = [*named["dependencies"], *named["optional-dependencies"][EXTRA], *project["build-system"]["requires"]]
    return [Requirement(text) for text in texts]


def read_lock(text: str) -> list[Requirement]:
    """The pins of a lock file, in its order, with their markers; ValueError names the line that is none."""
    pins = []
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        try:
            pin = Requirement(line)
        except InvalidRequirement as error:
            raise ValueError(f"not a pin: {line}") from error
        if [each.operator for each in pin.specifier] != ["=="]:
            raise ValueError(f"not pinned to one version: {line}")
        pins.append(pin)
    return pins


def pinned_version(pin: Requirement) -> Version:
    """The version of a pin from :func:`read_lock`."""
    (specifier,) = pin.specifier
    return Version(specifier.version)


def lowest_version(requirement: Requirement) -> Version:
    """The lower end of a range; ValueError where it has none, or excludes it."""
    bounds = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==", "~=")]
    if not bounds:
        raise ValueError(f"{requirement}: no lower end (>=, == or ~=)")
    lowest = max(bounds)
    if not requirement.specifier.contains(lowest, prereleases=True):
        raise ValueError(f"{requirement}: its lower end {lowest} is not in the range")
    return lowest


def oldest_pins(requirements: Iterable[Requirement], kept: Iterable[Requirement] = ()) -> list[str]:
    """Lines ``name==version`` of the lower ends; the packages of ``kept``, which are pins, stay at theirs."""
    held = {canonicalize_name(pin.name): pinned_version(pin) for pin in kept if not pin.marker or pin.marker.evaluate()}
    return [
        f"{each.name}=={held.get(canonicalize_name(each.name)) or lowest_version(each)}"
        for each in requirements
        if not each.marker or each.marker.evaluate()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the constraints; exits with 2 and a line where a range has no lower end."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch", action="store_true", help="the oldest PyTorch too, not the locked one")
    options = parser.parse_args(arguments)
    lock = read_lock((REPOSITORY / "requirements.lock").read_text(encoding="utf-8"))
    kept = [] if options.torch else [pin for pin in lock if pin.name == "torch"]
    try:
        print(*oldest_pins(direct_requirements(read_toml(REPOSITORY / "pyproject.toml")), kept), sep="\n")
    except ValueError as error:
        print(f"oldest.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
