"""A copy of this checkout that may be hurt: its ``run_all.sh`` killed, its disk filled, its results made read-only."""

from __future__ import annotations

import contextlib
import copy
import csv
import json
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

import numpy as np
import psutil
from PIL import Image

from mula_lib.checkpoint import load_checkpoint, read_facts
from mula_lib.data.sources import REPOSITORY
from mula_lib.errors import MulaError
from mula_lib.files import PARTIAL

COPIED = (
    "mula_lib", "notebooks", "tests/fixture", "tools", "run_all.sh", "pyproject.toml", "requirements.lock", "README.md",
    "results/demo/learning_rates.csv",
)  # fmt: skip
TIMES = ("train_seconds", "images_per_second")  # columns that no two runs share
DISK = "400m"  # of the file system that is filled up
GONE_WITHIN = 20  # seconds until nothing may be left of a stopped run
STILL_RUNNING = 1000  # in place of an exit status
PATIENCE = 300  # seconds that a run with a full disk or without its results folder goes on at most


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
        mounted = _mount("-t", "tmpfs", "-o", f"size={DISK}", "none", folder)
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


def _mount(*arguments: str | Path) -> bool:
    """Whether this could be mounted: it takes Linux, and root."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mount"):
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


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
    if _mount("--bind", folder, folder):
        _mount("-o", "remount,bind,ro", folder)
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


def tables(root: Path) -> dict[str, str]:
    """Every CSV of the results, without the columns of times."""
    found = {}
    for path in sorted((root / "results" / "smoke").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        found[path.name] = json.dumps(kept)
    return found


def damaged_files(root: Path) -> list[str]:
    """Files of runs and results that are not whole and not marked as partial: there must be none."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
        ".ipynb": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".csv": _read_csv,
        ".png": lambda path: Image.open(path).load(),
        ".npz": lambda path: [value.shape for value in np.load(path, allow_pickle=False).values()],
        ".safetensors": read_facts,
        ".ckpt": load_checkpoint,
        ".html": _read_page,
    }
    found = []
    for folder in ("runs", "results"):
        for path in (root / folder).rglob("*"):
            if path.name.endswith(PARTIAL) or ".unfinished" in path.parts or path.suffix not in readers:
                continue
            try:
                readers[path.suffix](path)
            except (OSError, ValueError, EOFError, LookupError, SyntaxError, MulaError) as error:
                found.append(f"{path.relative_to(root)}: {error}")
    return found


def _read_csv(path: Path) -> None:
    with open(path, encoding="utf-8", newline="") as file:
        widths = {len(row) for row in csv.reader(file)}
    if len(widths) != 1:
        raise ValueError(f"rows of {widths} cells")


def _read_page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("half a page")
