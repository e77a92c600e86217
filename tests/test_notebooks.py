"""The committed notebooks keep the house rules: parameters, stored outputs, nothing of the machine they ran on."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient
from nbformat import NotebookNode

from workbook import check
from workbook.experiments import find_profile

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
DEFAULTS = {"data_path": None, "seeds": [0], "train": False}
LARGEST = 500_000  # bytes
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|opt|usr|mnt|builds|github)/|[A-Z]:\\\\")
NOISE = re.compile(r"Traceback \(most recent call last\)|Warning\b")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path: Path, tag: str) -> list[NotebookNode]:
    return [cell for cell in code_cells(path) if tag in cell.metadata.get("tags", [])]


def parameters(path: Path) -> dict:
    (cell,) = tagged(path, "parameters")
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}


def says_something(source: str) -> bool:
    """Whether a cell puts anything on the page: it prints, shows or displays, or ends in a bare value."""
    calls = re.search(r"^(?! *def )[^#\n]*\b(print|show|show_source|display)\(", source, flags=re.MULTILINE)
    last = ast.parse(source).body[-1] if source.strip() else None
    return bool(calls) or isinstance(last, ast.Expr)


@each_notebook
def test_one_cell_holds_exactly_the_parameters_and_trains_nothing(path: Path) -> None:
    found = parameters(path)
    profile = find_profile(found.pop("profile"))
    assert found.pop("dataset") == (profile.for_crowds() if "pascal" in path.stem else profile).dataset
    assert {found.pop(name, None) for name in ("photo", "crowds")} == {None}
    assert found == DEFAULTS


@each_notebook
def test_the_opening_says_what_is_learned_how_long_it_takes_and_what_is_written(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for promise in ("**You will learn**", "**Time** on 2 CPU cores", "**Writes**"):
        assert promise in first.source


@each_notebook
def test_everything_announced_at_the_top_is_written_by_the_last_cell_that_names_it(path: Path) -> None:
    announced = set(re.findall(r"`([\w.]+\.(?:csv|png|json))`", read(path).cells[0].source))
    printed = "".join(output.get("text", "") for output in code_cells(path)[-1].outputs)
    assert announced
    assert {name for name in announced if f"results/{parameters(path)['profile']}/{name}\n" not in printed} == set()


@each_notebook
def test_every_cell_was_executed_in_order_and_its_output_stored(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.id for cell in cells if says_something(cell.source) and not cell.outputs] == []


@each_notebook
def test_nbval_has_something_to_compare(path: Path) -> None:
    checked = tagged(path, "nbval-check-output")
    assert checked
    for cell in checked:
        texts = [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
        assert texts, cell.id
        assert all(texts), cell.id


@each_notebook
def test_no_output_is_an_error_a_warning_or_a_path_of_the_machine(path: Path) -> None:
    for cell in read(path).cells:
        assert not MACHINE_PATH.search(cell.source), cell.id
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", cell.id
            data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
            text = json.dumps([output.get("text", ""), data])
            assert not NOISE.search(text), cell.id
            assert not MACHINE_PATH.search(text), cell.id


@each_notebook
def test_nothing_that_another_execution_would_not_repeat_is_stored(path: Path) -> None:
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "widgets"}
    assert set(notebook.metadata.language_info) == {"name"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name)] == []
    assert "sys.path" not in path.read_text(encoding="utf-8")
    assert path.stat().st_size < LARGEST


@each_notebook
def test_stored_widgets_are_complete(path: Path) -> None:
    state = read(path).metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    kind = "application/vnd.jupyter.widget-view+json"
    for output in (output for cell in code_cells(path) for output in cell.outputs):
        if kind in output.get("data", {}):
            assert output.data[kind]["model_id"] in state
    kinds = {model["model_name"] for model in state.values()}
    assert "LinkModel" in kinds or "StackModel" not in kinds  # without its link a stored slider moves nothing
    assert set(re.findall(r"IPY_MODEL_(\w+)", json.dumps(state))) <= set(state)


# Exercises: unsolved they say so, and the solutions that are folded away are right.

NO_PICTURES = """
from workbook import figures
figures.show = figures.save_all = figures.png_bytes = lambda *_, **named: b""
"""  # drawing them takes most of a notebook's time
WITH_EXERCISES = [path for path in NOTEBOOKS if '"exercise-1"' in path.read_text(encoding="utf-8")]


def cells_called(notebook, beginning):
    return {cell.id.split("-")[1]: cell for cell in notebook.cells if cell.id.startswith(f"{beginning}-")}


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_solutions_pass_the_checks_that_the_empty_cells_do_not(path):
    notebook = read(path)
    exercises, checks, solutions = (cells_called(notebook, each) for each in ("exercise", "check", "solution"))
    assert exercises.keys() == checks.keys() == solutions.keys()
    for cell in checks.values():
        assert [output["text"].split(":")[0] for output in cell.outputs] == ["Not done yet"]
    for number, cell in exercises.items():
        (cell.source,) = re.findall(r"```python\n(.*?)```", solutions[number].source, re.DOTALL)
    settings = {cell.id: cell for cell in notebook.cells}["parameters"]
    settings.source += '\nprofile, dataset, train = "smoke", "fixture", True' + NO_PICTURES
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", coalesce_streams=True, resources=where).execute()
    for number, cell in checks.items():
        assert [output["text"] for output in cell.outputs] == ["Right!\n"], number
    assert len(WITH_EXERCISES) >= 4


def test_a_wrong_solution_is_told_in_a_line(capsys):
    check(lambda: 1 / 0)
    assert capsys.readouterr().out == "Not right yet: ZeroDivisionError: division by zero\n"
