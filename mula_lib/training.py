"""One training loop for every network: deterministic, resumable after any interruption, one JSON line an epoch."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm

from mula_lib import processes
from mula_lib.anatomy import IGNORE
from mula_lib.checkpoint import load_checkpoint, save_checkpoint
from mula_lib.data.crowd_targets import CrowdTargets, crowd_targets
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import gaussian_heatmaps, heatmap_sigma
from mula_lib.errors import CheckpointError, ConfigError
from mula_lib.files import write_text
from mula_lib.losses import joint_loss
from mula_lib.machine import keep_freed_memory
from mula_lib.models.joint import JointModel
from mula_lib.profiles import Recipe

Watch = Callable[[JointModel], dict[str, float]]


_bar_line: int | None = None


def show_bars_on_line(line: int) -> None:
    """Show this process's progress bars on the given line of the terminal, below those of other processes."""
    global _bar_line
    _bar_line = line


def _bar(**options: object) -> tqdm:
    # A log file is not a terminal: there a bar is a line each time, so it is written twice a minute only.
    interval = 0.5 if sys.stderr.isatty() else 30
    return tqdm(position=_bar_line, mininterval=interval, maxinterval=2 * interval, **options)


class EpochBatches(Sampler):
    """Batches of (epoch, index) keys in an order that depends on (seed, epoch) only; a short last batch is dropped.

    Where several processes train, each gets its part of every batch. Raises :class:`ConfigError` if the batch cannot
    be shared out evenly.
    """

    def __init__(self, samples: int, batch: int, seed: int, epoch: int) -> None:
        self.batch = min(batch, samples)
        if self.batch % processes.count():
            raise ConfigError(f"a batch of {self.batch} cannot be shared by {processes.count()} processes evenly")
        order = np.random.default_rng((seed, epoch)).permutation(samples)
        self.keys = [(epoch, int(index)) for index in order]

    def __len__(self) -> int:
        return len(self.keys) // self.batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        mine = self.batch // processes.count()
        for start in range(mine * processes.rank(), len(self) * self.batch, self.batch):
            yield self.keys[start : start + mine]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training leaves behind, beside the trained model."""

    seconds: float  # of training itself, over all sittings
    log: list[dict]  # a line an epoch


def fit(
    model: JointModel,
    samples: TrainingSamples,
    recipe: Recipe,
    folder: Path,
    *,
    fingerprint: str,
    seed: int,
    title: str = "training",
    watch: Watch | None = None,
    workers: int = 0,
) -> TrainingResult:
    """Train ``model`` in place by Eq. 4, or go on where an earlier call in ``folder`` was stopped.

    After every epoch ``last.ckpt`` and ``log.jsonl`` are replaced atomically, so that a run killed at any moment
    resumes at the last whole epoch and ends with the very weights of an undisturbed one. On a CPU the arithmetic is
    done by one thread, because sums in another order would end in other weights; train two rows at once instead.
    Under ``torchrun`` all processes train this one network, and the first one writes.

    Args:
        fingerprint: of everything that decides the result; a checkpoint with another one is refused.
        watch: called after each epoch with the model, for figures in the log; never used to choose anything.
        workers: processes that prepare samples; the samples do not depend on it.

    Raises:
        CheckpointError: ``folder/last.ckpt`` is damaged, or belongs to another configuration.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.RMSprop(model.parameters(), lr=recipe.learning_rate, foreach=True)
    keep_freed_memory()
    checkpoint = folder / "last.ckpt"
    log: list[dict] = []
    seconds = 0.0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        _require_same(state, fingerprint, checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        log, seconds = state["log"], state["seconds"]
    sigma = heatmap_sigma(samples.crop, model.config.stride)
    steps = len(EpochBatches(len(samples), recipe.batch, seed, 0))
    model.to(memory_format=torch.channels_last).train()
    network, first = processes.parallel(model), processes.rank() == 0
    with (
        _one_thread(device),
        _bar(total=recipe.epochs * steps, initial=len(log) * steps, desc=title, unit="step", disable=not first) as bar,
    ):
        for epoch in range(len(log), recipe.epochs):
            started = time.perf_counter()
            batches = EpochBatches(len(samples), recipe.batch, seed, epoch)
            loader = DataLoader(samples, batch_sampler=batches, num_workers=workers, pin_memory=device.type == "cuda")
            losses = []
            for index, batch in enumerate(loader):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate_at(epoch * steps + index, steps)
                losses.append(_update(network, optimizer, batch, recipe, sigma))
                bar.update()
            seconds += time.perf_counter() - started
            loss = float(processes.total(torch.stack(losses).mean())) / processes.count()
            line = {"epoch": epoch + 1, "loss": round(loss, 6), "seconds": round(seconds, 1)}
            for name, value in (watch(model) if watch and first else {}).items():
                line[name] = round(value, 3) if math.isfinite(value) else None  # JSON has no nan
            log.append(line)
            bar.set_postfix({key: value for key, value in line.items() if key != "seconds"})
            if first:
                _save(folder, fingerprint, model, optimizer, log, seconds)
            processes.wait()
    return TrainingResult(seconds, log)


def _save(
    folder: Path, fingerprint: str, model: JointModel, optimizer: torch.optim.Optimizer, log: list[dict], seconds: float
) -> None:
    state = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "log": log,
        "seconds": seconds,
    }
    save_checkpoint(folder / "last.ckpt", state)
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))


def _update(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: dict, recipe: Recipe, sigma: float
) -> torch.Tensor:
    """One step of a :class:`JointModel` or of its parallel form; returns the detached loss."""
    model = getattr(network, "module", network)
    device = next(model.parameters()).device
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    images, mask = batch["image"], batch["mask"]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.bf16):
        outputs = network(images.contiguous(memory_format=torch.channels_last))
    targets = _pose_targets(batch, tuple(outputs[0].pose.shape[-2:]), model.config.stride, sigma)
    loss = joint_loss(outputs, mask, targets, recipe.pose_weight, _share_of_pixels(mask))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm, foreach=True)
    optimizer.step()
    return loss.detach()


def _pose_targets(
    batch: dict[str, torch.Tensor], grid: tuple[int, int], stride: int, sigma: float
) -> torch.Tensor | CrowdTargets:
    """What the pose branch is trained towards, on a ``grid`` of cells: of one person, or of several."""
    joints, present, where = batch["joints"], batch["present"], {"grid": grid, "stride": stride, "sigma": sigma}
    if "centres" not in batch:
        return gaussian_heatmaps(joints, present, **where)
    return crowd_targets(joints, present, batch["centres"], **where, crop=batch["image"].shape[-1])


def _share_of_pixels(mask: torch.Tensor) -> float | torch.Tensor:
    """This process's pixels that count over the mean of all processes': its weight in the mean over all pixels."""
    if processes.count() == 1:
        return 1.0
    counted = (mask != IGNORE).sum()
    return counted * processes.count() / processes.total(counted)


def _require_same(state: dict, fingerprint: str, path: Path) -> None:
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path}: belongs to a run of another configuration or data set; move the folder away to start this one"
        )


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
