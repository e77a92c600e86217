"""Many networks trained at once on one GPU: each one's step is a CUDA graph, replayed on a stream of its own.

Networks of the demo's size leave a GPU idle while a core launches their kernels one by one. ``python -m tools.together
demo`` captures each network's training step once and replays all of them side by side; networks that see the same
samples share a loader. All else is as in :func:`mula_lib.training.fit`, except that dropout's draws (those of Attention
and its relatives) are not seeded; ``./run_all.sh`` then tests the networks.
"""

import argparse
import contextlib
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from tqdm.auto import tqdm

from mula_lib import training
from mula_lib.checkpoint import load_checkpoint
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import LOCK, ConfigError, exit_status, locked
from mula_lib.kernels import training_on
from mula_lib.models.network import build_model
from workbook.datasets import open_source
from workbook.experiments import EXPERIMENTS, find_experiment, find_profile
from workbook.runs import Run, device


class Trainee:
    """A run in training: its network, its optimizer and its step, captured on a GPU."""

    def __init__(self, run: Run, example: Mapping[str, Tensor]) -> None:
        self.run, self.recipe, self.job = run, run.recipe, training.Job(run.folder, run.fingerprint)
        self.model = build_model(run.model_config, run.seed).to(device(), memory_format=torch.channels_last).train()
        self.objective = training.Objective(self.model, self.recipe)
        self.optimizer = self.resumable = training.make_optimizer(self.model, self.recipe)
        self.batch = {name: value.to(device()) for name, value in example.items()}
        self.found = torch.zeros(2, device=device())  # sums of the epoch's losses and norms
        self.history, self.stream = training.History(), None
        if device().type == "cuda":
            self._capture()
        if (run.folder / "last.ckpt").exists():
            self.history = training.restore(self.job, self.model, self.resumable)
            for parameter, state in self.resumable.state.items() if self.stream else ():
                for name, value in state.items():
                    self.optimizer.state[parameter][name].copy_(value)  # where the graph expects it
        self.history.precision = self.objective.precision

    def _capture(self) -> None:
        # each rate is a tensor, or the graph would replay one number for ever
        groups = [group | {"lr": torch.zeros((), device=device())} for group in self.model.parameter_groups()]
        self.optimizer = torch.optim.AdamW(groups, lr=groups[0]["lr"], weight_decay=0.0, fused=True, capturable=True)
        self.stream, self.done = torch.cuda.Stream(), [torch.cuda.Event(), torch.cuda.Event()]
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            self._update()  # allocates what the graph will use
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            self.graph.capture_begin(capture_error_mode="thread_local")
            self._update()
            self.graph.capture_end()
        self.model.load_state_dict(build_model(self.run.model_config, self.run.seed).state_dict())
        for value in [self.found, *(value for state in self.optimizer.state.values() for value in state.values())]:
            value.zero_()
        torch.cuda.synchronize()

    def _update(self) -> None:
        self.found += torch.stack(training.update(self.objective, self.optimizer, self.batch, self.recipe))

    def step(self, batch: Mapping[str, Tensor], number: int, steps: int) -> None:
        """Update ``number`` of the training, from 0; on a GPU it is only begun."""
        self.rate = self.recipe.learning_rate_at(number, steps)
        if not self.stream:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * group["rate"]
            self.batch = batch
            return self._update()
        self.done[number % 2].synchronize()  # at most two steps ahead of the GPU
        with torch.cuda.stream(self.stream):
            for name, value in batch.items():
                self.batch[name].copy_(value, non_blocking=True)
            for group in self.optimizer.param_groups:
                group["lr"].fill_(self.rate * group["rate"])
            self.graph.replay()
            self.done[number % 2].record()

    def end_epoch(self, steps: int, seconds: float) -> None:
        """Keep the state, as ``fit`` does; if the training diverged, the one before the epoch."""
        if self.stream:
            self.stream.synchronize()
        (loss, norm), history = (self.found / steps).tolist(), self.history
        self.found.zero_()
        if training.diverged(loss, history, self.recipe, self.job, self.model, self.resumable):
            return
        history.seconds += seconds
        line = {"epoch": len(history.log) + 1, "loss": loss, "learning_rate": self.rate, "gradient_norm": norm}
        history.add(line | {"seconds": history.seconds})
        self.keep()
        if self.stream:
            torch.cuda.current_stream().synchronize()

    def keep(self) -> None:
        """Write ``last.ckpt`` and ``log.jsonl``."""
        self.resumable.state.update(self.optimizer.state)
        training.save_state(self.job, self.history, self.model, self.resumable)


class Group(threading.Thread):
    """Trainees that see the same samples, in step with each other."""

    def __init__(self, runs: Sequence[Run], workers: int) -> None:
        super().__init__(daemon=True)
        first, self.epochs, self.error = runs[0], runs[0].recipe.epochs, None
        how = first.profile.crop, first.profile.augmentation, first.source.anatomy, first.seed
        samples = TrainingSamples(first.source.train, *how)
        self.batches = training.EpochBatches(len(samples), first.recipe.batch, first.seed)
        self.loader = DataLoader(
            samples, batch_sampler=self.batches, num_workers=workers, persistent_workers=workers > 0,
            pin_memory=device().type == "cuda", generator=torch.Generator(),
        )  # fmt: skip
        example = default_collate([samples[0, index] for index in range(self.batches.batch)])
        self.trainees = [Trainee(run, example) for run in runs]
        self.begun = len(self.trainees[0].history.log)

    def run(self) -> None:
        try:
            self._train()
        except BaseException as error:
            self.error = error

    def _train(self) -> None:
        steps, left = len(self.batches), self.trainees
        for trainee in left:
            trainee.keep()
        for epoch in range(self.begun, self.epochs):
            started, self.batches.epoch = time.perf_counter(), epoch
            for number, batch in enumerate(self.loader, start=epoch * steps):
                for trainee in left:
                    trainee.step(batch, number, steps)
                self.bar.update(len(left))
            for trainee in left:
                trainee.end_epoch(steps, time.perf_counter() - started)
            left = [trainee for trainee in left if trainee.history.trouble is None]
        for trainee in self.trainees:
            trainee.run.keep(trainee.model, trainee.history)


def train(runs: Sequence[Run], workers: int = 1) -> None:
    """Train those of ``runs`` that are not trained yet, or resume them; afterwards raise the first error of any."""
    alike = defaultdict(list)
    for run in {run.folder: run for run in runs if not run.trained}.values():
        if run.recipe.optimizer != "adamw" or run.profile.start:
            raise ConfigError(f"{run}: only AdamW from random weights is captured; use ./run_all.sh {run.profile.name}")
        path, profile, recipe = run.folder / "last.ckpt", run.profile, run.recipe
        done = len(load_checkpoint(path)["log"]) if path.exists() else 0
        samples = run.source.fingerprint, profile.crop, profile.augmentation, run.seed, recipe.batch
        alike[(*samples, recipe.epochs, done)].append(run)
    chosen = [run for each in alike.values() for run in each]
    with training_on(device()), contextlib.ExitStack() as locks:
        for run in chosen:
            locks.enter_context(locked(run.folder / LOCK, str(run)))
            run.claim()
        groups = [Group(each, workers) for each in alike.values()]
        total = sum((group.epochs - group.begun) * len(group.batches) * len(group.trainees) for group in groups)
        with tqdm(total=total, unit="step", desc=f"training {len(chosen)} networks") as Group.bar:
            for group in groups:
                group.start()
            for group in groups:
                group.join()
    for error in filter(None, (group.error for group in groups)):
        raise error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.together", description=__doc__.split("\n")[0])
    parser.add_argument("profile", nargs="?", default="demo", help="default: demo")
    every = [each.name for each in EXPERIMENTS if each.system != "pose_guided"]  # it draws on the host
    parser.add_argument("--only", nargs="+", metavar="ROW", default=every, help="these rows (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    parser.add_argument("--epochs", nargs="+", type=int, metavar="N", help="other numbers, for tools.learning_curves")
    parser.add_argument("--crowds", action="store_true", help="on pictures of several people")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _together(options), kept="run the same command again and it resumes")


def _together(options: argparse.Namespace) -> None:
    profile = find_profile(options.profile)
    profile = profile.for_crowds() if options.crowds else profile
    source = open_source(profile.dataset)
    sizes = [profile.for_epochs(epochs) for epochs in options.epochs or [profile.recipe.epochs]]
    rows = product(options.only, sizes, options.seeds)
    train([Run(find_experiment(name), size, source, seed) for name, size, seed in rows])


if __name__ == "__main__":
    sys.exit(main())
