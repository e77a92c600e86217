"""One process at a time: locks that end with the process that holds them, however it ends.

A lock is a file that its holder has locked by ``flock``. A file that is merely there means nothing: whoever was killed
leaves one behind, and the next process takes it over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mula_lib.files import BusyError, storage_error

NAME = ".lock"  # of the lock file in a folder that only one process may change

_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)  # of file systems without locks


@contextlib.contextmanager
def held(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Within this context no other process holds the lock file ``path``, which guards ``what`` (words for a message).

    If another one holds it, this says so in a line and waits, or with ``wait=False`` refuses. A process that holds a
    lock must not ask for it again. On a file system without locks, a line says that nothing guards it.

    Raises:
        BusyError: it is held, and ``wait`` is False.
        StorageError: the lock file cannot be written.
    """
    path = Path(path)
    handle = _locked(path, what, wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # while it is held: whoever waits for it finds that it is gone, and makes another
        os.close(handle)


def _locked(path: Path, what: str, wait: bool) -> int:
    """A handle of ``path``, locked, and still the file of that name."""
    said = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            if not _try(handle, path):
                if not wait:
                    raise BusyError(f"{_holder(handle)} is at work on {what}; run this again when it has ended")
                if not said:
                    print(f"{_holder(handle)} is at work on {what}; waiting for it to end", file=sys.stderr, flush=True)
                    said = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(path, handle):
                _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _try(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise storage_error(path, error) from error
        print(f"{path.parent}: its file system has no locks; start nothing twice there", file=sys.stderr, flush=True)
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the file that was locked has not been removed meanwhile by the one who held it before."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:  # gone, or, on a network's disk, stale
        return False


def _sign(handle: int) -> None:
    """Say in the file who holds it, for the line that others print."""
    text = f"process {os.getpid()} on {platform.node()}, since {time.strftime('%H:%M')}"
    with contextlib.suppress(OSError):  # a full disk is no reason not to hold it
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _holder(handle: int) -> str:
    text = os.pread(handle, 200, 0).decode(errors="replace").strip()
    return f"another process ({text})" if text else "another process"
