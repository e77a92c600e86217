"""What a set of runs will take, before any of it is begun: time by a short timing on the spot, memory, disk.

Shards share the runs out among jobs that know nothing of each other, as a cluster's scheduler starts them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from mula_lib import distributed as processes
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import ConfigError, MulaError
from mula_lib.models.network import build_model
from mula_lib.training import Objective, make_optimizer, update
from workbook.costs import BYTES, NetworkCost, network_cost
from workbook.runs import Run

GIB = 2**30
ON_DISK = 5  # floats a parameter: weights, a checkpoint with RMSProp's state, and the next one beside it
EVALUATION = 16 * 2**20  # bytes of a run's per-image counts, of 10,000 images
ROOM = 0.9  # share of the memory that a network may plan with


@dataclass(frozen=True)
class Planned:
    """One run's needs."""

    run: Run
    cost: NetworkCost
    epochs_left: int

    @property
    def training_tflops(self) -> float:
        """10¹² operations that are left to do."""
        return self.cost.training_gflops * len(self.run.source.train) * self.epochs_left / 1e3

    @property
    def disk_bytes(self) -> int:
        """What the run will write."""
        return ON_DISK * BYTES * self.cost.parameters + EVALUATION if self.epochs_left else 0


cost_of = lru_cache(maxsize=None)(network_cost)


def planned(run: Run) -> Planned:
    """Count what ``run`` still needs."""
    done = run.folder / "log.jsonl"
    epochs = 0
    if run.result() is not None or (run.folder / "weights.safetensors").is_file():
        epochs = run.recipe.epochs
    elif done.is_file():
        epochs = len(done.read_text(encoding="utf-8").splitlines())
    return Planned(run, cost_of(run.model_config, run.profile.crop), max(0, run.recipe.epochs - epochs))


def shard(runs: Sequence[Run], number: int, of: int) -> list[Run]:
    """The ``number``-th of ``of`` parts of ``runs`` (counted from 1), of about the same arithmetic each.

    The parts depend on the runs alone, not on what is done already, so every job of an array finds the same ones.
    Raises :class:`ConfigError` for a number that is none of the parts.
    """
    if not 1 <= number <= of:
        raise ConfigError(f"--shard {number}/{of}: the first number counts from 1 to the second")

    def arithmetic(run: Run) -> float:
        return cost_of(run.model_config, run.profile.crop).gflops * len(run.source.train) * run.recipe.epochs

    parts: list[list[Run]] = [[] for _ in range(of)]
    loads = [0.0] * of
    for run in sorted(runs, key=arithmetic, reverse=True):
        least = loads.index(min(loads))
        parts[least].append(run)
        loads[least] += arithmetic(run)
    return parts[number - 1]


def device_memory() -> int:
    """Bytes of the GPU that this process uses, or of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def device_name() -> str:
    """What the time is measured on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU, one thread"


def measured_speed(run: Run, cost: NetworkCost) -> float:
    """10⁹ operations a second of real training steps of ``run``, on this process's device; takes seconds."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    batch = min(_share(run) if cuda else 2, len(run.source.train))
    samples = TrainingSamples(run.source.train, run.profile.crop, run.profile.augmentation, run.source.anatomy, 0)
    together = torch.utils.data.default_collate([samples[0, index] for index in range(batch)])
    model = build_model(run.model_config, 0).to(device, memory_format=torch.channels_last).train()
    objective, optimizer = Objective(model, run.recipe), make_optimizer(model, run.recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for steps in (1, 5 if cuda else 1):  # the first step of a network compiles and allocates
            started = time.perf_counter()
            for _ in range(steps):
                float(update(objective, optimizer, together, run.recipe)[0])  # waits for the device
            seconds = (time.perf_counter() - started) / steps
    finally:
        torch.set_num_threads(threads)
    return cost.training_gflops * batch / seconds


def fitting(runs: Sequence[Run], *, save_memory: bool = False) -> tuple[list[Run], dict[str, str]]:
    """The runs whose training step fits the device's memory by count; and of the others, by name, what is missing."""
    room = ROOM * device_memory()
    fit, too_large = [], {}
    for run in runs:
        each = planned(run)
        needed = each.cost.training_bytes(_share(run), save_memory=save_memory)
        if each.epochs_left == 0 or needed <= room:
            fit.append(run)
        else:
            too_large[run.experiment.name] = (
                f"needs {needed / GIB:.1f} GiB of {room / GIB:.1f}; "
                + ("train it on more GPUs (torchrun)" if save_memory else "try --save-memory, or more GPUs (torchrun)")
            )
    return fit, too_large


def _share(run: Run) -> int:
    """Images of a batch that this process trains on."""
    return -(-run.recipe.batch // processes.count())


def plan_table(runs: Sequence[Run], *, save_memory: bool = False) -> pd.DataFrame:
    """A line a run: its size, memory, disk, what is left to do, and hours by a timing of one network of each trunk.

    Of each trunk the largest network is timed; the others' time is in proportion to their arithmetic.
    """
    everything = [planned(run) for run in runs]
    speed = {}
    for each in sorted(everything, key=lambda each: (each.run.experiment.system is None, each.cost.gflops)):
        if each.epochs_left:
            speed[each.run.experiment.backbone] = each
    speed = {backbone: measured_speed(each.run, each.cost) for backbone, each in speed.items()}
    lines = [
        {
            "row": each.run.experiment.name,
            "seed": each.run.seed,
            "data": each.run.source.name,
            "Mparams": round(each.cost.parameters / 1e6, 1),
            "GFLOPs": round(each.cost.gflops, 1),
            "GiB": round(each.cost.training_bytes(_share(each.run), save_memory=save_memory) / GIB, 1),
            "epochs left": each.epochs_left,
            "hours": round(_hours(each, speed), 2),
            "disk MiB": round(each.disk_bytes / 2**20),
        }
        for each in everything
    ]
    return pd.DataFrame(lines)


def _hours(each: Planned, speed: dict[str, float]) -> float:
    if not each.epochs_left:
        return 0.0
    return each.training_tflops * 1e3 / speed[each.run.experiment.backbone] / 3600 / processes.count()


def describe(table: pd.DataFrame, folder: Path) -> str:
    """The plan as text, its sums below; raises :class:`MulaError` if the disk of ``folder`` is too small."""
    needed, free = table["disk MiB"].sum() * 2**20, shutil.disk_usage(folder).free
    hours = table["hours"].sum()
    text = (
        f"{table.to_string(index=False)}\n"
        f"{(table['epochs left'] > 0).sum()} of {len(table)} runs to train: about {hours:,.1f} hours of "
        f"{processes.count()} × {device_name()}; {needed / GIB:.1f} GiB on disk, {free / GIB:.1f} GiB free"
    )
    if needed > free:
        raise MulaError(f"{folder}: {needed / GIB:.1f} GiB are needed and {free / GIB:.1f} GiB are free; make room")
    return text
