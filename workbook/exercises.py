"""The checks below the notebooks' exercises: a line of encouragement instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable


def check(test: Callable[[], object]) -> None:
    """Run ``test`` of a reader's own code and print in a line whether it passed; raises nothing.

    :class:`NotImplementedError` means that the exercise has not been begun; any other error is shown as what is wrong.
    """
    try:
        test()
    except NotImplementedError:
        print("Not done yet: fill in the cell above, run it, and run this one again.")
    except Exception as error:  # whatever a reader's code may raise
        reason = " ".join(str(error).split())[:300]
        print(f"Not right yet: {type(error).__name__}{f': {reason}' if reason else ''}")
    else:
        print("Right!")
