"""A copy of this checkout that may be hurt: its ``run_all.sh`` killed, its disk filled, its results made read-only."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbook.datasets import REPOSITORY

COPIED = (
    "mula_lib", "notebooks", "tests/fixture", "tools", "run_all.sh", "pyproject.toml", "requirements.lock", "README.md",
    "results/demo/learning_rates.csv",
)  # fmt: skip
DISK = "400m"  # of the file system that is filled up
GONE_WITHIN = 20  # seconds until nothing may be left of a stopped run
STILL_RUNNING = 1000  # in place of an exit status


@dataclass(frozen=True)
class Stopped:
    """How a run ended: its exit status, all that it wrote, and how many of its processes were left."""

    status: int
    said: str
    left: int
    well: bool  # as it should after this fault: in a line and by the right status

    @property
    def last_line(self) -> str:
        """The last line that is not of a progress bar."""
        lines = [line.split("\r")[-1].strip() for line in self.said.splitlines()]
        return next((line for line in reversed(lines) if line and "%|" not in line), "")


class Checkout:
    """A copy of what ``run_all.sh`` needs, in ``root``, which uses the packages of this environment."""

    def __init__(self, root: Path, notebooks: str = "*") -> None:
        self.root = Path(root).resolve()
        self.disk = "the usual disk"
        for name in COPIED:
            source, target = REPOSITORY / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # numba's compiled loops come along: they are found by the times of the source files
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
        for path in (self.root / "notebooks").iterdir():
            if not path.match(f"{notebooks}.ipynb"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.root / "weights").symlink_to(REPOSITORY / "weights")
        self._make_environment()
        self._listen_to(None)

    def another(self) -> Checkout:
        """The same copy, for a second command in it."""
        beside = copy.copy(self)
        beside._listen_to(None)
        return beside

    def _make_environment(self) -> None:
        """A ``.venv`` that borrows the packages of the running one, with the stamp that says it is complete."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.root / ".venv"], check=True)
        (site,) = (self.root / ".venv").glob("lib/python*/site-packages")
        borrowed = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        (site / "borrowed.pth").write_text("\n".join([str(self.root), *borrowed]) + "\n")
        stamp = 'source tools/environment.sh; PATH="$PWD/.venv/bin:$PATH"; echo "$PWD" >"$(_mula_stamp)"'
        subprocess.run(["bash", "-c", stamp], cwd=self.root, check=True)

    @classmethod
    @contextlib.contextmanager
    def on_a_small_disk(cls, folder: Path) -> Iterator[Checkout]:
        """A copy below ``folder``, on a file system of its own where this process may mount one."""
        mounted = mount("-t", "tmpfs", "-o", f"size={DISK}", "none", folder)
        try:
            checkout = cls(folder / "checkout")
            checkout.disk = f"a disk of {DISK}" if mounted else checkout.disk
            yield checkout
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=False)

    def begin(self, *arguments: str) -> None:
        """Start ``./run_all.sh`` with these arguments."""
        outside = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")
        process = subprocess.Popen(
            ["./run_all.sh", *arguments],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name not in outside},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            # as from a terminal, even if this process was itself started in the background, where Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._listen_to(process)

    def _listen_to(self, process: subprocess.Popen | None) -> None:
        said: list[str] = []
        self._process, self._said = process, said

        def listen() -> None:
            for line in process.stdout:
                said.append(line)

        if process is not None:
            self._listener = threading.Thread(target=listen, daemon=True)
            self._listener.start()

    def said(self) -> str:
        """What the run has written so far."""
        return "".join(self._said)

    def is_running(self) -> bool:
        """Whether ``run_all.sh`` has not ended."""
        return self._process.poll() is None

    def finished_runs(self) -> int:
        """How many runs have their ``metrics.json``."""
        return sum(1 for _ in (self.root / "runs").rglob("metrics.json"))

    def complete(self, *arguments: str, timeout: float) -> Stopped:
        """Run ``./run_all.sh`` to its end."""
        self.begin(*arguments)
        return self.ended(timeout, lambda status, said: status == 0)

    def wait(self, timeout: float) -> int:
        """The exit status of ``run_all.sh``, once it has ended and its last line has been read.

        :data:`STILL_RUNNING`, and it is killed, where it has not ended within so many seconds.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL, everybody=True)
            self._process.wait()
            status = STILL_RUNNING
        self._listener.join(1)
        return status

    def ended(self, timeout: float, well: Callable[[int, str], bool]) -> Stopped:
        """Wait for the end, which must come within ``timeout`` seconds, and for all processes to be gone."""
        status = self.wait(timeout)
        deadline = time.monotonic() + GONE_WITHIN
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.processes()
        for process in left:
            process.kill()
        return Stopped(status, self.said(), len(left), well(status, self.said()))

    def signal(self, number: int, *, everybody: bool) -> None:
        """Send a signal to ``run_all.sh`` only, or to all its processes, as a terminal or a power cut would."""
        if everybody and number == signal.SIGKILL:
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        elif everybody:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        """Everything that works in the copy."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(self.root):
                    found.append(process)
        return found

    def forget(self) -> None:
        """Remove runs and results, but not the learning rates, which are an input."""
        for folder in ("runs", "results/smoke"):
            shutil.rmtree(self.root / folder, ignore_errors=True)


def mount(*arguments: str | Path) -> bool:
    """Whether this could be mounted: it takes Linux, and root."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mount"):
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
