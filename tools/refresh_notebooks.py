"""Executes the numbered notebooks in place at their defaults: ``python tools/refresh_notebooks.py [NAME …]``.

They are committed with outputs, because nbval compares with them. Whatever differs between two executions of the same
code (times, progress bars, random names) is removed, so that a refresh changes only what the code changed.
"""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from mula_lib.files import write_text

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
TIMEOUT = 600  # seconds a cell


def main(wanted: list[str]) -> None:
    """Refresh the notebooks whose names begin with one of ``wanted``, or all of them."""
    os.environ["PYTHONPATH"] = str(NOTEBOOKS.parent)  # kernels import this checkout
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        if not wanted or path.name.startswith(tuple(wanted)):
            notebook = nbformat.read(path, as_version=4)
            where = {"metadata": {"path": str(NOTEBOOKS)}}
            NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=where).execute()
            settle(notebook)
            write_text(path, nbformat.writes(notebook))
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")


def settle(notebook: NotebookNode) -> None:
    """Remove from an executed notebook what another execution would not reproduce."""
    views = []
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress_bar(output)]
            views += [output.data[WIDGET_VIEW] for output in cell.outputs if WIDGET_VIEW in output.get("data", {})]
    stored = notebook.metadata.pop("widgets", {}).get(WIDGET_STATE)
    if stored and views:
        notebook.metadata["widgets"] = {WIDGET_STATE: _settled(stored, views)}
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3",
    }  # fmt: skip
    notebook.metadata["language_info"] = {"name": "python"}


def _is_progress_bar(output: NotebookNode) -> bool:
    data = output.get("data", {})
    return WIDGET_VIEW in data and re.search(r"\d%\||/s\]", data.get("text/plain", "")) is not None


def _settled(stored: dict, views: list[dict]) -> dict:
    """The widgets in sight and those they are made of, under numbers in place of random names; ``views`` follow."""
    state = stored["state"]
    # links are part of no other widget, but without them a stored slider moves nothing
    links = [name for name, model in state.items() if model["model_name"] in ("LinkModel", "DirectionalLinkModel")]
    reached, found = [*(view["model_id"] for view in views), *links], []
    while reached:
        name = reached.pop(0)
        if name in state and name not in found:
            found.append(name)
            text = json.dumps(state[name])
            reached += sorted((other for other in state if other in text), key=text.index)
    numbers = {name: f"{number:032x}" for number, name in enumerate(found)}
    text = json.dumps({name: state[name] for name in found})
    for name, number in numbers.items():
        text = text.replace(name, number)
    for view in views:
        view["model_id"] = numbers[view["model_id"]]
    return {**stored, "state": json.loads(text)}


if __name__ == "__main__":
    main(sys.argv[1:])
