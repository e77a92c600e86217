"""Scores against budget: does MuLA's gain grow or shrink as training approaches the paper's?

``python -m tools.learning_curves`` trains MuLA and its baselines for other numbers of epochs and pictures, and adds
what is finished to ``results/<profile>/learning_curves.csv``. Runs are resumable.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pandas as pd

from mula_lib.data.lip import read_split
from mula_lib.files import MulaError, exit_status, usable_cores, write_text
from rendered_people.dataset import ensure_people
from workbook.datasets import RENDERED, Source, open_source
from workbook.experiments import find_experiment, find_profile
from workbook.jobs import do_all
from workbook.runs import Run, results_folder

NETWORKS = ("VGG16-FCN", "VGG16-FCN-MuLA", "HG-0s-1u-MuLA", "HG-1s-1u-MuLA")  # each baseline, then MuLA
EPOCHS = (12, 24, 40, 80)


def first_pictures(source: Source, count: int | None) -> Source:
    """``source`` with only the first ``count`` of its training images; None: all of them.

    If it has fewer, more are rendered: the images of a larger rendering begin with those of a smaller one.
    """
    if count is None or count == len(source.train):
        return source
    train = source.train
    if count > len(train):
        larger = replace(RENDERED[source.name], train=count)
        train = read_split(ensure_people(larger, source.root.parent, splits=("train",)), "train")
    first = replace(train, records=train.records[:count])
    name, fingerprint = f"{source.name}-{count}", f"{source.fingerprint}, the first {count}"
    return replace(source, name=name, other_train=first, fingerprint=fingerprint)


def curve_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per finished run."""
    lines = [
        {
            "method": run.experiment.name,
            "seed": run.seed,
            "epochs": run.recipe.epochs,
            "pictures": len(run.source.train),
            **{name: round(run.scores[name], 2) for name in ("PCK", "mIoU")},
        }
        for run in runs
        if run.metrics is not None
    ]
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.learning_curves", description=__doc__)
    parser.add_argument("profile", nargs="?", default="demo", help="default: demo")
    parser.add_argument("--only", nargs="+", metavar="ROW", default=NETWORKS, help="these networks")
    parser.add_argument("--epochs", nargs="+", type=int, metavar="N", default=EPOCHS, help="default: 12 24 40 80")
    parser.add_argument("--pictures", type=int, metavar="N", help="training pictures (default: the data set's)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", default=[0], help="these (default: 0)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), metavar="N", help="runs at once (default: cores)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _measure(options), kept="run the same command again and it resumes")


def _measure(options: argparse.Namespace) -> None:
    profile = find_profile(options.profile)
    source = open_source(profile.dataset)
    pictures = first_pictures(source, options.pictures)
    budgets = product(options.only, options.epochs, options.seeds)
    runs = [Run(find_experiment(name), profile.for_epochs(epochs), pictures, seed) for name, epochs, seed in budgets]
    failed = do_all([run for run in runs if run.metrics is None], options.jobs)  # the others have scores, as in tables
    table, path = curve_table(runs), results_folder(profile, source) / "learning_curves.csv"
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
    table = table.drop_duplicates(["method", "seed", "epochs", "pictures"], keep="last")
    table = table.sort_values(["method", "pictures", "epochs", "seed"], kind="stable")
    write_text(path, table.to_csv(index=False))
    print(table.to_string(index=False))
    if failed:
        raise MulaError("; ".join(f"{run}, {run.recipe.epochs} epochs, {run.note}" for run in failed))


if __name__ == "__main__":
    sys.exit(main())
