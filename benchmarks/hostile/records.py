"""What runs and ``run_all.sh`` leave behind, damaged: the files of a finished run, and those that a report is made of.

JSON and CSV have no checksums: a digit that became another digit cannot be noticed, and is not tried here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.hostile.damage import PLACES, cut, emptied, flipped, noise, pick, web_page
from benchmarks.hostile.harness import Trial, kind, nothing
from workbook.datasets import REPOSITORY, open_source
from workbook.experiments import find_experiment
from workbook.profiles import SMOKE, Recipe
from workbook.report import write_report
from workbook.runs import Run, RunResult, do_run

DAMAGES = {"cut": cut, "zeros at its end": emptied, "noise": noise, "a web page": web_page}
STRANGE = ("word", -1, [], {}, [1], None, True, 1e308, {"a": 1})


def _spoil(path: Path, rng: np.random.Generator) -> str:
    """Do one thing to a file; returns what."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.4:
        values = json.loads(content)
        name = list(values)[rng.integers(len(values))]
        if rng.integers(2):
            del values[name]
            what = f"without {name}"
        else:
            others = [value for value in STRANGE if type(value) is not type(values[name])]
            values[name] = others[rng.integers(len(others))]
            what = f"{name} of another kind"
        path.write_text(json.dumps(values))
        return what
    if rng.random() < 0.25:
        what, place = pick(rng, PLACES)
        place(path)
        return what
    damages = DAMAGES | ({"a flipped bit": flipped} if path.suffix in (".npz", ".safetensors", ".png") else {})
    what, damage = pick(rng, damages)
    damaged = damage(content, rng)
    if path.suffix == ".csv":
        damaged = damaged.rstrip(b"\n") or b"x"  # a cut between two lines leaves a shorter table that is whole
    path.write_bytes(damaged)
    return what


@functools.cache
def _finished() -> tuple[Run, RunResult]:
    """A run of a second, in a folder that is left for the other cases."""
    profile = replace(SMOKE, name="hostile", vgg_width=8, recipe=Recipe(epochs=1, batch=12), watch=0)
    base = Path(tempfile.mkdtemp(prefix="hostile-run"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    run = Run(find_experiment("VGG16-FCN-MuLA"), profile, open_source("fixture"), base=base)
    return run, do_run(run)


@kind("files of a run", share=4)
def files_of_a_run(folder: Path, rng: np.random.Generator) -> Trial:
    """One file of a finished run is damaged; the run is asked for, with its network and its counts."""
    finished, expected = _finished()
    run = replace(finished, base=folder)
    shutil.copytree(finished.folder, run.folder)
    name = ("metrics.json", "evaluation.npz", "weights.safetensors", "config.json")[rng.integers(4)]
    what = _spoil(run.folder / name, rng)

    def act() -> tuple:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars, where it is tested or trained again
            result = do_run(run)
        return result.scores, result.log(), result.evaluation(), result.model()

    def judge(found: tuple) -> None:
        scores, log, evaluation, model = found
        assert scores == expected.scores or repr(scores) == repr(expected.scores)  # nan is not equal to itself
        assert log == expected.log()
        wanted = expected.evaluation()
        assert evaluation.names == wanted.names
        np.testing.assert_array_equal(evaluation.confusions, wanted.confusions)
        np.testing.assert_array_equal(evaluation.hits, wanted.hits)
        own, theirs = model.state_dict(), expected.model().state_dict()
        assert all(value.equal(theirs[key]) for key, value in own.items())

    if name == "weights.safetensors" and what == "no file":
        judge = nothing  # it is trained again; the seconds in its log are others
    return Trial(f"{name}: {what}", act, (name, run.folder.name), judge)


REPORTED = ("table1.csv", "table1.provenance.json", "kernel_diagnostics.csv", "kernels.png")


@functools.cache
def _page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        for name in REPORTED:
            shutil.copy(REPOSITORY / "results" / "demo" / name, folder)
        return write_report(Path(folder)).read_text(encoding="utf-8")


@kind("results folder", share=4)
def results_folder(folder: Path, rng: np.random.Generator) -> Trial:
    """One file of a results folder is damaged; a report is made of it."""
    whole = _page()
    for name in REPORTED:
        shutil.copy(REPOSITORY / "results" / "demo" / name, folder)
    name = REPORTED[rng.integers(len(REPORTED))]
    what = _spoil(folder / name, rng)
    names = (name, folder.name)

    def judge(found: Path) -> None:
        page = found.read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
        # what is not there is not reported, and provenance is shown as it is
        assert page == whole or what in PLACES or "provenance" in name

    return Trial(f"{name}: {what}", lambda: write_report(folder), names, judge, None)
