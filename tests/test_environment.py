"""What is installed: ranges that are true, and pins within them; and JupyterLab keeps its token."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
DIRECT = [
    Requirement(text)
    for block in re.findall(r"^(?:dependencies|test) = \[(.*?)\]$", PROJECT, re.MULTILINE | re.DOTALL)
    for text in re.findall(r'"([^"]+)"', block)
]
PINS = [
    Requirement(line.split(" #")[0])
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


def pins_on(python: str) -> dict[str, Version]:
    """The versions that the lock installs on a Python; a second pin of a package fails."""
    found = {}
    for pin in PINS:
        if not pin.marker or pin.marker.evaluate({"python_version": python}):
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert canonicalize_name(pin.name) not in found
            found[canonicalize_name(pin.name)] = Version(exact.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_has_one_pin_within_its_range(python):
    pins = pins_on(python)
    assert {"torch", "filelock", "jinja2", "nbval"} <= {each.name for each in DIRECT}
    for requirement in DIRECT:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
        assert any(each.operator in (">=", "==") for each in requirement.specifier), requirement


def test_conda_installs_the_lock():
    lines = [line.strip() for line in (REPOSITORY / "environment.yml").read_text().splitlines()]
    assert "- -r requirements.lock" in lines
    (python,) = [line.removeprefix("- python=") for line in lines if line.startswith("- python=")]
    assert python in PYTHONS


NOTHING = r"""(?:['"]{2}|['",]|$|\s)"""
OPEN = re.compile(rf"(?:token|TOKEN)['\"]?[=:] *{NOTHING}|--no-auth|disable_check_xsrf|--ip[= ]0\.0\.0\.0", re.M)


def test_nothing_starts_jupyterlab_without_its_token():
    patterns = ("*.md", "*.sh", "docs/*.md", "tools/*", ".ci/*", ".github/**/*.yml", "notebooks/*.ipynb")
    paths = [path for each in patterns for path in REPOSITORY.glob(each) if path.is_file()]
    assert {"README.md", "run_all.sh", "environment.sh"} <= {path.name for path in paths}
    assert [path.name for path in paths if OPEN.search(path.read_text(encoding="utf-8"))] == []
    assert OPEN.search("jupyter lab --ServerApp.token=''")
