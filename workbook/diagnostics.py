"""Is MuLA's gain due to kernels made for *this* image? The same network tested with other kernels than its own.

Weights stay as they are and nothing is trained: only what the parameter adapters predict is exchanged. If the scores
hold with another image's kernels, or with one mean kernel for all, then the network does not adapt to the image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mula_lib.anatomy import Anatomy
from mula_lib.data.lip import LipRecord
from mula_lib.evaluation import Evaluation, evaluate
from mula_lib.files import write_text
from mula_lib.inference import Testing
from mula_lib.models.adaptation import ParameterAdapter
from mula_lib.models.network import Network, hooked
from workbook.runs import Run, results_folder

# Of each image, so that "the image before" is another image and not the same one at another scale.
ONE_VIEW = Testing(scales=(1.0,), mirror=False)
MOST = 500  # images
KERNELS = ("its own", "another image's", "mean", "zero")

Exchange = Callable[[nn.Module, Tensor], Tensor]  # adapter and its kernels (B, C, h, h) -> those used instead


def adapters_of(model: nn.Module) -> list[ParameterAdapter]:
    """The parameter adapters of a network, in the order in which it has them."""
    return [module for module in model.modules() if isinstance(module, ParameterAdapter)]


def exchanged_kernels(model: nn.Module, exchange: Exchange) -> AbstractContextManager[None]:
    """Within this context every adapter's kernels go through ``exchange``."""

    def hook(adapter: nn.Module, given: object, kernels: Tensor) -> Tensor:
        return exchange(adapter, kernels)

    return hooked((adapter, hook) for adapter in adapters_of(model))


@dataclass
class ImageBefore:
    """Each image gets the kernels of the one before it, the very first one those of the last of its batch."""

    last: dict[nn.Module, Tensor] = field(default_factory=dict)

    def __call__(self, adapter: nn.Module, kernels: Tensor) -> Tensor:
        before = self.last.get(adapter, kernels[-1:])
        self.last[adapter] = kernels[-1:]
        return torch.cat([before, kernels[:-1]])


@dataclass
class Mean:
    """Adds kernels up while it hands them on; once ``fixed``, hands out their mean."""

    sums: dict[nn.Module, Tensor] = field(default_factory=dict)
    images: Counter[nn.Module] = field(default_factory=Counter)
    fixed: bool = False

    def __call__(self, adapter: nn.Module, kernels: Tensor) -> Tensor:
        if self.fixed:
            return (self.sums[adapter] / self.images[adapter]).expand_as(kernels)
        self.sums[adapter] = self.sums.get(adapter, 0) + kernels.sum(dim=0)
        self.images[adapter] += len(kernels)
        return kernels


def zero(adapter: nn.Module, kernels: Tensor) -> Tensor:
    """No kernels at all: R* is what U's bias and the closing normalization make of nothing."""
    return torch.zeros_like(kernels)


def kernel_evaluations(run: Run) -> dict[str, Evaluation]:
    """Counts of a run with each of :data:`KERNELS`, on one view of the first :data:`MOST` validation images.

    The mean is over these images, whose annotations take no part in it.
    """
    model, mean, found = run.model(), Mean(), {}
    few = replace(run.source.val, records=run.source.val.records[:MOST])
    # The mean at first hands on each image's own kernels.
    for kernels, exchange in zip(KERNELS, (mean, ImageBefore(), mean, zero), strict=True):
        with exchanged_kernels(model, exchange):
            found[kernels] = evaluate(model, few, run.profile.crop, ONE_VIEW, run.source.anatomy)
        mean.fixed = True
    return found


def kernel_diagnostics(evaluations: dict[str, Evaluation], anatomy: Anatomy) -> pd.DataFrame:
    """A line for each of :data:`KERNELS`: pose metric, mIoU, and both differences to the line of its own kernels."""
    scores = [each.scores(anatomy) for each in evaluations.values()]
    table = pd.DataFrame(scores, index=pd.Index(evaluations, name="kernels"))[[anatomy.pose_metric, "mIoU"]]
    return table.join((table - table.loc[KERNELS[0]]).add_suffix(" Δ")).round(2)


def write_kernel_diagnostics(runs: Sequence[Run]) -> pd.DataFrame:
    """:func:`kernel_diagnostics` of several runs of one profile and data set, also as ``kernel_diagnostics.csv``.

    The counts with its own and another image's kernels are kept beside those of runs: a claim rests on them.
    """
    tables, folder = {}, results_folder(runs[0].profile, runs[0].source)
    for run in runs:
        evaluations = kernel_evaluations(run)
        for kernels in KERNELS[:2]:
            name = replace(run.experiment, name=f"{run.experiment.name} ({kernels} kernels)")
            evaluations[kernels].save(folder / "counts" / f"{name.slug}-seed-{run.seed}.npz")
        facts = {"seed": run.seed, "images": len(evaluations[kernels].names), "dataset": run.source.name}
        table = kernel_diagnostics(evaluations, run.source.anatomy)
        tables[run.experiment.name] = table.assign(**facts, profile=run.profile.name)
    whole = pd.concat(tables, names=["method"]).reset_index()
    write_text(folder / "kernel_diagnostics.csv", whole.to_csv(index=False))
    return whole


@torch.inference_mode()
def predicted_kernels(model: Network, images: Tensor, batch: int = 32) -> list[np.ndarray]:
    """What each adapter predicts for B images, computed ``batch`` at a time: an array (B, C, h, h) an adapter."""
    kernels: dict[nn.Module, list[Tensor]] = {}

    def keep(adapter: nn.Module, predicted: Tensor) -> Tensor:
        kernels.setdefault(adapter, []).append(predicted.cpu())
        return predicted

    where = next(model.parameters()).device
    with exchanged_kernels(model.eval(), keep):
        for some in images.split(batch):
            model(some.to(where))
    return [torch.cat(of_adapter).numpy() for of_adapter in kernels.values()]


def liveliest_channels(kernels: np.ndarray, count: int) -> list[int]:
    """The ``count`` channels of (B, C, h, h) kernels that differ most from image to image, the liveliest first."""
    return np.argsort(-kernels.var(axis=0).sum(axis=(1, 2)), kind="stable")[:count].tolist()


def from_low_to_raised_arms(records: Sequence[LipRecord], anatomy: Anatomy, count: int) -> list[LipRecord]:
    """``count`` of the fully annotated records, evenly spaced in the order of how high the wrists are.

    The height is that of the wrists above the shoulders as a share of the person's own height. Where fewer are fully
    annotated, all of these.
    """

    def raised(record: LipRecord) -> float:
        row = dict(zip(anatomy.joints, record.joints[:, 1], strict=True))
        above = sum(row[f"{side}_shoulder"] - row[f"{side}_wrist"] for side in ("left", "right"))
        return above / np.ptp(record.joints[:, 1])

    ordered = sorted((record for record in records if not np.isnan(record.joints).any()), key=raised)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]
