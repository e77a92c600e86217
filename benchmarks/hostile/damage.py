"""What happens to files: places without a file in them, cut and flipped bytes, strange names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _folder(path: Path) -> None:
    _remove(path)
    path.mkdir()


def _link(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _remove(path)
        path.symlink_to(target.format(name=path.name))

    return make


def _pipe(path: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _vast(path: Path) -> None:
    """A terabyte of nothing, which takes no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(2**40)


# No file is there, or none that can be read: whatever reads it must refuse.
PLACES: dict[str, Callable[[Path], None]] = {
    "no file": _remove,
    "a folder instead": _folder,
    "a link to nothing": _link("nowhere"),
    "a link to itself": _link("{name}"),
    "a device instead": _link("/dev/zero"),
    "a pipe instead": _pipe,
    "a terabyte of zeros": _vast,
    "zero bytes": lambda path: path.write_bytes(b""),
}


def linked(path: Path) -> None:
    """The file moves, and a link stands in its place: nothing that a reader should mind."""
    moved = path.with_name(f"moved {path.name}")
    path.rename(moved)
    path.symlink_to(moved.name)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The beginning only; at least a byte of the end is missing."""
    return content[: rng.integers(1, len(content))]


def flipped(content: bytes, rng: np.random.Generator, start: int = 0, bits: int = 1) -> bytes:
    """One bit or several beyond ``start`` are turned around."""
    damaged = bytearray(content)
    for _ in range(bits):
        damaged[rng.integers(start, len(content))] ^= 1 << rng.integers(8)
    return bytes(damaged)


def emptied(content: bytes, rng: np.random.Generator) -> bytes:
    """The end is zeros, as of a file that was given its size before it was filled."""
    kept = int(rng.integers(1, max(2, len(content) - 1)))
    return content[:kept] + bytes(len(content) - kept)


def without_a_piece(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes in the middle are missing."""
    start = int(rng.integers(0, len(content) - 1))
    return content[:start] + content[start + int(rng.integers(1, len(content) - start)) :]


def noise(content: bytes, rng: np.random.Generator) -> bytes:
    """Any bytes, as many."""
    return rng.bytes(max(1, len(content)))


def web_page(content: bytes, rng: np.random.Generator) -> bytes:
    """What a failed download leaves."""
    return b"<!DOCTYPE html><html><title>404 Not Found</title>" + b"<p>sorry</p>" * int(rng.integers(0, 50))


STEMS = (
    "with spaces in it", "grüße", "人_像", "-rf", "100%", "a'b\"c", "line\nend", "tab\there", "bell\a",
    "\u202eright to left", "zero\u200bwidth", "💃🏽", "e\u0301", "$(reboot)", "*", "#1", "~", "dot.in.it", "x" * 190,
    "not \udcff UTF-8", "{}", "%s",
)  # fmt: skip


def renamed(path: Path, rng: np.random.Generator) -> Path:
    """The file under a strange name, which is a legal one; returns where it is."""
    return path.rename(path.with_name(STEMS[rng.integers(len(STEMS))] + path.suffix))


def pick(rng: np.random.Generator, choices: dict[str, Callable]) -> tuple[str, Callable]:
    """One of ``choices``."""
    name = list(choices)[rng.integers(len(choices))]
    return name, choices[name]
