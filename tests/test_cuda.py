"""The same training on a GPU: skipped where there is none. Of two, over NCCL: ``test_processes.py``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mula_lib import training
from mula_lib.anatomy import LIP
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from mula_lib.evaluation import evaluate
from mula_lib.inference import Testing
from mula_lib.kernels import has_bf16
from mula_lib.models.network import build_model
from mula_lib.training import Job, Recipe, fit
from workbook.datasets import open_source
from workbook.experiments import SMOKE, find_experiment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is available")
RECIPE = Recipe(epochs=2, batch=8, learning_rate=3e-4, drop_at=())


def network(row="HG-2s-1u-MuLA", anatomy=LIP):
    return build_model(find_experiment(row).model_config(SMOKE, anatomy), 0)


# One stage: rounding grows from layer to layer, and with two the norms of one and of two CPU threads differ by 3 %.
@pytest.mark.parametrize("row", ["HG-1s-1u-MuLA", "VGG16-FCN-MuLA"])
def test_a_step_has_the_loss_and_gradient_of_the_cpu(samples, row, monkeypatch):
    for setting in (torch.backends.cuda.matmul, torch.backends.cudnn):
        monkeypatch.setattr(setting, "allow_tf32", False)
    batch = torch.utils.data.default_collate([samples[0, index] for index in range(8)])
    found = []
    for device in ("cpu", "cuda"):
        model = network(row).to(device, memory_format=torch.channels_last).train()
        optimizer = training.make_optimizer(model, RECIPE)
        loss, norm = training.update(training.Objective(model, RECIPE), optimizer, batch, RECIPE)
        found.append((float(loss), float(norm)))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("data", ["fixture", "crowd-fixture"])
def test_a_step_does_not_wait_for_the_device(data):
    source = open_source(data)
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    batch = torch.utils.data.default_collate([samples[0, index] for index in range(8)])
    batch = {name: value.cuda() for name, value in batch.items()}
    model = network(anatomy=source.anatomy).to("cuda", memory_format=torch.channels_last).train()
    objective, optimizer = training.Objective(model, RECIPE), training.make_optimizer(model, RECIPE)
    training.update(objective, optimizer, batch, RECIPE)  # the first one compiles and allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.update(objective, optimizer, batch, RECIPE)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("bf16", "compiled"), [(False, False), (True, False), (True, True)])
def test_training_learns_and_resumes_at_the_last_epoch(samples, tmp_path, bf16, compiled):
    recipe = replace(RECIPE, epochs=6, learning_rate=1e-3, bf16=bf16)
    fit(network().cuda(), samples, replace(recipe, epochs=3), Job(tmp_path, "x"))
    model = network().cuda()
    history = fit(model, samples, recipe, Job(tmp_path, "x", workers=2, compiled=compiled))
    assert [line["epoch"] for line in history.log] == [1, 2, 3, 4, 5, 6]
    assert history.log[-1]["loss"] < history.log[0]["loss"]
    assert history.precision == ("bfloat16" if bf16 and has_bf16(torch.device("cuda")) else "TF32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_network_has_the_scores_of_the_cpu(source, samples, tmp_path):
    model = network()
    fit(model, samples, replace(RECIPE, epochs=4, learning_rate=2e-3), Job(tmp_path, "x"))
    cpu, gpu = (evaluate(model.to(d), source.val, 64, Testing(scales=(0.8, 1.0)), LIP) for d in ("cpu", "cuda"))
    moved = np.abs(cpu.confusions - gpu.confusions).sum() / 2
    assert moved < 0.02 * cpu.confusions.sum()
    assert (cpu.hits != gpu.hits)[~np.isnan(cpu.hits)].mean() < 0.05
