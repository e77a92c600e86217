"""``run_all.sh`` stopped at many moments and in every way there is, then run again: ``python -m benchmarks.faults``.

A copy of this checkout runs undisturbed once. Then its runs and results are removed and it is begun again, and stopped
again, and begun again, until it has been stopped at every moment of the plan; at the end it runs through, and its
tables must be those of the undisturbed run, byte for byte apart from times and provenance. After every stop nothing may
be left running, and every file that is not marked as partial must be whole. What was done is written to ``faults.csv``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.disturbances import FAULTS
from benchmarks.disturbed import Checkout, Stopped
from benchmarks.left_behind import damaged_files, tables
from mula_lib.files import write_text

RESULTS = Path(__file__).with_name("faults.csv")
PATIENCE = 1200  # seconds that a moment is waited for, and a whole run takes at most


@dataclass(frozen=True)
class Moment:
    """When to stop: when so many ``runs`` are finished, or ``notebooks`` begun, and then ``delay`` seconds more."""

    runs: int = 0
    notebooks: int = 0
    delay: float = 0.0

    def __str__(self) -> str:
        what = f"notebook {self.notebooks}" if self.notebooks else f"{self.runs} runs done"
        return f"{what} + {self.delay:.2f} s"

    def has_come(self, checkout: Checkout) -> bool:
        """Whether it is time to wait for the delay."""
        if self.notebooks:
            return re.search(rf"\[{self.notebooks}/\d+\] \S+\.ipynb begins", checkout.said()) is not None
        return checkout.finished_runs() >= self.runs and "MuLA workbook" in checkout.said()


def spread(moments: int, runs: int, notebooks: int, seed: int) -> list[Moment]:
    """``moments`` of a run with so many ``runs`` and ``notebooks``, three fifths of them in the training."""
    random = np.random.default_rng(seed)
    training = round(0.6 * moments)
    at_runs = np.linspace(0, runs - 1, training).round().astype(int)
    at_notebooks = np.linspace(1, notebooks, moments - training).round().astype(int)
    found = [Moment(runs=int(count), delay=random.uniform(0, 2)) for count in at_runs]
    return found + [Moment(notebooks=int(number), delay=random.uniform(0, 6)) for number in at_notebooks]


def stop_and_go(
    checkout: Checkout, plan: Sequence[tuple[str, Moment]], arguments: Sequence[str]
) -> Iterator[tuple[str, Moment, Stopped, list[str]]]:
    """Begin, stop by each fault of the ``plan`` at its moment, and yield what was seen; the last run goes through.

    Raises ``AssertionError`` if a run ended before its moment, or the last one did not end well.
    """
    for fault, moment in plan:
        checkout.begin(*arguments)
        deadline = time.monotonic() + PATIENCE
        while not moment.has_come(checkout):
            assert checkout.is_running(), f"ended before {moment}: {checkout.said()[-2000:]}"
            assert time.monotonic() < deadline, f"{moment} does not come: {checkout.said()[-2000:]}"
            time.sleep(0.01)
        time.sleep(moment.delay)
        stopped = FAULTS[fault](checkout)
        yield fault, moment, stopped, damaged_files(checkout.root)
    ended = checkout.complete(*arguments, timeout=PATIENCE)
    assert ended.status == 0, ended.said[-2000:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="how often to stop (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="mula-faults-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        checkout = stack.enter_context(Checkout.on_a_small_disk(folder))
        print(f"undisturbed, on {checkout.disk}", flush=True)
        started = time.perf_counter()
        ended = checkout.complete("smoke", timeout=PATIENCE)
        assert ended.status == 0, ended.said[-2000:]
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
        expected, runs = tables(checkout.root), checkout.finished_runs()
        notebooks = len(list((checkout.root / "notebooks").glob("*.ipynb")))
        checkout.forget()
        names = list(FAULTS)
        moments = spread(options.moments, runs, notebooks, options.seed)
        plan = [(names[number % len(names)], moment) for number, moment in enumerate(moments)]
        lines = []
        for fault, moment, stopped, damaged in stop_and_go(checkout, plan, ["smoke"]):
            lines.append(
                {
                    "fault": fault,
                    "moment": str(moment),
                    "status": stopped.status,
                    "said": stopped.last_line.replace(str(checkout.root), "."),
                    "as it should": "yes" if stopped.well else "NO",
                    "left running": stopped.left,
                    "damaged files": len(damaged),
                }
            )
            print(*lines[-1].values(), *damaged, sep=" | ", flush=True)
        found = tables(checkout.root)
        same = [name for name in expected if found.get(name) == expected[name]]
        print(f"{len(same)} of {len(expected)} tables are the same")
    content = io.StringIO()
    writer = csv.DictWriter(content, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(RESULTS, content.getvalue())
    bad = [line for line in lines if line["as it should"] != "yes" or line["left running"] or line["damaged files"]]
    return 1 if bad or found != expected else 0


if __name__ == "__main__":
    sys.exit(main())
