"""Why does pose pay: each loss's gradient in each encoder."""

from dataclasses import replace

import pytest
import torch

from mula_lib.models.losses import Targets
from mula_lib.models.network import build_model
from workbook import gradients
from workbook.experiments import find_experiment


def test_both_gradients_add_up_to_what_moves_an_encoder(tiny_profile, source, batch):
    model = build_model(find_experiment("HG-1s-1u-MuLA").model_config(tiny_profile, source.anatomy), 0).train()
    with torch.no_grad():  # as if it was trained: R* is not zero, and so gradients cross
        for name, weights in model.named_parameters():
            if "interaction" in name:
                weights.add_(0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(len(name))))
    outputs = model(batch["image"])
    alone = {"parsing": Targets(batch, 0.0), "pose": Targets(batch, 100.0, 0.0)}
    losses = {task: model.loss(outputs, targets) for task, targets in alone.items()}
    sizes = gradients.gradient_sizes(model, losses)
    loss = model.loss(outputs, Targets(batch, 100.0))
    assert loss.item() == pytest.approx(sizes["loss_parsing"] + sizes["loss_pose"], rel=1e-5)
    loss.backward()
    for where, branch in (("parsing", model.parsing), ("pose", model.pose)):
        weights = [*branch.stem.parameters(), *branch.encoder.parameters()]
        whole = torch.cat([weight.grad.flatten() for weight in weights]).norm().item()
        own, other = sizes[f"{where}_in_{where}"], sizes[f"{'pose' if where == 'parsing' else 'parsing'}_in_{where}"]
        assert own > 0 < other
        assert whole**2 == pytest.approx(own**2 + other**2 + 2 * own * other * sizes[f"cosine_in_{where}"], rel=1e-3)


def test_a_short_training_is_measured_at_regular_updates(tiny_profile, source, monkeypatch):
    monkeypatch.setattr(gradients, "EVERY", 2)
    profile = replace(tiny_profile, recipe=replace(tiny_profile.recipe, batch=12))
    lines = gradients.measurements(profile, source, 3, 100.0)
    steps = len(source.train) // 12 * gradients.EPOCHS
    assert [line["update"] for line in lines] == list(range(0, steps, 2))
    assert lines[0]["pose_in_parsing"] == 0  # R* starts at zero, so at first no gradient crosses
