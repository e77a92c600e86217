"""Whatever a notebook may be given in its first cell: wrong names and types, no lists of seeds, no folders."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind
from workbook.datasets import FIXTURES, REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NOTHINGS = (
    "", None, 0, -1, 1.5, True, [], {}, [0], "\0", "no such thing", "smoke ", "SMOKE", b"smoke", float("nan"), 10**30,
)  # fmt: skip
SEEDS = (
    [], None, 0, "0", "[0, 1]", [-1], [0.0], ["0"], [True], [0, 0], [None], {}, {0: 1}, [[0]], [float("nan")], [1.5],
    "", range(2), {0, 1},
)  # fmt: skip
GOOD_SEEDS = ([0], [1], [0, 1, 2], (3,), [10**12])
NAMES = ("profile", "data set", "dataset", "data_path", "seeds")  # one of which a message must contain


@functools.cache
def _second_cell(notebook: Path) -> tuple[str, bool]:
    """The cell that reads the parameters, and whether the notebook is for several people an image."""
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    first = "".join(cells[0]["source"])
    return "".join(cells[1]["source"]), "crowd-fixture" in first


@kind("notebook parameters", share=8)
def parameters(folder: Path, rng: np.random.Generator) -> Trial:
    """The cell of one of the notebooks that reads its parameters, with one of them or none wrong."""
    notebook = NOTEBOOKS[rng.integers(len(NOTEBOOKS))]
    code, crowds = _second_cell(notebook)
    usual, other = ("crowd-fixture", "fixture") if crowds else ("fixture", "crowd-fixture")
    given = {"profile": "smoke", "dataset": usual, "data_path": None, "seeds": [0]}
    names, must = NAMES, REFUSED
    choice = int(rng.integers(8))
    if choice == 0:
        what, must = "as they should be", RIGHT
        given["seeds"] = GOOD_SEEDS[rng.integers(len(GOOD_SEEDS))]
    elif choice == 1:
        what, must = "another profile and the data's path", RIGHT
        given["profile"] = ("demo", "paper")[rng.integers(2)]
        given["data_path"] = str(FIXTURES["crowds" if crowds else "people"])
    elif choice in (2, 3):
        what, given["seeds"] = "seeds", SEEDS[rng.integers(len(SEEDS))]
    elif choice == 4:
        what, given["profile"] = "profile", NOTHINGS[rng.integers(len(NOTHINGS))]
    elif choice == 5:
        wrong = (*NOTHINGS, other, "lip", "pascal")
        what, given["dataset"] = "dataset", wrong[rng.integers(len(wrong))]
    else:
        what, given["data_path"] = _no_tree(folder, rng)
        names = (*NAMES, folder.name)
    given_before = dict(given)

    def act() -> dict:
        namespace = dict(given)
        exec(compile(code, str(notebook), "exec"), namespace)
        return namespace

    def judge(found: dict) -> None:
        assert found["profile"].name == given_before["profile"]
        assert found["source"].name == given_before["dataset"]
        assert found["source"].anatomy.crowds == crowds
        assert found["seeds"] == list(given_before["seeds"])

    return Trial(what, act, names, judge, must)


def _no_tree(folder: Path, rng: np.random.Generator) -> tuple[str, object]:
    """Something that is no path of a data set."""
    choices = {
        "data_path: no path": NOTHINGS[rng.integers(3, len(NOTHINGS) - 8)],
        "data_path: an empty folder": str(folder),
        "data_path: no such folder": str(folder / "nowhere"),
        "data_path: a file": str(folder / "file"),
        "data_path: a link to itself": str(folder / "loop"),
        "data_path: a NUL within": f"{folder}\0",
        "data_path: very long": str(folder / ("x" * 5000)),
    }
    (folder / "file").write_text("no folder")
    (folder / "loop").symlink_to("loop")
    what = list(choices)[rng.integers(len(choices))]
    return what, choices[what]
