"""``run_all.sh`` behind the scenes: data, training of every wanted row, then the notebooks in order.

Training happens here, with progress bars in the terminal and several rows at once; the notebooks then find every run
finished. They could train on their own, one row after the other.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from mula_lib import distributed as processes
from mula_lib.data.check import require_sound
from mula_lib.files import ConfigError, exit_status, locked, remove_partials, require_writable, usable_cores
from workbook.comparison import run_label, side_by_side, systems_side_by_side
from workbook.datasets import CROWDS, REPOSITORY, SINGLE, Source, is_given, open_source
from workbook.experiments import Experiment, find_experiment
from workbook.jobs import train_rows
from workbook.notebooks import clock, execute_notebooks
from workbook.plan import describe, fitting, plan_table, shard
from workbook.profiles import PROFILES, PROTOCOLS, Profile, find_profile
from workbook.report import write_report
from workbook.results import build_table, results_folder
from workbook.runs import RUNS, Run, ship_weights, wanted_runs
from workbook.tables import COMPARED_TABLES, CROWD_TABLES, TABLES, table_experiments


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m workbook.cli [PROFILE] [options]``; returns the exit status."""
    options = _parser().parse_args(arguments)
    with processes.joined():
        return exit_status(lambda: _run(options), kept="nothing is lost: run the same command again and it goes on")


def _run(options: argparse.Namespace) -> None:
    started = time.perf_counter()
    profile = _profile(options)
    if options.seeds < 1 or options.jobs < 1 or options.workers < 0:
        raise ConfigError("--seeds and --jobs count from 1, --workers from 0")
    tables, only = _rows_asked_for(options)
    seeds = tuple(range(options.seeds))
    with processes.first_ahead():
        halves = _halves(profile, tables, options)
        if profile.planned and processes.rank() == 0:
            for half in halves:
                require_sound(half.source.root, RUNS / "checked" / f"{half.source.name}-{half.source.fingerprint}.txt")
    wanted = (run for half in halves for run in _wanted(half, seeds, only, options.all_rows))
    runs = list({run.folder: run for run in wanted}.values())  # one run may be of two tables
    if only and not runs:
        raise ConfigError(f"none of the rows asked for is in a table of {', '.join(map(str, tables))}")
    if options.shard:
        runs = shard(runs, *options.shard)
    _tell(f"MuLA workbook, profile {profile.name}: {len(runs)} runs; data: {'; '.join(str(h.source) for h in halves)}")
    if profile.planned or options.plan:
        runs = _planned(runs, options)
    if options.plan:
        return
    if options.shard or processes.rank() > 0:  # parts are done side by side; each run is locked by itself
        _train(runs, options)
    else:
        with locked(RUNS / f".{profile.name}.lock", f"profile {profile.name}", wait=processes.count() == 1):
            _make(profile, halves, runs, seeds, options)
        print(f"\ndone in {clock(time.perf_counter() - started)}; tables and figures: {_folders(halves)}")


def _train(runs: Sequence[Run], options: argparse.Namespace) -> None:
    """Do every run, and ship the weights if that is asked for."""
    jobs = 1 if processes.count() > 1 else options.jobs
    train_rows(runs, jobs, options.retrain, options.save_memory, options.workers)
    if processes.rank() > 0:
        return
    if options.ship:
        for run in runs:
            print(f"shipped {ship_weights(run.result()).relative_to(REPOSITORY)}")
    if options.shard:
        print("this part is done; when all parts are, the same command without --shard makes the tables")


def _make(
    profile: Profile, halves: Sequence[Half], runs: Sequence[Run], seeds: Sequence[int], options: argparse.Namespace
) -> None:
    """Train, execute the notebooks, show the tables and write the report; nobody else is at work on this profile."""
    folders = list(dict.fromkeys(results_folder(half.profile, half.source) for half in halves))
    if not options.no_notebooks:
        for folder in folders:
            require_writable(folder)  # now, not after the training
            remove_partials(folder)
    _train(runs, options)
    if not options.no_notebooks:
        execute_notebooks(profile, [half.source for half in halves], seeds)
    for half in halves:
        for table in half.tables:
            print(f"\nTable {table} ({run_label(half.profile, half.source, seeds)})")
            shown = systems_side_by_side if table in COMPARED_TABLES else side_by_side
            print(shown(build_table(table, half.profile, half.source, seeds)).to_string())
    if not options.no_notebooks:
        for folder in folders:
            print(f"\nreport: {write_report(folder)}")


def _folders(halves: Sequence[Half]) -> str:
    return ", ".join(dict.fromkeys(str(results_folder(half.profile, half.source)) for half in halves))


def _tell(text: str) -> None:
    if processes.rank() == 0:
        print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("profile", nargs="?", default="demo", help=f"{', '.join(PROFILES)} (default: demo)")
    cores, cuda = usable_cores(), torch.cuda.is_available()
    which = parser.add_argument_group("which rows")
    which.add_argument(
        "--tables", nargs="+", type=int, choices=TABLES, metavar="N",
        help=f"only these of the tables {', '.join(map(str, TABLES))}",
    )  # fmt: skip
    which.add_argument("--all-rows", action="store_true", help="train every row, not only the profile's core rows")
    which.add_argument(
        "--only", nargs="+", metavar="ROW", help="train these rows only, by the paper's names, or table2 for all of one"
    )
    which.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of every row (default: 1)")
    which.add_argument("--shard", type=_shard, metavar="K/N", help="train the K-th of N parts, no notebooks")
    data = parser.add_argument_group("data")
    data.add_argument("--lip", metavar="PATH", help="LIP, for Tables 1 to 4: --dataset lip --data PATH")
    data.add_argument("--pascal", metavar="PATH", help="PASCAL, for Tables 5 and 6: as --lip")
    data.add_argument("--dataset", help=f"of Tables 1 to 4: {', '.join(SINGLE)} (default: the profile's)")
    data.add_argument("--data", metavar="PATH", help="where it lies")
    data.add_argument("--crowd-dataset", help=f"of Tables 5 and 6: {', '.join(CROWDS)} (default: the profile's)")
    data.add_argument("--crowd-data", metavar="PATH", help="where it lies")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--protocol", choices=PROTOCOLS, default="paper", help="of the paper profile: the paper, or the authors' code"
    )
    how.add_argument(
        "--rehearse", action="store_true", help="of the paper profile: all of it with tiny networks, in minutes"
    )
    how.add_argument("--plan", action="store_true", help="print what it would take, and stop")
    how.add_argument("--retrain", action="store_true", help="train even where weights are shipped")
    jobs, workers = (1, min(8, cores)) if cuda else (cores, 0)
    how.add_argument("--jobs", type=int, default=jobs, metavar="N", help=f"rows trained at once (default: {jobs})")
    how.add_argument(
        "--workers", type=int, default=workers, metavar="N", help=f"processes that load images (default: {workers})"
    )
    how.add_argument("--bf16", action="store_true", help="train in bf16 where the machine has it")
    how.add_argument("--save-memory", action="store_true", help="train stage by stage: less memory, more time")
    how.add_argument("--ship", action="store_true", help="store the trained weights in weights/, to be committed")
    how.add_argument("--no-notebooks", action="store_true", help="stop after training")
    return parser


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write 3/8 for the third of eight parts")
    return int(match[1]), int(match[2])


def _profile(options: argparse.Namespace) -> Profile:
    """The profile asked for, of the protocol and size asked for."""
    name = options.profile
    for wanted, suffix in ((options.protocol == "released", "released"), (options.rehearse, "rehearsal")):
        if wanted and f"{name}-{suffix}" not in PROFILES:
            raise ConfigError(f"the {suffix} variant is of the profile paper only, not of {options.profile!r}")
        name += f"-{suffix}" if wanted else ""
    profile = find_profile(name)
    return replace(profile, recipe=replace(profile.recipe, bf16=True)) if options.bf16 else profile


def _rows_asked_for(options: argparse.Namespace) -> tuple[tuple[int, ...], list[Experiment]]:
    """The tables to make, and the rows to train: none means the profile's own choice."""
    names = options.only or ()
    tables = [int(name[5:]) for name in names if re.fullmatch(r"table\d", name) and int(name[5:]) in TABLES]
    rows = [row for table in tables for row in table_experiments(table)]
    rows += [find_experiment(name) for name in names if not re.fullmatch(r"table[1-6]", name)]
    only_tables = tables if len(tables) == len(names) and tables else TABLES
    return tuple(options.tables or only_tables), rows


def _planned(runs: Sequence[Run], options: argparse.Namespace) -> list[Run]:
    """Print what the runs will take; returns those that fit this machine."""
    fit, too_large = fitting(runs, save_memory=options.save_memory)
    if processes.rank() == 0:
        print("a short timing on this machine…", flush=True)
        print(describe(plan_table(fit, save_memory=options.save_memory), RUNS.parent))
        for name, why in too_large.items():
            print(f"left out: {name}: {why}")
    return fit


class Half(NamedTuple):
    """One half of the paper: its tables, and the profile and the data that they are made with."""

    tables: tuple[int, ...]
    profile: Profile
    source: Source


def _halves(profile: Profile, tables: Sequence[int], options: argparse.Namespace) -> list[Half]:
    """The halves that the wanted tables are of, their data opened (and rendered, if that is still to be done).

    A profile of real data goes on without a half whose path is not given, unless its tables were asked for by name.
    """
    halves = []
    for profile_of, its_tables, known, name, path in (
        (profile, [n for n in tables if n not in CROWD_TABLES], SINGLE,
         "lip" if options.lip else options.dataset, options.lip or options.data),
        (profile.for_crowds(), [n for n in tables if n in CROWD_TABLES], CROWDS,
         "pascal" if options.pascal else options.crowd_dataset, options.pascal or options.crowd_data),
    ):  # fmt: skip
        if name and name not in known:
            raise ConfigError(f"unknown data set {name!r} for these tables; known: {', '.join(known)}")
        name = name or profile_of.dataset
        absent = _absent(profile_of, known, name, path)
        if its_tables and absent and not options.tables:
            _tell(f"Tables {' and '.join(map(str, its_tables))} left out: {absent}")
        elif its_tables and absent and known is CROWDS and profile.protocol == "released":
            raise ConfigError(f"Tables {' and '.join(map(str, its_tables))}: {absent}")
        elif its_tables:
            halves.append(Half(tuple(its_tables), profile_of, open_source(name, path=path)))
    if not halves:
        raise ConfigError("no data to work with: give --lip PATH, --pascal PATH or both")
    return halves


def _absent(profile: Profile, known: Sequence[str], name: str, path: str | None) -> str | None:
    """Why a half of a profile of real data cannot be done, if it cannot."""
    if not profile.planned:
        return None
    if known is CROWDS and profile.protocol == "released":
        return "the authors released no network for several people"
    return None if path or is_given(name) else f"no path to {name}; give --{name} PATH"


def _wanted(half: Half, seeds: Sequence[int], only: Sequence[Experiment], all_rows: bool) -> list[Run]:
    if not only and not all_rows:
        return [run for table in half.tables for run in wanted_runs(table, half.profile, half.source, seeds)]
    rows = [row for table in half.tables for row in table_experiments(table) if not only or row in only]
    return [Run(row, half.profile, half.source, seed) for row in rows for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
