"""Decodes pictures and masks of part ids, whatever a user's file may be: the right pixels, or one line naming the file.

OpenCV decodes JPEG, PNG and BMP, after :mod:`mula_lib.data.picture_files` has seen that the file is whole. Pillow
decodes WebP and TIFF, where OpenCV overlooks damage (and mixes a TIFF's transparency into its colours), and a palette
PNG's stored indices, of which OpenCV gives the colours only.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, WebPImagePlugin  # comes with matplotlib

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.data.picture_files import GREY, MOST_BYTES, PALETTE, Png, Unsound, inspect, read_png, require_size
from mula_lib.files import DataError, read_regular, shown

# Of a damaged file the readers' own line says enough; these would add lines without its name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
logging.getLogger(TiffImagePlugin.__name__).addHandler(logging.NullHandler())

_ORIENTATION = 0x0112  # the tag in EXIF and TIFF
_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
_BY_PILLOW = {"TIFF": TiffImagePlugin.TiffImageFile, "WebP": WebPImagePlugin.WebPImageFile}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ONE_AT_A_TIME = threading.Lock()  # Python's filter of warnings is one for all threads


def load_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 **RGB**, in the order in which its pixels are stored.

    JPEG, PNG, BMP, WebP and TIFF are read, whatever the name says. Grey and CMYK images become RGB, 16 bits become 8,
    transparency is dropped. An EXIF orientation is ignored, because LIP's masks and joints follow the stored pixels;
    ``upright`` follows it, as a photograph should. Raises :class:`DataError` for a file that is missing, no regular
    file, cut off, damaged as far as its format tells, or larger than ``MOST_PIXELS``.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{shown(path)}: the image cannot be opened ({error.strerror})") from None
    try:
        return _decode(content, upright)
    except Unsound as reason:
        raise DataError(f"{shown(path)}: the image cannot be decoded ({reason}); unzip or download it again") from None


def _decode(content: bytes, upright: bool) -> np.ndarray:
    kind = inspect(content)
    if kind in _BY_PILLOW:
        return _pillow(content, kind, upright)
    image = _opencv(content, cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _opencv(content: bytes, kind: int) -> np.ndarray:
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), kind)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise Unsound("it is damaged, or of a rare kind")
    return decoded


def _pillow(content: bytes, kind: str, upright: bool) -> np.ndarray:
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow would guess its way around damage
        warnings.filterwarnings("ignore", message="Metadata Warning")  # unusual notes harm no pixels
        try:
            # The class itself, because Image.open has a limit of pixels of its own.
            with _BY_PILLOW[kind](io.BytesIO(content)) as picture:
                require_size(*picture.size)
                orientation = picture.getexif().get(_ORIENTATION, 1)
                picture.load()  # which turns a TIFF upright, and nothing else
                if upright:
                    picture = ImageOps.exif_transpose(picture)
                elif kind == "TIFF" and orientation in _TURNED_BACK:
                    picture = picture.transpose(_TURNED_BACK[orientation])
                if picture.mode.startswith("I;16"):
                    return cv2.cvtColor((np.asarray(picture) >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)
                if picture.mode not in _MODES:
                    raise Unsound(f"a {kind} of a rare kind; save it as PNG or JPEG")
                return np.array(picture.convert("RGB"))
        except Unsound:
            raise
        except Exception:  # Pillow raises nearly anything for damaged files
            raise Unsound(f"it is damaged, or a {kind} of a rare kind; save it as PNG or JPEG") from None


def load_mask(path: str | Path, *, classes: int = len(LIP.parts)) -> np.ndarray:
    """Decode a mask to (H, W) uint8 part ids, each below ``classes`` or 255 (ignore).

    Raises :class:`DataError` for a missing or unreadable file, a picture in colours, or any other id.
    """
    mask = decode_mask(path)
    stray = stray_ids(mask, classes)
    if stray:
        ids = ", ".join(map(str, stray[:5])) + (", …" if len(stray) > 5 else "")
        raise DataError(
            f"{shown(path)}: ids {ids} in a mask of parts 0 to {classes - 1}; is it a mask of this data set?"
        )
    return mask.astype(np.uint8, copy=False)


def decode_mask(path: str | Path) -> np.ndarray:
    """Decode a mask, which is a PNG, to its stored (H, W) integers, unchecked: a palette gives indices, not colours.

    Raises :class:`DataError` for a missing, unreadable or damaged file, a picture in colours, and what does not say
    which ids are meant: grey of 2 or 4 bits, which decoders stretch, and a palette of ids.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: no such mask; unzip or copy the part masks there again") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: the mask cannot be opened ({error.strerror})") from None
    try:
        png = read_png(content)
        by_pillow = (
            png.colours == PALETTE or png.depth == 1
        )  # OpenCV makes colours of the one, and 255 of the other's 1
        stored = _indices(png) if by_pillow else _opencv(png.bare(), cv2.IMREAD_UNCHANGED)
    except Unsound as reason:
        raise DataError(f"{shown(path)}: the mask cannot be decoded ({reason}); unzip or copy it again") from None
    if png.colours == GREY and 1 < png.depth < 8:
        raise DataError(f"{shown(path)}: grey of {png.depth} bits, whose ids are not certain; save it with 8 bits")
    if png.colours == PALETTE and _is_palette_of_ids(png, stored):
        raise DataError(f"{shown(path)}: its palette's greys are other ids than its indices; save it as plain grey")
    if stored.ndim == 3:  # some tools store the ids as three equal channels
        colours = stored[:, :, :3]  # without transparency
        if (colours != colours[:, :, :1]).any():
            raise DataError(f"{shown(path)}: a picture in colours, not a mask of part ids; use the data set's own PNGs")
        stored = np.ascontiguousarray(stored[:, :, 0])
    return stored.astype(np.int32) if stored.dtype.itemsize > 1 else stored


def _indices(png: Png) -> np.ndarray:
    rows = png.rows()  # all of them, for which Pillow does not ask
    if png.colours == PALETTE and not png.palette:
        raise Unsound("a palette PNG without palette")
    if png.depth == 8 and not png.interlaced:
        stored = np.frombuffer(rows, np.uint8).reshape(png.height, 1 + png.width)
        if not stored[:, 0].any():  # no row is filtered, as is usual with a palette: here are the indices
            return np.ascontiguousarray(stored[:, 1:])
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(png.bare())) as picture:
            return np.array(picture).astype(np.uint8, copy=False)
    except Exception:  # Pillow raises nearly anything for damaged files
        raise Unsound("it is damaged, or of a rare kind") from None


def _is_palette_of_ids(png: Png, indices: np.ndarray) -> bool:
    """Whether greys of the palette are ids themselves, as programs write that make a grey PNG smaller.

    Then neither indices nor greys can be trusted. A palette with a colour in it, or of the greys 0, 1, 2, …, is a
    mask's; one of greys that are no ids is for looking at.
    """
    palette = np.frombuffer(png.palette[: len(png.palette) // 3 * 3], np.uint8).reshape(-1, 3)
    grey, places = palette[:, 0], np.arange(len(palette))
    is_grey = (palette == palette[:, :1]).all(axis=1)
    is_id = is_grey & ((grey < len(LIP.parts)) | (grey == IGNORE))
    if not (is_id & (grey != places)).any():  # as nearly always, and there is no need to look which are used
        return False
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=len(palette))[: len(palette)])
    return bool(is_id[used].all() and (grey[used] != used).any())


def stray_ids(mask: np.ndarray, classes: int) -> list[int]:
    """The ids in ``mask``, sorted, that are neither one of ``classes`` parts nor 255 (ignore)."""
    # In bytes, 255 + 1 is 0: one maximum tells whether there is anything to list.
    if mask.dtype == np.uint8 and (mask + np.uint8(1)).max(initial=0) <= classes:
        return []
    ids = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
    return [int(i) for i in ids if not 0 <= i < classes and i != IGNORE]
