"""Errors that end in one line, atomic writes and locks."""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    sys.exit("error: this needs Linux or macOS; on Windows, run it in WSL")


class MulaError(Exception):
    """A user error: command lines print it as one line and exit with 2, notebooks without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it by this name
        return [f"{type(self).__name__}: {self}"]


class DataError(MulaError):
    """A data file or tree that is missing, unreadable or not what its format promises."""


class ConfigError(MulaError):
    """An unknown name or an impossible setting: profile, experiment, width, crop, data set."""


class CheckpointError(MulaError):
    """A checkpoint or weights file that is damaged, or belongs to another configuration."""


class StorageError(MulaError, OSError):
    """A file that cannot be written. What was there before still is."""


class BusyError(MulaError):
    """Another process holds the lock."""


PARTIAL = ".partial"  # ending of files that are being written; they begin with a dot
LOCK = ".lock"  # name of the lock file in a folder that one process at a time may change
USER_ERROR = 2  # exit status


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it takes the name ``path`` only if the block succeeds.

    ``durable`` waits until the content is on the disk, so that not even a power cut leaves an empty file.
    Raises :class:`StorageError` if it cannot be written; the old file is untouched.
    """
    temporary = Path(path).with_name(f".{Path(path).name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        fix = "free disk space or make its folder writable, and run the same command again"
        raise StorageError(f"{path} cannot be written: {error.strerror or error}; {fix}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Raise :class:`StorageError` now, and not after hours, if no file can be written into ``folder``."""
    probe = Path(folder) / ".probe"
    write_text(probe, "a full disk has room for an empty file only")
    probe.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left half-written directly in ``folder``."""
    for path in Path(folder).glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write ``content`` atomically; raises :class:`StorageError`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; what UTF-8 cannot hold, as in some file names, is escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(
    path: Path, what: str, keys: Sequence[str] = (), *, fix: str, error: type[MulaError] = DataError
) -> dict[str, Any]:
    """Read a JSON object that has ``keys``; raises ``error``, naming ``what`` it should be and the fix."""
    try:
        found = json.loads(Path(path).read_bytes())
        absent = [key for key in keys if key not in found] if isinstance(found, dict) else ["an object"]
        if absent:
            raise ValueError(f"without {', '.join(absent)}")
    except (OSError, ValueError) as why:
        raise error(f"{path}: not {what} ({why}); {fix}") from why
    return found


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``, which guards ``what``; if another process holds it, say so and wait.

    The lock ends with its holder, however that ends. Raises :class:`BusyError` instead of waiting if not ``wait``.
    """
    import filelock  # late: it costs a library import 20 ms

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        if not wait:
            raise BusyError(f"another process is working on {what}; run this again when it is done") from None
        print(f"another process is working on {what}; waiting for it to end", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def exit_status(command: Callable[[], int | None], *, kept: str) -> int:
    """Run ``command``; returns its exit status (0 for None), 2 after a user error, 130 after Ctrl-C.

    ``kept`` says, after an interruption, what was saved and how to resume.
    """
    for stream in (each for each in (sys.stdout, sys.stderr) if hasattr(each, "reconfigure")):  # a notebook's has not
        stream.reconfigure(errors="backslashreplace")  # a terminal may be unable to print a name
    try:
        return command() or 0
    except MulaError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'a file'} cannot be used: {error.strerror or error}", file=sys.stderr)
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        print("error: /dev/shm is too small: use --workers 0, or docker run --shm-size=8g", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\ninterrupted: {kept}", file=sys.stderr)
        return 130
    return USER_ERROR


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
