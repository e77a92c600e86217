"""Several jobs at once, each in a process of its own: runs, and notebooks executed by papermill."""

import gc
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mula_lib import distributed as processes
from mula_lib import training
from mula_lib.files import MulaError, StorageError, usable_cores, write_text
from workbook.datasets import REPOSITORY, VARIABLES, Source
from workbook.experiments import Profile
from workbook.runs import RUNS, Run
from workbook.tables import CROWD_TABLES

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = RUNS / "notebooks"
TIMEOUT = 6 * 3600  # seconds a cell may take; nothing is trained in it


def to_do(runs: Sequence[Run]) -> list[Run]:
    """Where no row is named: core rows (untrained: of seeds without committed weights only), and untested ones."""
    core = [run for run in runs if not run.profile.core or run.experiment.name in run.profile.core]
    committed = {run.seed for run in core if run.shipped}
    new = [run for run in core if run.seed not in committed]
    return [run for run in runs if (run.trained or run in new) and (run.metrics is None or run in core)]


def do_all(runs: Sequence[Run], jobs: int = 1, **how: bool | int) -> list[Run]:
    """:meth:`Run.do` each of ``runs``, up to ``jobs`` at once in processes of their own, the longest first.

    A run that fails does not stop the others: ``failed.txt`` in its folder says why. Returns the failed runs. A file
    that cannot be written stops everything.
    """
    # what is to be trained first, and of that what has the most stages
    ordered = sorted(runs, key=lambda run: (run.trained, -len(run.experiment.interactions)))
    if jobs == 1 or len(runs) <= 1:
        found = ((index, _attempt(run, how)) for index, run in enumerate(ordered))
    else:
        found = in_processes(_attempt, [(run, how) for run in ordered], min(jobs, len(runs)))
    for number, (index, metrics) in enumerate(found, start=1):
        run = ordered[index]
        run.__dict__["metrics"] = metrics
        if processes.rank() == 0:
            names = (run.source.anatomy.pose_metric, "mIoU") if metrics else ()
            scores = ", ".join(f"{name} {run.scores[name]:.1f}" for name in names if not math.isnan(run.scores[name]))
            tqdm.write(f"[{number}/{len(runs)}] {run}: {'; '.join(filter(None, (scores, run.note)))}")
    return [run for run in runs if run.metrics is None]


def _attempt(run: Run, how: dict) -> dict | None:
    try:
        return run.do(**how).metrics
    except StorageError:
        raise
    except Exception as error:  # out of memory, say: the other rows go on
        if processes.count() > 1 or (type(error) is RuntimeError and "shared memory" in str(error)):
            raise  # the others would wait for this one, or fail alike
        if not isinstance(error, MulaError):
            traceback.print_exc(file=sys.stderr)
        write_text(run.folder / "failed.txt", str(error).strip().split("\n")[0] or type(error).__name__)
        return None
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def in_processes(function: Callable, arguments: Sequence[tuple], workers: int) -> Iterator[tuple[int, object]]:
    """Call ``function(*arguments[i])`` for every i in worker processes; yields (i, result) as each is done.

    A worker has one thread and, where there are GPUs, one of them. It ignores Ctrl-C and ends with its parent: even a
    single one is of use, because within a notebook Ctrl-C would end the kernel and nothing else. Raises
    :class:`MulaError` if a worker is killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork after torch has started threads may hang
    numbers = context.Queue()
    for number in range(workers):
        numbers.put(number)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",") if given else list(map(str, range(torch.cuda.device_count())))
    threads = str(max(1, usable_cores() // workers))
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(numbers, gpus, threads)) as pool:
        futures = {pool.submit(function, *each): index for index, each in enumerate(arguments)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise MulaError("a worker was killed, perhaps out of memory; resume with --jobs 1") from None
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()  # what is done is on disk
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker(numbers: multiprocessing.Queue, gpus: Sequence[str], threads: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent answers it
    parent = multiprocessing.parent_process()  # if it is killed, a worker would wait for its next job for ever
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    number = numbers.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = threads  # for a notebook's kernel; all cores in each would slow them all
    tqdm.set_lock(threading.RLock())  # the usual one belongs to the system and outlives a worker that is terminated
    training.bar_line = number


def execute_notebooks(
    profile: Profile, sources: Sequence[Source], seeds: Sequence[int], tables: Sequence[int] = (), jobs: int = 1
) -> None:
    """Execute every notebook, or only those of ``tables``; executed copies go to ``runs/notebooks/<profile>``.

    A notebook gets the one of ``sources`` that its tables use, with one person per image or several, and is left out
    if there is none. It trains nothing. Raises :class:`MulaError`, which names notebook and cell, if one fails.
    """
    import papermill

    # all but the real data sets are found by name
    paths = {each.name: str(each.root.resolve()) if each.name in VARIABLES else None for each in sources}
    several = next(([each.name, paths[each.name]] for each in sources if each.anatomy.crowds), [])
    first, last = [], []  # 09_claims reads what the others write
    for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"), reverse=True):  # the longest are among the later ones
        its = set(map(int, re.findall(r"_(?:tables?)?(\d)(?=_|$)", notebook.stem)))  # 07_tables5_6_pascal -> 5, 6
        crowds = bool(its & set(CROWD_TABLES))
        source = next((each for each in sources if each.anatomy.crowds == crowds), None)
        if source is None or (tables and not its & set(tables)):
            continue
        given = {"profile": profile.name, "dataset": source.name, "data_path": paths[source.name], "seeds": list(seeds)}
        given |= {"crowds": several} if "crowds" in papermill.inspect_notebook(str(notebook)) else {}
        its_turn = last if "claims" in notebook.stem else first
        its_turn.append((notebook, EXECUTED / profile.name / notebook.name, given | {"train": False}))
    failed = []
    with tqdm(total=len(first + last), unit="notebook") as bar:
        for chosen in filter(None, (first, last)):
            for index, error in in_processes(_execute, chosen, min(jobs, len(chosen))):
                bar.set_postfix_str(chosen[index][0].stem)
                bar.update()
                failed += filter(None, [error])
    if failed:
        raise MulaError("\n".join(sorted(failed)))


def _execute(notebook: Path, output: Path, given: dict[str, object], attempts: int = 3) -> str | None:
    """Execute one notebook; returns what went wrong, in a line."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    output.parent.mkdir(parents=True, exist_ok=True)
    how = {"kernel_name": "python3", "cwd": str(NOTEBOOKS), "execution_timeout": TIMEOUT, "progress_bar": False}
    how["extra_arguments"] = ["--IPKernelApp.log_level=CRITICAL"]  # it warns of loopback traffic and of its own end
    try:
        papermill.execute_notebook(str(notebook), str(output), given, **how)  # writes after every cell
        return None
    except PapermillExecutionError as error:
        why = f", cell {error.exec_count}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        why = f": a cell took more than {TIMEOUT} s"
    except DeadKernelError:
        why = ": its kernel was killed, perhaps out of memory; run again to resume"
    except RuntimeError as error:  # it did not start: another kernel took a port that was free a moment ago
        if attempts > 1:
            return _execute(notebook, output, given, attempts - 1)
        why = f": {error}"
    return f"{notebook.name}{why} (executed copy: {output})"
