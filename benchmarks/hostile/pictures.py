"""Pictures of every kind that a photograph's file may be, sound and not, beside the pixels that they hold."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, JpegImagePlugin

from benchmarks.hostile import png
from benchmarks.hostile.masks import by_pillow

Writer = Callable[[np.ndarray, np.random.Generator], bytes]


def pixels(rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: a smooth picture of any small size, rarely a row or column of 20,000."""
    height, width = (int(rng.integers(1, 70)) if rng.random() < 0.95 else 1 for _ in range(2))
    if rng.random() < 0.01:
        height, width = ((1, 20_000), (20_000, 1))[rng.integers(2)]
    small = Image.fromarray(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L"))


def seen(content: bytes) -> np.ndarray:
    """What Pillow sees in a file, as (H, W, 3) uint8 RGB in the stored order (but a TIFF's, which it turns upright)."""
    # MPO is JPEG with more pictures behind the first one, without which Pillow refuses the first one, too.
    first = JpegImagePlugin.JpegImageFile if content.startswith(b"\xff\xd8") else Image.open
    with first(io.BytesIO(content)) as picture:
        if picture.mode.startswith("I;16"):  # which Pillow would clip
            return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(picture.convert("RGB"))


def _with_alpha(image: np.ndarray, rng: np.random.Generator, channels: slice = slice(None)) -> np.ndarray:
    return np.concatenate([image[..., channels], rng.integers(0, 256, (*image.shape[:2], 1), dtype=np.uint8)], axis=2)


def _saved(form: str, mode: str = "RGB", **options) -> Writer:
    return lambda image, rng: by_pillow(Image.fromarray(image).convert(mode), form, **options)


def _without_adobe(image: np.ndarray, rng: np.random.Generator) -> bytes:
    content = _saved("JPEG", "CMYK")(image, rng)
    at = content.index(b"\xff\xee")
    return content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]


def _wide(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """16 bits a sample, of which the upper eight are the picture's."""
    return image.astype(np.uint16) * 256 + rng.integers(0, 256, image.shape)


def _indexed(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).quantize(16)


def _turned(form: str, **options) -> Writer:
    def write(image: np.ndarray, rng: np.random.Generator) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 10))  # 1 to 8 mean something
        return by_pillow(Image.fromarray(image), form, exif=exif, **options)

    return write


def _telephone(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """A second picture and a note behind the end marker."""
    content = _saved("JPEG")(image, rng)
    return content + content[: rng.integers(len(content))] + b"MotionPhoto" + rng.bytes(20)


def _padded(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Fill bytes before a marker, and a long comment with markers in it."""
    content = _saved("JPEG")(image, rng)
    comment = b"\xff\xd9\xff\xda" * int(rng.integers(1, 99))
    return content[:2] + b"\xff" * 5 + b"\xfe" + struct.pack(">H", len(comment) + 2) + comment + content[2:]


# What is written without loss, beside the pixels that must be read: the picture's own, or what becomes of them.
LOSSLESS: dict[str, tuple[Writer, Callable[[np.ndarray], np.ndarray]]] = {}
for _form, _modes in (
    ("PNG", ("RGB", "L", "1")), ("BMP", ("RGB", "L", "1")), ("TIFF", ("RGB", "L", "1")), ("WEBP", ("RGB",))
):  # fmt: skip
    for _mode in _modes:
        LOSSLESS[f"{_form}, {_mode}"] = (
            _saved(_form, _mode, **({"lossless": True} if _form == "WEBP" else {})),
            lambda image, mode=_mode: np.array(Image.fromarray(image).convert(mode).convert("RGB")),
        )
for _packing in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"):
    LOSSLESS[f"TIFF, {_packing}"] = (_saved("TIFF", compression=_packing), lambda image: image)
_of_grey = lambda image: np.repeat(grey(image)[..., None], 3, axis=2)  # noqa: E731
_same = lambda image: image  # noqa: E731
LOSSLESS |= {
    **{
        f"{form}, RGBA": (
            lambda image, rng, form=form, options=options: by_pillow(
                Image.fromarray(_with_alpha(image, rng)), form, **options
            ), _same,
        ) for form, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True}), ("BMP", {}))
    },
    **{
        f"{form}, palette": (
            lambda image, rng, form=form: by_pillow(_indexed(image), form),
            lambda image: np.array(_indexed(image).convert("RGB")),
        ) for form in ("PNG", "BMP", "TIFF")
    },
    "PNG, palette and transparency": (
        lambda image, rng: by_pillow(_indexed(image), "PNG", transparency=rng.bytes(5)),
        lambda image: np.array(_indexed(image).convert("RGB")),
    ),
    "PNG, a transparent colour": (_saved("PNG", transparency=(1, 2, 3)), _same),
    "PNG, grey and transparency": (
        lambda image, rng: png.write(
            _with_alpha(grey(image)[..., None], rng), colours=png.GREY_ALPHA, interlaced=rng.random() < 0.5
        ), _of_grey,
    ),
    "PNG, interlaced": (lambda image, rng: png.write(image, colours=png.RGB, interlaced=True), _same),
    "PNG, 16 bit RGB": (lambda image, rng: png.write(_wide(image, rng), depth=16, colours=png.RGB), _same),
    "PNG, 16 bit RGBA": (
        lambda image, rng: png.write(_wide(_with_alpha(image, rng), rng), depth=16, colours=png.RGBA), _same,
    ),
    "PNG, 16 bit grey": (lambda image, rng: png.write(_wide(grey(image), rng), depth=16), _of_grey),
    "PNG, 16 bit grey, interlaced": (
        lambda image, rng: png.write(_wide(grey(image), rng), depth=16, interlaced=True), _of_grey,
    ),
    "PNG, grey of 4 bits": (
        lambda image, rng: png.write(grey(image) >> 4, depth=4), lambda image: (_of_grey(image) >> 4) * 17,
    ),
    "PNG, gamma": (
        lambda image, rng: png.write(image, colours=png.RGB, more=png.chunk(b"gAMA", (30_000).to_bytes(4, "big"))),
        _same,
    ),
    "TIFF, 16 bit grey": (
        lambda image, rng: by_pillow(Image.fromarray(_wide(grey(image), rng).astype(np.uint16)), "TIFF"), _of_grey,
    ),
    "PNG, bytes after the end": (lambda image, rng: _saved("PNG")(image, rng) + rng.bytes(50), _same),
    "PNG, animated": (
        lambda image, rng: by_pillow(
            Image.fromarray(image), "PNG", save_all=True, append_images=[Image.fromarray(255 - image)]
        ), _same,
    ),
    "WEBP, animated": (
        lambda image, rng: by_pillow(
            Image.fromarray(image), "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - image)]
        ), _same,
    ),
    "TIFF of two pages": (
        lambda image, rng: by_pillow(
            Image.fromarray(image), "TIFF", save_all=True, append_images=[Image.fromarray(255 - image)]
        ), _same,
    ),
}  # fmt: skip
# What loses a little: an independent decoder says what is in it.
LOSSY: dict[str, Writer] = {
    "JPEG": lambda image, rng: _saved("JPEG", quality=int(rng.integers(5, 101)))(image, rng),
    "JPEG, full colour": _saved("JPEG", subsampling=0),
    "JPEG, progressive": _saved("JPEG", progressive=True),
    "JPEG, grey": _saved("JPEG", "L"),
    "JPEG, restart markers": _saved("JPEG", restart_marker_blocks=2),
    "JPEG, CMYK": _saved("JPEG", "CMYK"),
    "JPEG, CMYK without Adobe's note": _without_adobe,
    "JPEG, two pictures and a note": _telephone,
    "JPEG, padded": _padded,
    "JPEG, EXIF with a thumbnail": lambda image, rng: by_pillow(
        Image.fromarray(image),
        "JPEG",
        exif=b"Exif\0\0" + png.exif(1)[:-4] + bytes(4) + _saved("JPEG")(image[:8, :8], rng),
    ),
    "MPO": lambda image, rng: by_pillow(
        Image.fromarray(image), "MPO", save_all=True, append_images=[Image.fromarray(255 - image)]
    ),
    "WEBP, lossy": _saved("WEBP"),
    "WEBP, lossy and transparency": lambda image, rng: by_pillow(Image.fromarray(_with_alpha(image, rng)), "WEBP"),
    "TIFF, JPEG inside": _saved("TIFF", compression="jpeg"),
    "TIFF, CMYK": _saved("TIFF", "CMYK"),
}
TURNED: dict[str, Writer] = {
    "JPEG, to be turned": _turned("JPEG"),
    "PNG, to be turned": _turned("PNG"),
    "WEBP, to be turned": _turned("WEBP", lossless=True),
    "TIFF, to be turned": _turned("TIFF"),
}


def _claiming_jpeg(image: np.ndarray, rng: np.random.Generator) -> bytes:
    content = bytearray(_saved("JPEG")(image, rng))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", *((65_500, 65_500), (0, 5), (5, 0))[rng.integers(3)])
    return bytes(content)


def _claiming_bmp(image: np.ndarray, rng: np.random.Generator) -> bytes:
    content = bytearray(_saved("BMP")(image, rng))
    content[18:26] = struct.pack("<ii", *((60_000, 60_000), (0, 5), (2**31 - 1, 2**31 - 1), (-5, 5))[rng.integers(4)])
    return bytes(content)


def _claiming_webp(image: np.ndarray, rng: np.random.Generator) -> bytes:
    content = bytearray(by_pillow(Image.fromarray(_with_alpha(image, rng)), "WEBP"))
    content[24:30] = b"\xff\xff\xff\xff\xff\xff"
    return bytes(content)


def _claiming_tiff(image: np.ndarray, rng: np.random.Generator) -> bytes:
    content = _saved("TIFF")(image, rng)
    for tag in (256, 257):
        at = content.index(struct.pack("<HH", tag, 4) + struct.pack("<I", 1))
        content = content[: at + 8] + struct.pack("<I", 60_000) + content[at + 12 :]
    return content


def _many_scans(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """A progressive picture whose last scan comes thousands of times, each of which a decoder goes through."""
    content = _saved("JPEG", progressive=True)(image, rng)
    at = content.rindex(b"\xff\xda")
    return content[:at] + content[at:-2] * 3000 + content[-2:]


WRONG: dict[str, Writer] = {
    "PNG that claims 60,000×60,000": lambda image, rng: (
        png.SIGNATURE + png.header(60_000, 60_000, colours=png.RGB)
        + png.chunk(b"IDAT", zlib.compress(bytes(10**5))) + png.chunk(b"IEND", b"")
    ),
    "JPEG of an impossible size": _claiming_jpeg,
    "BMP of an impossible size": _claiming_bmp,
    "WEBP that claims 16 million squared": _claiming_webp,
    "TIFF that claims 60,000×60,000": _claiming_tiff,
    "JPEG of thousands of scans": _many_scans,
    "PNG, rows missing": lambda image, rng: png.write(
        image, colours=png.RGB, raw=png.rows(image, 8)[: rng.integers(image.size)]
    ),
    "GIF": _saved("GIF"), "PPM": _saved("PPM"), "ICO": _saved("ICO"), "JPEG 2000": _saved("JPEG2000"),
    "AVIF": _saved("AVIF"), "PCX": _saved("PCX"), "TGA": _saved("TGA"),
    "TIFF, floating point": lambda image, rng: by_pillow(Image.fromarray(grey(image).astype(np.float32)), "TIFF"),
    "PDF": lambda image, rng: b"%PDF-1.4\n" + rng.bytes(200),
    "signature only": lambda image, rng: (
        b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", png.SIGNATURE, b"BM", b"RIFF\0\0\0\0WEBP", b"II*\0",
    )[rng.integers(7)],
}  # fmt: skip
