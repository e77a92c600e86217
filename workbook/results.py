"""The tables of ``results/<profile>/``: the paper's number beside ours, and where each came from."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mula_lib.checkpoint import read_facts, save_weights
from mula_lib.files import ConfigError, write_bytes, write_json, write_text
from workbook.datasets import CROWDS, REPOSITORY, Source
from workbook.experiments import Profile
from workbook.runs import RESULTS, Run, results_folder
from workbook.tables import COMPARED_TABLES, METRICS, table_rows

COLUMNS = (
    "method", "metric", "paper", "ours", "std", "seeds", "delta_vs_baseline", "paper_delta_vs_baseline", "source",
    "params", "gflops", "train_seconds", "images_per_second", "dataset", "profile", "note",
)  # fmt: skip
PACKAGES = ("torch", "numpy", "opencv-python-headless", "pandas", "anny", "embreex")


def find_seeds(seeds: object) -> list[int]:
    """``seeds`` as a list of different whole numbers from 0, at least one; ConfigError for anything else."""
    right = isinstance(seeds, (list, tuple)) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not right or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds={seeds!r}: give a list of different whole numbers from 0, such as [0] or [0, 1, 2]")
    return list(seeds)


def run_label(profile: str, data: str, seeds: Sequence[int]) -> str:
    """Where our numbers come from, for every figure: ``smoke profile, fixture data, seed 0``."""
    return f"{profile} profile, {data} data, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds)) or 'none'}"


def table_label(table: pd.DataFrame) -> str:
    """The same of the lines of a table, or of several."""
    texts = set(table["seeds"].dropna()) - {""}
    seeds = sorted({int(seed) for text in texts for seed in text.split()})
    label = run_label(table["profile"].iloc[0], " and ".join(table["dataset"].unique()), seeds)
    return label + (" (not all in every row)" if len(texts) > 1 else "")


Runs = dict[str, list[Run]]  # of each row, by method


def table_runs(table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,)) -> Runs:
    """The runs of each row of a table, finished or not: of ``seeds``, and of every other seed with committed counts."""
    found = {row.name: [] for row in table_rows(table)}
    for row in (row for row in table_rows(table) if row.experiment):
        counts = Run(row.experiment, profile, source).shipped_counts
        committed = counts.parent.glob(counts.name.replace("-0.npz", "-*.json"))
        every = {*seeds, *(int(path.stem.rpartition("-")[2]) for path in committed)}
        runs = [Run(row.experiment, profile, source, seed) for seed in sorted(every)]
        found[row.name] = [run for run in runs if run.seed in seeds or run.metrics is not None]
    return found


def do_table(
    table: int, profile: Profile, source: Source, seeds: Sequence[int] = (0,), *, train: bool = False
) -> tuple[pd.DataFrame, Runs]:
    """Do a table's runs that need no training, and with ``train`` those that do; then write the table.

    Returns the table and the finished runs of each row. For each missing run, the command that makes it is printed.
    """
    runs = table_runs(table, profile, source, seeds)
    for run in (run for each in runs.values() for run in each):
        if run.do(train=train and not run.trained).metrics is None:
            print(f"{run.experiment.name}, seed {run.seed}: {run.note}")
    return write_table(table, profile, source, runs), _finished(runs)


def _finished(runs: Runs) -> Runs:
    return {name: [run for run in each if run.metrics is not None] for name, each in runs.items()}


def write_table(table: int, profile: Profile, source: Source, runs: Runs) -> pd.DataFrame:
    """Write ``table<n>.csv``, a line per method and metric in percent, and its ``.provenance.json``; returns the table.

    ``ours`` is the mean over the finished seeds and ``std`` their sample standard deviation (empty below two seeds);
    ``delta_vs_baseline`` is the mean difference over the seeds that the row and its baseline share. Costs are those of
    the first finished seed, because others may have run on other hardware; where that one was trained on other hardware
    than its baseline, ``train_seconds`` is empty. A row without a finished run keeps the paper's number alone and says
    ``source = quoted``. A metric that the paper does not report has a line for rows that can be run. ``note`` says what
    a row is, which training ended early or failed, and how to get a row that is missing.
    """
    rows, done = {row.name: row for row in table_rows(table)}, _finished(runs)

    def ours(name: str, metric: str) -> pd.Series:
        return pd.Series({run.seed: run.scores[metric] for run in done[name]}, dtype=float)

    lines = []
    for name, row in rows.items():
        noted = done[name] or runs[name]  # with some seeds done, a missing one needs no note
        notes = [row.note, *(f"seed {run.seed}: {run.note}" for run in noted if run.note)]
        first, base = (done[each][0].metrics if done[each] else {} for each in (name, row.baseline))
        if base and base.get("trained_on") != first.get("trained_on"):
            first = first | {"train_seconds": None}
        for metric in METRICS[table] if row.experiment else row.paper:
            scores, paper = ours(name, metric), row.paper.get(metric, np.nan)
            facts = {
                "method": name,
                "metric": metric,
                "paper": paper,
                "ours": round(float(scores.mean()), 2),
                "std": round(float(scores.std()), 2),
                "seeds": " ".join(map(str, scores.index)),
                "delta_vs_baseline": round((scores - ours(row.baseline, metric)).mean(), 2),
                "paper_delta_vs_baseline": round(paper - rows[row.baseline].paper.get(metric, np.nan), 2),
                "source": "ran" if done[name] else "quoted",
                **{cost: first.get(cost) for cost in ("params", "gflops", "train_seconds", "images_per_second")},
                "dataset": source.name,
                "profile": profile.name,
                "note": "; ".join(filter(None, notes)),
            }
            lines.append(facts)
    frame = pd.DataFrame(lines, columns=COLUMNS)
    path = results_folder(profile, source) / f"table{table}.csv"
    write_text(path, frame.to_csv(index=False))
    finished = [run for each in done.values() for run in each]
    write_json(path.with_suffix(".provenance.json"), provenance(profile, source, finished))
    return frame


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"seeds": str})


def provenance(profile: Profile, source: Source, finished: Sequence[Run]) -> dict:
    """What made a table: the code, packages and machine that wrote it; the data; where its networks were trained."""
    machine = {"system": platform.system(), "processor": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine |= {"gpu": torch.cuda.get_device_name(), "tf32": "in training, and in convolutions of tests"}
    return {
        "git_commit": _git_commit(),
        "profile": profile.name,
        "dataset": source.name,
        "data_fingerprint": source.fingerprint,
        "val_images": len(source.val),
        "seeds": sorted({run.seed for run in finished}),
        "trained_on": sorted(filter(None, {run.metrics["trained_on"] for run in finished})),
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


def ship(run: Run) -> None:
    """Store the files of a run tested here to commit: its counts and metrics, and for seed 0 its network in fp16."""
    if "weights" not in (run.metrics or ()):
        return
    write_bytes(run.shipped_counts, (run.folder / "evaluation.npz").read_bytes())
    write_json(run.shipped_counts.with_suffix(".json"), {n: v for n, v in run.metrics.items() if n != "weights"})
    if run.seed == 0:
        save_weights(run.shipped_weights, run.model(), read_facts(run.weights)[1], half=True)


def searched_rates(names: Sequence[str]) -> pd.DataFrame:
    """The committed trials of these systems, one row each: mean score on held-out training images at each rate, %."""
    trials = pd.read_csv(RESULTS / "demo" / "learning_rates.csv")
    scores = trials.pivot(index="method", columns="rate", values="mean").add_prefix("rate × ")
    chosen = trials[trials["chosen"]].set_index("method")["rate"].rename("chosen")
    return scores.join(chosen).loc[[name for name in names if name in scores.index]]


def side_by_side(number: int, table: pd.DataFrame) -> pd.DataFrame:
    """Table ``number`` to read: one row per method; per metric, the paper's number, ours, and both differences Δ.

    The headings of our columns name profile and data set; a dash marks a row that was not run, or a task that it does
    not have. Compared systems have costs instead of differences, and the paper's column only where it has the metric.
    """
    scores = _by_heading(table, ["paper", "ours"], "{:.1f}")
    if number not in COMPARED_TABLES:
        gains = _by_heading(table, ["paper_delta_vs_baseline", "delta_vs_baseline"], "{:+.1f}")
        return pd.concat([scores, gains], axis=1).swaplevel(axis=1)[table["metric"].unique()]
    reported = table.dropna(subset="paper")["metric"].unique()
    scores = scores[[column for column in scores if column[0].startswith("ours") or column[1] in reported]]
    costs = table.drop_duplicates("method").set_index("method")
    scores["cost", "parameters"] = _text(costs["params"], "{:,.0f}")
    scores["cost", "GFLOPs"] = _text(costs["gflops"], "{:.3f}")
    return scores


def _by_heading(table: pd.DataFrame, names: list[str], form: str) -> pd.DataFrame:
    """One row per method, a column for each of ``names`` and each metric, in the table's order."""
    first, metrics = table.iloc[0], table["metric"].unique()
    data = "PASCAL-Person-Part" if first["dataset"] in CROWDS else "LIP"
    headings = {"paper": f"paper ({data})", "ours": f"ours ({first['profile']}, {first['dataset']})"}
    headings |= {"paper_delta_vs_baseline": "paper Δ", "delta_vs_baseline": "ours Δ"}
    text = table.set_index(["method", "metric"])[names].apply(_text, form=form).rename(columns=headings)
    order = pd.MultiIndex.from_product([text.columns, metrics])
    return text.unstack().reindex(table["method"].unique(), columns=order).rename_axis("method").fillna("–")


def _text(values: pd.Series, form: str) -> pd.Series:
    # + 0.0: no minus sign before a zero
    return values.map(lambda value: "–" if pd.isna(value) else form.format(round(value, int(form[-3])) + 0.0))
