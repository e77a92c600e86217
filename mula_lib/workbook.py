"""``run_all.sh`` behind the scenes: data, training of every wanted row, then the notebooks in order.

Training happens here, with progress bars in the terminal and several rows at once; the notebooks then find every run
finished. They could train on their own, one row after the other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch
from tqdm.auto import tqdm

from mula_lib import processes, training
from mula_lib.comparison import run_label, side_by_side
from mula_lib.data.sources import REPOSITORY, Source, open_source
from mula_lib.errors import ConfigError, MulaError
from mula_lib.experiments import EXPERIMENTS, TABLES, Experiment, find_experiment
from mula_lib.machine import usable_cores
from mula_lib.profiles import PROFILES, Profile, find_profile
from mula_lib.results import build_table, results_folder
from mula_lib.runs import Run, RunResult, do_run, ship_weights, wanted_runs

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = REPOSITORY / "runs" / "notebooks"
MENDABLE = 2  # exit status of an error that is the user's to mend
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m mula_lib.workbook [PROFILE] [options]``; returns the exit status."""
    options = _parser().parse_args(arguments)
    with processes.joined():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    started = time.perf_counter()
    try:
        profile = find_profile(options.profile)
        if options.seeds < 1 or options.jobs < 1:
            raise ConfigError("--seeds and --jobs count from 1")
        only = [find_experiment(name) for name in options.only or ()]
        seeds = tuple(range(options.seeds))
        with processes.first_ahead():
            source = open_source(options.dataset or profile.dataset, path=options.data)
        runs = _wanted(profile, source, seeds, only, options)
        if processes.rank() > 0:
            for run in _longest_first(runs):
                do_run(run, retrain=options.retrain, save_memory=options.save_memory)
            return 0
        counts = f"{len(source.train)} train and {len(source.val)} val images"
        print(f"MuLA workbook, profile {profile.name}: {len(runs)} runs; data: {source.name}, {counts}", flush=True)
        train_rows(runs, 1 if processes.count() > 1 else options.jobs, options.retrain, options.save_memory)
        if options.ship:
            for run in runs:
                print(f"shipped {ship_weights(run.result()).relative_to(REPOSITORY)}")
        if not options.no_notebooks:
            execute_notebooks(profile, source, seeds)
        for table in TABLES:
            print(f"\nTable {table} ({run_label(profile, source, seeds)})")
            print(side_by_side(build_table(table, profile, source, seeds)).to_string())
    except MulaError as error:
        print(f"run_all: {error}", file=sys.stderr)
        return MENDABLE
    except KeyboardInterrupt:
        print("\nrun_all: interrupted; nothing is lost: run the same command again and it goes on", file=sys.stderr)
        return INTERRUPTED
    print(f"\ndone in {_clock(time.perf_counter() - started)}; tables and figures: {results_folder(profile, source)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("profile", nargs="?", default="demo", help=f"{' or '.join(PROFILES)} (default: demo)")
    parser.add_argument("--all-rows", action="store_true", help="train every row, not only the profile's core rows")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="train these rows only, by the paper's names")
    parser.add_argument("--retrain", action="store_true", help="train even where weights are shipped")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of every row (default: 1)")
    parser.add_argument("--dataset", help="fixture, people or lip (default: the profile's)")
    parser.add_argument("--data", metavar="PATH", help="where the data set lies")
    cores = usable_cores()
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help=f"rows trained at once (default: {cores})")
    parser.add_argument("--save-memory", action="store_true", help="train stage by stage: less memory, more time")
    parser.add_argument("--ship", action="store_true", help="store the trained weights in weights/, to be committed")
    parser.add_argument("--no-notebooks", action="store_true", help="stop after training")
    return parser


def _wanted(
    profile: Profile, source: Source, seeds: Sequence[int], only: Sequence[Experiment], options: argparse.Namespace
) -> list[Run]:
    if only or options.all_rows:
        return [Run(row, profile, source, seed) for row in only or EXPERIMENTS for seed in seeds]
    return [run for table in TABLES for run in wanted_runs(table, profile, source, seeds)]


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
    return sorted(runs, key=lambda run: -len(run.experiment.interactions))


def _announce(result: RunResult, number: int, total: int) -> None:
    name, scores = result.run.experiment.name, result.scores
    figures = f"PCK {scores['PCK']:.1f}, mIoU {scores['mIoU']:.1f}"
    tqdm.write(f"[{number}/{total}] {name}, seed {result.run.seed}: {figures}")


def _begin_worker(lines: multiprocessing.Queue) -> None:
    """One line for this process's progress bars, one thread for its arithmetic; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training.show_bars_on_line(lines.get())
    torch.set_num_threads(1)


def execute_notebooks(profile: Profile, source: Source, seeds: Sequence[int]) -> None:
    """Execute every notebook with papermill for ``profile``; the executed copies go to ``runs/notebooks/<profile>``.

    Raises:
        ConfigError: a notebook lacks a parameter it is given.
        MulaError: a cell failed; the message names notebook and cell.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    given = {"profile": profile.name, "dataset": source.name, "data_path": str(source.root), "seeds": list(seeds)}
    for number, notebook in enumerate(notebooks, start=1):
        known = set(papermill.inspect_notebook(str(notebook)))
        missing = sorted(set(given) - known)
        if missing:
            raise ConfigError(f"{notebook}: no parameter {', '.join(missing)}; add it to the cell tagged 'parameters'")
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
        print(f"[{number}/{len(notebooks)}] {notebook.name} in {_clock(time.perf_counter() - started)}", flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    sys.exit(main())
