"""Hostile masks: whatever the file, the ids that were written or a refusal."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.hostile import damage, png
from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind
from mula_lib.data.lip import load_mask
from mula_lib.files import shown

CLASSES = 20
Writer = Callable[[np.ndarray, np.random.Generator], bytes]


def ids(rng: np.random.Generator, classes: int = CLASSES) -> np.ndarray:
    """(H, W) part ids, of any small size, also of one pixel or one row, some of them 255."""
    height, width = (int(rng.integers(1, 40)) if rng.random() < 0.9 else 1 for _ in range(2))
    if rng.random() < 0.01:
        height, width = ((1, 20_000), (20_000, 1))[rng.integers(2)]
    mask = rng.integers(0, classes, (height, width)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.1] = 255 if classes > 16 else 0
    return mask


def colourful(rng: np.random.Generator, entries: int = 256) -> np.ndarray:
    """A palette without greys."""
    palette = rng.integers(0, 256, (entries, 3))
    palette[:, 1] = 255 - palette[:, 0] // 2
    palette[:, 0] //= 2
    return palette


def by_pillow(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


def _pillow_palette(mask: np.ndarray, rng: np.random.Generator) -> bytes:
    picture = Image.fromarray(mask)
    picture.putpalette(colourful(rng).ravel().tolist())
    return by_pillow(picture)


def _of_three(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask] * 3, axis=2)


def _transparent(mask: np.ndarray, rng: np.random.Generator, channels: int) -> np.ndarray:
    alpha = rng.integers(0, 256, mask.shape)
    return np.stack([mask] * channels + [alpha], axis=2)


SOUND: dict[str, Writer] = {
    "grey, by OpenCV": lambda mask, rng: cv2.imencode(".png", mask)[1].tobytes(),
    "grey, by Pillow": lambda mask, rng: by_pillow(Image.fromarray(mask)),
    "palette": _pillow_palette,
    "palette, interlaced": lambda mask, rng: png.write(
        mask, colours=png.PALETTE, palette=colourful(rng), interlaced=True
    ),
    "palette and transparency": lambda mask, rng: png.write(
        mask, colours=png.PALETTE, palette=colourful(rng), more=png.chunk(b"tRNS", rng.bytes(20))
    ),
    "palette of its own greys": lambda mask, rng: png.write(
        mask, colours=png.PALETTE, palette=np.repeat(np.arange(256)[:, None], 3, axis=1)
    ),
    "interlaced": lambda mask, rng: png.write(mask, interlaced=True),
    "RGB of equal channels": lambda mask, rng: png.write(_of_three(mask), colours=png.RGB),
    "RGBA of equal channels": lambda mask, rng: png.write(_transparent(mask, rng, 3), colours=png.RGBA),
    "grey and transparency": lambda mask, rng: png.write(_transparent(mask, rng, 1), colours=png.GREY_ALPHA),
    "16 bit grey": lambda mask, rng: png.write(mask, depth=16),
    "16 bit RGB of equal channels": lambda mask, rng: png.write(_of_three(mask), depth=16, colours=png.RGB),
    "16 bit grey and transparency": lambda mask, rng: png.write(
        _transparent(mask, rng, 1), depth=16, colours=png.GREY_ALPHA
    ),
    "a note to turn it": lambda mask, rng: png.write(mask, more=png.chunk(b"eXIf", png.exif(int(rng.integers(2, 9))))),
    "gamma": lambda mask, rng: png.write(mask, more=png.chunk(b"gAMA", (30_000).to_bytes(4, "big"))),
    "a transparent grey": lambda mask, rng: png.write(mask, more=png.chunk(b"tRNS", b"\0\x05")),
    "significant bits": lambda mask, rng: png.write(mask, more=png.chunk(b"sBIT", b"\x03")),
    "unknown chunks": lambda mask, rng: png.write(
        mask, more=png.chunk(b"tEXt", b"Author\0" + rng.bytes(30)) + png.chunk(b"abCd", rng.bytes(9))
    ),
    "an animation's beginning": lambda mask, rng: png.write(mask, more=png.chunk(b"acTL", b"\0\0\0\x02\0\0\0\0")),
    "in many pieces": lambda mask, rng: png.write(mask, pieces=int(rng.integers(2, 50))),
    "bytes after the end": lambda mask, rng: png.write(mask) + rng.bytes(int(rng.integers(1, 99))),
    **{
        f"palette of {bits} bits": lambda mask, rng, bits=bits: png.write(
            mask & (2**bits - 1), depth=bits, colours=png.PALETTE, palette=colourful(rng, 2**bits),
            interlaced=rng.random() < 0.3,
        ) for bits in (1, 2, 4)
    },
    "grey of 1 bit": lambda mask, rng: png.write(mask & 1, depth=1, interlaced=rng.random() < 0.3),
}  # fmt: skip
BITS = {"palette of 1 bits": 1, "palette of 2 bits": 2, "palette of 4 bits": 4, "grey of 1 bit": 1}


def _short(mask: np.ndarray, colours: int, rng: np.random.Generator) -> bytes:
    raw = png.rows(mask, 8)
    palette = colourful(rng) if colours == png.PALETTE else None
    return png.write(mask, colours=colours, palette=palette, raw=raw[: rng.integers(0, len(raw))])


def _bad_filter(mask: np.ndarray, rng: np.random.Generator) -> bytes:
    raw = bytearray(png.rows(mask, 8))
    raw[(mask.shape[1] + 1) * int(rng.integers(mask.shape[0]))] = int(rng.integers(5, 256))
    return png.write(mask, raw=bytes(raw))


def _stray(mask: np.ndarray, rng: np.random.Generator) -> bytes:
    depth = (8, 16)[rng.integers(2)]
    wide = mask.astype(np.uint16)
    wide.flat[rng.integers(wide.size)] = rng.integers(CLASSES, 255 if depth == 8 else 2**16)
    wide[wide == 255] = 254
    return png.write(wide, depth=depth)


def _coloured(mask: np.ndarray, rng: np.random.Generator) -> bytes:
    depth = (8, 16)[rng.integers(2)]
    three = _of_three(mask).astype(np.uint16)
    three[..., rng.integers(3)].flat[rng.integers(mask.size)] += 1
    return png.write(three % 256, depth=depth, colours=png.RGB)


def _of_ids(mask: np.ndarray, rng: np.random.Generator) -> bytes:
    """A grey mask as a program leaves it that makes files smaller: indices in the order of the ids, greys the ids."""
    used, indices = np.unique(mask, return_inverse=True)
    if (used == np.arange(len(used))).all():  # nothing to be mistaken about
        used = used + 1
    return png.write(indices.reshape(mask.shape), colours=png.PALETTE, palette=np.repeat(used[:, None], 3, axis=1))


def _claiming(width: int, height: int) -> Writer:
    return lambda mask, rng: (
        png.SIGNATURE
        + png.header(width, height)
        + png.chunk(b"IDAT", zlib.compress(bytes(999)))
        + png.chunk(b"IEND", b"")
    )


WRONG: dict[str, Writer] = {
    "rows missing": lambda mask, rng: _short(mask, png.GREY, rng),
    "rows of a palette missing": lambda mask, rng: _short(mask, png.PALETTE, rng),
    "rows too many": lambda mask, rng: png.write(
        mask, colours=png.PALETTE, palette=colourful(rng), raw=png.rows(mask, 8) * 2
    ),
    "an unknown filter": _bad_filter,
    "rows not compressed": lambda mask, rng: png.write(mask, packed=rng.bytes(30)),
    "no rows": lambda mask, rng: png.write(mask, packed=b"\0").replace(png.chunk(b"IDAT", b"\0"), b""),
    "no palette": lambda mask, rng: png.write(mask, colours=png.PALETTE),
    "stray ids": _stray,
    "in colours": _coloured,
    "a palette of ids": _of_ids,
    "grey of 2 bits": lambda mask, rng: png.write(mask & 3, depth=2),
    "grey of 4 bits": lambda mask, rng: png.write(mask & 15, depth=4),
    "claims 60,000×60,000": _claiming(60_000, 60_000),
    "claims a row of 2 thousand million": _claiming(2**31 - 1, 1),
    "claims no width": _claiming(0, 5),
    "an impossible depth": lambda mask, rng: png.write(mask, depth=8, colours=png.GREY).replace(
        png.header(mask.shape[1], mask.shape[0]), png.header(mask.shape[1], mask.shape[0], depth=3)
    ),
    "a JPEG": lambda mask, rng: by_pillow(Image.fromarray(mask), "JPEG"),
    "a BMP": lambda mask, rng: by_pillow(Image.fromarray(mask), "BMP"),
    "a GIF": lambda mask, rng: by_pillow(Image.fromarray(mask), "GIF"),
    "floating point": lambda mask, rng: by_pillow(Image.fromarray(mask.astype(np.float32)), "TIFF"),
}
BROKEN = {
    "cut": damage.cut, "a flipped bit": damage.flipped, "zeros at the end": damage.emptied,
    "a piece missing": damage.without_a_piece, "noise": damage.noise, "a web page": damage.web_page,
}  # fmt: skip


@kind("mask", share=24)
def mask(folder: Path, rng: np.random.Generator) -> Trial:
    """``load_mask``."""
    path, wanted, must = folder / "a.png", ids(rng), None
    group = rng.choice(["sound", "wrong", "broken", "place", "name"], p=[0.3, 0.25, 0.35, 0.06, 0.04])
    what, write = damage.pick(rng, WRONG if group == "wrong" else SOUND)
    if group in ("place", "name"):
        write = SOUND["grey, by Pillow"]
    path.write_bytes(write(wanted, rng))
    if what in BITS and group in ("sound", "broken"):
        wanted = wanted & (2 ** BITS[what] - 1)
    if group == "sound":
        must = RIGHT
    elif group == "wrong":
        must = REFUSED
    elif group == "broken":
        content = path.read_bytes()
        whole = content[: content.index(b"IEND") + 8]  # beyond is nothing
        what, change = damage.pick(rng, BROKEN)
        path.write_bytes(change(whole, rng))
        must = REFUSED if what in ("cut", "noise", "a web page") else None
    elif group == "place":
        what, put = damage.pick(rng, {**damage.PLACES, "a link to it": damage.linked})
        put(path)
        must = RIGHT if what == "a link to it" else REFUSED
    else:
        what, must, path = "a strange name", RIGHT, damage.renamed(path, rng)

    def judge(found: np.ndarray) -> None:
        assert found.dtype == np.uint8
        assert found.shape == wanted.shape, f"{found.shape} instead of {wanted.shape}"
        assert (found == wanted).all(), f"{int((found != wanted).sum())} ids differ"

    return Trial(what, lambda: load_mask(path, classes=CLASSES), (shown(path.name),), judge, must)
