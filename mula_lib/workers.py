"""Worker processes: one thread each, Ctrl-C left to their parent, and gone when it is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


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
