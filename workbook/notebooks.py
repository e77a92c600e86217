"""The notebooks, executed in order by papermill, with an estimate of how long they will take."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mula_lib.files import ConfigError, MulaError, environment, storage_error, write_json
from workbook.datasets import CROWDS, REPOSITORY, Source
from workbook.profiles import Profile

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = REPOSITORY / "runs" / "notebooks"


def execute_notebooks(profile: Profile, sources: Sequence[Source], seeds: Sequence[int]) -> None:
    """Execute every notebook with papermill for ``profile``; the executed copies go to ``runs/notebooks/<profile>``.

    A notebook gets that one of ``sources`` which is of the same kind as its own default: of one person an image, or of
    several. It is left out where there is none.

    Raises:
        ConfigError: a notebook is damaged, or lacks a parameter it is given.
        MulaError: a cell failed or its kernel ended; the message names notebook and cell.
        StorageError: the executed copy cannot be written.
    """
    planned = list(_with_sources(sources))
    took = _Durations(EXECUTED / profile.name / "seconds.json")
    begun = time.perf_counter()
    for number, (notebook, source) in enumerate(planned, start=1):
        left = took.estimate([path.name for path, _ in planned[number - 1 :]])
        print(
            f"[{number}/{len(planned)}] {notebook.name} begins; {clock(time.perf_counter() - begun)} so far, "
            f"{f'about {clock(left)} to go' if left else 'no estimate yet'}",
            flush=True,
        )
        root = str(source.root.resolve())  # notebooks are executed in their own folder
        given = {"profile": profile.name, "dataset": source.name, "data_path": root, "seeds": list(seeds)}
        started = time.perf_counter()
        with environment(_library_of_this_checkout()):
            _execute(notebook, EXECUTED / profile.name / notebook.name, given, profile.cell_timeout)
        took.note(notebook.name, time.perf_counter() - started)


def _execute(notebook: Path, output: Path, given: dict[str, object], cell_timeout: int) -> None:
    """Execute one notebook; ``output`` is replaced when it has ended, well or not."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    unfinished = output.parent / ".unfinished" / output.name  # papermill writes after every cell, and not atomically
    try:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        try:
            _leaving_interrupts_alone(
                lambda: papermill.execute_notebook(
                    str(notebook),
                    str(unfinished),
                    parameters=given,
                    kernel_name="python3",
                    cwd=str(NOTEBOOKS),
                    execution_timeout=cell_timeout,
                    progress_bar=False,
                    # ipykernel warns of unencrypted loopback traffic at every start, which nobody here can mend
                    extra_arguments=["--IPKernelApp.log_level=ERROR"],
                )
            )
        finally:
            if _is_whole(unfinished):  # which it is not where the disk was full
                os.replace(unfinished, output)
    except PapermillExecutionError as error:
        what = f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue}"
        raise MulaError(f"{what} (executed copy: {output})") from error
    except CellTimeoutError as error:
        raise MulaError(f"{notebook.name}: a cell took more than {cell_timeout} s (executed copy: {output})") from error
    except DeadKernelError as error:
        what = f"{notebook.name}: its kernel was killed, perhaps for memory; run again: it goes on"
        raise MulaError(f"{what} (executed copy: {output})") from error
    except OSError as error:
        raise storage_error(output, error) from error


def _is_whole(notebook: Path) -> bool:
    try:
        json.loads(notebook.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _leaving_interrupts_alone(task: Callable[[], object]) -> None:
    """Do ``task`` in a thread of its own, where nbclient cannot take Ctrl-C for itself, and lose it now and then.

    After an interrupt the thread is left to end with this process, which shuts its kernel down.
    """
    raised: list[BaseException] = []

    def do() -> None:
        try:
            task()
        except BaseException as error:  # of whatever kind: it is raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=do, name="notebook", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _library_of_this_checkout() -> dict[str, str]:
    """The variables by which kernels import this checkout's library, though an environment may be shared by several."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))}


def _with_sources(sources: Sequence[Source]) -> Iterator[tuple[Path, Source]]:
    """The notebooks in order, each with that one of ``sources`` that it is for; those without are left out."""
    import papermill

    for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        try:
            known = papermill.inspect_notebook(str(notebook))
        except Exception as error:  # nbformat raises a different type for nearly every kind of damage
            why = type(error).__name__
            raise ConfigError(f"{notebook}: not a whole notebook ({why}); restore it from git") from error
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


def clock(seconds: float) -> str:
    """So many seconds as a reader says them: ``3 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
