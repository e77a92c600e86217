"""What is installed: ranges that are true, pins within them and without known holes; and JupyterLab keeps its token."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

sys.path.insert(0, str(REPOSITORY / "tools"))

import audit
import oldest

LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
PINS = oldest.read_lock(LOCK)
PROJECT = oldest.read_toml(REPOSITORY / "pyproject.toml")
DIRECT = oldest.direct_requirements(PROJECT)
INSTALLED = [each for each in DIRECT if each.name != "setuptools"]  # that one builds, and is not in the lock
ADVISORIES = audit.read_advisories(audit.ADVISORIES.read_text(encoding="utf-8"))
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins_of(name: str) -> list[Requirement]:
    return [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]


def pins_on(python: str, pins: list[Requirement]) -> list[Requirement]:
    return [pin for pin in pins if not pin.marker or pin.marker.evaluate({"python_version": python})]


# ranges and pins


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("requirement", INSTALLED, ids=lambda each: each.name)
def test_every_direct_dependency_has_one_pin_within_its_range(requirement, python):
    (pin,) = pins_on(python, pins_of(requirement.name))
    assert requirement.specifier.contains(oldest.pinned_version(pin))


@pytest.mark.parametrize("python", PYTHONS)
def test_no_python_has_two_pins_of_a_package(python):
    names = [canonicalize_name(pin.name) for pin in pins_on(python, PINS)]
    assert len(names) == len(set(names))


def test_conda_installs_the_lock():
    lines = [line.strip() for line in (REPOSITORY / "environment.yml").read_text().splitlines()]
    assert "- -r requirements.lock" in lines
    (python,) = [line.removeprefix("- python=") for line in lines if line.startswith("- python=")]
    assert Version(python) in Requirement(f"python{PROJECT['project']['requires-python']}").specifier


def test_the_oldest_versions_are_the_lower_ends_but_for_the_locked_pytorch():
    command = [sys.executable, "tools/oldest.py"]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    pinned = dict(line.split("==") for line in done.stdout.split())
    assert set(pinned) == {each.name for each in DIRECT}
    assert Version(pinned["torch"]) == oldest.pinned_version(*pins_of("torch"))
    for requirement in DIRECT:
        if requirement.name != "torch":
            assert Version(pinned[requirement.name]) == oldest.lowest_version(requirement)
    assert "torch==2.6" in oldest.oldest_pins(map(Requirement, ["torch>=2.6"]))


@pytest.mark.parametrize(
    ("text", "lowest"), [("a>=2.0", "2.0"), ("a>=0.6,<0.7", "0.6"), ("a==1.2", "1.2"), ("a~=1.4", "1.4")]
)
def test_the_lower_end_of_a_range_is_found(text, lowest):
    assert oldest.lowest_version(Requirement(text)) == Version(lowest)


@pytest.mark.parametrize("text", ["a", "a<3", "a>=2,!=2.0"])
def test_a_range_without_a_lower_end_is_refused(text):
    with pytest.raises(ValueError, match="lower end"):
        oldest.lowest_version(Requirement(text))


def test_pins_for_other_pythons_are_left_out_of_the_oldest():
    requirements = [Requirement("a>=1 ; python_version < '3'"), Requirement("b>=2")]
    assert oldest.oldest_pins(requirements) == ["b==2"]


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2,<3", "-r other.txt"])
def test_a_line_of_the_lock_that_pins_nothing_is_named(line):
    with pytest.raises(ValueError, match=re.escape(line.split(",")[0])):
        oldest.read_lock(f"# a comment\npandas==3.1.1  # another\n\n{line}\n")


# known holes


def test_no_pin_has_a_known_hole():
    assert audit.holes(PINS, ADVISORIES) == []


@pytest.mark.parametrize("advisory", [each for each in ADVISORIES if each.fixed], ids=lambda each: each.id)
def test_every_advisory_is_of_a_pinned_package_and_found_in_the_release_before(advisory):
    """Its pins, those with markers too, are compared: each is found once it is put back before the fixed release."""
    pins = pins_of(advisory.package)
    assert pins
    for pin in pins:
        assert not advisory.concerns(oldest.pinned_version(pin))
        (older,) = oldest.read_lock(str(pin).replace(f"=={oldest.pinned_version(pin)}", f"=={advisory.fixed}.dev0"))
        (found,) = audit.holes([older], [advisory])
        assert advisory.id in found
        assert f"fixed in {advisory.fixed}" in found


def test_both_pins_of_a_package_are_compared_whatever_python_runs_this():
    text = 'pillow==12.2.0 ; python_version < "3.11"\nPillow==13.0.0 ; python_version >= "3.11"\n'
    found = audit.holes(oldest.read_lock(text), ADVISORIES)
    assert found
    assert all(line.startswith("pillow==12.2.0") for line in found)


def test_a_hole_that_no_release_mends_is_found_unless_it_is_accepted():
    pins = oldest.read_lock("a==1.0\n")
    assert audit.holes(pins, [audit.Advisory("a", "X-1", None)]) == ["a==1.0: X-1, no release mends it"]
    assert audit.holes(pins, [audit.Advisory("a", "X-1", None, "never called")]) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("package,id\na,X-1", "columns"),
        ("package,id,fixed,accepted\na,X-1", "not four fields"),
        ("package,id,fixed,accepted\na,X-1,1,,more", "not four fields"),
        ("package,id,fixed,accepted\na,X-1,,", "first fixed release"),
        ("package,id,fixed,accepted\na,X-1,1.0,never called", "first fixed release"),
        ("package,id,fixed,accepted\na,X-1,soon,", "X-1"),
    ],
)
def test_a_damaged_list_of_advisories_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        audit.read_advisories(f"# a head\n{rows}\n")


def test_the_list_says_when_it_was_made():
    head = audit.ADVISORIES.read_text(encoding="utf-8").splitlines()[:4]
    assert any(re.search(r"Looked at on \d{4}-\d\d-\d\d", line) for line in head)


def test_the_command_says_how_much_it_compared(monkeypatch, capsys):
    assert audit.main() == 0
    assert capsys.readouterr().out == f"{len(PINS)} pins, {len(ADVISORIES)} advisories: no known holes\n"
    monkeypatch.setattr(audit, "read_lock", lambda text: oldest.read_lock("tornado==6.5.7\n"))
    assert audit.main() == 1
    assert "GHSA-mpf4-983q-p7j4, fixed in 6.5.8" in capsys.readouterr().out


def test_the_live_audit_ignores_what_is_accepted_and_nothing_else():
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r"--ignore-vuln[ =](\S+)", workflow)) == {each.id for each in ADVISORIES if each.accepted}


# JupyterLab's token

NOTHING = r"""(?:['"]{2}|None\b|(?=[\s'",\])]|$))"""  # as a value: quotes around nothing, None, or nothing at all
OPEN = re.compile(
    rf"""
    (?:ServerApp|NotebookApp|LabApp|IdentityProvider|PasswordIdentityProvider)\.
        (?:token|password|hashed_password)['"]?\s*[=:,]\s*{NOTHING}
    | \.identity_provider_class\b
    | --no-auth\b
    | (?:disable_check_xsrf|allow_unauthenticated_access)['"]?\s*[=:,]\s*['"]?(?:True|1)
    | password_required['"]?\s*[=:,]\s*['"]?False
    | JUPYTER_TOKEN\s*[=:]\s*{NOTHING}
    | allow_origin(?:_pat)?['"]?\s*[=:,]
    | --ip[= ]['"]?(?:0\.0\.0\.0|\*)
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


def texts():
    """Everything that tells or starts a JupyterLab, as (name, text); of notebooks their sources."""
    for pattern in ("*.md", "*.sh", "*.yml", "docs/**/*", "tools/**/*", ".ci/*", ".github/**/*", "tests/*.py"):
        for path in sorted(REPOSITORY.glob(pattern)):
            written = path.is_file() and path.suffix in {"", ".md", ".sh", ".py", ".yml", ".yaml", ".csv"}
            if written and path.name != "test_environment.py":  # which has to write what it forbids
                yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells)


def test_nothing_starts_jupyterlab_without_its_token():
    seen = dict(texts())
    assert {"README.md", "run_all.sh", ".ci/run", "tools/environment.sh", "tests/test_browser.py"} <= set(seen)
    assert "00_start_here.ipynb" in seen
    assert {name: OPEN.findall(text) for name, text in seen.items() if OPEN.search(text)} == {}


@pytest.mark.parametrize(
    "text",
    [
        "jupyter lab --ServerApp.token=''",
        "jupyter lab --ServerApp.token= --no-browser",
        'jupyter lab --NotebookApp.token=""',
        "jupyter lab --IdentityProvider.token=",
        '["jupyter", "lab", "--IdentityProvider.token="]',
        "c.IdentityProvider.token = ''",
        "c.ServerApp.token = None",
        "--PasswordIdentityProvider.hashed_password=''",
        "--PasswordIdentityProvider.password_required=False",
        "--ServerApp.password=''",
        "c.ServerApp.identity_provider_class = Anybody",
        "--ServerApp.disable_check_xsrf=True",
        "c.ServerApp.allow_unauthenticated_access = True",
        "server --no-auth",
        "JUPYTER_TOKEN= jupyter lab",
        "--ServerApp.allow_origin_pat='.*'",
        "jupyter lab --ip=0.0.0.0",
    ],
)
def test_ways_to_do_without_a_token_are_recognised(text):
    assert OPEN.search(text)


@pytest.mark.parametrize(
    "text",
    [
        'f"--IdentityProvider.token={token}"',
        "--IdentityProvider.token=abc",
        "jupyter lab notebooks/00_start_here.ipynb",
        "jupyter lab --ip=127.0.0.1",
    ],
)
def test_a_token_of_its_own_is_none_of_them(text):
    assert not OPEN.search(text)
