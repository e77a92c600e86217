"""Atomic writes: a file is whole or absent, whenever the machine stops or its disk is full."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class MulaError(Exception):
    """Base of every error that is the user's to mend; command lines print it as one line and exit with 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for it by this name): the line, without the way it came."""
        return [f"{type(self).__name__}: {self}"]


class DataError(MulaError):
    """A data file or tree that is missing, unreadable or not what its format promises."""


class ConfigError(MulaError):
    """An unknown name or an impossible setting: profile, experiment, width, crop, data set."""


class CheckpointError(MulaError):
    """A checkpoint or weights file that is damaged, or belongs to another configuration."""


class StorageError(MulaError, OSError):
    """A file that cannot be written: no room, no permission, a failing disk. What was there before still is."""

    def __str__(self) -> str:  # OSError would show the first two of several arguments only
        return str(self.args[0])


class BusyError(MulaError):
    """Another process is at work on the very same thing."""


PARTIAL = ".partial"  # ending of files that are being written; they begin with a dot, and nobody reads them

MOST_ARRAYS = 2**31  # bytes of an .npz; the counts of LIP's 10,000 validation images have some ten million

_MENDS = {
    errno.ENOSPC: "make room and run the same command again: it goes on",
    errno.EFBIG: "a limit on the size of files is in force; lift it and run the same command again: it goes on",
    errno.EDQUOT: "your quota is used up; make room and run the same command again: it goes on",
    errno.EACCES: "make its folder writable for you",
    errno.EPERM: "make its folder writable for you",
    errno.EROFS: "work in a copy on a disk that can be written",
    errno.ENOTDIR: "a file is in the place of one of its folders; move it away",
    errno.EEXIST: "a file is in the place of one of its folders; move it away",
    errno.EISDIR: "a folder is in its place; move it away",
}


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it takes the name ``path`` only if the block succeeds.

    ``durable`` waits until the content is on the disk, so that not even a power cut leaves an empty file; thousands
    of small files that can be made again do without.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or the like; the old file is as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        if durable:
            _to_disk(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
        if durable:
            _to_disk(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def storage_error(path: Path, error: OSError) -> StorageError:
    """``error`` as one line that names ``path`` and the mend; one that is such a line already stays as it is."""
    if isinstance(error, StorageError):
        return error
    mend = _MENDS.get(error.errno, "mend that and run the same command again")
    return StorageError(f"{path} cannot be written: {error.strerror or error}; {mend}")


def require_writable(folder: Path) -> None:
    """Find out now, and not after hours, whether files can be written into ``folder``; it is made if it is absent.

    Raises :class:`StorageError` if they cannot.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=PARTIAL) as file:
            file.write(b"a full disk has room for an empty file only")
            file.flush()
    except OSError as error:
        raise storage_error(folder, error) from error


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left half-written directly in ``folder``; nobody else may be writing there."""
    for path in Path(folder).glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


def remove(path: Path) -> None:
    """Remove a file that may be there or not; raises :class:`StorageError` if it cannot be removed."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def write_bytes(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write ``content`` atomically; raises :class:`StorageError` as :func:`atomic_path` does."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(
    path: Path, what: str, keys: Sequence[str] = (), *, mend: str, error: type[MulaError] = DataError
) -> dict[str, Any]:
    """Read a JSON object that has at least ``keys``; ``what`` it is, in words.

    Raises ``error``, with ``mend`` in its line, for a file that cannot be read or is anything else.
    """
    try:
        found = json.loads(read_regular(path, MOST_TEXT))
    except (OSError, ValueError, RecursionError) as why:
        raise error(f"{shown(path)}: not {what} ({type(why).__name__}); {mend}") from why
    if not isinstance(found, dict):
        raise error(f"{shown(path)}: not {what} (no JSON object); {mend}")
    absent = [key for key in keys if key not in found]
    if absent:
        raise error(f"{shown(path)}: not {what} (without {', '.join(absent[:3])}); {mend}")
    return found


def read_arrays(path: Path, what: str, *, mend: str, error: type[MulaError] = DataError) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz``; ``what`` it is, in words. No pickled object is ever unpacked.

    Raises ``error``, with ``mend`` in its line, for a file that is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(read_regular(path, MOST_ARRAYS)), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, LookupError, AttributeError, zipfile.BadZipFile, zlib.error) as why:
        raise error(f"{shown(path)}: not {what} ({type(why).__name__}); {mend}") from why


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, would outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that does not know this of folders
            raise
    finally:
        os.close(handle)


MOST_TEXT = 2**28  # bytes of a list or CSV; LIP's largest has 5 million


def shown(path: str | Path) -> str:
    """``path`` for a message of one line: what cannot be printed, such as a line end in a name, is escaped."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def read_regular(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes, be it reached by a link.

    A pipe or device, which would keep its reader waiting or never end, is refused unread. Raises ``OSError`` whose
    ``strerror`` says in plain words what is wrong.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(0, "not a regular file", str(path))
            if facts.st_size > most:
                raise OSError(0, f"{facts.st_size:,} bytes, more than the {most:,} that are read", str(path))
            return file.read()
    except ValueError:  # a NUL in the name
        raise OSError(0, "no name of a file", str(path)) from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # to open a pipe waits for its writer otherwise


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark, ending in any of the usual ways.

    Raises :class:`DataError` if it is missing, no regular file, or no text.
    """
    try:
        text = read_regular(path, MOST_TEXT).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: no such file") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read as text ({error.strerror}); unzip or copy it again") from None
    except UnicodeDecodeError as error:
        found = f"{error.reason} at byte {error.start:,}"
        raise DataError(f"{shown(path)}: cannot be read as text ({found}); unzip or copy it again") from None
    # not splitlines(), which also splits at signs that a name may hold by mistake
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def visible_names(folder: str | Path) -> list[str]:
    """The names in ``folder``, sorted, but for hidden ones: what an interrupted writer leaves behind begins with a dot.

    Raises :class:`DataError` if it is no folder or may not be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a folder"
        raise DataError(f"{shown(folder)}: the folder cannot be read ({reason}); unzip or copy it again") from None
