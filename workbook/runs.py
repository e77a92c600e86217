"""Runs: (experiment, profile, data set, seed), asked for by name. A run trains, tests, remembers; a table collects.

A run lives in ``runs/<profile>/<data set>/<experiment>/seed-<n>/``::

    config.json          everything that decides the result, and its fingerprint
    log.jsonl            one line an epoch
    last.ckpt            to resume from; removed when the run is finished
    weights.safetensors  the trained network
    evaluation.npz       counts of every validation image
    metrics.json         scores and costs; written last, so its presence means finished
    failed.txt           why the last attempt failed
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import shlex
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from mula_lib import distributed as processes
from mula_lib.checkpoint import load_model, read_facts, save_weights
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import SIGMA_FLOOR
from mula_lib.evaluation import CrowdEvaluation, Evaluation, evaluate, load_evaluation
from mula_lib.files import LOCK, CheckpointError, locked, read_json, remove_partials, write_json
from mula_lib.inference import Testing
from mula_lib.models.network import ModelConfig, Network, build_model, forward_gflops, parameter_count
from mula_lib.training import History, Job, Recipe, fit
from workbook.datasets import REPOSITORY, VARIABLES, Source
from workbook.experiments import Experiment, Profile, slug

RUNS = Path(os.environ.get("MULA_RUNS") or REPOSITORY / "runs")  # tests have their own
WEIGHTS = REPOSITORY / "weights"
RESULTS = Path(os.environ.get("MULA_RESULTS") or REPOSITORY / "results").resolve()  # and write into a copy of these
RECIPE_VERSION = 2  # raise it when a code change alters the trained weights


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def results_folder(profile: Profile, source: Source) -> Path:
    """Where the tables of ``profile`` go; a data set that is not the profile's own has a folder of its own."""
    return RESULTS / (profile.name if source.name == profile.dataset else f"{profile.name}-{source.name}")


def shipped_weights(name: str, profile: str = "demo", seed: int = 0, *, crowd: bool = False) -> Path:
    """Where the committed weights of a profile's network called ``name`` lie: of one person, or of several."""
    return WEIGHTS / profile / ("crowds" if crowd else "") / f"{slug(name)}-seed-{seed}.safetensors"


@dataclass(frozen=True, eq=False)
class Run:
    """One training and its evaluation, by name."""

    experiment: Experiment
    profile: Profile
    source: Source
    seed: int = 0
    base: Path = RUNS

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", self.profile.for_trunk(self.experiment.backbone))

    def __str__(self) -> str:
        return f"{self.experiment.name} ({self.source.name}), seed {self.seed}"

    @cached_property
    def model_config(self) -> ModelConfig:
        """The network."""
        return self.experiment.model_config(self.profile, self.source.anatomy)

    @cached_property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return self.experiment.recipe(self.profile)

    @cached_property
    def training_config(self) -> dict:
        """Everything that decides the trained weights; fields added later are left out at their defaults."""
        recipe = asdict(self.recipe)
        if recipe["sigma_floor"] == SIGMA_FLOOR:
            del recipe["sigma_floor"]
        start = {"start": read_facts(self._start, "fingerprint")[1]["fingerprint"]} if self.profile.start else {}
        return start | {
            "recipe_version": RECIPE_VERSION,
            "model": self.model_config.to_json(),
            "recipe": recipe,
            "augmentation": asdict(self.profile.augmentation),
            "crop": self.profile.crop,
            "data": self.source.fingerprint,
            "seed": self.seed,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the training; tests of the same weights under another protocol share it."""
        return _digest(self.training_config)

    @cached_property
    def testing_fingerprint(self) -> str:
        """Identifies the training and the testing protocol."""
        return _digest({"training": self.fingerprint, "testing": asdict(self.profile.testing)})

    @property
    def _start(self) -> Path:
        """The weights that training starts from, if the profile names some."""
        return shipped_weights(self.experiment.name, self.profile.start, self.seed)

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return self.base / self.profile.name / self.source.name / slug(self.experiment.name) / f"seed-{self.seed}"

    @property
    def own_weights(self) -> Path:
        """Where the run's training leaves its network."""
        return self.folder / "weights.safetensors"

    @property
    def shipped_weights(self) -> Path:
        """Where weights of this run would lie if they were committed."""
        return shipped_weights(self.experiment.name, self.profile.name, self.seed, crowd=self.source.anatomy.crowds)

    @property
    def shipped_counts(self) -> Path:
        """Where per-image counts of this run would lie if they were committed; its metrics lie beside, as ``.json``."""
        name = slug(self.experiment.name) + ("-crowds" if self.source.anatomy.crowds else "")
        return results_folder(self.profile, self.source) / "counts" / f"{name}-seed-{self.seed}.npz"

    @cached_property
    def shipped(self) -> bool:
        """Whether weights of exactly this training are committed."""
        return self.shipped_weights.is_file() and read_facts(self.shipped_weights)[1]["fingerprint"] == self.fingerprint

    @property
    def trained(self) -> bool:
        """Whether a result needs no more training."""
        return self.metrics is not None or self.shipped or self.own_weights.is_file()

    @cached_property
    def metrics(self) -> dict | None:
        """Scores and costs of the finished run, or else those committed; None if this configuration has neither."""
        fix = "delete it, and the network is tested again"
        for path in (self.folder / "metrics.json", self.shipped_counts.with_suffix(".json")):
            if path.is_file():
                found = read_json(path, "the result of a run", ("testing_fingerprint",), fix=fix, error=CheckpointError)
                if found["testing_fingerprint"] == self.testing_fingerprint:
                    return found
        return None

    @property
    def scores(self) -> dict[str, float]:
        """Percentages by metric; nan for a task that the network does not have."""
        return {name: math.nan if value is None else value for name, value in self.metrics["scores"].items()}

    @property
    def weights(self) -> Path:
        """The weights that were tested: the run's own, or committed ones."""
        return REPOSITORY / self.metrics["weights"] if "weights" in self.metrics else self.shipped_weights

    @property
    def note(self) -> str:
        """What readers of its row must know: a training that ended early, a failure, or that it was not run."""
        if self.metrics is not None:
            return self.metrics.get("trouble") or ""
        if (failure := self.folder / "failed.txt").is_file():
            return f"failed: {failure.read_text(encoding='utf-8')}"
        options = f" --{self.source.name} {shlex.quote(str(self.source.root))}" if self.source.name in VARIABLES else ""
        options += f" --seeds {self.seed + 1}" if self.seed else ""
        command = f'./run_all.sh {self.profile.name} --only "{self.experiment.name}"{options}'
        return f"not {'tested' if self.trained else 'trained'} yet: {command}"

    def model(self) -> Network:
        """The trained network, in evaluation mode, on the GPU where there is one.

        Raises :class:`CheckpointError` if only its counts are committed.
        """
        if not self.weights.is_file():
            fix = f"use seed 0, or train this one with --retrain --seeds {self.seed + 1}"
            raise CheckpointError(f"{self.weights}: not committed, unlike its counts; {fix}")
        return load_model(self.weights, self.model_config).to(device())

    def evaluation(self) -> Evaluation | CrowdEvaluation:
        """Counts of every validation image."""
        path = self.folder / "evaluation.npz" if "weights" in self.metrics else self.shipped_counts
        return load_evaluation(path, self.source.anatomy)

    def do(self, *, train: bool = True, retrain: bool = False, **how: bool | int) -> "Run":
        """Finish the run, and return it: read if finished, tested if there are weights, resumed or trained otherwise.

        With ``train=False`` nothing is trained, so ``metrics`` may still be None afterwards, and committed counts are
        trusted; otherwise committed weights are tested again. ``retrain`` ignores both; ``how`` goes to :meth:`_train`.
        While another process works on the same run, this one waits; one of several that train it together raises
        :class:`BusyError`. Raises :class:`CheckpointError` for a damaged file, and for a folder of another run.
        """

        def enough() -> bool:
            if self.metrics is None or retrain:
                return self.metrics is not None and self.weights == self.own_weights
            return "weights" in self.metrics or not (train and self.shipped)  # its own test, or committed counts

        if processes.count() == 1 and (enough() or not (train or self.trained)):
            return self
        first = processes.rank() == 0  # of those that train it together; it locks the run
        with locked(self.folder / LOCK, str(self), wait=processes.count() == 1) if first else contextlib.nullcontext():
            if first:
                self.claim()
            processes.wait()
            self.__dict__.pop("metrics", None)  # another process may have finished it meanwhile
            if enough():
                return self
            self.__dict__.pop("metrics", None)  # which are about to change
            weights = self.shipped_weights if self.shipped and not retrain else self.own_weights
            if weights == self.own_weights and not weights.is_file():
                self._train(**how)
            if first:
                self._test(weights)
            processes.wait()
        return self

    def claim(self) -> None:
        """Claim the folder for this run; CheckpointError if it belongs to another one."""
        remove_partials(self.folder)
        path, fix = self.folder / "config.json", f"delete {self.folder} to start over"
        if not path.is_file():
            whose = {"experiment": self.experiment.name, "fingerprint": self.fingerprint}
            write_json(path, {**whose, "training": self.training_config})
        found = read_json(path, "a run's configuration", ("fingerprint",), fix=fix, error=CheckpointError)
        if found["fingerprint"] != self.fingerprint:
            raise CheckpointError(f"{self.folder}: holds a run of another configuration; {fix}, or move it")

    def _train(self, workers: int = 0, save_memory: bool = False, compiled: bool = False) -> None:
        """Train the network, from its last checkpoint if there is one; ``save_memory`` recomputes stages."""
        source, profile, anatomy = self.source, self.profile, self.source.anatomy
        config = self.model_config
        model = load_model(self._start, config) if profile.start else build_model(config, self.seed)
        model.to(device())
        model.recompute_stages = save_memory
        samples = TrainingSamples(source.train, profile.crop, profile.augmentation, anatomy, self.seed)

        def watch(network: Network) -> dict[str, float]:
            few, quick = replace(source.val, records=source.val.records[: profile.watch]), Testing(mirror=False)
            scores = evaluate(network, few, profile.crop, quick, anatomy).scores(anatomy)
            return {name: scores[name] for name in (anatomy.pose_metric, "mIoU") if not math.isnan(scores[name])}

        watched = watch if profile.watch else None
        job = Job(self.folder, self.fingerprint, self.experiment.name, workers, watched, compiled)
        history = fit(model, samples, self.recipe, job)
        if processes.rank() == 0:
            self.keep(model, history)

    def keep(self, model: Network, history: History) -> None:
        """Write the trained network to :attr:`own_weights`, with what tables say about its training."""
        where = f"{platform.machine()}, {device().type}, torch {torch.__version__}"
        facts = {"experiment": self.experiment.name, "profile": self.profile.name, "dataset": self.source.name}
        facts |= {"seed": self.seed, "fingerprint": self.fingerprint, "trained_on": where}
        facts |= {"train_seconds": round(history.seconds, 1), "precision": history.precision}
        facts |= {"log": history.log, "trouble": history.trouble}
        save_weights(self.own_weights, model, facts)

    def _test(self, weights: Path) -> None:
        """Test the network in ``weights`` on the validation images; write ``evaluation.npz``, then ``metrics.json``."""
        model = load_model(weights, self.model_config).to(device())
        _, facts = read_facts(weights, "fingerprint")
        profile, val, anatomy, started = self.profile, self.source.val, self.source.anatomy, time.perf_counter()
        evaluation = evaluate(model, val, profile.crop, profile.testing, anatomy, progress=f"testing {self}")
        seconds = time.perf_counter() - started
        (self.folder / "metrics.json").unlink(missing_ok=True)  # so that counts and scores always come from one test
        evaluation.save(self.folder / "evaluation.npz")
        metrics = {
            "experiment": self.experiment.name,
            "testing_fingerprint": self.testing_fingerprint,
            "trained_as": facts["fingerprint"],
            # relative, so that a checkout may be moved
            "weights": str(weights.relative_to(REPOSITORY) if weights.is_relative_to(REPOSITORY) else weights),
            # JSON has no nan, the score of a task that the network does not have or of nothing annotated
            "scores": {n: None if math.isnan(v) else round(v, 4) for n, v in evaluation.scores(anatomy).items()},
            "images": len(evaluation.names),
            "params": parameter_count(model),
            "gflops": forward_gflops(model, profile.crop),
            "images_per_second": round(len(evaluation.names) / seconds, 2),
            **{name: facts.get(name) for name in ("train_seconds", "trained_on", "precision", "log", "trouble")},
        }
        write_json(self.folder / "metrics.json", metrics)
        self.__dict__["metrics"] = metrics
        for name in ("last.ckpt", "failed.txt"):
            (self.folder / name).unlink(missing_ok=True)


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
