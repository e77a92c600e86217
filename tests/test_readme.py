"""What the README promises: its example runs, and the files and notebooks that it names are there."""

import re
import runpy

import pytest
from conftest import REPOSITORY

from mula_lib.models.interactions import INTERACTIONS
from workbook.tables import OF_CLAIMS, ROWS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
TOOL = runpy.run_path(str(REPOSITORY / "tools" / "readme_results.py"))


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


def test_the_results_are_those_of_the_demos_tables_with_every_row(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(re.sub(r"(?s)(results: begin -->).*(<!-- results: end)", r"\1\nold\n\2", README))
    TOOL["update"](page, REPOSITORY / "results" / "demo")
    assert page.read_text() == README
    for row in (row for row in ROWS if row.table != OF_CLAIMS):
        assert f"\n| {row.name} |" in README
    assert "| VGG16-FCN | 69.1 |" in README
