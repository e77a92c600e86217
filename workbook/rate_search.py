"""The learning rate of each compared system, chosen by an equal search on a held-out part of *train*.

``python -m workbook.rate_search`` trains every system for a few epochs at each of the same three rates and writes what
came out to ``results/<profile>/learning_rates.csv``; the best one stands in ``experiments.py``. Validation images take
no part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mula_lib.files import DataError, exit_status, locked, usable_cores, write_text
from workbook.datasets import REPOSITORY, SINGLE, Source, open_source
from workbook.experiments import Experiment, find_experiment, searched_experiments
from workbook.jobs import train_rows
from workbook.profiles import PROFILES, Profile, Testing, find_profile
from workbook.results import read_table, results_folder
from workbook.runs import RUNS, Run

RATES = (0.5, 1.0, 2.0)  # times the profile's learning rate; in the demo, half is the paper's
EPOCHS = 2
HELD_OUT = 10  # every tenth training image


def held_out(source: Source) -> Source:
    """``source`` with its training images taken apart: every tenth one to test on, the others to train with."""

    def part(wanted: bool) -> object:
        records = [each for i, each in enumerate(source.train.records) if (i % HELD_OUT == 0) == wanted]
        return replace(source.train, records=type(source.train.records)(records))

    return replace(source, train=part(False), val=part(True), fingerprint=f"{source.fingerprint} without a tenth")


def search_runs(experiment: Experiment, profile: Profile, source: Source) -> list[Run]:
    """A short run at each of :data:`RATES`; ``source`` is that of :func:`held_out`."""
    short = replace(
        profile,
        name=f"{profile.name}-search",
        recipe=replace(profile.recipe, epochs=EPOCHS),
        testing=Testing(scales=(1.0,), mirror=False),
        watch=0,
    )
    return [
        Run(replace(experiment, rate=rate), short, source, base=RUNS / "rate-search" / f"rate-{rate}") for rate in RATES
    ]


def search_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A line a finished run; ``chosen`` marks each method's rate with the best mean of the scores that it has."""
    lines = []
    for run in runs:
        result = run.result()
        scores = {name: result.scores[name] for name in ("PCK", "mIoU")}
        lines.append(
            {
                "method": run.experiment.name,
                "rate": run.experiment.rate,
                "learning_rate": run.recipe.learning_rate,
                **{name: round(value, 2) for name, value in scores.items()},
                "mean": round(float(np.nanmean(list(scores.values()))), 2),
                "epochs": run.recipe.epochs,
                "train_images": len(run.source.train),
                "held_out_images": len(run.source.val),
                "train_seconds": result.metrics["train_seconds"],
            }
        )
    table = pd.DataFrame(lines)
    best = table.loc[table.groupby("method")["mean"].idxmax()]
    return table.assign(chosen=table.index.isin(best.index))


def searched_rates(names: Sequence[str], profile: str = "demo") -> pd.DataFrame:
    """The committed trials of these systems, a row each: mean score on held-out training images at each rate, %."""
    path = REPOSITORY / "results" / profile / "learning_rates.csv"
    trials = read_table(path, ("method", "rate", "mean", "chosen"))
    if trials is None:
        raise DataError(f"{path}: no such table; restore it from git, or python -m workbook.rate_search makes it")
    trials = trials[trials["method"].isin(names)]
    scores = trials.pivot(index="method", columns="rate", values="mean").add_prefix("rate × ")
    chosen = trials[trials["chosen"]].set_index("method")["rate"].rename("chosen")
    return scores.join(chosen).loc[[name for name in names if name in scores.index]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.rate_search", description=__doc__)
    parser.add_argument("profile", nargs="?", default="demo", help=f"{' or '.join(PROFILES)} (default: demo)")
    parser.add_argument("--dataset", choices=SINGLE, help="default: the profile's")
    parser.add_argument("--data", metavar="PATH", help="where it lies")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these systems only")
    parser.add_argument("--jobs", type=int, default=usable_cores(), metavar="N", help="runs at once (default: cores)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _search(options), kept="run the same command again and it goes on")


def _search(options: argparse.Namespace) -> None:
    profile = find_profile(options.profile)
    source = open_source(options.dataset or profile.dataset, path=options.data)
    apart = held_out(source)
    chosen = [find_experiment(name) for name in options.only or ()] or searched_experiments()
    runs = [run for experiment in chosen for run in search_runs(experiment, profile, apart)]
    train_rows(runs, options.jobs, retrain=True)
    path = results_folder(profile, source) / "learning_rates.csv"
    table = search_table(runs)
    with locked(path.with_name(f".{path.name}.lock"), f"{path}"):  # two searches of other rows keep each other's
        kept = read_table(path, table.columns)
        if kept is not None:
            table = pd.concat([kept[~kept["method"].isin(table["method"])], table], ignore_index=True)
        write_text(path, table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
