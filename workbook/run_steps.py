"""The two steps of a run: its training and its test, and what they leave in its folder (see :mod:`workbook.runs`)."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mula_lib import distributed as processes
from mula_lib.checkpoint import load_model, read_facts, save_weights
from mula_lib.data.samples import TrainingSamples
from mula_lib.evaluation import evaluate
from mula_lib.files import write_json
from mula_lib.inference import Testing
from mula_lib.models.network import Network, build_model
from mula_lib.training import Job, fit
from workbook.costs import forward_gflops, parameter_count
from workbook.datasets import REPOSITORY

if TYPE_CHECKING:
    from workbook.runs import Run


def train(run: Run, weights: Path, *, workers: int = 0, save_memory: bool = False) -> None:
    """Train the network of ``run``, from its last checkpoint if there is one, and write it to ``weights``.

    Raises what :func:`mula_lib.training.fit` does.
    """
    source, profile = run.source, run.profile
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(run.model_config, run.seed).to(device)
    model.recompute_stages = save_memory
    samples = TrainingSamples(source.train, profile.crop, profile.augmentation, source.anatomy, run.seed)
    quick = Testing(scales=(1.0,), mirror=False)

    def watch(network: Network) -> dict[str, float]:
        few = replace(source.val, records=source.val.records[: profile.watch])
        scores = evaluate(network, few, profile.crop, quick, source.anatomy).scores(source.anatomy)
        return {name: scores[name] for name in (source.anatomy.pose_metric, "mIoU") if not math.isnan(scores[name])}

    watched = watch if profile.watch else None
    result = fit(model, samples, run.recipe, Job(run.folder, run.fingerprint, run.experiment.name, workers, watched))
    facts = {
        "experiment": run.experiment.name,
        "profile": profile.name,
        "dataset": source.name,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "train_seconds": round(result.seconds, 1),
        "trained_on": f"{platform.machine()}, {device.type}, torch {torch.__version__}",
        "precision": result.precision,
        "log": result.log,
        **({"trouble": result.trouble} if result.trouble else {}),
    }
    if processes.rank() == 0:
        save_weights(weights, model, facts)


def test(run: Run, weights: Path) -> None:
    """Test the network in ``weights`` on the validation images; write ``evaluation.npz``, then ``metrics.json``."""
    source, profile = run.source, run.profile
    model = load_model(weights, run.model_config).to("cuda" if torch.cuda.is_available() else "cpu")
    _, facts = read_facts(weights, "fingerprint", "train_seconds", "trained_on", "log")
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
    # The counts are of the scores beside them, always: those of an earlier test go first.
    (run.folder / "metrics.json").unlink(missing_ok=True)
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
    (run.folder / "last.ckpt").unlink(missing_ok=True)
