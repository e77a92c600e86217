"""MuLA with other kernels than its own: what is exchanged, and what stays; and the losses' gradients."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import workbook.runs as runs_module
from mula_lib.anatomy import LIP
from mula_lib.evaluation import evaluate, load_evaluation
from mula_lib.files import write_text
from mula_lib.models.losses import Targets
from mula_lib.models.network import build_model
from tools import gradients
from workbook import inspection
from workbook.experiments import SMOKE, find_experiment
from workbook.inspection import (
    ONE_VIEW,
    ImageBefore,
    adapters_of,
    exchanged_kernels,
    predicted_kernels,
    write_kernel_diagnostics,
)


def adapting_network(name="VGG16-FCN-MuLA"):
    """MuLA as if it was trained: adapters that predict, and a closing normalisation that lets R* through."""
    model = build_model(find_experiment(name).model_config(SMOKE, LIP), 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in adapters_of(model):
            adapter.conv3.weight.normal_(generator=generator)
        for module_name, module in model.named_modules():
            if module_name.endswith("close.0"):
                module.weight.fill_(1.0)
    return model


def zero(adapter, kernels):
    return torch.zeros_like(kernels)


def images(count=4):
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["VGG16-FCN-MuLA", "HG-2s-1u-MuLA"])
def test_another_images_kernels_are_those_of_the_image_before(name):
    model = adapting_network(name)
    own, used = [], []
    exchange = ImageBefore()

    def spy(adapter, kernels):
        own.append(kernels)
        used.append(exchange(adapter, kernels))
        return used[-1]

    with exchanged_kernels(model, spy), torch.inference_mode():
        model(images(3))
        first, count = used[:], len(own)
        model(images(4))
    assert count == len(adapters_of(model)) == 2 * len(model.config.interactions)
    torch.testing.assert_close(first[0], own[0].roll(1, dims=0))  # of the first batch the last one comes before
    torch.testing.assert_close(used[count][1:], own[count][:-1])
    torch.testing.assert_close(used[count][:1], own[0][-1:])  # and then the last one of the batch before


def test_exchanged_kernels_change_predictions_and_only_within_the_context():
    model = adapting_network()
    with torch.inference_mode():
        own = model(images())[-1].pose
        for exchange in (ImageBefore(), zero):
            with exchanged_kernels(model, exchange):
                other = model(images())[-1].pose
                assert not torch.allclose(other, own)
        torch.testing.assert_close(model(images())[-1].pose, own)
        for parameter in model.parsing.parameters():
            parameter += 0.1
        with exchanged_kernels(model, zero):  # nothing of the other task reaches the pose
            torch.testing.assert_close(model(images())[-1].pose, other)


def test_the_table_has_a_line_for_each_kind_of_kernels(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(inspection, "MOST", 8)
    run = make_run("VGG16-FCN-MuLA").do()
    folder = tmp_path / "results" / "tiny"
    others = {"method": ["VGG16-FCN-MuLA", "HG-1s-1u-MuLA"], "seed": [0, 0], "kernels": ["mean", "mean"]}
    write_text(folder / "kernel_diagnostics.csv", pd.DataFrame(others).to_csv(index=False))
    table = write_kernel_diagnostics([run]).set_index("kernels")
    assert list(table.index) == ["its own", "another image's", "mean", "zero"]
    few = replace(run.source.val, records=run.source.val.records[:8])
    expected = evaluate(run.model(), few, 64, ONE_VIEW, LIP).scores(LIP)
    assert table.loc["its own", "mIoU"] == pytest.approx(expected["mIoU"], abs=0.01)
    model = run.model()
    crops = inspection.as_batch(*(inspection.testing_crop(record, 64, LIP) for record in few.records))
    means = [kernels.mean(axis=0) for kernels in predicted_kernels(model, crops)]
    means = dict(zip(adapters_of(model), means, strict=True))
    with exchanged_kernels(model, lambda adapter, kernels: torch.from_numpy(means[adapter]).expand_as(kernels)):
        expected = evaluate(model, few, 64, ONE_VIEW, LIP).scores(LIP)
    assert table.loc["mean", "mIoU"] == pytest.approx(expected["mIoU"], abs=0.01)
    assert (table.loc["its own", ["PCK Δ", "mIoU Δ"]] == 0).all()
    np.testing.assert_allclose(table["mIoU Δ"], table["mIoU"] - table.loc["its own", "mIoU"], atol=0.011)
    read = pd.read_csv(folder / "kernel_diagnostics.csv")
    assert list(read["method"]) == ["HG-1s-1u-MuLA", *["VGG16-FCN-MuLA"] * 4], "what another run wrote is kept"
    assert (read["images"][1:] == 8).all()
    kept = load_evaluation(folder / "counts" / "vgg16-fcn-mula-another-image-s-kernels-seed-0.npz", LIP)
    assert kept.scores(LIP)["mIoU"] == pytest.approx(table.loc["another image's", "mIoU"], abs=0.01)


def test_both_gradients_add_up_to_what_moves_an_encoder(tiny_profile, source, batch):
    model = build_model(find_experiment("HG-1s-1u-MuLA").model_config(tiny_profile, source.anatomy), 0).train()
    with torch.no_grad():  # as if it was trained: R* is not zero, and so gradients cross
        for name, weights in model.named_parameters():
            if "interaction" in name:
                weights.add_(0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(len(name))))
    outputs = model(batch["image"])
    alone = {"parsing": Targets(batch, 0.0), "pose": Targets(batch, 100.0, 0.0)}
    sizes = gradients.gradient_sizes(model, {task: model.loss(outputs, targets) for task, targets in alone.items()})
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
