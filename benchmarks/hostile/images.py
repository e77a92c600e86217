"""Hostile pictures: whatever the file, the pixels that an independent decoder sees or a refusal."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.hostile import damage
from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind
from benchmarks.hostile.pictures import LOSSLESS, LOSSY, TURNED, WRONG, pixels, seen
from mula_lib.data.lip import load_image
from mula_lib.files import shown

TOLERANCE = 3  # of 255: decoders round differently, in CMYK's two multiplications most
BROKEN = {
    "cut": damage.cut, "a flipped bit": damage.flipped,
    "some flipped bits": lambda content, rng: damage.flipped(content, rng, bits=int(rng.integers(2, 20))),
    "flipped in the header": lambda content, rng: damage.flipped(content[:200], rng) + content[200:],
    "zeros at the end": damage.emptied, "a piece missing": damage.without_a_piece, "noise": damage.noise,
    "a web page": damage.web_page,
}  # fmt: skip


def require_pixels(found: np.ndarray, wanted: np.ndarray, tolerance: int) -> None:
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape, f"{found.shape} instead of {wanted.shape}"
    most = int(np.abs(found.astype(int) - wanted).max())
    assert most <= tolerance, f"pixels differ by up to {most}"


def require_pixels_somehow_turned(found: np.ndarray, wanted: np.ndarray) -> None:
    """A damaged EXIF block may say anything about the orientation, but the pixels must be there."""
    for image in (wanted, wanted[:, ::-1]):
        for turns in range(4):
            turned = np.rot90(image, turns)
            if turned.shape == found.shape and np.abs(found.astype(int) - turned).max() <= TOLERANCE:
                return
    raise AssertionError("other pixels than an independent decoder's, however they are turned")


def _independent(content: bytes) -> np.ndarray | None:
    """What Pillow sees; None where it sees nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return seen(content)
        except Exception:  # it raises nearly anything
            return None


def _upright(content: bytes, rng: np.random.Generator, upright: bool) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        if upright:
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        if picture.format != "TIFF":
            return np.array(picture.convert("RGB"))
    raise AssertionError("the writer knows a TIFF's stored pixels")


@kind("image", share=24)
def image(folder: Path, rng: np.random.Generator) -> Trial:
    """``load_image``, in the stored order and upright."""
    path, upright, must = folder / ("a.jpg", "a.png")[rng.integers(2)], bool(rng.random() < 0.5), None
    source = pixels(rng)
    group = rng.choice(
        ["lossless", "lossy", "turned", "wrong", "broken", "place", "name"],
        p=[0.2, 0.12, 0.1, 0.1, 0.4, 0.05, 0.03],
    )  # fmt: skip
    judge: Callable[[np.ndarray], None]
    if group == "lossless":
        what, (write, becomes) = damage.pick(rng, LOSSLESS)
        source = _fitting(what, source)
        content, wanted, must = write(source, rng), becomes(source), RIGHT
        tolerance = 1 if "16 bit" in what else 0
        judge = lambda found: require_pixels(found, wanted, tolerance)  # noqa: E731
    elif group == "wrong":
        what, write = damage.pick(rng, WRONG)
        content, must = write(_fitting(what, source), rng), REFUSED
        judge = lambda found: None  # noqa: E731
    elif group == "turned":
        what, write = damage.pick(rng, TURNED)
        content, must = write(_fitting(what, source), rng), RIGHT
        tiff = what.startswith("TIFF") and not upright
        wanted = source if tiff else _upright(content, rng, upright)
        judge = lambda found: require_pixels(found, wanted, TOLERANCE)  # noqa: E731
    elif group == "broken":
        form, write = damage.pick(rng, {**{name: pair[0] for name, pair in LOSSLESS.items()}, **LOSSY, **TURNED})
        what, change = damage.pick(rng, BROKEN)
        content = change(write(_fitting(form, source), rng), rng)
        what = f"{form.split(',')[0].split(' ')[0]}: {what}"
        judge = lambda found: _judge_broken(found, content)  # noqa: E731
    else:
        what, write = damage.pick(rng, LOSSY)
        content, must = write(_fitting(what, source), rng), RIGHT
        wanted = seen(content)
        judge = lambda found: require_pixels(found, wanted, TOLERANCE)  # noqa: E731
    path.write_bytes(content)
    if group == "place":
        what, put = damage.pick(rng, {**damage.PLACES, "a link to it": damage.linked})
        put(path)
        must = RIGHT if what == "a link to it" else REFUSED
    elif group == "name":
        what, path = "a strange name", damage.renamed(path, rng)
    return Trial(what, lambda: load_image(path, upright=upright), (shown(path.name),), judge, must)


def _fitting(form: str, source: np.ndarray) -> np.ndarray:
    """A WebP's edges have at most 16,383 pixels."""
    return source[:16_383, :16_383] if "WEB" in form else source


def _judge_broken(found: np.ndarray, content: bytes) -> None:
    wanted = _independent(content)
    assert wanted is not None, f"an image of {found.shape} from what an independent decoder refuses"
    require_pixels_somehow_turned(found, wanted)
