"""The reader of MATLAB files: the values that scipy reads, in every type, and a refusal of everything else."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy.io import loadmat
from scipy.sparse import csc_matrix

from benchmarks.hostile.mats import by_scipy, cells
from mula_lib.data import matlab
from mula_lib.data.matlab import NotMatlab, OtherVersion, Unread, read_variables

DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
numbers = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


def require_same(found, wanted) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    for one, other in zip(found.ravel(), wanted.ravel(), strict=True):
        if wanted.dtype == object:
            require_same(one, other)
        else:
            np.testing.assert_array_equal(one, other)


@settings(max_examples=120, deadline=None)
@given(
    values=st.recursive(numbers, lambda inner: st.lists(inner, max_size=4).map(cells), max_leaves=8),
    compressed=st.booleans(), oned_as=st.sampled_from(["row", "column"]),
)  # fmt: skip
def test_numbers_and_cells_are_read_as_scipy_reads_them(values, compressed, oned_as):
    content = by_scipy({"wanted": values, "other": 1.0}, do_compression=compressed, oned_as=oned_as)
    found = read_variables(content, ("wanted",))
    assert found["other"] is None
    require_same(found["wanted"], loadmat(io.BytesIO(content))["wanted"])


def element(kind: int, data: bytes, order: str) -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def file_of(order: str, stored_type: int, values: bytes, count: int, *, class_: int = 6, sizes: bytes = b"") -> bytes:
    """A file of either byte order with the variable x, a row of ``count`` numbers."""
    parts = (
        element(6, struct.pack(f"{order}II", class_, 0), order)
        + element(5, sizes or struct.pack(f"{order}ii", 1, count), order)
        + element(1, b"x", order)
        + element(stored_type, values, order)
    )
    end = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    return b"MATLAB 5.0 MAT-file".ljust(124) + end + element(14, parts, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stored_type", "dtype"),
    [(1, "i1"), (2, "u1"), (3, "i2"), (4, "u2"), (5, "i4"), (6, "u4"), (7, "f4"), (9, "f8"), (12, "i8"), (13, "u8")],
)
def test_doubles_are_read_whatever_they_are_stored_as_in_both_byte_orders(order, stored_type, dtype):
    values = np.array([0, 1, 2, 100], np.dtype(dtype).newbyteorder(order))
    content = file_of(order, stored_type, values.tobytes(), 4)
    found = read_variables(content, ("x",))["x"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[0, 1, 2, 100]])
    np.testing.assert_array_equal(loadmat(io.BytesIO(content))["x"], found)


def test_small_elements_hold_their_numbers_in_place_of_a_length():
    content = by_scipy({"x": np.array([[7]], np.int16)})
    assert struct.pack("<HHh", 3, 2, 7) in content
    assert read_variables(content, ("x",))["x"].tolist() == [[7]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("left", "text"), ({"a": 1}, "struct"), (csc_matrix(np.eye(3)), "sparse array")],
    ids=["text", "struct", "sparse"],
)
def test_what_is_neither_numbers_nor_cells_is_named(value, kind):
    assert read_variables(by_scipy({"x": value}), ("x",))["x"] == Unread(kind)
    assert read_variables(by_scipy({"x": value}), ())["x"] is None


@pytest.mark.parametrize("value", [np.arange(6).reshape(2, 3) * (1 + 2j), np.array([True, False])])
def test_complex_and_logical_numbers_are_read_as_scipy_reads_them(value):
    content = by_scipy({"x": value})
    require_same(read_variables(content, ("x",))["x"], loadmat(io.BytesIO(content))["x"])


def test_other_versions_are_told_apart():
    with pytest.raises(OtherVersion, match=r"^4$"):
        read_variables(by_scipy({"x": np.ones((14, 3))}, format="4"), ("x",))
    for content in (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", b"\x89HDF\r\n\x1a\n" + bytes(600)):
        with pytest.raises(OtherVersion, match=r"^7\.3$"):
            read_variables(content, ("x",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cut off"),
        (bytes(500), "no header"),
        (file_of("<", 9, bytes(32), 4)[:-9], "cut off"),
        (file_of("<", 9, bytes(32), 5), "damaged"),
        (file_of("<", 11, bytes(32), 4), "damaged"),
        (file_of("<", 9, bytes(32), 4, class_=99), "damaged"),
        (file_of("<", 9, bytes(32), 4, class_=9), "damaged"),  # a class of bytes cannot be stored as doubles
        (file_of("<", 9, bytes(32), 4, sizes=struct.pack("<ii", -1, -4)), "damaged"),
        (file_of("<", 9, bytes(32), 4, sizes=struct.pack("<i", 4)), "damaged"),
        (file_of("<", 9, b"", 0, sizes=struct.pack("<4i", 0, *[2**31 - 1] * 3)), "damaged"),
        (file_of("<", 9, bytes(32), 4, class_=1), "damaged"),
        (file_of("<", 9, bytes(32), 4) + file_of("<", 9, bytes(32), 4)[128:], "two variables of one name"),
        (file_of("<", 9, bytes(32), 4)[:128] + struct.pack("<II", 15, 4) + b"none", "damaged"),
    ],
)
def test_what_does_not_add_up_is_refused_with_the_reason(content, said):
    with pytest.raises(NotMatlab, match=f"^{said}$"):
        read_variables(content, ("x",))


def test_cells_deep_within_each_other_are_refused():
    value = cells([1.0])
    for _ in range(matlab.DEEPEST + 1):
        value = cells([value])
    with pytest.raises(NotMatlab, match="more than 8 cells within each other"):
        read_variables(by_scipy({"x": value}), ("x",))


def test_a_small_file_that_unpacks_to_a_vast_one_is_refused():
    half = np.zeros(matlab.MOST_INFLATED // 16)
    content = by_scipy({"x": half, "y": half}, do_compression=True)
    assert len(content) < matlab.MOST_INFLATED // 500
    with pytest.raises(NotMatlab, match="more than 67,108,864 bytes when unpacked"):
        read_variables(content, ("x",))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_damage_whatever_does_more_than_be_refused(data):
    content = bytearray(by_scipy({"joints": cells([np.arange(42.0).reshape(14, 3)] * 2), "name": "x"}))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            found = read_variables(damaged, ("joints",))
        except NotMatlab:
            continue
        assert isinstance(found, dict)


def test_a_checksum_notices_every_flipped_bit_of_a_compressed_variable():
    content = by_scipy({"x": np.arange(99.0)}, do_compression=True)
    wanted = read_variables(content, ("x",))["x"]
    for at in range(136, len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        try:
            np.testing.assert_array_equal(read_variables(bytes(damaged), ("x",))["x"], wanted)
        except NotMatlab:
            continue
    assert zlib.decompress(content[136:])  # that is where the compressed bytes are
