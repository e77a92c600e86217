"""Reads numbers and cell arrays from MATLAB's level-5 files (``save -v5`` to ``-v7``), whatever the bytes may be.

A file is a header of 128 bytes and elements: a type, a length, the data, padding to eight bytes. An element is a
variable, or one that is compressed; a variable is elements again (what it is, its sizes, its name, its values). Every
length is checked against what is there before anything is made of it. Layout: MathWorks, "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

MOST_INFLATED = 2**26  # bytes of all compressed variables of a file together
DEEPEST = 8  # cells within cells
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # … of values
_CELL = 1  # classes of variables
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {2: "struct", 3: "object", 4: "text", 5: "sparse array", 16: "function", 17: "object", 18: "object"}
_OPAQUE = 17
_COMPLEX = 0x800


class NotMatlab(Exception):
    """Why the bytes are no such file; the reader adds the file's name."""


class OtherVersion(NotMatlab):
    """A MATLAB file, but of another format: "4" or "7.3"."""


@dataclass(frozen=True)
class Unread:
    """In place of a value that is neither numbers nor cells: what it is, in a word."""

    kind: str


def read_variables(content: bytes, wanted: Collection[str]) -> dict[str, np.ndarray | Unread | None]:
    """The variables in ``content``, by name: arrays of two or more dimensions, cell arrays with dtype object.

    Those that are not ``wanted`` are passed over by their length, and None. Numbers have their class's type in this
    machine's byte order; logical ones are uint8, as stored. Raises :class:`NotMatlab` for anything that does not add
    up, :class:`OtherVersion` for another format.
    """
    if content[:8] == b"\x89HDF\r\n\x1a\n" or content[124:128] in (b"\x00\x02IM", b"\x02\x00MI"):
        raise OtherVersion("7.3")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(content[124:128])
    if order is None:
        if len(content) >= 20 and any(_is_version_4(*struct.unpack(f"{each}5i", content[:20])) for each in "<>"):
            raise OtherVersion("4")
        raise NotMatlab("no header" if len(content) >= _HEADER else "cut off")
    reader = _Reader(order, wanted)
    for kind, data in reader.elements(memoryview(content)[_HEADER:]):
        reader.add(kind, data)
    return reader.found


def _is_version_4(kind: int, rows: int, columns: int, imaginary: int, name_length: int) -> bool:
    return 0 <= kind < 5000 and rows >= 0 and columns >= 0 and imaginary in (0, 1) and 1 < name_length < 100


@dataclass
class _Reader:
    order: str  # "<" or ">", of the bytes of a number
    wanted: Collection[str]
    found: dict[str, np.ndarray | Unread | None] = field(default_factory=dict)
    inflatable: int = MOST_INFLATED

    def elements(self, data: memoryview) -> list[tuple[int, memoryview]]:
        """Type and data of each element that ``data`` is made of."""
        elements, at = [], 0
        while at < len(data):
            if len(data) - at < 8:
                raise NotMatlab("cut off")
            kind, length = struct.unpack_from(f"{self.order}II", data, at)
            if kind >> 16:  # a small one: the length in the upper half, and at most four bytes in place of it
                kind, length, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
                if length > 4:
                    raise NotMatlab("damaged")
            else:
                start = at + 8
                end = start + (length if kind == _COMPRESSED else -(-length // 8) * 8)
            # the padding of the very last element may be missing
            if start + length > len(data):
                raise NotMatlab("cut off")
            elements.append((kind, data[start : start + length]))
            at = end
        return elements

    def add(self, kind: int, data: memoryview) -> None:
        """Note the variable of an element of the file."""
        if kind == _COMPRESSED:
            ((kind, data),) = self._exactly(1, self.elements(self._inflated(data)))
        if kind != _MATRIX:
            raise NotMatlab("damaged")
        name, value = self._variable(data, 0)
        if name in self.found:
            raise NotMatlab("two variables of one name")
        self.found[name] = value

    def _inflated(self, data: memoryview) -> memoryview:
        unpacker = zlib.decompressobj()
        try:
            inflated = unpacker.decompress(data, self.inflatable + 1)
        except zlib.error:
            raise NotMatlab("damaged") from None
        self.inflatable -= len(inflated)
        if self.inflatable < 0:
            raise NotMatlab(f"more than {MOST_INFLATED:,} bytes when unpacked")
        if not unpacker.eof:
            raise NotMatlab("cut off")
        return memoryview(inflated)

    def _variable(self, data: memoryview, depth: int) -> tuple[str, np.ndarray | Unread | None]:
        if depth and not len(data):  # how an empty cell may be written
            return "", np.zeros((0, 0))
        elements = self.elements(data)
        if len(elements) < 3:
            raise NotMatlab("damaged")
        flags = self._numbers(elements[0], "u4")
        if len(flags) != 2:
            raise NotMatlab("damaged")
        kind = int(flags[0]) & 0xFF
        if kind == _OPAQUE:  # which has no sizes
            return self._name(elements[1]), Unread(_OTHERS[kind])
        sizes, name = self._numbers(elements[1], "i4").tolist(), self._name(elements[2])
        if not 2 <= len(sizes) <= 32 or min(sizes) < 0:
            raise NotMatlab("damaged")
        count = math.prod(sizes)
        if depth == 0 and name not in self.wanted:
            return name, None
        if kind == _CELL:
            return name, self._cells(elements[3:], sizes, count, depth)
        if kind in _NUMBERS:
            parts = self._exactly(2 if flags[0] & _COMPLEX else 1, elements[3:])
            real, *imaginary = (self._values(part, _NUMBERS[kind], count) for part in parts)
            values = real + 1j * imaginary[0] if imaginary else real
            return name, self._shaped(values, sizes)
        if kind in _OTHERS:
            return name, Unread(_OTHERS[kind])
        raise NotMatlab("damaged")

    def _cells(self, elements: list[tuple[int, memoryview]], sizes: list[int], count: int, depth: int) -> np.ndarray:
        if depth >= DEEPEST:
            raise NotMatlab(f"more than {DEEPEST} cells within each other")
        cells = np.empty(len(self._exactly(count, elements)), object)
        for index, (kind, data) in enumerate(elements):
            if kind != _MATRIX:
                raise NotMatlab("damaged")
            cells[index] = self._variable(data, depth + 1)[1]
        return self._shaped(cells, sizes)

    def _values(self, element: tuple[int, memoryview], dtype: str, count: int) -> np.ndarray:
        """``count`` numbers of class ``dtype``, which are stored as a type that holds them in fewer bytes, or in it."""
        kind, data = element
        if kind not in _STORED:
            raise NotMatlab("damaged")
        stored = np.dtype(_STORED[kind]).newbyteorder(self.order)
        if len(data) != count * stored.itemsize or not np.can_cast(stored, dtype, "same_kind"):
            raise NotMatlab("damaged")
        with np.errstate(over="ignore"):  # a double beyond a single's range is infinite, as it is in MATLAB
            return np.frombuffer(data, stored).astype(dtype)

    def _name(self, element: tuple[int, memoryview]) -> str:
        return self._numbers(element, "i1").tobytes().decode("latin-1")

    @staticmethod
    def _shaped(values: np.ndarray, sizes: list[int]) -> np.ndarray:
        try:
            return values.reshape(sizes, order="F")  # MATLAB's columns follow each other
        except ValueError:  # no values at all, but sizes beyond any memory
            raise NotMatlab("damaged") from None

    def _numbers(self, element: tuple[int, memoryview], dtype: str) -> np.ndarray:
        """The numbers of an element that describes a variable, which has one type only."""
        kind, data = element
        if _STORED.get(kind) != dtype or len(data) % np.dtype(dtype).itemsize:
            raise NotMatlab("damaged")
        return np.frombuffer(data, np.dtype(dtype).newbyteorder(self.order))

    @staticmethod
    def _exactly(count: int, elements: list[tuple[int, memoryview]]) -> list[tuple[int, memoryview]]:
        if len(elements) != count:
            raise NotMatlab("damaged")
        return elements
