"""``run_all.sh`` behind the scenes: data, training of every wanted row, then the notebooks in order.

Training happens here, with progress bars in the terminal and several rows at once; the notebooks then find every run
finished. They could train on their own, one row after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from mula_lib import processes, training
from mula_lib.commands import exit_status
from mula_lib.comparison import run_label, side_by_side, systems_side_by_side
from mula_lib.data.sources import CROWDS, REPOSITORY, SINGLE, Source, open_source
from mula_lib.errors import ConfigError, MulaError
from mula_lib.experiments import Experiment, find_experiment
from mula_lib.files import write_json
from mula_lib.machine import usable_cores
from mula_lib.profiles import PROFILES, Profile, find_profile
from mula_lib.report import write_report
from mula_lib.results import build_table, results_folder
from mula_lib.runs import Run, RunResult, do_run, ship_weights, wanted_runs
from mula_lib.tables import COMPARED_TABLES, CROWD_TABLES, TABLES, table_experiments

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = REPOSITORY / "runs" / "notebooks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m mula_lib.workbook [PROFILE] [options]``; returns the exit status."""
    options = _parser().parse_args(arguments)
    with processes.joined():
        return exit_status(lambda: _run(options), kept="nothing is lost: run the same command again and it goes on")


def _run(options: argparse.Namespace) -> None:
    started = time.perf_counter()
    profile = find_profile(options.profile)
    if options.seeds < 1 or options.jobs < 1:
        raise ConfigError("--seeds and --jobs count from 1")
    only = [find_experiment(name) for name in options.only or ()]
    seeds = tuple(range(options.seeds))
    with processes.first_ahead():
        halves = _halves(profile, options)
    wanted = (run for half in halves for run in _wanted(half, seeds, only, options))
    runs = list({run.folder: run for run in wanted}.values())  # one run may be of two tables
    if only and not runs:
        raise ConfigError(f"none of the rows asked for is in a table of {', '.join(map(str, options.tables))}")
    if processes.rank() == 0:
        data = "; ".join(str(half.source) for half in halves)
        print(f"MuLA workbook, profile {profile.name}: {len(runs)} runs; data: {data}", flush=True)
    train_rows(runs, 1 if processes.count() > 1 else options.jobs, options.retrain, options.save_memory)
    if processes.rank() > 0:
        return
    if options.ship:
        for run in runs:
            print(f"shipped {ship_weights(run.result()).relative_to(REPOSITORY)}")
    if not options.no_notebooks:
        execute_notebooks(profile, [half.source for half in halves], seeds)
    for half in halves:
        for table in half.tables:
            print(f"\nTable {table} ({run_label(half.profile, half.source, seeds)})")
            shown = systems_side_by_side if table in COMPARED_TABLES else side_by_side
            print(shown(build_table(table, half.profile, half.source, seeds)).to_string())
    folders = list(dict.fromkeys(results_folder(half.profile, half.source) for half in halves))
    if not options.no_notebooks:
        for folder in folders:
            print(f"\nreport: {write_report(folder)}")
    print(f"\ndone in {_clock(time.perf_counter() - started)}; tables and figures: {', '.join(map(str, folders))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("profile", nargs="?", default="demo", help=f"{' or '.join(PROFILES)} (default: demo)")
    parser.add_argument(
        "--tables", nargs="+", type=int, choices=TABLES, default=TABLES, metavar="N",
        help=f"only these of the tables {', '.join(map(str, TABLES))}",
    )  # fmt: skip
    parser.add_argument("--all-rows", action="store_true", help="train every row, not only the profile's core rows")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="train these rows only, by the paper's names")
    parser.add_argument("--retrain", action="store_true", help="train even where weights are shipped")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of every row (default: 1)")
    parser.add_argument("--dataset", help=f"of Tables 1 to 4: {', '.join(SINGLE)} (default: the profile's)")
    parser.add_argument("--data", metavar="PATH", help="where it lies")
    parser.add_argument("--crowd-dataset", help=f"of Tables 5 and 6: {', '.join(CROWDS)} (default: the profile's)")
    parser.add_argument("--crowd-data", metavar="PATH", help="where it lies")
    cores = usable_cores()
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help=f"rows trained at once (default: {cores})")
    parser.add_argument("--save-memory", action="store_true", help="train stage by stage: less memory, more time")
    parser.add_argument("--ship", action="store_true", help="store the trained weights in weights/, to be committed")
    parser.add_argument("--no-notebooks", action="store_true", help="stop after training")
    return parser


class Half(NamedTuple):
    """One half of the paper: its tables, and the profile and the data that they are made with."""

    tables: tuple[int, ...]
    profile: Profile
    source: Source


def _halves(profile: Profile, options: argparse.Namespace) -> list[Half]:
    """The halves that the wanted tables are of, their data opened (and rendered, if that is still to be done)."""
    halves = []
    for profile_of, tables, known, name, path in (
        (profile, [n for n in options.tables if n not in CROWD_TABLES], SINGLE, options.dataset, options.data),
        (profile.for_crowds(), [n for n in options.tables if n in CROWD_TABLES], CROWDS, options.crowd_dataset,
         options.crowd_data),
    ):  # fmt: skip
        if name and name not in known:
            raise ConfigError(f"unknown data set {name!r} for these tables; known: {', '.join(known)}")
        if tables:
            halves.append(Half(tuple(tables), profile_of, open_source(name or profile_of.dataset, path=path)))
    return halves


def _wanted(half: Half, seeds: Sequence[int], only: Sequence[Experiment], options: argparse.Namespace) -> list[Run]:
    if not only and not options.all_rows:
        return [run for table in half.tables for run in wanted_runs(table, half.profile, half.source, seeds)]
    rows = [row for table in half.tables for row in table_experiments(table) if not only or row in only]
    return [Run(row, half.profile, half.source, seed) for row in rows for seed in seeds]


def train_rows(runs: Sequence[Run], jobs: int, retrain: bool, save_memory: bool = False) -> None:
    """Do every run, up to ``jobs`` at once in processes of their own; the longest are begun first.

    The first failure is raised when the other runs have ended, so that one bad row costs no other row its work.
    """
    by_cost = _longest_first(runs)
    if jobs == 1 or len(runs) == 1:
        for number, run in enumerate(by_cost, start=1):
            _announce(do_run(run, retrain=retrain, save_memory=save_memory), number, len(runs))
        return
    failures = []
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    for line in range(jobs):
        lines.put(line)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(lines,)) as pool:
        pending = {pool.submit(do_run, run, retrain=retrain, save_memory=save_memory): run for run in by_cost}
        try:
            for number, future in enumerate(as_completed(pending), start=1):
                if future.exception() is None:
                    _announce(future.result(), number, len(runs))
                else:
                    failures.append(future.exception())
        except KeyboardInterrupt:  # whatever a worker is doing, its last whole epoch is on disk
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    if failures:
        if isinstance(failures[0], BrokenProcessPool):
            raise MulaError("a training process was killed, perhaps for memory; run again with --jobs 1: it goes on")
        raise failures[0]


def _longest_first(runs: Sequence[Run]) -> list[Run]:
    def cost(run: Run) -> int:
        profile = run.profile
        steps = len(run.source.train) * profile.recipe.epochs
        return steps * profile.crop**2 * len(run.experiment.interactions)

    return sorted(runs, key=cost, reverse=True)


def _announce(result: RunResult, number: int, total: int) -> None:
    if processes.rank() > 0:
        return
    name, scores = result.run.experiment.name, result.scores
    compared = (result.run.source.anatomy.pose_metric, "mIoU")
    figures = ", ".join(f"{key} {scores[key]:.1f}" for key in compared if not math.isnan(scores[key]))
    tqdm.write(f"[{number}/{total}] {name} ({result.run.source.name}), seed {result.run.seed}: {figures}")


def _begin_worker(lines: multiprocessing.Queue) -> None:
    """One line for this process's progress bars, one thread for its arithmetic; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training.show_bars_on_line(lines.get())
    torch.set_num_threads(1)


def execute_notebooks(profile: Profile, sources: Sequence[Source], seeds: Sequence[int]) -> None:
    """Execute every notebook with papermill for ``profile``; the executed copies go to ``runs/notebooks/<profile>``.

    A notebook gets that one of ``sources`` which is of the same kind as its own default: of one person an image, or of
    several. It is left out where there is none.

    Raises:
        ConfigError: a notebook lacks a parameter it is given.
        MulaError: a cell failed; the message names notebook and cell.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    planned = list(_with_sources(sources))
    took = _Durations(EXECUTED / profile.name / "seconds.json")
    begun = time.perf_counter()
    for number, (notebook, source) in enumerate(planned, start=1):
        left = took.estimate([path.name for path, _ in planned[number - 1 :]])
        print(
            f"[{number}/{len(planned)}] {notebook.name} begins; {_clock(time.perf_counter() - begun)} so far, "
            f"{f'about {_clock(left)} to go' if left else 'no estimate yet'}",
            flush=True,
        )
        given = {"profile": profile.name, "dataset": source.name, "data_path": str(source.root), "seeds": list(seeds)}
        started = time.perf_counter()
        output = EXECUTED / profile.name / notebook.name
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=given,
                kernel_name="python3",
                cwd=str(NOTEBOOKS),
                execution_timeout=profile.cell_timeout,
                progress_bar=False,
                # ipykernel warns of unencrypted loopback traffic at every start, which nobody here can mend
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )
        except PapermillExecutionError as error:
            raise MulaError(
                f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue} (executed copy: {output})"
            ) from error
        took.note(notebook.name, time.perf_counter() - started)


def _with_sources(sources: Sequence[Source]) -> Iterator[tuple[Path, Source]]:
    """The notebooks in order, each with that one of ``sources`` that it is for; those without are left out."""
    import papermill

    for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        known = papermill.inspect_notebook(str(notebook))
        missing = sorted({"profile", "dataset", "data_path", "seeds"} - set(known))
        if missing:
            raise ConfigError(f"{notebook}: no parameter {', '.join(missing)}; add it to the cell tagged 'parameters'")
        crowds = known["dataset"]["default"].strip("'\"") in CROWDS
        source = next((each for each in sources if each.anatomy.crowds == crowds), None)
        if source is not None:
            yield notebook, source


class _Durations:
    """How long each notebook took: in this execution, or else in the one before, which is kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: dict[str, float] = {}
        self.now: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no estimate is no loss
            found = json.loads(path.read_text(encoding="utf-8"))
            self.before = {str(name): float(seconds) for name, seconds in found.items()}

    def note(self, name: str, seconds: float) -> None:
        """Remember for the next time."""
        self.now[name] = round(seconds, 1)
        write_json(self.path, self.before | self.now)

    def estimate(self, names: Sequence[str]) -> float | None:
        """Seconds that these will take; None if nothing is known. One never seen counts as the mean of the others."""
        known = self.before | self.now
        if not known:
            return None
        mean = sum(known.values()) / len(known)
        return sum(known.get(name, mean) for name in names)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    sys.exit(main())
