"""What every command has in common: its exit status, its device, a lock."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mula_lib.files import BusyError, MulaError, storage_error

USER_ERROR, INTERRUPTED = 2, 130  # exit statuses


def exit_status(command: Callable[[], int | None], *, kept: str = "nothing was written") -> int:
    """Run ``command``; returns its own exit status (None is 0), 2 after a user error, 130 after Ctrl-C.

    A user error is printed as one line; ``kept`` says what an interruption left.
    """
    try:
        return command() or 0
    except MulaError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\ninterrupted: {kept}", file=sys.stderr)
        return INTERRUPTED
    return USER_ERROR


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def alone(path: Path, what: str, *, patient: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``, which guards ``what``; while another process holds it, wait or raise BusyError."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        if not patient:
            raise BusyError(f"another process is at work on {what}; run this again when it has ended") from None
        print(f"another process is at work on {what}; waiting for it to end", file=sys.stderr, flush=True)
        lock.acquire()
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        yield
    finally:
        lock.release()
