"""The house: arrows between packages point one way, nothing is imported in vain, and it stays within its budget."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

import mula_lib as mula
from workbook.results import read_table

PACKAGES = ("mula_lib", "rendered_people", "workbook")
# The goal for workbook is 2,800.
BUDGETS = {"mula_lib": 5000, "rendered_people": 2560, "workbook": 2961, "tests": 7080}  # lines
# Where arrows may not point: from modules of this name to modules of these.
FORBIDDEN = {
    "mula_lib": ("workbook", "rendered_people"),
    "mula_lib.models": ("mula_lib.data.lip", "mula_lib.data.pascal", "mula_lib.data.samples", "mula_lib.training"),
    "mula_lib.data": ("mula_lib.models", "mula_lib.training"),
    "mula_lib.metrics": ("mula_lib.models", "mula_lib.data", "mula_lib.training"),
    "rendered_people": ("workbook", "mula_lib.models", "mula_lib.training", "mula_lib.data"),
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """The modules of ours that a module imports as it is imported itself."""
    found = set()
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found & MODULES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_one_way(name):
    wrong = [to for start, ends in FORBIDDEN.items() if f"{name}.".startswith(f"{start}.") for to in ends]
    assert [each for each in imported(name) for to in wrong if f"{each}.".startswith(f"{to}.")] == []


def test_no_imports_go_in_a_circle():
    left = {name: imported(name) - {name} for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert sorted(left) == []


def test_metrics_take_arrays():
    for path in (REPOSITORY / "mula_lib" / "metrics").glob("*.py"):
        assert "torch" not in path.read_text(encoding="utf-8"), path


def test_the_house_stays_within_its_budget():
    for package, most in BUDGETS.items():
        files = list((REPOSITORY / package).rglob("*.py"))
        assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= most, package
    library = REPOSITORY / "mula_lib"
    top = [path for path in library.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert len([path for path in top if path.name != "__init__.py"]) <= 12
    assert len([path for path in library.rglob("*.py") if path.name != "__init__.py"]) <= 35


def test_the_way_from_the_command_to_a_number_is_short(tmp_path):
    """Functions of the workbook that a run of one row passes through, outside the library."""
    script = """
import os, sys
from workbook import cli, runs
passed = set()

def note(frame, event, _):
    code = frame.f_code
    if event == "call" and f"{os.sep}workbook{os.sep}" in code.co_filename and code.co_flags & 2:
        if not code.co_name.startswith("<"):
            passed.add((code.co_filename, code.co_name))

runs.Run.__init__.__defaults__ = 0, runs.Path(sys.argv[1])
runs.RESULTS = runs.Path(sys.argv[1])
sys.setprofile(note)
status = cli.main(["smoke", "--only", "VGG16-FCN", "--no-notebooks", "--jobs", "1"])
sys.setprofile(None)
print(status, len(passed), len({name for name, _ in passed}))
"""
    said = subprocess.check_output([sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, text=True)
    status, functions, files = map(int, said.split()[-3:])
    tables = [read_table(path).dropna(subset="ours") for path in sorted((tmp_path / "smoke").glob("*.csv"))]
    assert (status, [set(table["method"]) for table in tables]) == (0, [{"VGG16-FCN"}] * 3)  # Tables 1, 3 and 4
    assert f"results: {tmp_path / 'smoke'}\n" in said
    assert functions <= 62
    assert files <= 8


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        ("mula_lib", {"torch", "numba", "pandas", "cv2"}),
        ("mula_lib.anatomy, mula_lib.files", {"torch", "numba", "pandas", "cv2"}),
        ("rendered_people", {"torch", "anny", "embreex", "warp"}),  # which only rendering needs, not reading
    ],
)
def test_what_is_not_needed_is_not_imported(modules, unneeded):
    code = f"import sys, {modules}; print(*{unneeded} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True).split() == []


def test_the_library_gives_the_papers_names():
    assert all(getattr(mula, name) is not None for name in mula.__all__)
    assert {"JointModel", "ParameterAdapter", "DynamicConv2d", "LIP", "predict", "evaluate"} <= set(dir(mula))
    with pytest.raises(AttributeError, match="'mula_lib' has no attribute 'JointModels'"):
        mula.JointModels  # noqa: B018
