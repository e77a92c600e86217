"""Whole trees of the fixtures with one thing damaged, read as a training run reads them, and by the tree check."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.hostile import damage
from benchmarks.hostile.harness import REFUSED, RIGHT, CommandRefused, Trial, kind, run_command
from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data import check, lip, pascal
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import shown
from workbook.datasets import FIXTURES

NEUTRAL = Augmentation(scale=(1.0, 1.0), rotation=0.0, shift=0.0, mirror=0.0)  # so that a sample's place means nothing
Samples = dict[str, dict[str, torch.Tensor]]
Damage = Callable[[Path, np.random.Generator], object]


def samples(root: Path, data: str) -> Samples:
    """Every training sample of the val split, by name."""
    reader, anatomy = (lip, LIP) if data == "people" else (pascal, PASCAL)
    split = reader.read_split(root, "val")
    prepared = TrainingSamples(split, 32, NEUTRAL, anatomy, 0)
    return {record.name: prepared[0, index] for index, record in enumerate(split.records)}


@functools.cache
def _sound(data: str) -> Samples:
    return samples(FIXTURES[data], data)


def _require_sound(found: Samples, data: str, without: int = 0) -> None:
    """AssertionError unless the samples are the undamaged tree's, of all names or ``without`` some."""
    wanted = _sound(data)
    expected = [name for name in wanted if not without or name in found]
    assert list(found) == expected, f"samples of {list(found)}"
    assert len(expected) >= len(wanted) - without, f"samples of {list(found)} only"
    for name, sample in found.items():
        for part, value in sample.items():
            same = torch.equal(torch.nan_to_num(value.float(), -1), torch.nan_to_num(wanted[name][part].float(), -1))
            assert same, f"{name}: another {part}"


def _bytes(change: Callable[[bytes, np.random.Generator], bytes]) -> Damage:
    return lambda path, rng: path.write_bytes(change(path.read_bytes(), rng))


def _place(name: str) -> Damage:
    return lambda path, rng: damage.PLACES[name](path)


_GONE: dict[str, Damage] = {name: _place(name) for name in damage.PLACES}
_BROKEN: dict[str, Damage] = {
    "cut": _bytes(damage.cut), "noise": _bytes(damage.noise), "a web page": _bytes(damage.web_page),
}  # fmt: skip


def _smaller(path: Path, rng: np.random.Generator) -> None:
    import cv2

    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), stored[1:] if rng.random() < 0.5 else stored[:, 1:])


def _strange_id(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines()
    lines[rng.integers(len(lines))] = ("../x", "/etc/passwd", "nobody", "a/b", "..")[rng.integers(5)]
    path.write_text("\n".join(lines))


def _id_twice(path: Path, rng: np.random.Generator) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


def _row_away(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    path.write_text("".join(lines))


def _row_broken(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines()
    row = int(rng.integers(len(lines)))
    lines[row] = (lines[row] + ",1", lines[row].rsplit(",", 1)[0], lines[row][:-1] + "1_0", lines[row][:-1] + "7")[
        rng.integers(4)
    ]
    path.write_text("\n".join(lines))


def _harmless_lines(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))


def _leftover(path: Path, rng: np.random.Generator) -> None:
    """What a writer leaves that was interrupted."""
    (path.parent / f".{path.name}.x7{path.suffix}").write_bytes(rng.bytes(20))


_FLIPPED = _bytes(damage.flipped)
_HARMLESS: dict[str, Damage] = {
    "a link to it": lambda path, rng: damage.linked(path),
    "a leftover beside it": _leftover,
}
_LIST: dict[str, Damage] = {
    **_GONE,
    "a strange id": _strange_id,
    "an id twice": _id_twice,
    "noise": _bytes(damage.noise),
}
# By piece of the tree: what must be refused; what may be noticed or harm nothing; what must be read.
_MUST = {
    "image": {**_GONE, **_BROKEN, "another size": _smaller},
    "mask": {**_GONE, **_BROKEN, "another size": _smaller},
    "list": _LIST,
    "CSV": {**_GONE, **_BROKEN, "a row away": _row_away, "a row broken": _row_broken},
    ".mat": {name: change for name, change in {**_GONE, **_BROKEN}.items() if name != "no file"},  # such are skipped
    "folder": {"no file": lambda path, rng: shutil.rmtree(path), "a file instead": lambda path, rng: (
        shutil.rmtree(path), path.write_bytes(b"x")
    ), "a link to itself": lambda path, rng: (shutil.rmtree(path), path.symlink_to(path.name))},
}  # fmt: skip
_MAY = {"mask": {"a flipped bit": _FLIPPED}, ".mat": {"a flipped bit": _FLIPPED}}
_READ = {
    piece: _HARMLESS | ({"other line ends": _harmless_lines} if piece in ("list", "CSV") else {})
    for piece in ("image", "mask", "list", "CSV", ".mat")
}


def _pieces(root: Path, data: str, rng: np.random.Generator) -> dict[str, Path]:
    name = f"val_{rng.integers(12):06d}"
    if data == "people":
        layout = lip.find_layout(root, "val")
        pieces = {"CSV": layout.poses}
    else:
        layout = pascal.find_layout(root, "val")
        pieces = {".mat": layout.people / f"{name}.mat"}
    folder = (layout.images, layout.masks)[rng.integers(2)]
    return pieces | {
        "image": layout.images / f"{name}.jpg",
        "mask": layout.masks / f"{name}.png",
        "list": layout.ids,
        "folder": folder,
    }  # fmt: skip


def damaged(root: Path, data: str, rng: np.random.Generator) -> tuple[str, Path, str | None]:
    """Copy the fixture to ``root`` and damage one thing: what was done, to which file, and how reading must end."""
    shutil.copytree(FIXTURES[data], root)
    pieces = _pieces(root, data, rng)
    piece = list(pieces)[rng.integers(len(pieces))]
    group, must = rng.choice(["must", "may", "read"], p=[0.65, 0.15, 0.2]), None
    choices = {"must": _MUST, "may": _MAY, "read": _READ}[group].get(piece)
    if choices is None:
        choices, group = _MUST[piece], "must"
    what, change = damage.pick(rng, choices)
    change(pieces[piece], rng)
    must = {"must": REFUSED, "may": None, "read": RIGHT}[group]
    return f"{piece}: {what}", pieces[piece], must


def _tree(folder: Path, rng: np.random.Generator, data: str) -> Trial:
    root = folder / ("tree", "a tree with spaces", "bäume", "line\nend")[rng.integers(4)]
    what, path, must = damaged(root, data, rng)
    names = (shown(path.name), path.stem) if "list" not in what else (path.name, "no row for", ".mat", "images")
    without = 0
    if data == "crowds" and what == "list: a strange id":  # ids without a .mat are known to occur, and skipped
        must, without = None, 1
    return Trial(what, lambda: samples(root, data), names, lambda found: _require_sound(found, data, without), must)


@kind("LIP tree", share=4)
def lip_tree(folder: Path, rng: np.random.Generator) -> Trial:
    """``read_split`` and every training sample of a LIP tree."""
    return _tree(folder, rng, "people")


@kind("PASCAL-Person-Part tree", share=4)
def pascal_tree(folder: Path, rng: np.random.Generator) -> Trial:
    """``read_split`` and every training sample of a PASCAL-Person-Part tree."""
    return _tree(folder, rng, "crowds")


@kind("tree check", share=3)
def tree_check(folder: Path, rng: np.random.Generator) -> Trial:
    """``python -m mula_lib.data.check``, which must name what is damaged, and find nothing where nothing is."""
    data = ("people", "crowds")[rng.integers(2)]
    root = folder / "tree"
    what, path, must = damaged(root, data, rng)
    names = (path.name, path.stem, "val_id.txt", "nobody")

    def act() -> int:
        ended = run_command(check.main, [root, "--split", "val", "--jobs", 2])
        if ended.status == 1:
            named = [line for line in ended.out.splitlines() if any(name in line for name in names)]
            assert named, f"errors, but none names {names}: {ended.out}"
            raise CommandRefused(named[0])
        return ended.status

    if data == "crowds" and what == "list: a strange id":
        must = None  # an id without a .mat is known to occur: a warning
    return Trial(what, act, names, must=must)
