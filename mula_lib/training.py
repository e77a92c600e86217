"""One training loop for every network: deterministic, resumable after any interruption, one JSON line an epoch."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm

from mula_lib import distributed as processes
from mula_lib.anatomy import IGNORE
from mula_lib.checkpoint import load_checkpoint, save_checkpoint
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import SIGMA_FLOOR
from mula_lib.files import CheckpointError, ConfigError, write_text
from mula_lib.kernels import has_bf16, training_on
from mula_lib.models.losses import Targets
from mula_lib.models.network import Network

PAPER_EPOCHS = 250
PAPER_DROPS = (150, 170, 200, 230)  # Sec. 4.1: the epochs at which the learning rate halves
EXPLODED = 100.0  # times the lowest mean loss of an epoch so far: no training recovers from that
bar_line: int | None = None  # terminal line of this process's progress bars, below those of others


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
    drop_to: tuple[float, ...] = ()  # shares of the first rate after each drop, if not powers of ``drop_factor``
    pose_weight: float = 100.0  # β; not in the paper, and 100 in the released code (MSE + 0.01 CE)
    clip_norm: float = 1.0  # of the whole gradient; 0: not clipped
    warmup: float = 0.0  # share of the steps over which the learning rate rises from zero
    sigma_floor: float = SIGMA_FLOOR  # cells, of the joints' targets at small crops
    bf16: bool = False  # autocast where the processor has bf16 arithmetic, float32 elsewhere

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


@dataclass(frozen=True)
class Job:
    """Where a training keeps its state, and settings that change its result by rounding at most."""

    folder: Path  # holds last.ckpt and log.jsonl
    fingerprint: str  # of everything that decides the result; a checkpoint with another one is refused
    title: str = "training"  # of the progress bar
    workers: int = 0  # processes that prepare samples
    watch: Callable[[Network], dict[str, float]] | None = None  # scores for the log; never used to choose anything
    compiled: bool = False  # by torch.compile, which takes minutes at first


@dataclass
class History:
    """A training so far."""

    log: list[dict] = field(default_factory=list)  # a line per epoch
    seconds: float = 0.0  # of training itself, summed over all resumptions
    trouble: str | None = None  # why it ended early, if it did
    precision: str = "float32"  # or "TF32" on a GPU, or "bfloat16", under autocast

    def add(self, line: dict[str, float]) -> None:
        """Append an epoch, rounded and without nan, which JSON does not have."""
        self.log.append({name: round(each, 6) if math.isfinite(each) else None for name, each in line.items()})


class EpochBatches(Sampler):
    """Batches of (epoch, index) keys in an order that depends on (seed, epoch) only; a short last batch is dropped.

    With several processes, each gets an equal share of every batch; :class:`ConfigError` if that is impossible.
    """

    def __init__(self, samples: int, batch: int, seed: int, epoch: int = 0) -> None:
        self.samples, self.batch, self.seed, self.epoch = samples, min(batch, samples), seed, epoch
        if self.batch % processes.count():
            raise ConfigError(f"a batch of {self.batch} cannot be divided evenly among {processes.count()} processes")

    def __len__(self) -> int:
        return self.samples // self.batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.samples)
        mine = self.batch // processes.count()
        for start in range(mine * processes.rank(), len(self) * self.batch, self.batch):
            yield [(self.epoch, int(index)) for index in order[start : start + mine]]


class Objective(torch.nn.Module):
    """What is minimized: a network and its loss in one module, so that DDP sees all of it."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        device = next(network.parameters()).device
        self.bf16 = recipe.bf16 and has_bf16(device)
        self.precision = "bfloat16" if self.bf16 else {"cuda": "TF32"}.get(device.type, "float32")

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch on the network's device, a scalar."""
        images, annotated, share = batch["image"], (batch["mask"] != IGNORE).sum(), 1.0
        if processes.count() > 1:  # so that the mean covers the pixels of all processes
            share = annotated * processes.count() / processes.total(annotated).clamp(min=1)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs = self.network(images.contiguous(memory_format=torch.channels_last))
        return self.network.loss(outputs, Targets(batch, self.recipe.pose_weight, share, self.recipe.sigma_floor))


def make_optimizer(model: Network, recipe: Recipe) -> Optimizer:
    """RMSProp (Sec. 4.1) or AdamW, with the groups of parameters that the network has."""
    groups, rate = model.parameter_groups(), recipe.learning_rate
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=0.0, foreach=True)
    return torch.optim.RMSprop(groups, lr=rate, foreach=True)


def update(
    objective: torch.nn.Module, optimizer: Optimizer, batch: dict[str, Tensor], recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """One step of an :class:`Objective` or its DDP form: (loss, norm of the gradient), scalars on its device."""
    device = next(objective.parameters()).device
    loss = objective({name: value.to(device, non_blocking=True) for name, value in batch.items()})
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(objective.parameters(), recipe.clip_norm or math.inf, foreach=True)
    optimizer.step()
    return loss.detach(), norm


def fit(model: Network, samples: TrainingSamples, recipe: Recipe, job: Job) -> History:
    """Train ``model`` in place by Eq. 4, or resume what an earlier call in ``job.folder`` began.

    After every epoch ``last.ckpt`` and ``log.jsonl`` are replaced atomically, so that a run killed at any moment
    resumes at the last whole epoch; on a CPU it ends with the weights of an undisturbed run. Under ``torchrun``
    all processes train this one network, and the first one writes. An epoch whose mean loss is not finite or
    :data:`EXPLODED` times the lowest one, or that leaves weights that are not finite, ends the training: the network
    is left as it was before that epoch, and the history says so. Raises :class:`CheckpointError` if ``last.ckpt`` is
    damaged or belongs to another configuration.
    """
    device, first = next(model.parameters()).device, processes.rank() == 0
    model.to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe)
    history = restore(job, model, optimizer) if (job.folder / "last.ckpt").exists() else History()
    if first and not history.log:
        save_state(job, history, model, optimizer)
    objective = Objective(model, recipe)
    history.precision = objective.precision
    if job.compiled:
        objective.compile()
    objective = processes.parallel(objective)
    batches = EpochBatches(len(samples), recipe.batch, samples.seed)
    loader = DataLoader(
        samples, batch_sampler=batches, num_workers=job.workers, persistent_workers=job.workers > 0,
        pin_memory=device.type == "cuda", generator=torch.Generator(),
    )  # fmt: skip
    steps, done = len(batches), len(history.log)
    devices = [device] if device.type == "cuda" else []  # whose dropout draws from no outer generator
    bar = tqdm(
        total=recipe.epochs * steps, initial=done * steps, desc=job.title, unit="step", disable=not first,
        position=bar_line, mininterval=0.5 if sys.stderr.isatty() else 30, maxinterval=60,  # a log gets a line each
    )  # fmt: skip
    with training_on(device), torch.random.fork_rng(devices), bar, _board(job) as board:
        for epoch in range(done, recipe.epochs):
            started = time.perf_counter()
            batches.epoch = epoch
            torch.manual_seed(int(np.random.default_rng((samples.seed, epoch, processes.rank())).integers(2**63)))
            torch.empty((), dtype=torch.int64).random_()  # a draw the data loader used to make: dropout's stay the same
            found = []  # losses and norms, on the device: the host waits for them only at the end of the epoch
            for step, batch in enumerate(loader, start=epoch * steps):
                rate = recipe.learning_rate_at(step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["rate"]
                found.append(update(objective, optimizer, batch, recipe))
                bar.update()
            loss, norm = (torch.stack(each).mean() for each in zip(*found, strict=True))
            loss = float(processes.total(loss)) / processes.count()
            history.seconds += time.perf_counter() - started
            if diverged(loss, history, recipe, job, model, optimizer):
                break
            scores = job.watch(model) if job.watch and first else {}
            bar.set_postfix(loss=loss, **scores)
            line = {"epoch": epoch + 1, "loss": loss, "learning_rate": rate, "gradient_norm": float(norm)}
            line |= {"seconds": history.seconds, **scores}
            history.add(line)
            if first:
                save_state(job, history, model, optimizer)
            for name, value in line.items() if board else ():
                board.add_scalar(name, value, epoch + 1)
            processes.wait()
    return history


def diverged(loss: float, history: History, recipe: Recipe, job: Job, model: Network, optimizer: Optimizer) -> bool:
    """Whether the epoch after ``history`` diverged; if so, all is put back as before it, and ``trouble`` says why.

    The same in all processes. An epoch's last update shows only in the weights, not in a loss.
    """
    wrong = None
    if not math.isfinite(loss) or (history.log and loss > EXPLODED * min(line["loss"] for line in history.log)):
        wrong = f"loss {loss:.3g}"
    elif processes.total(sum((~torch.isfinite(value)).sum() for value in model.state_dict().values())):
        wrong = "weights that are not finite"
    if wrong:
        epoch = len(history.log) + 1
        history.trouble = f"diverged in epoch {epoch} of {recipe.epochs} ({wrong}); tested as before it"
        restore(job, model, optimizer)
    return wrong is not None


def _board(job: Job) -> AbstractContextManager:
    """A writer of TensorBoard's files, where that is installed; they change nothing."""
    if processes.rank() > 0 or find_spec("tensorboard") is None:
        return nullcontext()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(job.folder)


def save_state(job: Job, history: History, model: Network, optimizer: Optimizer) -> None:
    state = {"fingerprint": job.fingerprint, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state |= {"log": history.log, "seconds": history.seconds}
    save_checkpoint(job.folder / "last.ckpt", state)
    write_text(job.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history.log))


def restore(job: Job, model: Network, optimizer: Optimizer) -> History:
    """Put everything into the state that ``last.ckpt`` holds."""
    path = job.folder / "last.ckpt"
    state = load_checkpoint(path)
    if state["fingerprint"] != job.fingerprint:
        raise CheckpointError(f"{path}: belongs to a run of another configuration or data set; move the folder away")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return History(state["log"], state["seconds"])
