"""Decoding images and masks: what a common decoder loads is an image, what is cut off is refused by name."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mula_lib.data.images import SUFFIXES, decode_mask, images_in, load_image, load_mask, stray_ids
from mula_lib.files import DataError
from workbook.datasets import FIXTURES

SCENE = Image.open(FIXTURES["people"] / "TrainVal_images" / "val_images" / "val_000000.jpg").convert("RGB")
IDS = np.array([[0, 5, 19], [255, 14, 15]], np.uint8)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


JPEG = saved(SCENE, "JPEG", quality=90)
SEEN = np.asarray(Image.open(io.BytesIO(JPEG)))
KINDS = {"progressive JPEG": {"progressive": True}, "restarting JPEG": {"restart_marker_blocks": 1}}
AFTER_APP0 = 20  # bytes of the start marker and the first segment


def chunk(kind: bytes, data: bytes, checksum: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ checksum)


def png(width: int, height: int, depth: int, colors: int, rows: bytes, more: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jpg"

    def write(content: bytes):
        path.write_bytes(content)
        return path

    return write


FRAME = JPEG.index(b"\xff\xc0")
LINES = b"\xff\xdc\0\4" + struct.pack(">H", SCENE.size[1])
UNUSUAL = {
    "bytes between segments": JPEG[:FRAME] + b"\1\2\3\4\5\6\7" + JPEG[FRAME:],
    "a segment marked 00E1": JPEG[:AFTER_APP0] + b"\0\xe1\0\x12" + b"x" * 16 + JPEG[AFTER_APP0:],
    "a segment longer than its length": JPEG[:AFTER_APP0] + b"\xff\xed\0\6" + b"x" * 9 + JPEG[AFTER_APP0:],
    "the number of lines after the scan": JPEG[:-2] + LINES + JPEG[-2:],
    "no end marker": JPEG[:-2],
    "half an end marker": JPEG[:-1],
    "zeros for the end marker": JPEG[:-2] + bytes(64),
    "zeros before the end marker": JPEG[:-2] + bytes(608) + JPEG[-2:],
    "what telephones append": JPEG + JPEG[:500] + b"note",
    "a thumbnail": JPEG[:2] + b"\xff\xe2" + struct.pack(">H", len(JPEG[:9000]) + 2) + JPEG[:9000] + JPEG[2:],
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_a_jpeg_whose_pixels_are_all_there_is_loaded_without_a_word(file, kind, capfd):
    np.testing.assert_array_equal(load_image(file(UNUSUAL[kind])), SEEN)
    assert capfd.readouterr() == ("", "")


def test_pngs_and_webps_are_loaded_whatever_is_wrong_beside_their_pixels(file, capfd):
    whole = saved(SCENE, "PNG")
    row = bytes(1 + 3 * SCENE.size[0])
    rows = b"".join(b"\0" + line.tobytes() for line in np.asarray(SCENE))
    for content in (
        whole[:33] + chunk(b"tEXt", b"a\0b", checksum=1) + whole[33:],
        png(*SCENE.size, 8, 2, rows + row),  # a row too many
        whole[:-12],  # without its last chunk
    ):
        np.testing.assert_array_equal(load_image(file(content)), np.asarray(SCENE))
    webp = saved(SCENE, "WEBP", lossless=True, exif=b"Exif\0\0II*\0")
    np.testing.assert_array_equal(load_image(file(webp.replace(b"EXIF", b"XMP\0"))), np.asarray(SCENE))
    grey = Image.fromarray(np.full((3, 4), 77 * 257, np.uint16))
    for form in ("PNG", "TIFF"):
        assert load_image(file(saved(grey, form))).tolist() == [[[77] * 3] * 4] * 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", [*KINDS, "JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF"])
def test_a_file_that_is_cut_off_anywhere_is_refused_by_name(file, form, capfd):
    whole = saved(SCENE, form.split()[-1], **KINDS.get(form, {}))
    for length in range(12, len(whole) - 40, len(whole) // 40):
        with pytest.raises(DataError, match=r"a\.jpg: the image cannot be decoded \(the file is cut off[\w ]*; unzip"):
            load_image(file(whole[:length]))
        if form.endswith("JPEG"):  # a download whose end was never filled
            with pytest.raises(DataError, match="cut off"):
                load_image(file(whole[:length] + bytes(len(whole) - length)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_kind_are_what_pillow_sees(file, options, mode):
    content = saved(SCENE.convert(mode), "JPEG", **options)
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    # two ways of rounding CMYK's products
    np.testing.assert_allclose(load_image(file(content)).astype(int), seen, atol=1 if mode == "CMYK" else 0)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_transparency_is_dropped_and_colors_stay(file, form):
    picture = SCENE.copy()
    picture.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 256, SCENE.size[::-1], dtype=np.uint8)))
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
    if form != "TIFF":  # whose orientation is part of the format
        stored = load_image(file(saved(SCENE, form, **options)))
        np.testing.assert_array_equal(load_image(file(content)), stored)


@pytest.mark.parametrize("form", ["GIF", "PPM", "AVIF", "MPO", "JPEG2000", "BigTIFF"])
def test_every_other_format_that_pillow_knows_is_read(file, form):
    content = saved(SCENE, form.removeprefix("Big"), **({"big_tiff": True} if form == "BigTIFF" else {}))
    seen = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_allclose(load_image(file(content)).astype(int), seen, atol=4)  # two decoders


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file; copy it again"),
        (bytes(900), "an empty file; copy it again"),
        (b"\0\0\0\x18ftypheic" + bytes(range(99)), "HEIC; save it as JPEG"),
        (b"<!DOCTYPE html>" * 9, "unknown image format; save it as PNG or JPEG"),
    ],
    ids=["nothing", "zeros", "HEIC", "a web page"],
)
def test_what_is_no_image_is_named_with_the_fix(file, content, said):
    path = file(content)
    with pytest.raises(DataError) as caught:
        load_image(path)
    assert str(caught.value) == f"{path}: the image cannot be decoded ({said})"


def test_a_missing_file_a_folder_or_a_pipe_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("a.jpg", "opened .No such file"), (".", "opened .Is a directory"), ("pipe", "decoded .a pipe")):
        for load, what in ((load_image, "image"), (load_mask, "mask")):
            with pytest.raises(DataError, match=rf"{tmp_path / name}: the {what} cannot be {said}"):
                load(tmp_path / name)


def test_images_are_found_in_a_folder_by_their_stems_whatever_their_suffix(tmp_path):
    for name in ("a.JPG", "b.png", "c.jpeg", "d.jfif", "both.png", "both.jpg", "e.heic", "f.txt", ".hidden.jpg"):
        (tmp_path / name).touch()
    found = {stem: path.name for stem, path in images_in(tmp_path).items()}
    assert found == {"a": "a.JPG", "b": "b.png", "c": "c.jpeg", "d": "d.jfif", "both": "both.jpg"}
    assert set(Image.registered_extensions()) >= set(SUFFIXES)


def palette_picture(values: np.ndarray) -> Image.Image:
    picture = Image.fromarray(values)
    picture.putpalette(list(np.random.default_rng(1).bytes(768)))
    return picture


SOME_IDS = np.random.default_rng(0).integers(0, 20, (33, 21)).astype(np.uint8)
SIXTEEN_BITS = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in SOME_IDS)


MASKS = {  # a PNG, and which number the ids in it are taken modulo
    "grey": (saved(Image.fromarray(SOME_IDS), "PNG"), 20),
    "grey, packed hard": (saved(Image.fromarray(SOME_IDS), "PNG", optimize=True), 20),
    "palette": (saved(palette_picture(SOME_IDS), "PNG"), 20),
    "palette with transparency": (saved(palette_picture(SOME_IDS), "PNG", transparency=3), 20),
    "palette with two bytes of transparency": (saved(palette_picture(SOME_IDS), "PNG", transparency=1), 20),
    **{f"palette of {n} bits": (saved(palette_picture(SOME_IDS % 2**n), "PNG", bits=n), 2**n) for n in (1, 2, 4)},
    "1 bit": (saved(Image.fromarray(SOME_IDS % 2 == 1), "PNG"), 2),
    "16 bits": (saved(Image.fromarray(SOME_IDS.astype(np.uint16)), "PNG"), 20),
    "three equal channels": (saved(Image.fromarray(np.stack([SOME_IDS] * 3, axis=2)), "PNG"), 20),
    "grey with transparency": (saved(Image.fromarray(np.stack([SOME_IDS] * 2, axis=2)), "PNG"), 20),
    "three channels of 16 bits": (png(21, 33, 16, 2, SIXTEEN_BITS), 20),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_of_any_kind_is_read_to_the_ids_that_were_written(file, kind):
    content, modulo = MASKS[kind]
    mask = load_mask(file(content))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, SOME_IDS % modulo)
    assert mask.flags.writeable


def test_a_masks_note_to_turn_it_is_not_followed(file):
    note = chunk(b"eXIf", b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0))
    rows = b"".join(b"\0" + bytes(row) for row in IDS.tolist())
    np.testing.assert_array_equal(load_mask(file(png(3, 2, 8, 0, rows, note))), IDS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (JPEG, "not a PNG; use the data set's own"),
        (saved(Image.new("RGB", (4, 3), (10, 2, 3)), "PNG"), "a picture in colors, not a mask of part ids"),
        (png(2, 1, 4, 0, b"\0\x10"), "grey of 4 bits, whose ids are ambiguous; save it with 8 bits"),
        (png(3, 2, 8, 0, b"\0\1\2\3"), "cut off or damaged"),
        (saved(Image.fromarray(SOME_IDS), "PNG")[:200], "cut off or damaged"),
        (saved(palette_picture(SOME_IDS), "PNG")[:200], "cut off or damaged"),
    ],
    ids=["JPEG", "colors", "grey of 4 bits", "rows missing", "half a grey one", "half a palette one"],
)
def test_what_is_no_mask_is_named_with_the_fix(file, content, said):
    with pytest.raises(DataError, match=rf"a\.jpg: the mask cannot be decoded \(.*{said}"):
        load_mask(file(content))


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("picture", [Image.fromarray(SOME_IDS), palette_picture(SOME_IDS)], ids=["grey", "palette"])
def test_any_flipped_bit_of_a_mask_is_noticed_or_harmless(tmp_path_factory, picture, at, bit):
    whole = saved(picture, "PNG")
    damaged = bytearray(whole)
    damaged[int(at * len(whole))] ^= 1 << bit
    path = tmp_path_factory.mktemp("mask") / "a.png"
    path.write_bytes(damaged)
    try:
        found = decode_mask(path)
    except DataError:
        return
    np.testing.assert_array_equal(found, SOME_IDS)


@pytest.mark.parametrize("stray", [20, 254, 256, 1044])  # 1044 % 256 = 20: must not wrap into a legal id either
def test_ids_that_are_no_parts_are_named_with_the_file(tmp_path, stray):
    stored = IDS.astype(np.uint16)
    stored[0, 0] = stray
    cv2.imwrite(str(tmp_path / "a.png"), stored if stray > 255 else stored.astype(np.uint8))
    with pytest.raises(DataError, match=rf"a\.png: ids {stray} in a mask of parts 0 to 19"):
        load_mask(tmp_path / "a.png")
    assert stray_ids(decode_mask(tmp_path / "a.png"), 20) == [stray]
