"""Hostile CSVs of joints and lists of ids, with a strict reader of decimal numbers as the judge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.hostile import damage
from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind
from mula_lib.data.lip import read_ids, read_pose_csv
from mula_lib.files import shown

JOINTS = 16
_DECIMAL = re.compile(r"[ \t]*[+-]?(?:nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)[ \t]*", re.ASCII | re.IGNORECASE)
_BAD_NAMES = (
    "../x", "a/b", "/etc/passwd", "..", ".", ".hidden", "a\\b", "nul\0byte", "bell\a", "form\ffeed", "line\u2028end",
    "x" * 300, "é" * 150, "..\\..\\x", "a/../../b", "//", "x/", "vertical\vtab", "next\x85line",
)  # fmt: skip


def people(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Some people by name, each (16, 3) x, y, v; three times nan where a joint is missing."""
    found = {}
    for number in range(int(rng.integers(1, 5))):
        pose = np.column_stack([rng.integers(-20, 600, (JOINTS, 2)), rng.integers(0, 2, JOINTS)]).astype(float)
        pose[rng.random(JOINTS) < 0.2] = np.nan
        found[f"{number}_{rng.integers(10**6)}"] = pose
    return found


def as_text(poses: dict[str, np.ndarray], write: Callable[[float], str] = lambda value: f"{value:.10g}") -> str:
    return "".join(f"{name}.jpg,{','.join(write(value) for value in pose.ravel())}\n" for name, pose in poses.items())


def require_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """AssertionError unless both have the same people in the same order, with the same numbers."""
    assert list(found) == list(wanted), f"names {list(found)} instead of {list(wanted)}"
    for name, pose in wanted.items():
        assert np.array_equal(found[name], pose, equal_nan=True), f"{name}: {found[name]} instead of {pose}"


def strictly(content: bytes) -> dict[str, np.ndarray] | None:
    """What a CSV says, read number by number; None for one that must be refused."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    poses = {}
    for line in re.split(r"\r\n|\r|\n", text):
        if not line.strip():
            continue
        name, *cells = line.split(",")
        if len(cells) != 3 * JOINTS or not all(_DECIMAL.fullmatch(cell) for cell in cells):
            return None
        stem = re.sub(r"(?i)\.(jpg|jpeg|png)$", "", name.strip())
        pose = np.array([float(cell) for cell in cells]).reshape(JOINTS, 3)
        if stem in poses or not all(flag in (0, 1) or np.isnan(flag) for flag in pose[:, 2]):
            return None
        pose[np.isnan(pose[:, :2]).any(axis=1)] = np.nan
        poses[stem] = pose
    return poses


def _number_as(written: str) -> Callable[[str, np.random.Generator], str]:
    """Puts ``written`` in place of one coordinate."""

    def change(text: str, rng: np.random.Generator) -> str:
        lines = text.splitlines()
        row = int(rng.integers(len(lines)))
        cells = lines[row].split(",")
        cells[1 + 3 * int(rng.integers(JOINTS)) + int(rng.integers(2))] = written
        lines[row] = ",".join(cells)
        return "\n".join(lines) + "\n"

    return change


def _flag_as(written: str) -> Callable[[str, np.random.Generator], str]:
    def change(text: str, rng: np.random.Generator) -> str:
        name, *cells = text.splitlines()[0].split(",")
        joint = int(rng.integers(JOINTS))
        cells[3 * joint : 3 * joint + 3] = ["1", "2", written]
        return "\n".join([",".join([name, *cells]), *text.splitlines()[1:]]) + "\n"

    return change


def _name_as(text: str, rng: np.random.Generator) -> str:
    return re.sub(r"^[^,]*", lambda _: _BAD_NAMES[rng.integers(len(_BAD_NAMES))] + ".jpg", text, count=1)


REFUSED_TEXTS: dict[str, Callable[[str, np.random.Generator], str]] = {
    **{f"a number written {each!r}": _number_as(each) for each in (
        "1_000", "１２", "٣", "infinity", "-inf", "1e400", "1e7", "-1000000", "0x10", "1,5", "", "six", '"12"', "1 2",
        "12px", "--1", "1e", "NULL", "1.2.3", "−5",
    )},
    **{f"v written {each!r}": _flag_as(each) for each in ("2", "7", "-1", "0.5", "yes")},
    "a name that leads elsewhere": _name_as,
    "no name": lambda text, rng: text[text.index(",") :],
    "a row twice": lambda text, rng: text + text.splitlines()[-1] + "\n",
    "a cell too many": lambda text, rng: text.replace("\n", ",1\n", 1),
    "a cell too few": lambda text, rng: re.sub(r",[^,]*\n", "\n", text, count=1),
    "semicolons": lambda text, rng: text.replace(",", ";"),
    "a header": lambda text, rng: "image," + ",".join(f"x{i},y{i},v{i}" for i in range(JOINTS)) + "\n" + text,
    "UTF-16": lambda text, rng: text.encode("utf-16").decode("latin-1"),
    "a Latin-1 name": lambda text, rng: "\udcfc" + text,
}  # fmt: skip
SOUND_TEXTS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "as it should be": lambda text, rng: text,
    "Windows line ends": lambda text, rng: text.replace("\n", "\r\n"),
    "old Macintosh line ends": lambda text, rng: text.replace("\n", "\r"),
    "a byte order mark": lambda text, rng: "\ufeff" + text,
    "blank lines": lambda text, rng: "\n \n" + text.replace("\n", "\n\n"),
    "no last line end": lambda text, rng: text.rstrip("\n"),
    "blanks around cells": lambda text, rng: text.replace(",", " ,\t"),
    "NaN": lambda text, rng: text.replace("nan", ("NaN", "NAN", "-nan")[rng.integers(3)]),
}
_BYTES = {
    "cut": damage.cut, "a flipped bit": damage.flipped, "zeros at the end": damage.emptied,
    "a piece missing": damage.without_a_piece, "noise": damage.noise, "a web page": damage.web_page,
}  # fmt: skip
_WRITTEN = {
    "decimals": "{:.3f}", "exponents": "{:.12e}", "signs": "{:+.10g}", "leading zeros": "{:012.3f}",
}  # fmt: skip


@kind("CSV of joints", share=20)
def csv_of_joints(folder: Path, rng: np.random.Generator) -> Trial:
    """``read_pose_csv``."""
    path, wanted = folder / "lip_val_set.csv", people(rng)
    text, must = as_text(wanted), None
    group = rng.choice(["sound", "written", "refused", "bytes", "place", "name"], p=[0.2, 0.1, 0.35, 0.25, 0.05, 0.05])
    path.write_text(text)
    if group in ("sound", "refused"):
        what, change = damage.pick(rng, SOUND_TEXTS if group == "sound" else REFUSED_TEXTS)
        path.write_bytes(change(text, rng).encode("utf-8", "surrogateescape"))
        must = RIGHT if group == "sound" else REFUSED
    elif group == "written":
        what, form = damage.pick(rng, _WRITTEN)
        path.write_text(as_text(wanted, lambda value: "nan" if np.isnan(value) else form.format(value)))
        must = RIGHT
    elif group == "bytes":
        what, change = damage.pick(rng, _BYTES)
        content = change(text.encode(), rng)
        path.write_bytes(content)
        wanted = strictly(content)
    elif group == "place":
        what, put = damage.pick(rng, damage.PLACES)
        put(path)
        must, wanted = (
            (RIGHT, {}) if what == "zero bytes" else (REFUSED, {})
        )  # an empty CSV has no rows; an id needs one
    else:
        what, must, path = "a strange name", RIGHT, damage.renamed(path, rng)

    def judge(found: dict[str, np.ndarray]) -> None:
        assert wanted is not None, f"read {list(found)} from what is no such CSV"
        require_equal(found, wanted)

    return Trial(what, lambda: read_pose_csv(path), (shown(path.name),), judge, must)


@kind("list of ids", share=12)
def list_of_ids(folder: Path, rng: np.random.Generator) -> Trial:
    """``read_ids``."""
    path = folder / "val_id.txt"
    wanted = [f"{number}_{rng.integers(10**6)}" for number in range(int(rng.integers(1, 8)))]
    text, must = "".join(f"{name}\n" for name in wanted), None
    path.write_text(text)
    group = rng.choice(["sound", "refused", "bytes", "place", "unusual"], p=[0.2, 0.3, 0.2, 0.15, 0.15])
    if group == "sound":
        sound = {name: change for name, change in SOUND_TEXTS.items() if name not in ("NaN", "blanks around cells")}
        what, change = damage.pick(rng, sound)
        path.write_bytes(change(text, rng).encode())
        must = RIGHT
    elif group == "refused":
        what, must = "an id that leads elsewhere", REFUSED
        bad = _BAD_NAMES[rng.integers(len(_BAD_NAMES))]
        if rng.random() < 0.2:
            what, bad = "an id twice", wanted[0]
        path.write_text(text + f"{bad}\n", newline="\n")
    elif group == "bytes":
        what, change = damage.pick(rng, _BYTES)
        content = change(text.encode(), rng)
        path.write_bytes(content)
        wanted = None
        if content.isascii():
            wanted = [line.strip() for line in re.split(r"\r\n|\r|\n", content.decode()) if line.strip()]
    elif group == "place":
        what, put = damage.pick(rng, damage.PLACES)
        put(path)
        must = REFUSED
    else:
        what, must = "unusual ids", RIGHT
        odd = [stem for stem in damage.STEMS if (stem.isprintable() and stem.isascii()) or "ü" in stem]
        wanted = list(rng.permutation(odd))
        path.write_text("".join(f"{name}\n" for name in wanted))

    def judge(found: list[str]) -> None:
        assert wanted is not None, f"read {found} from what is no such list"
        assert found == wanted, f"{found} instead of {wanted}"
        for name in found:
            assert not set("/\\\0") & set(name), f"read {name!r}"
            assert not name.startswith("."), f"read {name!r}"

    return Trial(what, lambda: read_ids(path), (path.name,), judge, must)
