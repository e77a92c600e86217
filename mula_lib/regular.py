"""Whole regular files, visible names and printable paths: what every reader of a user's files begins with."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mula_lib.errors import DataError

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
