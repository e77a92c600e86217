"""The tables of ``results/<profile>/``: the paper's number beside ours, and where each came from."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mula_lib.files import LOCK, ConfigError, DataError, locked, write_json, write_text
from workbook.datasets import CROWDS, REPOSITORY, Source
from workbook.experiments import Profile
from workbook.jobs import to_train
from workbook.runs import Run, results_folder
from workbook.tables import METRICS, table_rows

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
            counts = runs[0].shipped_counts
            paths = counts.parent.glob(f"{counts.stem.rpartition('-')[0]}-*.json")
            others = {int(path.stem.rpartition("-")[2]) for path in paths} - set(seeds)
            more = [Run(row.experiment, profile, source, seed) for seed in others]
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
        if run.do(train=run in core).metrics is None:
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

    def mean(values: Sequence[float], digits: int = 2) -> float | None:
        return round(float(np.mean(values)), digits) if values else None

    def difference(value: float | None, baseline: float | None) -> float | None:
        return None if value is None or baseline is None else round(value - baseline, 2)

    lines = []
    for method, row in rows.items():
        done = finished[method]
        missing = runs[method] if not done else ()  # with some seeds there, a missing one is no news
        notes = [f"seed {run.seed}: {run.note}" for run in (*done, *missing) if run.note]
        for metric in METRICS[table] if row.experiment else row.paper:
            quoted, scores = row.paper.get(metric), [run.scores[metric] for run in done]
            ours, base = mean(scores), mean([run.scores[metric] for run in finished[row.baseline]])
            facts = {
                "method": method,
                "metric": metric,
                "paper": quoted,
                "ours": ours,
                "std": round(float(np.std(scores, ddof=1)), 2) if len(scores) > 1 else None,
                "seeds": " ".join(str(run.seed) for run in done),
                "delta_vs_baseline": difference(ours, base),
                "paper_delta_vs_baseline": difference(quoted, rows[row.baseline].paper.get(metric)),
                "source": "ran" if done else "quoted",
                "params": done[0].metrics["params"] if done else None,
                "gflops": done[0].metrics["gflops"] if done else None,
                "train_seconds": mean([run.metrics["train_seconds"] for run in done], 1),
                "images_per_second": mean([run.metrics["images_per_second"] for run in done], 1),
                "dataset": source.name,
                "profile": profile.name,
                "note": "; ".join(filter(None, (row.note, *notes))),
            }
            lines.append(facts)
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
        if absent:
            raise ValueError(f"without {', '.join(absent)}")
    except ValueError as error:  # of pandas, and of text that is not UTF-8
        raise DataError(f"{path}: not a whole table ({error}); run ./run_all.sh again") from error
    return table


def provenance(profile: Profile, source: Source, seeds: Sequence[int]) -> dict:
    """What made a result: code, packages, machine, seeds and data."""
    machine = {"system": platform.system(), "processor": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine |= {"gpu": torch.cuda.get_device_name(), "tf32": "in training, and in convolutions of tests"}
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


def _git_commit() -> str:
    """The commit checked out, with ``+changes`` where tracked files differ from it; ``unknown`` outside a repository.

    Results are written by the very run that asks, so they do not count as changes.
    """
    git = ("git", "-C", str(REPOSITORY))
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!results", ":!notebooks"]).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


# Tables for the eye


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table to read: a row a method, per metric the paper's number beside ours and both differences Δ to the
    baseline, in points.

    Our columns carry profile and data set in their heading; a row that was not run has a dash.
    """
    of, ours = f"paper ({PAPER_DATA[table['dataset'].iloc[0] in CROWDS]})", _ours(table)
    headings = {"paper": of, "ours": ours, "paper_delta_vs_baseline": "paper Δ", "delta_vs_baseline": "ours Δ"}
    columns = {
        (metric, heading): _readable(lines[name], "{:+.1f}" if "delta" in name else "{:.1f}")
        for metric, lines in _by_metric(table).items()
        for name, heading in headings.items()
    }
    return pd.DataFrame(columns)


def systems_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table of many systems to read: what the paper reports, all our scores, and what each one costs.

    A column of the paper stands only where it reports the metric of some row. A dash is a system that was not run, or
    does not have the task.
    """
    by_metric, of = _by_metric(table), f"paper ({PAPER_DATA[False]})"
    columns = {(of, name): lines["paper"] for name, lines in by_metric.items() if lines["paper"].notna().any()}
    columns |= {(_ours(table), name): lines["ours"] for name, lines in by_metric.items()}
    columns = {heading: _readable(values, "{:.1f}") for heading, values in columns.items()}
    costs = table.drop_duplicates("method").set_index("method")
    columns["cost", "parameters"] = _readable(costs["params"], "{:,.0f}")
    columns["cost", "GFLOPs"] = _readable(costs["gflops"], "{:.3f}", digits=3)
    columns["cost", "train s"] = _readable(costs["train_seconds"], "{:,.0f}")
    return pd.DataFrame(columns)


def _ours(table: pd.DataFrame) -> str:
    return f"ours ({table['profile'].iloc[0]}, {table['dataset'].iloc[0]})"


def _by_metric(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    methods = pd.Index(dict.fromkeys(table["method"]), name="method")
    metrics = dict.fromkeys(table["metric"])
    return {metric: table[table["metric"] == metric].set_index("method").reindex(methods) for metric in metrics}


def _readable(values: pd.Series, form: str, digits: int = 1) -> pd.Series:
    # + 0.0: no minus sign before a zero
    return values.map(lambda value: "–" if pd.isna(value) else form.format(round(value, digits) + 0.0))
