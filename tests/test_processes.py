"""Two processes follow the loss curve of one that has the whole batch, and loading processes change nothing."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from mula_lib import distributed as processes
from mula_lib.files import ConfigError
from mula_lib.training import EpochBatches
from workbook.experiments import SMOKE, find_experiment
from workbook.runs import Run

# What each process runs: four epochs of a small MuLA on the fixture, all of it one batch. The learning rate is low,
# because RMSProp's first steps follow the signs of gradients and so enlarge the rounding of sums in another order.
SCRIPT = """
import sys
from pathlib import Path
import torch
from mula_lib import distributed as processes
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from workbook.datasets import open_source
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.network import ModelConfig, build_model
from mula_lib.training import Job, Recipe, fit

with processes.joined():
    source = open_source("fixture")
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    model = build_model(ModelConfig("hourglass", ("adapt",) * 2, 8, adaptation=AdaptationConfig(3)), 0).to(sys.argv[2])
    recipe = Recipe(epochs=4, batch=24, learning_rate=3e-4)
    fit(model, samples, recipe, Job(Path(sys.argv[1]), "test"))
    if processes.rank() == 0:
        torch.save(model.state_dict(), Path(sys.argv[1]) / "state.pt")
"""


def train(folder: Path, count: int, device: str) -> tuple[list[dict], dict]:
    folder.mkdir()
    gpus = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, str(script), str(folder), device]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"} | gpus
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return log, torch.load(folder / "state.pt", weights_only=True)


two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices, for NCCL")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=two_gpus)])
def test_two_processes_train_like_one_with_the_whole_batch(tmp_path, device):
    (one, alone), (two, together) = (train(tmp_path / str(count), count, device) for count in (1, 2))
    assert [line["epoch"] for line in two] == [1, 2, 3, 4]
    # the same weights: only the sums are shared out
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-6 if device == "cpu" else 1e-3)
    losses = [[line["loss"] for line in log] for log in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3 if device == "cpu" else 2e-2)
    assert one[-1]["loss"] < 0.995 * one[0]["loss"]  # a curve, not a line
    assert alone.keys() == together.keys()  # batch normalisation was shared in place, and left no trace


def test_every_process_gets_its_part_of_each_batch(monkeypatch):
    whole = list(EpochBatches(20, 6, seed=0, epoch=1))
    monkeypatch.setattr(processes, "count", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        parts.append(list(EpochBatches(20, 6, seed=0, epoch=1)))
    assert [list(itertools.chain(*batch)) for batch in zip(*parts, strict=True)] == whole


def test_shared_statistics_are_those_of_the_whole_batch_in_float32_under_autocast(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "all_reduce", lambda value: 2 * value)  # the other process has the same samples
    shared, usual, x = processes.SharedBatchNorm2d(3), torch.nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5).bfloat16()
    torch.testing.assert_close(shared(x), usual(torch.cat([x, x]))[:4])
    torch.testing.assert_close(shared.state_dict(), usual.state_dict())


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 5)
    with pytest.raises(ConfigError, match="a batch of 12 cannot be divided evenly among 5"):
        EpochBatches(100, 12, seed=0, epoch=0)


@pytest.fixture
def done(tmp_path):
    """A row trained and tested with a number of loading processes and threads."""
    before = torch.get_num_threads()

    def do(row, source, workers, threads):
        profile = replace(SMOKE, name="same", width=8, watch=2)
        profile = profile.for_crowds() if source.anatomy.crowds else profile
        torch.set_num_threads(threads)
        return Run(find_experiment(row), profile, source, 0, base=tmp_path / f"{workers}").do(workers=workers)

    yield do
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores: on purpose
@pytest.mark.parametrize(
    ("row", "data", "metrics"),
    [
        ("HG-2s-1u-MuLA", "source", {"PCK", "mIoU"}),
        ("Attention+SSL", "source", {"mIoU"}),  # with dropout
        ("HG-2s-1u-MuLA", "crowds", {"mAP", "mIoU"}),
    ],
)
def test_scores_and_weights_do_not_depend_on_loading_processes_or_threads(row, data, metrics, done, request):
    source = request.getfixturevalue(data)
    usual, other = done(row, source, 0, 1), done(row, source, 3, 2)
    assert other.scores == pytest.approx(usual.scores, abs=0, nan_ok=True)
    assert [line["loss"] for line in other.metrics["log"]] == [line["loss"] for line in usual.metrics["log"]]
    weights = other.model().state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in usual.model().state_dict().items())
    assert metrics <= usual.scores.keys() & usual.metrics["log"][0].keys()
    assert usual.evaluation().scores(source.anatomy) == pytest.approx(usual.scores, abs=1e-3, nan_ok=True)
