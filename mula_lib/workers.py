"""What worker processes have in common: their environment, Ctrl-C left to their parent, and gone when it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import wait


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes started within this context find these environment variables; afterwards all is as it was."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def interrupts_waiting() -> Iterator[None]:
    """Ctrl-C within this context is felt at its end, and never by processes that are started within.

    It reaches every process of a terminal, and a worker that is still importing what it needs would end with a
    traceback of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which started processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this worker process as soon as its parent has ended, even if that was killed and could not say so.

    A worker that waits for its next job would otherwise wait for ever, and one that trains would go on beside the
    next call of the same command. Whatever it is doing is lost as if it had been killed itself: writes are atomic.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
