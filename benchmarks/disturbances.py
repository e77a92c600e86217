"""Six ways to stop ``run_all.sh``, and how it should end after each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.disturbed import Checkout, Stopped, mount

PATIENCE = 300  # seconds that a run with a full disk or without its results folder goes on at most


def _one_line(status: int, said: str) -> bool:
    """Ended as an error that is the user's to mend."""
    return status == 2 and "Traceback" not in said and "error: " in said


def killed(checkout: Checkout) -> Stopped:
    """SIGKILL to the command alone: whatever it had started must notice."""
    checkout.signal(signal.SIGKILL, everybody=False)
    return checkout.ended(60, lambda status, said: status == -signal.SIGKILL and "Traceback" not in said)


def powered_off(checkout: Checkout) -> Stopped:
    """SIGKILL to every process."""
    checkout.signal(signal.SIGKILL, everybody=True)
    return checkout.ended(60, lambda status, said: status == -signal.SIGKILL)


def interrupted(checkout: Checkout) -> Stopped:
    """SIGINT to the group: Ctrl-C in a terminal."""
    checkout.signal(signal.SIGINT, everybody=True)
    return checkout.ended(
        60, lambda status, said: status == 130 and "interrupted: nothing is lost" in said and "Traceback" not in said
    )


def terminated(checkout: Checkout) -> Stopped:
    """SIGTERM to the command alone, as a scheduler sends it."""
    checkout.signal(signal.SIGTERM, everybody=False)
    return checkout.ended(60, lambda status, said: status == -signal.SIGTERM and "Traceback" not in said)


def disk_full(checkout: Checkout) -> Stopped:
    """No byte more: the disk filled up, or, where it is not the copy's own, a quota of no bytes for its processes."""
    ballast = checkout.root / "ballast"
    try:
        if checkout.disk.startswith("a disk"):
            _fill(ballast)
        else:
            _forbid_writing(checkout)
        return checkout.ended(PATIENCE, _one_line)
    finally:
        ballast.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**20))
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while True:
            file.write(bytes(2**9))


def _forbid_writing(checkout: Checkout) -> None:
    import resource

    for process in checkout.processes():
        with contextlib.suppress(psutil.Error, OSError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))


def results_read_only(checkout: Checkout) -> Stopped:
    """The results folder cannot be written any more: mounted or made read-only, or a file is in its place."""
    folder = checkout.root / "results"
    with _read_only(folder):
        stopped = checkout.ended(PATIENCE, _one_line)
    return stopped


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    if mount("--bind", folder, folder):
        mount("-o", "remount,bind,ro", folder)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    elif os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
        for path in modes:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
    else:  # root may write everywhere
        away = folder.rename(folder.with_name("results-away"))
        folder.write_text("in the way")
        try:
            yield
        finally:
            folder.unlink()
            away.rename(folder)


FAULTS: dict[str, Callable[[Checkout], Stopped]] = {
    "SIGKILL": killed,
    "Ctrl-C": interrupted,
    "full disk": disk_full,
    "read-only results": results_read_only,
    "SIGKILL of all": powered_off,
    "SIGTERM": terminated,
}
