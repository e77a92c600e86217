"""``run_all.sh``: runs what the tables need, then writes the tables, executes the notebooks and makes the report."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mula_lib import distributed as processes
from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data.check import require_sound
from mula_lib.files import ConfigError, MulaError, exit_status, locked, require_writable, usable_cores
from workbook.datasets import REPOSITORY, VARIABLES, Source, open_source
from workbook.experiments import PROFILES, Experiment, Profile, find_experiment, find_profile
from workbook.jobs import do_all, to_train
from workbook.notebooks import execute_notebooks
from workbook.report import write_report
from workbook.results import Runs, run_label, side_by_side, systems_side_by_side, table_runs, write_table
from workbook.runs import RUNS, Run, results_folder
from workbook.tables import COMPARED_TABLES, CROWD_TABLES, OF_CLAIMS, TABLES, table_experiments


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
    which.add_argument(
        "--only", nargs="+", metavar="ROW", help="these rows only, by the paper's names, or table2 for all of a table"
    )
    which.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of every row (default: 1)")
    which.add_argument("--list", action="store_true", help="print the rows, one a line, and stop")
    data = parser.add_argument_group("data")
    data.add_argument("--lip", metavar="PATH", help="LIP, for Tables 1 to 4")
    data.add_argument("--pascal", metavar="PATH", help="PASCAL-Person-Part, for Tables 5 and 6")
    how = parser.add_argument_group("how")
    protocols = {"choices": ("paper", "released"), "default": "paper"}
    how.add_argument("--protocol", **protocols, help="of profile paper: the paper, or the authors' code")
    how.add_argument("--rehearse", action="store_true", help="of profile paper: tiny networks, in minutes")
    how.add_argument("--retrain", action="store_true", help="train even where weights are committed")
    how.add_argument("--jobs", type=int, metavar="N", help="rows at once (default: one a GPU, else one a core)")
    how.add_argument("--workers", type=int, metavar="N", help="processes that load images for each row")
    how.add_argument("--save-memory", action="store_true", help="train stage by stage: less memory, more time")
    how.add_argument("--compile", action="store_true", help="train by torch.compile: minutes at first, faster on a GPU")
    how.add_argument("--cpu", action="store_true", help="use no GPU, even for a profile that needs one")
    how.add_argument("--ship", action="store_true", help="store weights and counts in the tree, to be committed")
    how.add_argument("--no-notebooks", action="store_true", help="stop after the tables")
    return parser


class Half(NamedTuple):
    """One half of the paper, one person an image or several: its profile, its data and its tables."""

    profile: Profile
    source: Source
    tables: tuple[int, ...]


def _run(options: argparse.Namespace) -> None:
    started, first = time.perf_counter(), processes.rank() == 0
    profile, (only, tables) = _profile(options), _asked(options)
    if options.list:
        print(*_names(profile, tables, only), sep="\n")
        return
    gpus = 0 if options.cpu else torch.cuda.device_count()
    if profile.needs_gpu and not gpus and not options.cpu:
        raise ConfigError(f"profile {profile.name} needs a GPU, and there is none; --cpu runs it without, for weeks")
    jobs = options.jobs if options.jobs is not None else gpus or usable_cores()
    jobs = 1 if processes.count() > 1 else jobs
    workers = options.workers if options.workers is not None else min(8, usable_cores() // max(jobs, 1)) if gpus else 0
    if options.seeds < 1 or jobs < 1 or workers < 0:
        raise ConfigError("--seeds and --jobs count from 1, --workers from 0")
    seeds = tuple(range(options.seeds))
    if not first:
        processes.wait()  # for the first to render what there is to render
    halves = _halves(profile, tables, options)
    of_tables, chosen = _collect(halves, seeds, only, options.retrain)
    for run in chosen:
        if options.retrain or not run.trained:
            len(run.source.train)  # rendered now, by all cores
    if first:
        processes.wait()
    if only and not chosen:
        raise ConfigError(f"none of the rows asked for is in a table of {', '.join(map(str, tables))}")
    folders = sorted({results_folder(half.profile, half.source) for half in halves})
    if first:
        data = "; ".join(str(half.source) for half in halves)
        print(f"MuLA workbook, profile {profile.name}: {len(chosen)} runs; data: {data}", flush=True)
        for folder in folders:
            require_writable(folder)  # now, not after the training
    how = {"retrain": options.retrain, "save_memory": options.save_memory, "compiled": options.compile}
    failed = do_all(chosen, jobs, **how, workers=workers)
    processes.leave()
    if not first:
        return
    for run in chosen if options.ship else ():
        if run.metrics is not None:
            run.ship()
    with locked(RUNS / f".{profile.name}.lock", f"the results of profile {profile.name}"):
        for half, table, runs in of_tables:
            if table != OF_CLAIMS:
                written = write_table(table, half.profile, half.source, seeds, runs)
                shown = systems_side_by_side(written) if table in COMPARED_TABLES else side_by_side(written)
                print(f"\nTable {table} ({run_label(half.profile, half.source, seeds)})\n{shown.to_string()}")
        if not options.no_notebooks:
            restricted = tables if options.only or options.tables else ()
            execute_notebooks(profile, [half.source for half in halves], seeds, restricted, jobs)
            for folder in folders:
                print(f"report: {write_report(folder)}")
    print(f"\ndone in {time.perf_counter() - started:.0f} s; results: {', '.join(map(str, folders))}")
    if failed:
        raise MulaError("; ".join(f"{run}, {run.note}" for run in failed))


def _profile(options: argparse.Namespace) -> Profile:
    """The profile of the protocol and size asked for."""
    name = options.profile
    for wanted, suffix in ((options.protocol == "released", "released"), (options.rehearse, "rehearsal")):
        name += f"-{suffix}" if wanted else ""
        if wanted and name not in PROFILES:
            raise ConfigError(f"the {suffix} variant is of the profile paper only, not of {options.profile!r}")
    return find_profile(name)


def _asked(options: argparse.Namespace) -> tuple[list[Experiment], tuple[int, ...]]:
    """The rows asked for, if any; and the tables asked for, or else those of these rows, or else all."""
    only, named = [], []
    for name in options.only or ():
        table = re.fullmatch(r"table([1-6])", name)
        named += [int(table[1])] if table else []
        only += table_experiments(int(table[1])) if table else [find_experiment(name)]
    if options.tables or (only and len(named) == len(options.only)):
        return only, tuple(options.tables or named)
    every = (*TABLES, OF_CLAIMS)
    return only, tuple(table for table in every if not only or set(only) & set(table_experiments(table)))


def _collect(
    halves: Sequence[Half], seeds: Sequence[int], only: Sequence[Experiment], retrain: bool
) -> tuple[list[tuple[Half, int, Runs]], list[Run]]:
    """The runs of every table; and those to do, each once.

    They are the rows ``only``; or all with ``retrain``; or what needs no training, and the core rows.
    """
    of_tables, chosen = [], []
    for half in halves:
        known: dict[Path, Run] = {}
        of_tables += [(half, table, table_runs(table, *half[:2], seeds, known)) for table in half.tables]
        runs = [run for run in known.values() if run.seed in seeds]
        wanted, core = {row.first_alike(half.profile, half.source.anatomy) for row in only}, to_train(runs)
        chosen += [run for run in runs if (run.first in wanted if only else retrain or run.trained or run in core)]
    return of_tables, chosen


def _names(profile: Profile, tables: Sequence[int], only: Sequence[Experiment]) -> list[str]:
    """The rows of ``tables``, each training once."""
    names = {}
    for table in tables:
        size, anatomy = (profile.for_crowds(), PASCAL) if table in CROWD_TABLES else (profile, LIP)
        if anatomy is LIP or profile.protocol != "released":
            rows = (row for row in table_experiments(table) if not only or row in only)
            names |= dict.fromkeys(row.first_alike(size, anatomy).name for row in rows)
    return list(names)


def _halves(profile: Profile, tables: Sequence[int], options: argparse.Namespace) -> list[Half]:
    """The halves that ``tables`` are of, their data opened, which renders what is to be tested on.

    A half whose real data are not given is left out, unless its tables were asked for by number.
    """
    halves = []
    for crowds, real, path in ((False, "lip", options.lip), (True, "pascal", options.pascal)):
        its = tuple(table for table in tables if (table in CROWD_TABLES) == crowds)
        size = profile.for_crowds() if crowds else profile
        name, missing = real if path else size.dataset, None
        if crowds and profile.protocol == "released":
            missing = "the authors released no network for several people"
        elif name in VARIABLES and not path and not os.environ.get(VARIABLES[name]):
            missing = f"no path to {name}; give --{name} PATH"
        if its and missing:
            left_out = f"Tables {' and '.join(map(str, filter(None, its)))} left out: {missing}"
            if options.tables:
                raise ConfigError(left_out)
            if processes.rank() == 0:
                print(left_out)
        elif its:
            source = open_source(name, path=path)
            if name in VARIABLES and processes.rank() == 0:
                require_sound(source.root, RUNS / "checked" / f"{name}-{source.fingerprint}.txt")
            halves.append(Half(size, source, its))
    if not halves:
        raise ConfigError("no data to work with: give --lip PATH, --pascal PATH or both")
    return halves


if __name__ == "__main__":
    sys.exit(main())
