"""The size of each loss's gradient in each encoder of MuLA, over a short training.

``python -m tools.gradients`` trains HG-1s-1u-MuLA for a few epochs on nine tenths of the training split, once for
each kernel size of ⊗c and each β, and writes ``results/<profile>/gradients.csv``.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from mula_lib.data.samples import TrainingSamples
from mula_lib.files import exit_status, write_text
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets
from mula_lib.models.network import StageOutput, build_model
from mula_lib.training import Job, fit
from tools.rate_search import held_out
from workbook.datasets import Source, open_source
from workbook.experiments import Profile, find_experiment, find_profile
from workbook.runs import RESULTS, device

NETWORK = "HG-1s-1u-MuLA"
COMPARED = ((3, 100.0), (7, 100.0), (7, 500.0), (7, 2000.0))  # kernel size of ⊗c and β
EPOCHS, EVERY = 4, 30  # of training; updates from one measurement to the next


def gradient_sizes(model: JointModel, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Both tasks' losses of a batch, and the norm of each one's gradient in each task's encoder, and their cosine.

    ``pose_in_parsing``: β times the pose loss, in the encoder E^S and its stem, through the kernels they predict.
    """
    line = {f"loss_{task}": loss.item() for task, loss in losses.items()}
    for where, branch in {"parsing": model.parsing, "pose": model.pose}.items():
        weights = [*branch.stem.parameters(), *branch.encoder.parameters()]
        found = []
        for task, loss in losses.items():
            gradients = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
            found.append(torch.cat([each.flatten() for each in gradients]))
            line[f"{task}_in_{where}"] = found[-1].norm().item()
        line[f"cosine_in_{where}"] = torch.cosine_similarity(*found, dim=0).item()
    return line


def measurements(profile: Profile, source: Source, kernel_size: int, pose_weight: float) -> list[dict[str, float]]:
    """:func:`gradient_sizes` every :data:`EVERY` updates of one training."""
    recipe = replace(profile.recipe, epochs=EPOCHS, pose_weight=pose_weight)
    config = find_experiment(NETWORK).model_config(replace(profile, kernel_size=kernel_size), source.anatomy)
    model = build_model(config, 0).to(device())
    plain, updates, lines = model.loss, count(), []

    def measured(outputs: list[StageOutput], truth: Targets) -> Tensor:
        if (update := next(updates)) % EVERY == 0:
            alone = {"parsing": copy(truth), "pose": copy(truth)}
            alone["parsing"].pose_weight = alone["pose"].parsing_weight = 0.0
            exact = model(truth.images)  # in float32, whatever the training computes in
            sizes = gradient_sizes(model, {task: plain(exact, each) for task, each in alone.items()})
            lines.append({"kernel_size": kernel_size, "beta": pose_weight, "update": update, **sizes})
        return plain(outputs, truth)

    model.loss = measured
    samples = TrainingSamples(source.train, profile.crop, profile.augmentation, source.anatomy, 0)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, samples, recipe, Job(Path(folder), "", f"{kernel_size}×{kernel_size}, β {pose_weight:g}"))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.gradients", description=__doc__)
    parser.add_argument("profile", nargs="?", default="demo", help="default: demo")
    return exit_status(lambda: _measure(parser.parse_args(arguments)), kept="nothing was written")


def _measure(options: argparse.Namespace) -> None:
    profile = find_profile(options.profile)
    apart = held_out(open_source(profile.dataset))
    lines = [line for compared in COMPARED for line in measurements(profile, apart, *compared)]
    write_text(RESULTS / profile.name / "gradients.csv", pd.DataFrame(lines).round(5).to_csv(index=False))


if __name__ == "__main__":
    sys.exit(main())
