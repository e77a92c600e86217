"""The tables of ``results/<profile>/``: the paper's number beside ours, and where each came from.

``python -m workbook.results`` writes the README's table of results from the CSVs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mula_lib.files import LOCK, ConfigError, DataError, exit_status, locked, write_json, write_text
from workbook.datasets import CROWDS, REPOSITORY, Source
from workbook.experiments import Profile
from workbook.jobs import to_train
from workbook.runs import RESULTS, Run, results_folder
from workbook.tables import METRICS, Row, table_rows

COLUMNS = (
    "method", "metric", "paper", "ours", "std", "seeds", "delta_vs_baseline", "paper_delta_vs_baseline", "source",
    "params", "gflops", "train_seconds", "images_per_second", "dataset", "profile", "note",
)  # fmt: skip
PACKAGES = ("torch", "numpy", "opencv-python-headless", "pandas", "anny", "embreex")
PAPER_DATA = {False: "LIP", True: "PASCAL-Person-Part"}  # what the paper's numbers are of; by: several people?


def find_seeds(seeds: object) -> list[int]:
    """``seeds`` as a list of different whole numbers from 0, at least one; ConfigError for anything else."""
    right = isinstance(seeds, (list, tuple)) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not right or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds={seeds!r}: give a list of different whole numbers from 0, such as [0] or [0, 1, 2]")
    return list(seeds)


def run_label(profile: Profile, source: Source, seeds: Sequence[int]) -> str:
    """What our numbers are of, for every figure and table: ``smoke profile, fixture data, seed 0``."""
    numbers = ", ".join(map(str, seeds))
    return f"{profile.name} profile, {source.name} data, seed{'s' if len(seeds) > 1 else ''} {numbers}"


# From runs to a table

Runs = dict[str, list[Run]]  # of each row, by method


def table_runs(
    table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,), known: dict[Path, Run] | None = None
) -> Runs:
    """The runs of each row of a table, finished or not: of ``seeds``, and of every other seed with committed counts.

    ``known`` collects runs by folder, so that rows which mean one training share one.
    """
    known, found = {} if known is None else known, {}
    for row in table_rows(table):
        runs = [Run(row.experiment, profile, source, seed) for seed in seeds] if row.experiment else []
        if runs:
            stem = runs[0].shipped_counts.stem.rpartition("-")[0]
            paths = (results_folder(profile, source) / "counts").glob(f"{stem}-*.json")
            others = (int(path.stem.rpartition("-")[2]) for path in paths)
            more = [Run(row.experiment, profile, source, seed) for seed in others if seed not in seeds]
            runs += [run for run in more if run.metrics is not None]
        found[row.name] = sorted((known.setdefault(run.folder, run) for run in runs), key=lambda run: run.seed)
    return found


def finished_runs(table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,)) -> Runs:
    """The finished runs of each row of a table; a row that was not run has an empty list."""
    return _finished(table_runs(table, profile, source, seeds))


def do_table(
    table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,), *, train: bool = False
) -> Runs:
    """The finished runs of each row of a table, after doing those that need no training, and with ``train`` core rows.

    A run that is missing is printed with the command that makes it.
    """
    runs = table_runs(table, profile, source, seeds)
    every = [run for each in runs.values() for run in each]
    core = to_train(every) if train else []
    for run in every:
        run.do(train=run in core)
        if run.metrics is None:
            print(f"{run.experiment.name}, seed {run.seed}: {run.note}")
    return _finished(runs)


def _finished(runs: Runs) -> Runs:
    return {name: [run for run in each if run.metrics is not None] for name, each in runs.items()}


def build_table(
    table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,), runs: Runs | None = None
) -> pd.DataFrame:
    """One line a method and metric, in :data:`COLUMNS`; percentages.

    ``ours`` is the mean over the finished seeds and ``std`` their sample standard deviation (empty below two seeds).
    A row without a finished run keeps the paper's number alone and says ``source = quoted``. A metric that the paper
    does not report has a line for rows that can be run, without the paper's number. ``note`` says what a row is, which
    training ended early or failed, and how to get a row that is missing.
    """
    runs = table_runs(table, profile, source, seeds) if runs is None else runs
    finished, rows = _finished(runs), {row.name: row for row in table_rows(table)}
    lines = []
    for method, row in rows.items():
        for metric in METRICS[table] if row.experiment else row.paper:
            quoted = row.paper.get(metric)
            scores = {name: [run.scores[metric] for run in finished[name]] for name in (method, row.baseline)}
            mean = {name: round(float(np.mean(each)), 2) if each else None for name, each in scores.items()}
            ours = scores[method]
            facts = {
                "method": method,
                "metric": metric,
                "paper": quoted,
                "ours": mean[method],
                "std": round(float(np.std(ours, ddof=1)), 2) if len(ours) > 1 else None,
                "seeds": " ".join(str(run.seed) for run in finished[method]),
                "delta_vs_baseline": _difference(mean[method], mean[row.baseline]),
                "paper_delta_vs_baseline": _difference(quoted, rows[row.baseline].paper.get(metric)),
                "source": "ran" if ours else "quoted",
                "dataset": source.name,
                "profile": profile.name,
                "note": _note(row, runs[method]),
            }
            lines.append(facts | _costs(finished[method]))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_table(
    table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,), runs: Runs | None = None
) -> pd.DataFrame:
    """Build a table and write ``table<n>.csv`` and its ``.provenance.json``, atomically; returns the table."""
    frame = build_table(table, profile, source, seeds, runs)
    path = results_folder(profile, source) / f"table{table}.csv"
    with locked(path.parent / LOCK, f"the tables in {path.parent}"):  # so that both are of one call
        write_text(path, frame.to_csv(index=False))
        write_json(path.with_suffix(".provenance.json"), provenance(profile, source, seeds))
    return frame


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame | None:
    """A table as it was written, None where there is none; DataError if it is damaged or lacks one of ``columns``."""
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"seeds": str})
        absent = [name for name in columns if name not in table]
    except ValueError as error:  # of pandas, and of text that is not UTF-8
        raise DataError(f"{path}: not a whole table ({error}); run ./run_all.sh again") from error
    if absent:
        raise DataError(f"{path}: a table without the columns {', '.join(absent)}; run ./run_all.sh again")
    return table


def provenance(profile: Profile, source: Source, seeds: Sequence[int]) -> dict:
    """What made a result: code, packages, machine, seeds and data."""
    machine = {"system": platform.system(), "processor": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
        machine |= {"gpu": torch.cuda.get_device_name(), "tf32": tf32}
    return {
        "git_commit": _git_commit(),
        "profile": profile.name,
        "dataset": source.name,
        "data_fingerprint": source.fingerprint,
        "val_images": len(source.val),
        "seeds": list(seeds),
        "bf16": profile.recipe.bf16,
        "python": platform.python_version(),
        "packages": {each.name: each.version for each in map(importlib.metadata.distribution, PACKAGES)},
        "machine": machine,
    }


def _note(row: Row, runs: Sequence[Run]) -> str:
    some = any(run.metrics is not None for run in runs)  # with some seeds there, a missing one is no news
    notes = {run.seed: run.note for run in runs if run.note and (run.metrics is not None or not some)}
    return "; ".join(filter(None, (row.note, *(f"seed {seed}: {note}" for seed, note in notes.items()))))


def _difference(value: float | None, baseline: float | None) -> float | None:
    return None if value is None or baseline is None else round(value - baseline, 2)


def _costs(runs: Sequence[Run]) -> dict:
    names = ("params", "gflops", "train_seconds", "images_per_second")
    if not runs:
        return dict.fromkeys(names)
    means = {name: round(float(np.mean([run.metrics[name] for run in runs])), 1) for name in names[2:]}
    return {name: runs[0].metrics[name] for name in names[:2]} | means


def _git_commit() -> str:
    """The commit checked out, with ``+changes`` where tracked files differ; ``unknown`` outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        # results are written by the very run that asks, so they do not count as changes
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!notebooks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


# Tables for the eye


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table to read: a row a method, per metric the paper's number beside ours and both differences Δ to the
    baseline, in points.

    Our columns carry profile and data set in their heading; a row that was not run has a dash.
    """
    headings = {"paper": f"paper ({PAPER_DATA[table['dataset'].iloc[0] in CROWDS]})", "ours": _ours(table)}
    headings |= {"paper_delta_vs_baseline": "paper Δ", "delta_vs_baseline": "ours Δ"}
    columns = {}
    for metric, lines in _by_metric(table).items():
        for name, heading in headings.items():
            form = "{:+.1f}" if "delta" in name else "{:.1f}"
            columns[metric, heading] = [_shown(value, form) for value in lines[name]]
    return pd.DataFrame(columns, index=lines.index)


COSTS = {"params": ("parameters", "{:,.0f}"), "gflops": ("GFLOPs", "{:.3f}"), "train_seconds": ("train s", "{:,.0f}")}


def systems_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table of many systems to read: what the paper reports, all our scores, and what each one costs.

    A column of the paper stands only where it reports the metric of some row. A dash is a system that was not run, or
    does not have the task.
    """
    by_metric = _by_metric(table)
    columns = {
        (f"paper ({PAPER_DATA[False]})", metric): [_shown(value, "{:.1f}") for value in lines["paper"]]
        for metric, lines in by_metric.items()
        if lines["paper"].notna().any()
    }
    columns |= {
        (_ours(table), metric): [_shown(value, "{:.1f}") for value in lines["ours"]]
        for metric, lines in by_metric.items()
    }
    first = table.drop_duplicates("method").set_index("method")
    for name, (title, form) in COSTS.items():
        columns["cost", title] = ["–" if pd.isna(value) else form.format(value) for value in first[name]]
    return pd.DataFrame(columns, index=first.index)


def _ours(table: pd.DataFrame) -> str:
    return f"ours ({table['profile'].iloc[0]}, {table['dataset'].iloc[0]})"


def _by_metric(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    methods = pd.Index(dict.fromkeys(table["method"]), name="method")
    metrics = dict.fromkeys(table["metric"])
    return {metric: table[table["metric"] == metric].set_index("method").reindex(methods) for metric in metrics}


def _shown(value: float | None, form: str) -> str:
    return "–" if pd.isna(value) else form.format(round(value, 1) + 0.0)  # + 0.0: no minus sign before a zero


# The README's table

BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
# Which tables stand together, and the metrics that a reader looks for first.
PARTS = (
    ("Tables 1 and 2: MuLA and its ablations", (1, 2), ("PCK", "mIoU")),
    ("Tables 3 and 4: compared systems, one person", (3, 4), ("PCK", "mIoU")),
    ("Tables 5 and 6: several people", (5, 6), ("mAP", "mIoU")),
)


def summary(folder: Path) -> str:
    """Markdown: the paper's numbers beside ours for every row, from ``table<n>.csv``; DataError if one is missing."""
    text = ""
    for title, numbers, metrics in PARTS:
        paths = [folder / f"table{number}.csv" for number in numbers]
        for path in paths:
            if not path.is_file():
                raise DataError(f"{path}: no such table; ./run_all.sh writes it")
        lines = pd.concat([read_table(path, COLUMNS) for path in paths])
        heads = "".join(f" {metric}, paper | ours |" for metric in metrics)
        of = f"{lines['profile'].iloc[0]} profile, {lines['dataset'].iloc[0]} data"
        text += f"**{title}** (ours: {of})\n\n| |{heads}\n|---|{'---:|---:|' * len(metrics)}\n"
        for method, rows in lines.groupby("method", sort=False):
            text += f"| {method} |{''.join(_cells(rows, metric) for metric in metrics)}\n"
        text += "\n"
    return text


def _cells(rows: pd.DataFrame, metric: str) -> str:
    """The paper's number and ours ± spread; a row of two tables has the same of ours in both."""
    found = rows[rows["metric"] == metric].ffill().bfill()[["paper", "ours", "std"]].head(1)
    paper, ours, std = found.iloc[0] if len(found) else (None, None, None)
    return f" {_shown(paper, '{:.1f}')} | {_shown(ours, '{:.1f}')}{'' if pd.isna(std) else f' ± {std:.1f}'} |"


def update(readme: Path, folder: Path) -> None:
    """Put the summary of ``folder`` between the marks in ``readme``; DataError where they are missing."""
    page = readme.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise DataError(f"{readme}: no lines {BEGIN.strip()} and {END.strip()} to write between")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    write_text(readme, page[:start] + "\n" + summary(folder) + page[end:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.results", description="Update the README's results.")
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS / "demo", help="default: the demo's")
    options = parser.parse_args(arguments)
    return exit_status(lambda: update(REPOSITORY / "README.md", options.folder), kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
