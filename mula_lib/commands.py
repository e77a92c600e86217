"""How every command line ends: with one line for an error that is the user's to mend, never with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mula_lib.files import MulaError

MENDABLE = 2  # exit status of an error that is the user's to mend
INTERRUPTED = 130


def exit_status(command: Callable[[], int | None], *, kept: str) -> int:
    """Do ``command``; returns its own exit status (0 for None), 2 after the user's mistake, 130 after Ctrl-C.

    ``kept`` says, after an interruption, what was saved and how to go on.
    """
    try:
        return command() or 0
    except MulaError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if error.strerror is None:  # not of the file system
            raise
        print(f"error: {error.filename or 'a file'} cannot be used: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\ninterrupted: {kept}", file=sys.stderr)
        return INTERRUPTED
    return MENDABLE
