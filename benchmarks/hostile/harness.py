"""Tries one hostile input and judges how it ends; knows no kind of input itself.

A kind is a function of an empty folder and a random generator that writes a file or several, and returns a
:class:`Trial`: what was done, what to call, and how to know a right answer. It is registered with a share, by which the
cases of a run are dealt out::

    @kind("id list", share=10)
    def id_list(folder: Path, rng: np.random.Generator) -> Trial:
        path = folder / "val_id.txt"
        path.write_bytes(b"../x")
        return Trial("leads out of the folder", lambda: read_ids(path), names=(path.name,), must=REFUSED)

Every case is a function of its kind, the seed and its number, so that a violation can be repeated. Two ends are
allowed: a right answer, or an error of :mod:`mula_lib.files` that is one short line with the name of a file. All else
is a violation: another exception, a wrong answer, an answer to what must be refused, a refusal of what is sound, a
message without the name, a warning, anything printed (but by a command), and what takes longer than ``LONGEST``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import signal
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import hostile
from mula_lib.files import MulaError

RIGHT, REFUSED, VIOLATION = "right", "refused", "violation"
LONGEST = 60  # seconds for a case; all but a few take a hundredth of one
LONGEST_LINE = 300  # characters of a message, without the path of the case's folder and the names of its files


def nothing(result: object = None) -> None:
    """Judges nothing."""


@dataclass(frozen=True)
class Trial:
    """One input and how to judge what becomes of it."""

    what: str  # what was done to the input, in a few words: the variant that is counted
    act: Callable[[], object]  # the public function that is tried
    names: tuple[str, ...]  # of files; a message must contain one of them, as mula_lib.files.shown has it
    judge: Callable[[object], None] = nothing  # raises AssertionError unless the result is right
    must: str | None = None  # RIGHT or REFUSED where only one end is allowed
    after: Callable[[], None] = nothing  # raises AssertionError if something else is wrong, whatever the end


@dataclass(frozen=True)
class Outcome:
    """How a case ended; ``why`` says of a violation what is wrong, of a refusal what was said."""

    kind: str
    seed: int
    number: int
    what: str
    end: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}, seed {self.seed}, case {self.number}, {self.what}: {self.why}"


@dataclass(frozen=True)
class Kind:
    """A kind of input: its name, its share of a run's cases, and what makes a trial of it."""

    name: str
    share: float
    make: Callable[[Path, np.random.Generator], Trial]


_kinds: dict[str, Kind] = {}


def kind(name: str, *, share: float) -> Callable:
    """Decorator: register a function of (folder, rng) that returns a :class:`Trial`."""

    def register(make: Callable[[Path, np.random.Generator], Trial]) -> Callable:
        if name in _kinds and _kinds[name].make.__module__ != make.__module__:
            raise ValueError(f"two kinds of the name {name!r}")
        _kinds[name] = Kind(name, share, make)
        return make

    return register


def all_kinds() -> dict[str, Kind]:
    """The kinds of all modules, by name."""
    for module in hostile.MODULES:
        importlib.import_module(f"{hostile.__name__}.{module}")
    return dict(_kinds)


def counts(kinds: Sequence[Kind], cases: int) -> dict[str, int]:
    """How many of at least ``cases`` cases each kind gets, by its share; one at least."""
    total = sum(each.share for each in kinds)
    return {each.name: max(1, int(np.ceil(cases * each.share / total))) for each in kinds}


def run_case(kind: Kind, seed: int, number: int) -> Outcome:
    """Make and judge one case, in a folder of its own."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    folder = Path(tempfile.mkdtemp(prefix="hostile"))
    try:
        trial = kind.make(folder, rng)
        end, why = _judged(trial, folder)
    finally:
        shutil.rmtree(folder)
    return Outcome(kind.name, seed, number, trial.what, end, why)


def _judged(trial: Trial, folder: Path) -> tuple[str, str]:
    written = io.StringIO()
    try:
        with (
            _time_limit(), warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(written), contextlib.redirect_stderr(written),
        ):  # fmt: skip
            warnings.simplefilter("always")
            end, why = _end(trial, folder)
            trial.after()
    except AssertionError as error:
        return VIOLATION, str(error) or traceback.format_exc(limit=-1)
    except Exception as error:
        return VIOLATION, f"{type(error).__name__}: {error} [{_place(error)}]"
    if warned:
        return VIOLATION, f"warned: {warned[0].message}"
    if written.getvalue():
        return VIOLATION, f"printed: {written.getvalue()[:LONGEST_LINE]}"
    if trial.must not in (None, end):
        return VIOLATION, f"{end}, but must be {trial.must}. {why}"
    return end, why


def _end(trial: Trial, folder: Path) -> tuple[str, str]:
    try:
        result = trial.act()
    except MulaError as error:
        _require_clear(str(error), trial.names, folder)
        return REFUSED, str(error)
    trial.judge(result)
    return RIGHT, ""


def _require_clear(message: str, names: Sequence[str], folder: Path) -> None:
    shortened = message.replace(str(folder), "…")
    if not shortened.isprintable():
        raise AssertionError(f"not one printable line: {message!r}")
    if len(shortened) > LONGEST_LINE + sum(map(len, names)):
        raise AssertionError(f"{len(shortened)} characters: {message}")
    if not any(name in message for name in names):
        raise AssertionError(f"names none of {', '.join(names)}: {message}")


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


class TooLong(Exception):
    """A case that does not end."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong(f"more than {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class CommandRefused(MulaError):
    """The line with which a command ended in status 2."""


@dataclass(frozen=True)
class Ended:
    """How a command ended that refused nothing: its exit status, and what it printed."""

    status: int
    out: str


def run_command(main: Callable[[Sequence[str]], int], arguments: Sequence[str | Path]) -> Ended:
    """Call a command line's ``main`` in this process, to be used as a trial's ``act``.

    Raises :class:`CommandRefused` with the line that it wrote before it returned 2, AssertionError if it wrote
    anything else to stderr than one line that begins with "error: ", or anything at all before another status.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as error:
            raise AssertionError(f"a usage error: {err.getvalue()}") from error
    said = err.getvalue()
    if status != 2:
        if said:
            raise AssertionError(f"status {status}, but stderr has: {said}")
        return Ended(status, out.getvalue())
    if not (said.startswith("error: ") and said.endswith("\n") and said.count("\n") == 1):
        raise AssertionError(f"status 2, but stderr has: {said!r}")
    raise CommandRefused(said.removeprefix("error: ").rstrip("\n"))
