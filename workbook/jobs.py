"""Several rows trained side by side, each in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch
from tqdm.auto import tqdm

from mula_lib import distributed as processes
from mula_lib import training
from mula_lib.files import MulaError, StorageError, end_with_parent, interrupts_waiting
from workbook.runs import Run, RunResult, do_run


def train_rows(
    runs: Sequence[Run], jobs: int, retrain: bool, save_memory: bool = False, workers: int = 0
) -> None:
    """Do every run, up to ``jobs`` at once in processes of their own; the longest are begun first.

    The first failure is raised when the other runs have ended, so that one bad row costs no other row its work; but
    after a file that cannot be written no more are begun.
    """
    by_cost = _longest_first(runs)
    how = {"retrain": retrain, "save_memory": save_memory, "workers": workers}
    if jobs == 1 or len(runs) == 1:
        for number, run in enumerate(by_cost, start=1):
            _announce(do_run(run, **how), number, len(runs))
        return
    failures = []
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    for line in range(jobs):
        lines.put(line)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(lines,)) as pool:
        try:
            with interrupts_waiting():  # submitting starts the processes
                pending = [pool.submit(do_run, run, **how) for run in by_cost]
            for number, future in enumerate(as_completed(pending), start=1):
                if future.cancelled():
                    continue
                if future.exception() is None:
                    _announce(future.result(), number, len(runs))
                    continue
                failures.append(future.exception())
                if isinstance(failures[-1], StorageError):  # the other runs would have nowhere to write to
                    for other in pending:
                        other.cancel()
        except KeyboardInterrupt:  # whatever a worker is doing, its last whole epoch is on disk
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(cancel_futures=True)
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
    trouble = f"; {result.trouble}" if result.trouble else ""
    tqdm.write(f"[{number}/{total}] {name} ({result.run.source.name}), seed {result.run.seed}: {figures}{trouble}")


def _begin_worker(lines: multiprocessing.Queue) -> None:
    """One line for this process's progress bars, one thread for its arithmetic."""
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # its usual one is of the system, and outlives a worker that is ended
    training.show_bars_on_line(lines.get())
    torch.set_num_threads(1)
