"""Runs: (experiment, profile, data set, seed), asked for by name, done once and then read.

A run lives in ``runs/<profile>/<data set>/<experiment>/seed-<n>/``::

    config.json          everything that decides the result, and its fingerprint
    log.jsonl            one line an epoch
    last.ckpt            to resume from; removed when the run is finished
    weights.safetensors  the trained network
    evaluation.npz       counts of every validation image
    metrics.json         scores and costs; written last, so its presence means finished
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from mula_lib import processes
from mula_lib.checkpoint import load_model, read_facts, save_weights
from mula_lib.costs import forward_gflops, parameter_count
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.sources import REPOSITORY, Source
from mula_lib.errors import CheckpointError
from mula_lib.evaluation import Evaluation, evaluate, load_evaluation
from mula_lib.experiments import Experiment
from mula_lib.files import write_json
from mula_lib.models.build import build_model
from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.profiles import Profile, Recipe, Testing, find_profile, spec
from mula_lib.tables import table_experiments
from mula_lib.training import fit

RUNS = REPOSITORY / "runs"
WEIGHTS = REPOSITORY / "weights"
RECIPE_VERSION = 1  # raise it when a change of code changes what a training gives


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
            "recipe": spec(self.recipe),
            "augmentation": spec(self.profile.augmentation),
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
        return _digest({"training": self.fingerprint, "testing": spec(self.profile.testing)})

    def result(self) -> RunResult | None:
        """The finished run, or None; a result of another configuration counts as none."""
        path = self.folder / "metrics.json"
        if not path.is_file():
            return None
        metrics = json.loads(path.read_text(encoding="utf-8"))
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

    ``retrain`` ignores shipped weights (a finished training is still read); ``save_memory`` recomputes stages.

    Raises:
        CheckpointError: the run's folder or weights file is damaged, or holds another configuration.
    """
    weights = run.folder / "weights.safetensors"
    if processes.rank() == 0:
        _claim(run)
    processes.wait()
    finished = run.result()
    if finished is not None and (not retrain or finished.weights == weights):
        return finished
    if not retrain and _shipped(run):
        weights = run.shipped_weights
    elif not weights.is_file():
        _train(run, weights, workers, save_memory)
    if processes.rank() == 0:
        _test(run, weights)
    processes.wait()
    return run.result()


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
    trained_as = read_facts(run.shipped_weights)[1]["fingerprint"]
    if trained_as == run.fingerprint:
        return do_run(run)
    elsewhere = replace(run, base=RUNS / "elsewhere")
    tested = elsewhere.result()
    if tested is not None and tested.metrics["trained_as"] == trained_as:
        return tested
    return _test(elsewhere, run.shipped_weights)


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
    _, facts = read_facts(path)
    if facts["fingerprint"] == run.fingerprint:
        return True
    print(f"{path}: trained with another recipe or data set; training {run.experiment.name} here instead")
    return False


def _claim(run: Run) -> None:
    """Write the run's configuration into its folder, or refuse a folder that holds another one."""
    path = run.folder / "config.json"
    wanted = json.loads(json.dumps(run.training_spec))  # as it looks once read back
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["training"]
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: not a run's configuration; delete {run.folder} to start over") from error
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


def _train(run: Run, weights: Path, workers: int, save_memory: bool) -> None:
    source, profile = run.source, run.profile
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(run.model_config, run.seed).to(device)
    model.recompute_stages = save_memory
    samples = TrainingSamples(source.train, profile.crop, profile.augmentation, source.anatomy, run.seed)
    quick = Testing(scales=(1.0,), mirror=False)

    def watch(network: Network) -> dict[str, float]:
        scores = evaluate(network, source.val, profile.crop, quick, source.anatomy, limit=profile.watch).scores(
            source.anatomy
        )
        return {name: scores[name] for name in (source.anatomy.pose_metric, "mIoU") if not math.isnan(scores[name])}

    result = fit(
        model,
        samples,
        run.recipe,
        run.folder,
        fingerprint=run.fingerprint,
        seed=run.seed,
        title=run.experiment.name,
        watch=watch if profile.watch else None,
        workers=workers,
    )
    facts = {
        "experiment": run.experiment.name,
        "profile": profile.name,
        "dataset": source.name,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "train_seconds": round(result.seconds, 1),
        "trained_on": f"{platform.machine()}, {device.type}, torch {torch.__version__}",
        "log": result.log,
        **({"trouble": result.trouble} if result.trouble else {}),
    }
    if processes.rank() == 0:
        save_weights(weights, model, facts)
        (run.folder / "last.ckpt").unlink(missing_ok=True)


def _test(run: Run, weights: Path) -> RunResult:
    source, profile = run.source, run.profile
    model = load_model(weights, run.model_config).to("cuda" if torch.cuda.is_available() else "cpu")
    _, facts = read_facts(weights)
    started = time.perf_counter()
    evaluation = evaluate(
        model,
        source.val,
        profile.crop,
        profile.testing,
        source.anatomy,
        progress=f"testing {run.experiment.name}",
    )
    seconds = time.perf_counter() - started
    evaluation.save(run.folder / "evaluation.npz")
    metrics = {
        "experiment": run.experiment.name,
        "testing_fingerprint": run.testing_fingerprint,
        "trained_as": facts["fingerprint"],
        # relative, so that a checkout may be moved
        "weights": str(weights.relative_to(REPOSITORY) if weights.is_relative_to(REPOSITORY) else weights),
        # nan, which JSON does not have, is the score of a task that the network does not have, or of nothing annotated
        "scores": {
            name: None if math.isnan(value) else round(value, 4)
            for name, value in evaluation.scores(source.anatomy).items()
        },
        "images": len(evaluation.names),
        "params": parameter_count(model),
        "gflops": forward_gflops(model, profile.crop),
        "train_seconds": facts["train_seconds"],
        "images_per_second": round(len(evaluation.names) / seconds, 2),
        "trained_on": facts["trained_on"],
        "log": facts["log"],
        "trouble": facts.get("trouble"),
    }
    write_json(run.folder / "metrics.json", metrics)
    return RunResult(run, metrics)


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
