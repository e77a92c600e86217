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

from mula_lib import distributed as processes
from mula_lib.anatomy import IGNORE
from mula_lib.checkpoint import fill, load_checkpoint, reason, save_checkpoint
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import CheckpointError, ConfigError, write_text
from mula_lib.losses import Truth
from mula_lib.machine import keep_freed_memory
from mula_lib.models.network import Network

PAPER_EPOCHS = 250
PAPER_DROPS = (150, 170, 200, 230)  # Sec. 4.1: the epochs at which the learning rate halves


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything that changes its weights besides data, seed and architecture."""

    epochs: int
    batch: int
    learning_rate: float = 0.0025  # RMSProp, Sec. 4.1
    optimizer: str = "rmsprop"  # or "adamw"
    schedule: str = "drops"  # or "cosine": one half wave from the rate to zero
    drop_at: tuple[float, ...] = tuple(epoch / PAPER_EPOCHS for epoch in PAPER_DROPS)  # as shares of the epochs
    drop_factor: float = 0.5
    # shares of the first rate after each drop, where they are not powers of ``drop_factor``
    drop_to: tuple[float, ...] = ()
    pose_weight: float = 100.0  # β; not in the paper, and 100 in the released code (MSE + 0.01 CE)
    clip_norm: float = 1.0  # of the whole gradient; 0: not clipped
    warmup: float = 0.0  # share of the steps over which the learning rate rises from zero
    bf16: bool = False  # autocast; gains only where the machine has bf16 arithmetic

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of the ``step``-th update (from 0)."""
        total = self.epochs * steps_per_epoch
        warm = min(1.0, (step + 1) / (self.warmup * total)) if self.warmup else 1.0
        if self.schedule == "cosine":
            done = max(0.0, (step - self.warmup * total) / ((1 - self.warmup) * total))
            return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))
        drops = sum(step >= round(share * total) for share in self.drop_at)
        share = (1.0, *self.drop_to)[drops] if self.drop_to else self.drop_factor**drops
        return self.learning_rate * warm * share


Watch = Callable[[Network], dict[str, float]]
EXPLODED = 100.0  # times the lowest mean loss of an epoch so far: no training comes back from there


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
    trouble: str | None = None  # why the training ended early, if it did


def fit(
    model: Network,
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

    An epoch whose mean loss is no number, or :data:`EXPLODED` times the lowest one, or that leaves weights that are no
    numbers, ends the training: the network is left as it was before that epoch, and the result says so.

    Args:
        fingerprint: of everything that decides the result; a checkpoint with another one is refused.
        watch: called after each epoch with the model, for figures in the log; never used to choose anything.
        workers: processes that prepare samples; the samples do not depend on it.

    Raises:
        CheckpointError: ``folder/last.ckpt`` is damaged, or belongs to another configuration.
    """
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, recipe)
    keep_freed_memory()
    checkpoint = folder / "last.ckpt"
    log: list[dict] = []
    seconds = 0.0
    if checkpoint.exists():
        log, seconds = _restore(checkpoint, fingerprint, model, optimizer)
    start = {} if log else {name: value.clone() for name, value in model.state_dict().items()}
    trouble = None
    steps = len(EpochBatches(len(samples), recipe.batch, seed, 0))
    model.to(memory_format=torch.channels_last).train()
    objective, first = processes.parallel(Objective(model, recipe)), processes.rank() == 0
    with (
        _one_thread(device),
        torch.random.fork_rng(),  # dropout's draws touch no generator outside
        _bar(total=recipe.epochs * steps, initial=len(log) * steps, desc=title, unit="step", disable=not first) as bar,
    ):
        for epoch in range(len(log), recipe.epochs):
            started = time.perf_counter()
            torch.manual_seed(_epoch_seed(seed, epoch))
            batches = EpochBatches(len(samples), recipe.batch, seed, epoch)
            loader = DataLoader(samples, batch_sampler=batches, num_workers=workers, pin_memory=device.type == "cuda")
            losses = []
            for index, batch in enumerate(loader):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate_at(epoch * steps + index, steps) * group["rate"]
                losses.append(update(objective, optimizer, batch, recipe))
                bar.update()
            seconds += time.perf_counter() - started
            loss = float(processes.total(torch.stack(losses).mean())) / processes.count()
            wrong = _what_diverged(loss, log, model)
            if wrong:
                trouble = f"diverged in epoch {epoch + 1} of {recipe.epochs} ({wrong}); tested as before it"
                model.load_state_dict(load_checkpoint(checkpoint)["model"] if log else start)
                break
            start = {}
            line = {"epoch": epoch + 1, "loss": round(loss, 6), "seconds": round(seconds, 1)}
            for name, value in (watch(model) if watch and first else {}).items():
                line[name] = round(value, 3) if math.isfinite(value) else None  # JSON has no nan
            log.append(line)
            bar.set_postfix({key: value for key, value in line.items() if key != "seconds"})
            if first:
                _save(folder, fingerprint, model, optimizer, log, seconds)
            processes.wait()
    return TrainingResult(seconds, log, trouble)


def _what_diverged(loss: float, log: list[dict], model: Network) -> str | None:
    """In words, or None; the same in all processes that train together.

    The weights are looked at too: an epoch's last update is felt by no loss of that epoch.
    """
    if not math.isfinite(loss) or (log and loss > EXPLODED * min(line["loss"] for line in log)):
        return f"loss {loss:.3g}"
    lost = sum((~torch.isfinite(value)).sum() for value in model.state_dict().values())
    return "weights that are no numbers" if processes.total(lost) else None


def make_optimizer(model: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """RMSProp (Sec. 4.1) or AdamW, with the groups of parameters that the network has."""
    if recipe.optimizer == "adamw":
        groups = model.parameter_groups()
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=0.0, foreach=True)
    return torch.optim.RMSprop(model.parameter_groups(), lr=recipe.learning_rate, foreach=True)


def _epoch_seed(seed: int, epoch: int) -> int:
    """Of what is drawn inside a network: of this epoch and process, so that a resumed run draws what it would have."""
    return int(np.random.default_rng((seed, epoch, processes.rank())).integers(2**63))


def _save(
    folder: Path, fingerprint: str, model: Network, optimizer: torch.optim.Optimizer, log: list[dict], seconds: float
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


class Objective(torch.nn.Module):
    """What is minimised: a network and its loss in one, so that processes which train together share all of it."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of a batch on the network's device, a scalar."""
        images = batch["image"]
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.recipe.bf16):
            outputs = self.network(images.contiguous(memory_format=torch.channels_last))
        truth = Truth(batch, self.recipe.pose_weight, _share_of_pixels(batch["mask"]))
        return self.network.loss(outputs, truth)


def update(
    objective: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: dict, recipe: Recipe
) -> torch.Tensor:
    """One step of an :class:`Objective` or of its parallel form; returns the loss, detached."""
    device = next(objective.parameters()).device
    loss = objective({key: value.to(device, non_blocking=True) for key, value in batch.items()})
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip_norm:
        torch.nn.utils.clip_grad_norm_(objective.parameters(), recipe.clip_norm, foreach=True)
    optimizer.step()
    return loss.detach()


def _share_of_pixels(mask: torch.Tensor) -> float | torch.Tensor:
    """This process's pixels that count over the mean of all processes': its weight in the mean over all pixels."""
    if processes.count() == 1:
        return 1.0
    counted = (mask != IGNORE).sum()
    return counted * processes.count() / processes.total(counted)


def _restore(
    path: Path, fingerprint: str, model: Network, optimizer: torch.optim.Optimizer
) -> tuple[list[dict], float]:
    """Put network and optimiser into the state that a checkpoint holds; returns its log and its seconds."""
    state = load_checkpoint(path)
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path}: belongs to a run of another configuration or data set; move the folder away to start this one"
        )
    misfit = f"{path}: not a checkpoint of this run, delete it and run again: the run starts over; "
    try:
        fill(model, state["model"], misfit)
        optimizer.load_state_dict(state["optimizer"])
        log, seconds = list(state["log"]), float(state["seconds"])
        if not all(math.isfinite(line["loss"]) for line in log):
            raise ValueError("a loss that is no number")
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{misfit}{type(error).__name__}: {reason(error)}") from error
    return log, seconds


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
