"""The checks below the exercises of the notebooks: a line of encouragement instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable


def check(test: Callable[[], object]) -> None:
    """Run ``test`` of a reader's own code and say in a line whether it passed; raises nothing.

    A cell that still raises :class:`NotImplementedError` has not been begun. Anything else that is raised is shown as
    what is still wrong.
    """
    try:
        test()
    except NotImplementedError:
        print("Not done yet: fill the cell above, run it, and run this one again.")
    except Exception as error:  # whatever a reader's code may raise
        reason = " ".join(str(error).split())[:300]
        print(f"Not right yet: {type(error).__name__}{f': {reason}' if reason else ''}")
    else:
        print("Right!")
