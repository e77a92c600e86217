"""Hostile ``.mat`` files, written by scipy and, in either byte order, by a small writer of its own.

Damaged files are never given to scipy's reader, which they can end the whole process of; instead a flipped bit is
known to change one number at most, or to be noticed.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix

from benchmarks.hostile import damage
from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind
from mula_lib.data.pascal import read_people
from mula_lib.files import shown

JOINTS = 14
_CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}
_TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CELL, _MATRIX, _COMPRESSED = 1, 14, 15
People = tuple[list[np.ndarray], list[np.ndarray]]  # joints (14, 3) and boxes (4,) of each, as in the file


def people(rng: np.random.Generator) -> People:
    joints, boxes = [], []
    for _ in range(int(rng.integers(0, 5))):
        states = rng.integers(0, 3, JOINTS)
        places = rng.integers(1, 120, (JOINTS, 2)) * (states > 0)[:, None]
        joints.append(np.column_stack([places, states]).astype(float))
        corners = np.sort(rng.integers(1, 120, (2, 2)), axis=0)
        boxes.append(corners.ravel().astype(float))
    return joints, boxes


def cells(values: list) -> np.ndarray:
    array = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        array[0, index] = value
    return array


def by_scipy(content: dict, **options) -> bytes:
    file = io.BytesIO()
    savemat(file, content, **options)
    return file.getvalue()


def fields(found: People) -> dict:
    return {"boxes": cells([box[None] for box in found[1]]), "joints": cells(found[0])}


def element(kind: int, data: bytes, order: str, *, small: bool = False) -> bytes:
    if small and len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8 if kind != _COMPRESSED else 0)


def matrix(name: str, value: np.ndarray, order: str, stored: str = "f8", *, small: bool = False) -> bytes:
    """A variable, numbers of class double or cells of them, whose numbers are stored as ``stored``."""
    is_cell = value.dtype == object
    parts = [
        element(6, struct.pack(f"{order}II", _CELL if is_cell else _CLASSES["f8"], 0), order),
        element(5, np.array(value.shape, f"{order}i4").tobytes(), order),
        element(1, name.encode(), order, small=small),
    ]
    if is_cell:
        parts += [matrix("", each, order, stored, small=small) for each in value.ravel(order="F")]
    else:
        parts.append(element(_TYPES[stored], value.astype(f"{order}{stored}").tobytes(order="F"), order, small=small))
    return element(_MATRIX, b"".join(parts), order)


def by_hand(
    found: People, rng: np.random.Generator, order: str | None = None, *, compressed: bool | None = None
) -> bytes:
    """A file of either byte order, compressed or not, in any type that holds the numbers, small elements or not."""
    order = order or "<>"[rng.integers(2)]
    stored = list(_TYPES)[rng.integers(len(_TYPES))]
    variables = [matrix(name, value, order, stored, small=True) for name, value in fields(found).items()]
    if rng.random() < 0.5 if compressed is None else compressed:
        variables = [element(_COMPRESSED, zlib.compress(each), order) for each in variables]
    return head(order) + b"".join(variables)


def head(order: str) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + (b"\x00\x01IM" if order == "<" else b"\x01\x00MI")


_MORE = {
    "text": "a note", "numbers": np.arange(30.0).reshape(2, 3, 5), "flags": np.array([True, False]),
    "sizes": {"a": np.arange(3), "b": "c"}, "sparse": csc_matrix(np.eye(4)), "complex": np.arange(3) * 1j,
    "cells": cells(["a", np.arange(3), cells([1.0])]), "nothing": np.zeros((0, 3)), "a_long_name_of_a_variable": 1.0,
}  # fmt: skip
SOUND: dict[str, Callable[[People, np.random.Generator], bytes]] = {
    "by scipy": lambda found, rng: by_scipy(fields(found)),
    "by scipy, compressed": lambda found, rng: by_scipy(fields(found), do_compression=True),
    "by hand": lambda found, rng: by_hand(found, rng),
    "big-endian": lambda found, rng: by_hand(found, rng, ">"),
    "other variables beside": lambda found, rng: by_scipy(
        {**{name: _MORE[name] for name in rng.permutation(list(_MORE))[:5]}, **fields(found)},
        do_compression=bool(rng.integers(2)), long_field_names=True,
    ),
    "in a column": lambda found, rng: by_scipy({name: value.T for name, value in fields(found).items()}),
    "numbers of other types": lambda found, rng: by_scipy(
        {name: cells([each.astype(("u1", "i2", "f4", "i8", "u4")[rng.integers(5)]) for each in value[0]])
         for name, value in fields(found).items()}
    ),
}  # fmt: skip


def _one_person(change: Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple]) -> Callable:
    """Puts somebody behind the others whose joints and box ``change`` made wrong."""

    def write(found: People, rng: np.random.Generator) -> bytes:
        places = np.column_stack([rng.integers(1, 120, (JOINTS, 2)), np.ones(JOINTS)]).astype(float)
        joints, box = change(places, np.array([1.0, 2.0, 30.0, 40.0]), rng)
        return by_scipy(fields(([*found[0], joints], [*found[1], np.asarray(box, dtype=np.asarray(box).dtype)])))

    return write


def _set(row: int, column: int, value: float) -> Callable:
    def change(joints: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
        joints[row, column] = value
        return joints, box

    return _one_person(change)


def _box(*numbers: float) -> Callable:
    return _one_person(lambda joints, box, rng: (joints, np.array(numbers)))


@functools.cache
def _bomb() -> bytes:
    """200 million zeros, which are packed into a thousandth of it."""
    start = struct.pack("<II", _MATRIX, 200_000_000)
    packer = zlib.compressobj(1)
    packed = packer.compress(start) + b"".join(packer.compress(bytes(10**6)) for _ in range(200)) + packer.flush()
    return head("<") + element(_COMPRESSED, packed, "<")


def _nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        flags, sizes = element(6, struct.pack("<II", _CELL, 0), "<"), element(5, struct.pack("<ii", 1, 1), "<")
        value = element(_MATRIX, flags + sizes + element(1, b"", "<") + value, "<")
    flags, sizes = element(6, struct.pack("<II", _CELL, 0), "<"), element(5, struct.pack("<ii", 1, 1), "<")
    return head("<") + element(_MATRIX, flags + sizes + element(1, b"joints", "<") + value, "<")


def _sized(*sizes: int) -> bytes:
    """Cells of an impossible size."""
    flags = element(6, struct.pack("<II", _CELL, 0), "<")
    dims = element(5, np.array(sizes, "<i4").tobytes(), "<")
    return head("<") + element(_MATRIX, flags + dims + element(1, b"joints", "<"), "<")


WRONG: dict[str, Callable[[People, np.random.Generator], bytes]] = {
    "version 7.3": lambda found, rng: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + _HDF5,
    "HDF5": lambda found, rng: _HDF5 + rng.bytes(300),
    "version 4": lambda found, rng: by_scipy({"joints": np.ones((14, 3)), "boxes": np.ones(4)}, format="4"),
    "no joints": lambda found, rng: by_scipy({"boxes": cells([])}),
    "no variables": lambda found, rng: by_scipy({}),
    "joints without cells": lambda found, rng: by_scipy({"boxes": cells([]), "joints": np.ones((14, 3))}),
    "joints in a struct": lambda found, rng: by_scipy({"boxes": cells([]), "joints": {"x": np.ones(3)}}),
    "more boxes than joints": lambda found, rng: by_scipy(fields((found[0], [*found[1], np.ones(4)]))),
    "13 joints": _one_person(lambda joints, box, rng: (joints[:13], box)),
    "joints on their side": _one_person(lambda joints, box, rng: (joints.T, box)),
    "complex joints": _one_person(lambda joints, box, rng: (joints + 1j, box)),
    "text for joints": _one_person(lambda joints, box, rng: ("left", box)),
    "cells for joints": _one_person(lambda joints, box, rng: (joints.astype(object), box)),
    "a state of 3": _set(2, 2, 3), "a state of nan": _set(2, 2, np.nan), "a state of 0.5": _set(2, 2, 0.5),
    "a coordinate of nan": _set(3, 0, np.nan), "an infinite coordinate": _set(3, 1, np.inf),
    "a coordinate of 1e38": _set(3, 1, 1e38), "a coordinate of -1e6": _set(3, 1, -1e6),
    "a box of nan": _box(1, 2, np.nan, 4), "a box of 1e9": _box(1, 2, 1e9, 4), "a reversed box": _box(9, 2, 1, 4),
    "a box of five numbers": _box(1, 2, 3, 4, 5), "an empty box": _box(),
    "a bomb": lambda found, rng: _bomb(),
    "cells within cells": lambda found, rng: _nested(int(rng.integers(9, 3000))),
    "cells of an impossible size": lambda found, rng: _sized(
        *((2**31 - 1, 2**31 - 1), (-1, 3), (1, 10**6), (5,), (0, *[2**31 - 1] * 9), (1,) * 40)[rng.integers(6)]
    ),
    "two of one name": lambda found, rng: by_scipy(fields(found)) + by_scipy(fields(found))[128:],
}  # fmt: skip
BROKEN = {
    "cut": damage.cut, "a flipped bit": damage.flipped,
    "zeros at the end": damage.emptied, "a piece missing": damage.without_a_piece, "noise": damage.noise,
    "a web page": damage.web_page,
    "noise behind a header": lambda content, rng: content[:128] + rng.bytes(len(content) - 128),
    "many flipped bits": lambda content, rng: damage.flipped(content, rng, bits=int(rng.integers(2, 40))),
}  # fmt: skip


def arrays(found: People) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reader should make of them: (M, 14, 2) joints, (M, 14) occluded, (M, 4) boxes, counted from 0."""
    joints = np.array(found[0]).reshape(-1, JOINTS, 3)
    places = np.where(joints[..., 2:] == 0, np.nan, joints[..., :2] - 1)
    return places, joints[..., 2] == 2, np.array(found[1]).reshape(-1, 4) - 1


def _changes(found: tuple, wanted: tuple) -> int:
    """How many joints and numbers of boxes differ."""
    assert [each.shape for each in found] == [each.shape for each in wanted], "other shapes"
    return int(_other_joints(found, wanted).sum() + (found[2] != wanted[2]).sum())


def _other_joints(found: tuple, wanted: tuple) -> np.ndarray:
    same = (found[0] == wanted[0]) | (np.isnan(found[0]) & np.isnan(wanted[0]))
    return ~same.all(axis=2) | (found[1] != wanted[1])


@kind("MATLAB file", share=20)
def matlab_file(folder: Path, rng: np.random.Generator) -> Trial:
    """``read_people``."""
    path, written, must, most = folder / "2008_7.mat", people(rng), None, 0
    group = rng.choice(["sound", "wrong", "broken", "place", "name"], p=[0.25, 0.25, 0.4, 0.06, 0.04])
    what, write = damage.pick(rng, WRONG if group == "wrong" else SOUND)
    content = write(written, rng)
    if group == "broken":
        compressed = bool(rng.integers(2))
        content = by_hand(written, rng, compressed=compressed)
        what, change = damage.pick(rng, BROKEN)
        # many flips in numbers without a checksum: nobody can tell, but nothing may break
        most = 0 if compressed else {"a flipped bit": 1, "many flipped bits": 40}.get(what, 0)
        content = change(content, rng)
        what += ", compressed" if compressed else ""
        must = REFUSED if what.startswith(("noise", "a web page")) else None
    else:
        must = REFUSED if group in ("wrong", "place") else RIGHT
    path.write_bytes(content)
    if group == "place":
        what, put = damage.pick(rng, {**damage.PLACES, "a link to it": damage.linked})
        put(path)
        must = RIGHT if what == "a link to it" else REFUSED
    elif group == "name":
        what, path = "a strange name", damage.renamed(path, rng)

    def judge(found: tuple) -> None:
        if most == 40 and len(found[0]) != len(written[0]):
            return  # of 40 flips some may be in the sizes
        changes = _changes(found, arrays(written))
        if what == "zeros at the end":  # which is how absent joints are written: some may be lost, none may be wrong
            changes -= int((_other_joints(found, arrays(written)) & np.isnan(found[0]).any(axis=2)).sum())
        assert changes <= most, f"{changes} joints or numbers of boxes differ"

    return Trial(what, lambda: read_people(path), (shown(path.name),), judge, must)
