"""What the README promises: its example runs, what it names is there; and what is installed."""

import re

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mula_lib.models.interactions import INTERACTIONS
from tools import readme_results
from workbook.runs import RESULTS
from workbook.tables import OF_CLAIMS, ROWS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_an_interaction_of_ones_own_runs_as_written(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.setattr("workbook.runs.Run.__init__.__defaults__", (0, tmp_path))  # seed and folder
    known = dict(INTERACTIONS)
    try:
        exec(compile(code, "README.md", "exec"), {})
    finally:
        INTERACTIONS.clear()
        INTERACTIONS.update(known)
    pck, miou = map(float, capsys.readouterr().out.split())
    assert 0 <= pck <= 100
    assert 0 < miou <= 100
    assert list(tmp_path.rglob("vgg16-fcn-difference/seed-0/metrics.json"))


def test_every_notebook_is_in_the_list_and_there():
    there = {path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r"`(\d\d_\w+)`", README)) == there


@pytest.mark.parametrize("pattern", [r"^((?:mula_lib|docs)/[\w/.]+)", r"\]\((?!http|#)([^)#]+)"])
def test_what_the_page_names_is_where_it_says(pattern):
    names = re.findall(pattern, README, re.MULTILINE)
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


def test_the_results_are_those_of_the_tables_with_every_row(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(re.sub(r"(?s)(: begin -->).*?(<!-- \w+: end)", r"\1\nold\n\2", README))
    readme_results.update(page, RESULTS)
    assert page.read_text() == README
    for row in (row for row in ROWS if row.table != OF_CLAIMS):
        assert f"\n| {row.name} |" in README
    assert "| VGG16-FCN | 69.1 |" in README


# What is installed: ranges that are true, and pins within them; and JupyterLab keeps its token.

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


NOTHING = r"""(?:['"]{2}|['",]|$|\s)"""
OPEN = re.compile(rf"(?:token|TOKEN)['\"]?[=:] *{NOTHING}|--no-auth|disable_check_xsrf|--ip[= ]0\.0\.0\.0", re.M)


def test_nothing_starts_jupyterlab_without_its_token():
    patterns = ("*.md", "*.sh", "docs/*.md", "tools/*", ".ci/*", ".github/**/*.yml", "notebooks/*.ipynb")
    paths = [path for each in patterns for path in REPOSITORY.glob(each) if path.is_file()]
    assert {"README.md", "run_all.sh", "environment.sh"} <= {path.name for path in paths}
    assert [path.name for path in paths if OPEN.search(path.read_text(encoding="utf-8"))] == []
    assert OPEN.search("jupyter lab --ServerApp.token=''")
