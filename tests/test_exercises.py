"""The exercises of the notebooks: unsolved they say so, and the solutions that are folded away are right."""

import re

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

from workbook import check

NOTEBOOKS = sorted(
    path for path in (REPOSITORY / "notebooks").glob("*.ipynb") if '"exercise-1"' in path.read_text(encoding="utf-8")
)


def cells_called(notebook, beginning):
    return {cell.id.split("-")[1]: cell for cell in notebook.cells if cell.id.startswith(f"{beginning}-")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solutions_pass_the_checks_that_the_empty_cells_do_not(path):
    notebook = nbformat.read(path, as_version=4)
    exercises, checks, solutions = (cells_called(notebook, each) for each in ("exercise", "check", "solution"))
    assert exercises.keys() == checks.keys() == solutions.keys()
    for cell in checks.values():
        assert [output["text"].split(":")[0] for output in cell.outputs] == ["Not done yet"]
    for number, cell in exercises.items():
        (cell.source,) = re.findall(r"```python\n(.*?)```", solutions[number].source, re.DOTALL)
    settings = {cell.id: cell for cell in notebook.cells}["parameters"]
    settings.source += '\nprofile, dataset, train = "smoke", "fixture", True'
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    for number, cell in checks.items():
        assert [output["text"] for output in cell.outputs] == ["Right!\n"], number
    assert len(NOTEBOOKS) >= 4


def test_a_wrong_solution_is_told_in_a_line(capsys):
    check(lambda: 1 / 0)
    assert capsys.readouterr().out == "Not right yet: ZeroDivisionError: division by zero\n"
