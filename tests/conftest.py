"""Shared by the tests: the committed fixture and a network small enough to train in a second."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from workbook.datasets import open_source
from workbook.experiments import SMOKE, find_experiment
from workbook.runs import Run

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def source():
    """The fixture of rendered people, in LIP's layout."""
    return open_source("fixture")


@pytest.fixture(scope="session")
def body_cache(tmp_path_factory):
    """The body model is built once, in a folder of this session, for the worker processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_profile():
    """The smoke profile, a little smaller still and with a name of its own."""
    recipe = replace(SMOKE.recipe, epochs=3)
    return replace(SMOKE, name="tiny", vgg_width=8, hourglass_width=8, recipe=recipe, watch=2)


@pytest.fixture
def make_run(source, tiny_profile, tmp_path):
    """A run by experiment name, in a folder of the test's own."""

    def make(name="HG-1s-1u-MuLA", *, seed=0, **changes):
        return Run(find_experiment(name), replace(tiny_profile, **changes), source, seed, base=tmp_path / "runs")

    return make


@pytest.fixture
def do_run_elsewhere():
    """Does ``make_run()``, but below a given folder and in a process of its own.

    That says "ready", reads a line of its stdin, and at the end prints its images a second.
    """
    script = textwrap.dedent(
        f"""
        import sys
        from dataclasses import replace
        from pathlib import Path
        sys.path.insert(0, {str(REPOSITORY)!r})
        from workbook.datasets import open_source
        from workbook.experiments import SMOKE, find_experiment
        from workbook.runs import Run
        profile = replace(SMOKE, name="tiny", vgg_width=8, hourglass_width=8, watch=2,
                          recipe=replace(SMOKE.recipe, epochs=3))
        run = Run(find_experiment("HG-1s-1u-MuLA"), profile, open_source("fixture"), 0, base=Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        print(run.do().metrics["images_per_second"])
        """
    )

    def begin(base):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen([sys.executable, "-c", script, str(base)], **pipes, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    return begin
