"""Scores against budget: does MuLA's gain grow or shrink as training approaches the paper's?

``python -m tools.learning_curves`` trains MuLA and its baselines for fewer and more epochs, and with fewer pictures for
as many updates, and adds what is finished to ``results/<profile>/learning_curves.csv``. Runs are resumable.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from mula_lib.files import exit_status, usable_cores, write_text
from workbook.datasets import open_source
from workbook.experiments import find_experiment, find_profile
from workbook.jobs import do_all
from workbook.runs import RUNS, Run, results_folder

NETWORKS = ("VGG16-FCN", "VGG16-FCN-MuLA", "HG-0s-1u-MuLA", "HG-1s-1u-MuLA")  # each baseline, then MuLA
EPOCHS = (12, 24, 40, 80)


def budget_run(name: str, profile: str, epochs: int, pictures: int | None = None, seed: int = 0) -> Run:
    """The run of one network for ``epochs`` epochs of the first ``pictures`` training images, by default of all."""
    size = find_profile(profile)
    source = open_source(size.dataset)
    if pictures is not None and pictures != len(source.train):
        few = replace(source.train, records=source.train.records[:pictures])
        source = replace(source, other_train=few, fingerprint=f"{source.fingerprint}, the first {pictures}")
    vgg = size.vgg | {"recipe": size.vgg.get("recipe", {}) | {"epochs": epochs}}
    size = replace(size, recipe=replace(size.recipe, epochs=epochs), vgg=vgg)
    base = RUNS / "learning-curves" / f"{epochs}-epochs-{pictures or 'all'}"
    return Run(find_experiment(name), size, source, seed, base)


def curve_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One line per finished run."""
    lines = [
        {
            "method": run.experiment.name,
            "seed": run.seed,
            "epochs": run.recipe.epochs,
            "pictures": len(run.source.train),
            **{name: round(run.scores[name], 2) for name in ("PCK", "mIoU")},
            "train_seconds": run.metrics["train_seconds"],
        }
        for run in runs
        if run.metrics is not None
    ]
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.learning_curves", description=__doc__)
    parser.add_argument("profile", nargs="?", default="study", help="default: study")
    parser.add_argument("--only", nargs="+", metavar="ROW", default=NETWORKS, help="these networks")
    parser.add_argument("--epochs", nargs="+", type=int, metavar="N", default=EPOCHS, help="default: 12 24 40 80")
    parser.add_argument("--pictures", type=int, metavar="N", help="train with the first N pictures (default: all)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), metavar="N", help="runs at once (default: cores)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _measure(options), kept="run the same command again and it resumes")


def _measure(options: argparse.Namespace) -> None:
    runs = [budget_run(name, options.profile, epochs, options.pictures) for name in options.only
            for epochs in options.epochs]  # fmt: skip
    do_all(runs, options.jobs)
    table = curve_table(runs)
    path = results_folder(find_profile(options.profile), runs[0].source) / "learning_curves.csv"
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
    table = table.drop_duplicates(["method", "seed", "epochs", "pictures"], keep="last")
    table = table.sort_values(["method", "pictures", "epochs"], kind="stable")
    write_text(path, table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
