"""Runs: (experiment, profile, data set, seed), asked for by name, done once and then read.

A run lives in ``runs/<profile>/<data set>/<experiment>/seed-<n>/``::

    .lock                while a process is at work on it
    config.json          everything that decides the result, and its fingerprint
    log.jsonl            one line an epoch
    last.ckpt            to resume from; removed when the run is finished
    weights.safetensors  the trained network
    evaluation.npz       counts of every validation image
    metrics.json         scores and costs; written last, so its presence means finished
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from mula_lib import distributed as processes
from mula_lib.checkpoint import load_model, read_facts, save_weights
from mula_lib.evaluation import Evaluation, load_evaluation
from mula_lib.files import LOCK, CheckpointError, ConfigError, locked, read_json, remove_partials, write_json
from mula_lib.models.network import ModelConfig, Network
from workbook import run_steps
from workbook.datasets import REPOSITORY, Source
from workbook.experiments import Experiment
from workbook.profiles import Profile, Recipe, find_profile
from workbook.tables import table_experiments

RUNS = REPOSITORY / "runs"
WEIGHTS = REPOSITORY / "weights"
METRICS = {  # what a ``metrics.json`` holds at least
    **dict.fromkeys(("testing_fingerprint", "trained_as", "weights", "trained_on"), str),
    **dict.fromkeys(("images", "params", "gflops", "train_seconds", "images_per_second"), (int, float)),
    "scores": dict,
    "log": list,
}
RECIPE_VERSION = 2  # raise it when a change of code changes what a training gives


def weights_file(experiment: Experiment, profile: str, seed: int = 0, *, crowds: bool = False) -> Path:
    """Where weights that are committed lie."""
    return WEIGHTS / profile / ("crowds" if crowds else "") / f"{experiment.slug}-seed-{seed}.safetensors"


@dataclass(frozen=True)
class Run:
    """One training and its evaluation, by name."""

    experiment: Experiment
    profile: Profile
    source: Source
    seed: int = 0
    base: Path = RUNS

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed {self.seed!r}: a seed is a whole number from 0")

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return self.base / self.profile.name / self.source.name / self.experiment.slug / f"seed-{self.seed}"

    @property
    def shipped_weights(self) -> Path:
        """Where weights of this run would lie if they were committed."""
        return weights_file(self.experiment, self.profile.name, self.seed, crowds=self.source.anatomy.crowds)

    @cached_property
    def model_config(self) -> ModelConfig:
        """The network."""
        return self.experiment.model_config(self.profile, self.source.anatomy)

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return self.experiment.recipe(self.profile)

    @cached_property
    def training_spec(self) -> dict:
        """Everything that decides the trained weights."""
        return {
            "recipe_version": RECIPE_VERSION,
            "model": self.model_config.to_json(),
            "recipe": asdict(self.recipe),
            "augmentation": asdict(self.profile.augmentation),
            "crop": self.profile.crop,
            "data": self.source.fingerprint,
            "seed": self.seed,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the training; tests of the same weights under another protocol share it."""
        return _digest(self.training_spec)

    @cached_property
    def testing_fingerprint(self) -> str:
        """Of the training and the testing protocol."""
        return _digest({"training": self.fingerprint, "testing": asdict(self.profile.testing)})

    def result(self) -> RunResult | None:
        """The finished run, or None; a result of another configuration counts as none.

        Raises :class:`CheckpointError` if its ``metrics.json`` is damaged.
        """
        path = self.folder / "metrics.json"
        if not path.is_file():
            return None
        mend = "delete it: the network is tested again"
        metrics = read_json(path, "the result of a run", tuple(METRICS), fix=mend, error=CheckpointError)
        wrong = [name for name, kind in METRICS.items() if not isinstance(metrics[name], kind)]
        numbers = [value for value in metrics["scores"].values() if value is not None] if not wrong else []
        if wrong or not all(isinstance(number, (int, float)) for number in numbers):
            raise CheckpointError(f"{path}: not the result of a run (of another kind: {wrong or 'scores'}); {mend}")
        return RunResult(self, metrics) if metrics["testing_fingerprint"] == self.testing_fingerprint else None


@dataclass(frozen=True)
class RunResult:
    """A finished run: its ``metrics.json``, and on demand its network and per-image counts."""

    run: Run
    metrics: dict

    @property
    def scores(self) -> dict[str, float]:
        """Percentages by metric name; nan of a task that the network does not have."""
        return {name: math.nan if value is None else value for name, value in self.metrics["scores"].items()}

    @property
    def weights(self) -> Path:
        """The weights that were evaluated: the run's own, or shipped ones."""
        return REPOSITORY / self.metrics["weights"]

    def model(self) -> Network:
        """The trained network, in evaluation mode on the CPU."""
        return load_model(self.weights, self.run.model_config)

    def evaluation(self) -> Evaluation:
        """Counts of every validation image."""
        return load_evaluation(self.run.folder / "evaluation.npz", self.run.source.anatomy)

    @property
    def trouble(self) -> str | None:
        """Why the training ended early, if it did."""
        return self.metrics.get("trouble")

    def log(self) -> list[dict]:
        """A dict an epoch: epoch, loss, seconds and the watched scores."""
        return self.metrics["log"]


def wanted_runs(table: int, profile: Profile, source: Source, seeds: Sequence[int]) -> list[Run]:
    """The runs of a table that its notebook shows: the profile's core rows, and rows that cost no training.

    A profile without core rows wants them all. A row costs no training if it is finished or its weights are shipped.
    """
    runs = [Run(experiment, profile, source, seed) for experiment in table_experiments(table) for seed in seeds]
    return [
        run
        for run in runs
        if not profile.core
        or run.experiment.name in profile.core
        or run.result() is not None
        or run.shipped_weights.is_file()
    ]


def do_run(run: Run, *, retrain: bool = False, workers: int = 0, save_memory: bool = False) -> RunResult:
    """The result of ``run``: read if finished, evaluated if its weights are shipped, resumed or trained otherwise.

    ``retrain`` ignores shipped weights (a finished training is still read); ``save_memory`` recomputes stages. While
    another process is at work on the same run, this one waits for it and reads what it found.

    Raises:
        CheckpointError: the run's folder or weights file is damaged, or holds another configuration.
        BusyError: another process is at work on it, and this is one of several that train it together.
        StorageError: its folder cannot be written.
    """
    own = run.folder / "weights.safetensors"

    def finished() -> RunResult | None:
        result = run.result()
        return result if result is None or not retrain or result.weights == own else None

    if processes.count() == 1 and (result := finished()):
        return result
    with _alone(run):
        if processes.rank() == 0:
            _claim(run)
        processes.wait()
        result = finished()
        if result is None:
            weights = run.shipped_weights if not retrain and _shipped(run) else own
            if weights == own and not own.is_file():
                run_steps.train(run, own, workers=workers, save_memory=save_memory)
            if processes.rank() == 0:
                run_steps.test(run, weights)
            processes.wait()
            result = run.result()
    return result


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Within it no other process is at work on the run, but for those that train it together with this one."""
    if processes.rank() > 0:
        yield
        return
    what = f"{run.experiment.name} ({run.source.name}), seed {run.seed}"
    with locked(run.folder / LOCK, what, wait=processes.count() == 1):
        remove_partials(run.folder)
        yield


def shipped_result(experiment: Experiment, source: Source) -> RunResult:
    """The demo profile's shipped network of ``experiment``, tested on ``source`` whatever it was trained on.

    Where ``source`` is the demo's own data this is the demo's run. Elsewhere nothing is trained, and the result lives
    in ``runs/elsewhere``. Raises :class:`CheckpointError` if no weights of it are shipped.
    """
    profile = find_profile("demo")
    profile = profile.for_crowds() if source.anatomy.crowds else profile
    run = Run(experiment, profile, source)
    if not run.shipped_weights.is_file():
        raise CheckpointError(f"{run.shipped_weights}: no such weights; ./run_all.sh --only and --ship make them")
    trained_as = read_facts(run.shipped_weights, "fingerprint")[1]["fingerprint"]
    if trained_as == run.fingerprint:
        return do_run(run)
    elsewhere = replace(run, base=RUNS / "elsewhere")

    def tested() -> RunResult | None:
        result = elsewhere.result()
        return result if result is not None and result.metrics["trained_as"] == trained_as else None

    if tested() is None:
        with _alone(elsewhere):
            if tested() is None:  # somebody else may have done it meanwhile
                run_steps.test(elsewhere, run.shipped_weights)
    return elsewhere.result()


def ship_weights(result: RunResult) -> Path:
    """Store the network of a finished run in fp16 where shipped weights lie, to be committed; returns the path."""
    _, facts = read_facts(result.weights)
    save_weights(result.run.shipped_weights, result.model(), facts, half=True)
    return result.run.shipped_weights


def _shipped(run: Run) -> bool:
    """Whether shipped weights are of exactly this training; says so where they are of another."""
    path = run.shipped_weights
    if not path.is_file():
        return False
    _, facts = read_facts(path, "fingerprint")
    if facts["fingerprint"] == run.fingerprint:
        return True
    print(f"{path}: trained with another recipe or data set; training {run.experiment.name} here instead")
    return False


def _claim(run: Run) -> None:
    """Write the run's configuration into its folder, or refuse a folder that holds another one."""
    path = run.folder / "config.json"
    wanted = json.loads(json.dumps(run.training_spec))  # as it looks once read back
    if path.is_file():
        mend = f"delete {run.folder} to start over"
        found = read_json(path, "a run's configuration", ("training",), fix=mend, error=CheckpointError)["training"]
        if not isinstance(found, dict):
            raise CheckpointError(f"{path}: not a run's configuration ('training' is none); {mend}")
        if found != wanted:
            keys = ", ".join(sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key)))
            raise CheckpointError(
                f"{run.folder}: holds a run of another configuration (other {keys}); move or delete it to run this one"
            )
        return
    write_json(
        path,
        {
            "experiment": run.experiment.name,
            "profile": run.profile.name,
            "dataset": run.source.name,
            "fingerprint": run.fingerprint,
            "training": wanted,
        },
    )


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
