"""Shared by the tests: the committed fixture and a network small enough to train in a second."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch.utils.data import default_collate

from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from workbook.datasets import open_source
from workbook.experiments import SMOKE, find_experiment
from workbook.runs import Run

settings.register_profile("reproducible", derandomize=True)  # a test fails because of a change, never by chance
settings.load_profile("reproducible")

REPOSITORY = Path(__file__).resolve().parents[1]


def tree_bytes(root: Path) -> dict[str, bytes]:
    """The files below a folder by their paths."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _seed():
    """The same random tensors every time: a few of them turn rounding into a gradient one percent away."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def source():
    """The fixture of rendered people, in LIP's layout."""
    return open_source("fixture")


@pytest.fixture(scope="session")
def crowds():
    """The fixture of rendered crowds, in PASCAL-Person-Part's layout."""
    return open_source("crowd-fixture")


@pytest.fixture(scope="session")
def samples(source):
    """The training samples of the fixture."""
    return TrainingSamples(source.train, 64, Augmentation(), source.anatomy, seed=0)


@pytest.fixture(scope="session")
def batch(samples):
    """Four of them."""
    return default_collate([samples[0, index] for index in range(4)])


@pytest.fixture
def complaint(capsys):
    """Of the exit status of a command: the one line that it said of a user error."""

    def of(status: int) -> str:
        said = capsys.readouterr().err
        assert (status, said[:7], said.count("\n")) == (2, "error: ", 1), said
        return said

    return of


@pytest.fixture(scope="session")
def body_cache(tmp_path_factory):
    """The body model is built once, in a folder of this session, for the worker processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_profile():
    """The smoke profile, a little smaller still and with a name of its own."""
    recipe = replace(SMOKE.recipe, epochs=3)
    return replace(SMOKE, name="tiny", width=8, recipe=recipe, watch=2)


@pytest.fixture
def make_run(source, tiny_profile, tmp_path):
    """A run by experiment name, in a folder of the test's own."""

    def make(name="HG-1s-1u-MuLA", *, seed=0, **changes):
        return Run(find_experiment(name), replace(tiny_profile, **changes), source, seed, base=tmp_path / "runs")

    return make
