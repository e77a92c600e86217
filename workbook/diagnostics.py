"""Is MuLA's gain due to kernels made for *this* image? The same network tested with other kernels than its own.

Weights stay as they are and nothing is trained: only what the parameter adapters predict is exchanged. If the scores
hold with another image's kernels, or with one mean kernel for all, then the network does not adapt to the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mula_lib.evaluation import evaluate
from mula_lib.files import write_text
from mula_lib.inference import Testing
from mula_lib.models.adaptation import ParameterAdapter
from mula_lib.models.network import Network, hooked
from workbook.inspection import as_batch, module_outputs, testing_crop
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


class ImageBefore(dict[nn.Module, Tensor]):
    """Each image gets the kernels of the one before it, the very first one those of the last of its batch."""

    def __call__(self, adapter: nn.Module, kernels: Tensor) -> Tensor:
        before = self.get(adapter, kernels[-1:])
        self[adapter] = kernels[-1:]
        return torch.cat([before, kernels[:-1]])


def write_kernel_diagnostics(runs: Sequence[Run]) -> pd.DataFrame:
    """Test runs of one profile and data set with each of :data:`KERNELS`; also writes ``kernel_diagnostics.csv``.

    A line has pose metric and mIoU on one view of the first :data:`MOST` validation images, and both differences to
    the line of the run's own kernels. The mean is over these images, whose annotations take no part in it. The counts
    with its own and another image's kernels are kept beside those of runs: a claim rests on them.
    """
    tables, folder = {}, results_folder(runs[0].profile, runs[0].source)
    for run in runs:
        model, crop, scores, anatomy = run.model(), run.profile.crop, {}, run.source.anatomy
        few = replace(run.source.val, records=run.source.val.records[:MOST])
        crops = as_batch(*(testing_crop(record, crop, anatomy) for record in few.records))
        predicted = module_outputs(model, crops, adapters_of(model))
        means = {adapter: kernels.mean(dim=0, keepdim=True) for adapter, kernels in predicted.items()}
        exchanges = (
            lambda adapter, kernels: kernels,
            ImageBefore(),
            lambda adapter, kernels, means=means: means[adapter].expand_as(kernels),
            lambda adapter, kernels: torch.zeros_like(kernels),  # R* is what U's bias and the normalization make of it
        )
        for kernels, exchange in zip(KERNELS, exchanges, strict=True):
            with exchanged_kernels(model, exchange):
                found = evaluate(model, few, crop, ONE_VIEW, anatomy)
            scores[kernels] = found.scores(anatomy)
            if kernels in KERNELS[:2]:
                name = replace(run.experiment, name=f"{run.experiment.name} ({kernels} kernels)")
                found.save(folder / "counts" / f"{name.slug}-seed-{run.seed}.npz")
        table = pd.DataFrame(scores.values(), pd.Index(KERNELS, name="kernels"))[[anatomy.pose_metric, "mIoU"]]
        table = table.join((table - table.loc[KERNELS[0]]).add_suffix(" Δ")).round(2)
        facts = {"seed": run.seed, "images": len(few), "dataset": run.source.name, "profile": run.profile.name}
        tables[run.experiment.name] = table.assign(**facts)
    whole = pd.concat(tables, names=["method"]).reset_index()
    write_text(folder / "kernel_diagnostics.csv", whole.to_csv(index=False))
    return whole


def predicted_kernels(model: Network, images: Tensor) -> list[np.ndarray]:
    """What each adapter predicts for B images: an array (B, C, h, h) an adapter."""
    return [kernels.cpu().numpy() for kernels in module_outputs(model, images, adapters_of(model)).values()]
