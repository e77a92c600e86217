"""Decoding pictures and masks: every kind of file, compared with Pillow, and every damage that can be noticed."""

import io
import os
import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mula_lib.data import picture_files
from mula_lib.data.picture_files import Unsound, inspect, read_png
from mula_lib.data.pictures import load_image, load_mask
from mula_lib.files import DataError, shown
from workbook.datasets import FIXTURES

PERSON = FIXTURES["people"] / "TrainVal_images" / "val_images" / "val_000000.jpg"
SCENE = Image.open(PERSON).convert("RGB")
IDS = np.array([[0, 5, 19], [255, 14, 15]], np.uint8)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colours: int, rows: bytes, more: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + more + rest


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jpg"

    def write(content: bytes):
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_off_anywhere_is_refused(file, progressive):
    whole = saved(SCENE, "JPEG", progressive=progressive)
    assert inspect(whole) == "JPEG"
    for length in [*range(3, len(whole), 37), len(whole) - 1]:
        with pytest.raises(DataError, match=r"a\.jpg: the image cannot be decoded \([\w ]+\); unzip or download"):
            load_image(file(whole[:length]))


def test_a_jpeg_whose_end_was_never_filled_is_refused(file):
    whole = saved(SCENE, "JPEG")
    with pytest.raises(DataError, match="cut off"):
        load_image(file(whole[:2000] + bytes(len(whole) - 2000)))


def test_a_damaged_byte_at_which_decoders_stop_is_noticed(file):
    """Behind a marker that does not belong there the rest of the picture would be grey."""
    whole = saved(SCENE, "JPEG")
    stuffed = whole.index(b"\xff\x00", whole.index(b"\xff\xda"))
    with pytest.raises(DataError, match="damaged within its pixels"):
        load_image(file(whole[: stuffed + 1] + b"\x40" + whole[stuffed + 2 :]))


def test_a_strip_that_is_missing_between_restart_markers_is_noticed(file):
    whole = saved(SCENE, "JPEG", restart_marker_rows=1)
    first, second = (whole.index(bytes([0xFF, 0xD0 + number])) for number in (0, 1))
    assert load_image(file(whole)).shape[:2] == SCENE.size[::-1]
    with pytest.raises(DataError, match="damaged within its pixels"):
        load_image(file(whole[:first] + whole[second:]))


def test_what_telephones_append_to_a_jpeg_is_not_looked_at(file):
    whole = saved(SCENE, "JPEG")
    wanted = load_image(file(whole))
    np.testing.assert_array_equal(load_image(file(whole + whole[:500] + b"note")), wanted)


def test_a_thumbnail_within_a_jpeg_is_not_taken_for_its_end(file):
    thumbnail = saved(SCENE.resize((9, 9)), "JPEG")
    whole = saved(SCENE, "JPEG")
    note = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    wanted = load_image(file(whole))
    np.testing.assert_array_equal(load_image(file(whole[:2] + note + whole[2:])), wanted)


def test_a_jpeg_of_thousands_of_scans_is_refused(file):
    whole = saved(SCENE, "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    with pytest.raises(DataError, match="more than 100 scans"):
        load_image(file(whole[:last] + whole[last:-2] * 200 + whole[-2:]))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_kind_are_what_pillow_sees(file, options, mode):
    content = saved(SCENE.convert(mode), "JPEG", **options)
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    # two ways of rounding CMYK's products
    np.testing.assert_allclose(load_image(file(content)).astype(int), seen, atol=1 if mode == "CMYK" else 0)


def test_a_cmyk_jpeg_without_adobes_note_has_the_same_colours(file):
    content = saved(SCENE.convert("CMYK"), "JPEG")
    note = content.index(b"\xff\xee")
    plain = content[:note] + content[note + 2 + int.from_bytes(content[note + 2 : note + 4], "big") :]
    np.testing.assert_array_equal(load_image(file(plain)), load_image(file(content)))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "BMP"])
def test_transparency_is_dropped_and_colours_stay(file, form):
    alpha = Image.fromarray(np.random.default_rng(0).integers(0, 256, SCENE.size[::-1], dtype=np.uint8))
    picture = SCENE.copy()
    picture.putalpha(alpha)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(load_image(file(saved(picture, form, **options))), np.asarray(SCENE))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))  # 1 to 8 mean something
def test_an_orientation_is_followed_only_where_that_is_asked_for(file, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(SCENE, form, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    np.testing.assert_array_equal(load_image(file(content), upright=True), upright)
    stored = load_image(file(saved(SCENE, form, **options)))
    np.testing.assert_array_equal(load_image(file(content)), stored)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("size", [(1, 1), (1, 16_000), (16_000, 1)])
def test_pictures_of_one_pixel_or_one_row_are_read(file, form, size):
    content = saved(SCENE.resize(size), form, **({"lossless": True} if form == "WEBP" else {}))
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(load_image(file(content)), seen)


def test_a_long_edge_of_20000_pixels_is_read(file):
    assert load_image(file(saved(Image.new("L", (20_000, 2)), "PNG"))).shape == (2, 20_000, 3)


def _claim_jpeg() -> bytes:
    content = bytearray(saved(SCENE, "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(content)


def _claim_bmp() -> bytes:
    content = bytearray(saved(SCENE, "BMP"))
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(content)


def _claim_tiff() -> bytes:
    content = saved(SCENE, "TIFF")
    for tag in (256, 257):
        at = content.index(struct.pack("<HHI", tag, 4, 1)) + 8
        content = content[:at] + struct.pack("<I", 60_000) + content[at + 4 :]
    return content


@pytest.mark.parametrize(
    "content",
    [png(60_000, 60_000, 8, 2, b""), png(2**31 - 1, 1, 8, 0, b""), _claim_jpeg(), _claim_bmp(), _claim_tiff()],
    ids=["PNG", "PNG of one row", "JPEG", "BMP", "TIFF"],
)
def test_a_picture_that_claims_billions_of_pixels_is_refused_before_it_is_decoded(file, content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            DataError, match=r"its header promises [\d,]+×[\d,]+ pixels, more than the 268,435,456 that"
        ):
            load_image(file(content))
        if content.startswith(b"\x89PNG"):
            with pytest.raises(DataError, match="more than the 268,435,456 that are read"):
                load_mask(file(content))


@pytest.mark.parametrize("form", ["GIF", "PPM", "ICO"])
def test_other_formats_are_refused_with_those_that_are_read(file, form):
    with pytest.raises(DataError, match=r"a\.jpg: .*not a JPEG, PNG, BMP, WebP or TIFF"):
        load_image(file(saved(SCENE, form)))


def test_a_damaged_tiff_is_refused_where_opencv_would_overlook_it(file):
    whole = bytearray(saved(SCENE, "TIFF", compression="tiff_deflate"))
    whole[300] ^= 16
    assert cv2.imdecode(np.frombuffer(bytes(whole), np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(DataError, match="it is damaged"):
        load_image(file(bytes(whole)))


@pytest.mark.parametrize("form", ["BMP", "WEBP", "TIFF", "PNG"])
def test_half_a_picture_of_another_format_is_refused(file, form):
    whole = saved(SCENE, form)
    for length in range(2, len(whole) - 1, len(whole) // 40):
        with pytest.raises(DataError, match=r"a\.jpg: the image cannot be decoded"):
            load_image(file(whole[:length]))


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_png_is_noticed(at, bit):
    whole = saved(Image.fromarray(np.arange(80, dtype=np.uint8).reshape(8, 10)), "PNG")
    damaged = bytearray(whole)
    damaged[int(at * len(whole))] ^= 1 << bit
    with pytest.raises(Unsound):
        read_png(bytes(damaged))


PLACES = {
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 2**40)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("load", [load_image, load_mask])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, place, load):
    path = tmp_path / "a.png"
    PLACES[place](path)
    refused = []

    def attempt():
        with pytest.raises(DataError, match=r"a\.png: (the|no such) (image|mask)"):
            load(path)
        refused.append(place)

    thread = threading.Thread(target=attempt, daemon=True)  # so that one which waits for ever fails
    thread.start()
    thread.join(timeout=20)
    assert refused == [place]


@pytest.mark.parametrize(
    "name", ["with spaces.png", "grüße 人.png", "line\nend.png", "not \udcff UTF-8.png", "-rf.png"]
)
def test_names_of_every_kind_are_read_and_shown_in_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(saved(SCENE, "PNG"))
    np.testing.assert_array_equal(load_image(path), np.asarray(SCENE))
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_image(path)
    assert shown(name) in str(caught.value)
    assert str(caught.value).isprintable()


def test_sixteen_bit_masks_of_three_channels_keep_their_ids(file):
    """Their upper bytes are zero: a decoder that shows eight of the bits would see background only."""
    rows = b"".join(b"\0" + b"".join(struct.pack(">HHH", i, i, i) for i in row) for row in IDS.tolist())
    np.testing.assert_array_equal(load_mask(file(png(3, 2, 16, 2, rows))), IDS)


def test_a_masks_note_to_turn_it_is_not_followed(file):
    note = chunk(b"eXIf", b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0))
    rows = b"".join(b"\0" + bytes(row) for row in IDS.tolist())
    np.testing.assert_array_equal(load_mask(file(png(3, 2, 8, 0, rows, note))), IDS)


@pytest.mark.parametrize("colours", [0, 3])
def test_a_mask_whose_rows_are_missing_is_refused_though_its_checksums_are_right(file, colours):
    palette = chunk(b"PLTE", bytes(range(30, 90)))
    with pytest.raises(DataError, match=r"a\.jpg: the mask cannot be decoded"):
        load_mask(file(png(3, 2, 8, colours, b"\0\1\2\3", palette if colours else b"")))


@pytest.mark.parametrize("depth", [2, 4])
def test_a_grey_mask_of_few_bits_is_refused_because_its_ids_are_not_certain(file, depth):
    with pytest.raises(DataError, match=rf"a\.jpg: grey of {depth} bits, whose ids are not certain; save it with 8"):
        load_mask(file(png(2, 1, depth, 0, b"\0\x10")))


def greys(*values: int) -> bytes:
    return chunk(b"PLTE", bytes(value for grey in values for value in (grey, grey, grey)))


def test_a_palette_of_ids_is_refused_and_one_to_look_at_is_not(file):
    """A program that makes grey PNGs smaller turns ids 0 and 19 into indices 0 and 1 of the greys 0 and 19."""
    with pytest.raises(
        DataError, match=r"a\.jpg: its palette's greys are other ids than its indices; save it as plain"
    ):
        load_mask(file(png(2, 1, 8, 3, b"\0\0\1", greys(0, 19))))
    for palette in (greys(0, 1, 2), greys(0, 128, 250), chunk(b"PLTE", bytes([0, 0, 0, 128, 0, 0]))):
        assert load_mask(file(png(2, 1, 8, 3, b"\0\0\1", palette))).tolist() == [[0, 1]]


def test_no_limit_is_below_a_real_photograph():
    assert picture_files.MOST_PIXELS >= 200_000_000  # the largest sensors of telephones
    assert picture_files.MOST_BYTES >= 4 * 200_000_000
