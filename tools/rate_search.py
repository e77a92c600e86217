"""The learning rate of each compared system, chosen by an equal search on a held-out part of *train*.

``python -m tools.rate_search PROFILE`` trains every system for a few epochs at each of the same rates and writes
``results/<profile>/learning_rates.csv``; ``networks.csv`` has the best one. The validation set is not used.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mula_lib.files import MulaError, exit_status, usable_cores, write_text
from mula_lib.inference import Testing
from tools import together
from workbook.datasets import Source, open_source
from workbook.experiments import EXPERIMENTS, PROFILES, Experiment, Profile, find_experiment, find_profile
from workbook.jobs import do_all
from workbook.runs import RUNS, Run, device, results_folder

RATES = (0.5, 1.0, 2.0)  # times the profile's learning rate
SHARE = 6  # of the profile's epochs: one in six
HELD_OUT = 10  # every tenth training image
SEARCHED = tuple(each for each in EXPERIMENTS if each.rate is not None and not each.controls)


def held_out(source: Source) -> Source:
    """``source`` with its training images split: every tenth one to test on, the others to train with."""
    every = source.train.records
    rest = tuple(each for index, each in enumerate(every) if index % HELD_OUT)
    train, tenth = (replace(source.train, records=records) for records in (rest, every[::HELD_OUT]))
    return replace(source, other_train=train, val=tenth, fingerprint=f"{source.fingerprint} without a tenth")


def search_runs(experiment: Experiment, profile: Profile, source: Source) -> list[Run]:
    """A short run at each of :data:`RATES`; ``source`` is that of :func:`held_out`."""
    recipe, testing = replace(profile.recipe, epochs=max(1, profile.recipe.epochs // SHARE)), Testing(mirror=False)
    short = replace(profile, name=f"{profile.name}-search", recipe=recipe, testing=testing, watch=0)
    base = RUNS / "rate-search"
    tried = {rate: replace(experiment, rate=rate) for rate in RATES}
    return [Run(each, short, source, base=base / f"rate-{rate}") for rate, each in tried.items()]


def search_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per finished run; ``chosen`` marks each method's rate with the best mean of the scores it has."""
    scores = ("PCK", "mIoU")
    lines = [
        {
            "method": run.experiment.name,
            "rate": run.experiment.rate,
            "learning_rate": run.recipe.learning_rate,
            **{name: round(run.scores[name], 2) for name in scores},
            "mean": round(float(np.nanmean([run.scores[name] for name in scores])), 2),
            "epochs": run.recipe.epochs,
            "train_images": len(run.source.train),
            "held_out_images": len(run.source.val),
            "train_seconds": run.metrics["train_seconds"],
        }
        for run in runs
    ]
    table = pd.DataFrame(lines)
    return table.assign(chosen=table.index.isin(table.groupby("method")["mean"].idxmax()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.rate_search", description=__doc__)
    parser.add_argument("profile", nargs="?", default="demo", help=f"{' or '.join(PROFILES)} (default: demo)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these systems only")
    parser.add_argument("--jobs", type=int, default=usable_cores(), metavar="N", help="runs at once (default: cores)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _search(options), kept="run the same command again and it resumes")


def _search(options: argparse.Namespace) -> None:
    profile = find_profile(options.profile)
    source = held_out(open_source(profile.dataset))
    searched = [find_experiment(name) for name in options.only or ()] or SEARCHED
    runs = [run for experiment in searched for run in search_runs(experiment, profile, source)]
    if device().type == "cuda" and profile.recipe.optimizer == "adamw":
        together.train(runs)
    failed = do_all(runs, options.jobs, retrain=True)
    if failed:
        raise MulaError("; ".join(f"{run}, learning rate {run.recipe.learning_rate:g}, {run.note}" for run in failed))
    path, table = results_folder(profile, source) / "learning_rates.csv", search_table(runs)
    if path.is_file():
        kept = pd.read_csv(path)
        table = pd.concat([kept[~kept["method"].isin(table["method"])], table], ignore_index=True)
    write_text(path, table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
