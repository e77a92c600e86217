"""``run_all.sh``: runs what the tables need, then writes the tables, executes the notebooks and makes the report."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

import torch

from mula_lib import distributed as processes
from mula_lib.data.check import require_sound
from mula_lib.files import ConfigError, MulaError, exit_status, locked, require_writable, usable_cores
from workbook.datasets import REPOSITORY, VARIABLES, Source, open_source
from workbook.experiments import PROFILES, Experiment, Profile, find_experiment, find_profile
from workbook.jobs import do_all, execute_notebooks, to_do
from workbook.report import write_report
from workbook.results import Runs, ship, side_by_side, table_label, table_runs, write_table
from workbook.runs import RUNS, Run, results_folder
from workbook.tables import CROWD_TABLES, OF_CLAIMS, ROWS, TABLES, table_experiments


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m workbook.cli [PROFILE] [options]``; returns the exit status."""
    options = _parser().parse_args(arguments)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    if options.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for workers and notebooks too
    with processes.joined():
        return exit_status(lambda: _run(options), kept="run the same command again and it resumes")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("profile", nargs="?", default="demo", help=f"{', '.join(PROFILES)} (default: demo)")
    which = parser.add_argument_group("which rows")
    which.add_argument("--tables", nargs="+", type=int, choices=TABLES, metavar="N", help="only these tables")
    which.add_argument("--only", nargs="+", metavar="ROW", help="only these, by the paper's names; table2: all of it")
    which.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of every row (default: 1)")
    which.add_argument("--list", action="store_true", help="print the rows, one per line, and exit")
    data = parser.add_argument_group("data")
    data.add_argument("--lip", metavar="PATH", help="LIP, for Tables 1 to 4")
    data.add_argument("--pascal", metavar="PATH", help="PASCAL-Person-Part, for Tables 5 and 6")
    how = parser.add_argument_group("how")
    how.add_argument("--retrain", action="store_true", help="train even where weights are committed")
    how.add_argument("--jobs", type=int, metavar="N", help="parallel rows (default: one per GPU, else per core)")
    how.add_argument("--workers", type=int, metavar="N", help="processes that load images for each row")
    how.add_argument("--save-memory", action="store_true", help="train stage by stage: less memory, more time")
    how.add_argument("--compile", action="store_true", help="train with torch.compile: slow start, faster on a GPU")
    how.add_argument("--cpu", action="store_true", help="use no GPU, even for a profile that needs one")
    how.add_argument("--ship", action="store_true", help="store weights and counts in the repository, to commit")
    how.add_argument("--no-notebooks", action="store_true", help="stop after the tables")
    return parser


# One half of the paper, with one person per image or several: its profile, its data, and its tables' runs.
Half = tuple[Profile, Source, dict[int, Runs]]


def _run(options: argparse.Namespace) -> None:
    if min(options.seeds, 1 if options.jobs is None else options.jobs) < 1:
        raise ConfigError("--seeds and --jobs take whole numbers from 1")
    started, first, profile = time.perf_counter(), processes.rank() == 0, find_profile(options.profile)
    only, tables = _asked(options, profile)
    if options.list:
        sizes = {table: profile.for_crowds() if table in CROWD_TABLES else profile for table in tables}
        rows = [(row, size.core) for table, size in sizes.items() for row in table_experiments(table)]
        names = [row.name for row, core in rows if (row in only if only else not core or row.name in core)]
        return print(*dict.fromkeys(names), sep="\n")  # each once, in their order
    gpus = 0 if options.cpu else torch.cuda.device_count()
    if profile.needs_gpu and not gpus and not options.cpu:
        raise ConfigError(f"profile {profile.name} needs a GPU, and none was found; --cpu runs it on the CPU, in weeks")
    jobs = 1 if processes.count() > 1 else options.jobs or gpus or usable_cores()
    workers = options.workers if options.workers is not None else min(8, usable_cores() // jobs) if gpus else 0
    seeds = tuple(range(options.seeds))
    if not first:
        processes.wait()  # while the first one renders what is missing
    halves = _halves(profile, tables, seeds, options)
    chosen = _chosen(halves, seeds, only, options.retrain)
    for run in chosen:
        if options.retrain or not run.trained:
            len(run.source.train)  # rendered now, by all cores
    if first:
        processes.wait()
    if only and not chosen:
        raise ConfigError(f"none of the requested rows is in a requested table: {', '.join(map(str, tables))}")
    folders = sorted({results_folder(size, source) for size, source, _ in halves})
    if first:
        data = "; ".join(str(source) for _, source, _ in halves)
        print(f"MuLA workbook, profile {profile.name}: {len(chosen)} runs; data: {data}", flush=True)
        others = {run.folder for _, _, its in halves for rows in its.values() for runs in rows.values()
                  for run in runs if run.metrics is not None} - {run.folder for run in chosen}  # fmt: skip
        if others and not only:
            print(f"{len(others)} more runs keep their stored scores; --only table1, say, tests them again", flush=True)
        for folder in folders:
            require_writable(folder)  # now, not after the training
    how = {"retrain": options.retrain, "save_memory": options.save_memory, "compiled": options.compile}
    failed = do_all(chosen, jobs, **how, workers=workers)
    processes.leave()
    if not first:
        return
    for run in chosen if options.ship else ():
        ship(run)
    with locked(RUNS / f".{profile.name}.lock", f"the results of profile {profile.name}"):
        for size, source, its in halves:
            for table in its:
                if table != OF_CLAIMS:
                    runs = table_runs(table, size, source, seeds)  # read again: tables share runs
                    frame = write_table(table, size, source, runs)
                    print(f"\nTable {table} ({table_label(frame)})\n{side_by_side(table, frame).to_string()}")
        if not options.no_notebooks:
            restricted = tables if options.only or options.tables else ()
            execute_notebooks(profile, [source for _, source, _ in halves], seeds, restricted, jobs)
            for folder in folders:
                if list(folder.glob("table*.csv")):  # there is none of a row that is in no table
                    print(f"report: {write_report(folder)}")
    print(f"\ndone in {time.perf_counter() - started:.0f} s; results: {', '.join(map(str, folders))}")
    if failed:
        raise MulaError("; ".join(f"{run}, {run.note}" for run in failed))


def _asked(options: argparse.Namespace, profile: Profile) -> tuple[list[Experiment], list[int]]:
    """The requested rows, if any; and the requested tables, or else those of these rows, or else all."""
    names, numbers = options.only or [], {f"table{number}": number for number in TABLES}
    named = [numbers[name] for name in names if name in numbers]
    only = [row for table in named for row in table_experiments(table)]
    rows = {row.name: row.experiment for row in ROWS if row.experiment}
    only += [rows.get(name) or find_experiment(name) for name in names if name not in numbers]
    tables = options.tables or (named if len(named) == len(names) else [])
    alone = profile.released or profile.start  # without a network for several people
    known = [table for table in (*TABLES, OF_CLAIMS) if not alone or table not in CROWD_TABLES]
    if not set(tables) <= set(known):
        raise ConfigError(f"no Tables 5 and 6 in {profile.name}: it has no network for several people")
    return only, tables or [table for table in known if not only or set(only) & set(table_experiments(table))]


def _halves(profile: Profile, tables: Sequence[int], seeds: Sequence[int], options: argparse.Namespace) -> list[Half]:
    """The halves that ``tables`` belong to, with their data opened, which renders the test pictures.

    A half whose real data are not given is left out; if its tables were requested by number, that is an error.
    """
    halves = []
    for crowds, real, path in ((False, "lip", options.lip), (True, "pascal", options.pascal)):
        its = [table for table in tables if (table in CROWD_TABLES) == crowds]
        size = profile.for_crowds() if crowds else profile
        name = real if path else size.dataset
        if its and name in VARIABLES and not path and not os.environ.get(VARIABLES[name]):
            left_out = f"Tables {'5 and 6' if crowds else '1 to 4'} left out: no path to {name}; give --{name} PATH"
            if options.tables:
                raise ConfigError(left_out)
            if processes.rank() == 0:
                print(left_out)
        elif its:
            source = open_source(name, path=path)
            if name in VARIABLES and processes.rank() == 0:
                require_sound(source.root, RUNS / "checked" / f"{name}-{source.fingerprint}.txt")
            halves.append((size, source, {table: table_runs(table, size, source, seeds) for table in its}))
    if not halves:
        raise ConfigError("no data to work with: give --lip PATH, --pascal PATH or both")
    return halves


def _chosen(halves: Sequence[Half], seeds: Sequence[int], only: Sequence[Experiment], retrain: bool) -> list[Run]:
    """The rows ``only``; or all with ``retrain``; or the core rows, and those with weights but no counts."""
    chosen = []
    for _, _, tables in halves:
        every = (run for rows in tables.values() for its in rows.values() for run in its if run.seed in seeds)
        runs = list({run.folder: run for run in every}.values())
        chosen += [run for run in runs if run.experiment in only] if only else runs if retrain else to_do(runs)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
