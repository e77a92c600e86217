"""What the README promises: its example runs, and the files and notebooks that it names are there."""

import re

import pytest
from conftest import REPOSITORY

from mula_lib.files import DataError
from mula_lib.models.interactions import INTERACTIONS
from workbook.results import BEGIN, END, summary, update
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


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\d\d_\w+)`", README))))
def test_every_notebook_of_the_list_is_there(name):
    assert (REPOSITORY / "notebooks" / f"{name}.ipynb").is_file()


def test_every_notebook_is_in_the_list():
    for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
        assert f"`{path.stem}`" in README, path


@pytest.mark.parametrize("path", sorted(set(re.findall(r"^((?:mula_lib|docs)/[\w/.]+)", README, re.MULTILINE))))
def test_everything_of_the_map_is_where_it_says(path):
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http|#)([^)#]+)", README))))
def test_links_lead_somewhere(link):
    assert (REPOSITORY / link).exists()


def test_the_results_are_those_of_the_demos_tables():
    before, after = README.index(BEGIN) + len(BEGIN), README.index(END)
    assert README[before:after] == "\n" + summary(REPOSITORY / "results" / "demo")


def test_the_summary_has_every_row_and_writes_between_the_marks_only(tmp_path):
    text = summary(REPOSITORY / "results" / "demo")
    for row in (row for row in ROWS if row.table != OF_CLAIMS):
        assert f"\n| {row.name} |" in text
    assert "| VGG16-FCN | 69.1 |" in text
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    update(page, REPOSITORY / "results" / "demo")
    assert page.read_text() == f"before\n{BEGIN}\n{text}{END}after\n"
    page.write_text("nothing")
    with pytest.raises(DataError, match="to write between"):
        update(page, REPOSITORY / "results" / "demo")
    with pytest.raises(DataError, match=r"table1\.csv: no such table"):
        summary(tmp_path)
