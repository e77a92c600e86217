"""Runs -> the tables of ``results/<profile>/``: the paper's number beside ours, and where each came from."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mula_lib.files import LOCK, DataError, locked, shown, usable_cores, write_json, write_text
from workbook.datasets import REPOSITORY, Source
from workbook.profiles import Profile
from workbook.runs import Run, RunResult
from workbook.tables import METRICS, Row, table_rows

COLUMNS = (
    "method", "metric", "paper", "ours", "std", "seeds", "delta_vs_baseline", "paper_delta_vs_baseline", "source",
    "params", "gflops", "train_seconds", "images_per_second", "dataset", "profile", "note",
)  # fmt: skip
PACKAGES = ("torch", "numpy", "opencv-python-headless", "pandas", "anny", "embreex")


def results_folder(profile: Profile, source: Source) -> Path:
    """Where the tables of ``profile`` go; a data set that is not the profile's own has a folder of its own."""
    name = profile.name if source.name == profile.dataset else f"{profile.name}-{source.name}"
    return REPOSITORY / "results" / name


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame | None:
    """A table as it was written; None where there is none.

    Raises :class:`DataError` for a file that is damaged or lacks one of ``columns``.
    """
    if not path.is_file():
        return None
    mend = "delete it and run ./run_all.sh again"
    try:
        text = path.read_bytes().decode()
        widths = {len(row) for row in csv.reader(io.StringIO(text))}
        if not text.endswith("\n") or len(widths) != 1 or "\0" in text:  # a copy that was cut off, for instance
            raise ValueError("rows of different lengths")
        table = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""], dtype={"seeds": str})
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{shown(path)}: not a whole table ({type(error).__name__}); {mend}") from error
    absent = [name for name in columns if name not in table]
    if absent:
        raise DataError(f"{shown(path)}: a table without the columns {', '.join(absent)}; {mend}")
    return table


def finished_runs(table: int, profile: Profile, source: Source, seeds: Sequence[int]) -> dict[str, list[RunResult]]:
    """The finished runs of each row of a table, by method; a row that was not run has an empty list."""
    found = {}
    for row in table_rows(table):
        runs = [Run(row.experiment, profile, source, seed) for seed in seeds] if row.experiment else []
        found[row.name] = [result for run in runs if (result := run.result()) is not None]
    return found


def build_table(table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """One line a method and metric, in :data:`COLUMNS`; percentages.

    ``ours`` is the mean over the finished seeds and ``std`` their sample standard deviation (empty below two seeds).
    A row without a finished run keeps the paper's number alone and says ``source = quoted``. A metric that the paper
    does not report has a line for rows that can be run, without the paper's number. ``note`` says what a row is,
    why one is only quoted, and which training ended early.
    """
    runs = finished_runs(table, profile, source, seeds)
    rows = {row.name: row for row in table_rows(table)}
    lines = []
    for method, row in rows.items():
        for metric in METRICS[table] if row.experiment else row.paper:
            quoted = row.paper.get(metric)
            ours = _scores(runs[method], metric)
            compared = _scores(runs[row.baseline], metric)
            lines.append(
                {
                    "method": method,
                    "metric": metric,
                    "paper": quoted,
                    "ours": _mean(ours),
                    "std": round(float(np.std(ours, ddof=1)), 2) if len(ours) > 1 else None,
                    "seeds": " ".join(str(result.run.seed) for result in runs[method]),
                    "delta_vs_baseline": _difference(_mean(ours), _mean(compared)),
                    "paper_delta_vs_baseline": _difference(quoted, rows[row.baseline].paper.get(metric)),
                    "source": "ran" if ours else "quoted",
                    **_costs(runs[method]),
                    "dataset": source.name,
                    "profile": profile.name,
                    "note": _note(row, runs[method]),
                }
            )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_table(table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """Build a table and write ``table<n>.csv`` and its ``.provenance.json``, atomically; returns the table."""
    frame = build_table(table, profile, source, seeds)
    folder = results_folder(profile, source)
    path, origin = folder / f"table{table}.csv", provenance(profile, source, seeds)
    with locked(folder / LOCK, f"the tables in {folder}"):  # so that both are of one call
        write_text(path, frame.to_csv(index=False))
        write_json(path.with_suffix(".provenance.json"), origin)
    return frame


def provenance(profile: Profile, source: Source, seeds: Sequence[int]) -> dict:
    """What made a result: code, packages, machine, seeds and data."""
    return {
        "git_commit": _git_commit(),
        "profile": profile.name,
        "dataset": source.name,
        "data_fingerprint": source.fingerprint,
        "train_images": len(source.train),
        "val_images": len(source.val),
        "seeds": list(seeds),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": usable_cores()},
    }


def _note(row: Row, results: Sequence[RunResult]) -> str:
    troubles = (f"seed {each.run.seed}: {each.trouble}" for each in results if each.trouble)
    return "; ".join(filter(None, (row.note, *troubles)))


def _scores(results: Sequence[RunResult], metric: str) -> list[float]:
    return [result.scores[metric] for result in results]


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def _difference(value: float | None, baseline: float | None) -> float | None:
    return None if value is None or baseline is None else round(value - baseline, 2)


def _costs(results: Sequence[RunResult]) -> dict:
    if not results:
        return {"params": None, "gflops": None, "train_seconds": None, "images_per_second": None}
    metrics = [result.metrics for result in results]
    return {
        "params": metrics[0]["params"],
        "gflops": metrics[0]["gflops"],
        "train_seconds": round(float(np.mean([m["train_seconds"] for m in metrics])), 1),
        "images_per_second": round(float(np.mean([m["images_per_second"] for m in metrics])), 1),
    }


def _git_commit() -> str:
    """The commit checked out, with ``+changes`` where tracked files differ; ``unknown`` outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        # results are written by the very run that asks, so they do not count as changes
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!notebooks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
