"""Decodes images and masks of part ids: the right pixels, or one line that names the file and the fix.

What OpenCV or Pillow loads without an error is an image, whatever its name says. OpenCV comes first, because it decodes
a JPEG three times as fast; Pillow reads what OpenCV cannot.
"""

import contextlib
import ctypes
import io
import logging
import os
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.files import DataError

# Extensions that are looked for in folders.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".avif",
    ".apng", ".jp2", ".jpf", ".jpx", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
_JPEG, _PNG, _TIFF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SCAN, _PROGRESSIVE, _END = b"\xff\xda", b"\xff\xc2", b"\xff\xd9"  # a JPEG's markers
_RESTARTS = range(0xD0, 0xD8)  # second bytes of markers
_GREY, _PALETTE = 0, 3  # a PNG's color types

# Decoders' own lines would not name the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
logging.getLogger("PIL").addHandler(logging.NullHandler())

_one_thread = threading.Lock()  # at a time may change how Python warns


class _Unreadable(Exception):
    """Why the bytes are no image, and the fix; the readers add the file's name."""


def load_image(path: str | Path, *, upright: bool = False) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 **RGB**, in the order in which its pixels are stored.

    Grey and CMYK images become RGB, 16 bits become 8, transparency is dropped (a TIFF's is black), an animation is its
    first picture. An EXIF orientation is ignored, because LIP's masks and joints follow the stored pixels; ``upright``
    follows it, as a photograph should. Raises :class:`DataError` for a file that is missing, cut off, or unreadable.
    """
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    with _content(path, "image") as content:
        if content.startswith(_JPEG) and not content.endswith(_END):
            content = _with_end(content)
        image = _opencv(content, flags)
        return _pillow(content, upright) if image is None else image


@contextlib.contextmanager
def _content(path: str | Path, what: str) -> Iterator[bytes]:
    """The file's bytes, to be decoded without a word; what goes wrong meanwhile is an error that names the file."""
    try:
        if Path(path).is_fifo():
            raise _Unreadable("a pipe; save it as a file")  # it may never end
        with quiet_decoders():
            yield Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the {what} cannot be opened ({error.strerror})") from None
    except _Unreadable as reason:
        raise DataError(f"{path}: the {what} cannot be decoded ({reason})") from None


def _opencv(content: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _pillow(content: bytes, upright: bool) -> np.ndarray:
    try:
        with _one_thread, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(content))
            return np.array((ImageOps.exif_transpose(picture) if upright else picture).convert("RGB"))
    except Exception:  # Pillow raises nearly anything for damaged files
        raise _Unreadable(_reason(content)) from None


def _reason(content: bytes) -> str:
    if not content.strip(b"\0"):
        return "an empty file; copy it again"
    if content[4:8] == b"ftyp" and content[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return "HEIC; save it as JPEG"
    known = (_JPEG, _PNG, b"BM", b"RIFF", b"GIF", b"P4", b"P5", b"P6", *_TIFF)
    if content.startswith(known) or content[4:11] in (b"ftypavi", b"jP  \r\n\x87"):
        return "the file is cut off or damaged; unzip or download it again"
    return "unknown image format; save it as PNG or JPEG"


def _with_end(content: bytes) -> bytes:
    """A JPEG that does not end with its end marker: as it is if something follows it, else with a marker added.

    All pixels are there if the image is the same whatever follows, be it the restart marker that a decoder waits for;
    raises :class:`_Unreadable` otherwise.
    """
    if content.rfind(_END) > content.rfind(_SCAN):
        return content
    content = content.rstrip(b"\0") + b"\0" * content.endswith((b"\0", b"\xff"))  # a zero may be of the pixels
    candidates = [content + bytes(500) + _END]
    candidates += [content + bytes([*[0xAA] * 250, 0xFF, marker, *[0xAA] * 250]) + _END for marker in _RESTARTS]
    images = (_opencv(each, cv2.IMREAD_COLOR) for each in candidates)
    first = next(images)
    if first is None or _PROGRESSIVE in content or any(each is None or (each != first).any() for each in images):
        raise _Unreadable("the file is cut off; unzip or download it again")
    return candidates[0]


def load_mask(path: str | Path, *, classes: int = len(LIP.parts)) -> np.ndarray:
    """Decode a mask to (H, W) uint8 part ids, each below ``classes`` or 255 (ignore).

    Raises :class:`DataError` for a missing or unreadable file, a picture in colors, or any other id.
    """
    mask = decode_mask(path)
    if stray := stray_ids(mask, classes):
        raise DataError(f"{path}: ids {some(stray)} in a mask of parts 0 to {classes - 1}; is it of this data set?")
    return mask.astype(np.uint8, copy=False)


def decode_mask(path: str | Path) -> np.ndarray:
    """Decode a mask, which is a PNG, to its stored (H, W) integers, unchecked: a palette gives indices, not colors.

    Raises :class:`DataError` for a missing, unreadable or damaged file, a picture in colors, and grey of 2 or 4 bits,
    which decoders stretch.
    """
    with _content(path, "mask") as content:
        if not content.startswith(_PNG) or len(content) < 33:
            raise _Unreadable("not a PNG; use the data set's own")
        depth, colors = content[24:26]  # of the header, which comes first
        if colors == _GREY and depth in (2, 4):
            raise _Unreadable(f"grey of {depth} bits, whose ids are ambiguous; save it with 8 bits")
        if colors == _PALETTE and zlib.crc32(content[12:29]) == int.from_bytes(content[29:33], "big"):
            header = content[12:25] + bytes([_GREY]) + content[26:29]  # so OpenCV gives the indices, not the colors
            content = content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]
        stored = _opencv(content, cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise _Unreadable(_reason(content))
        if stored.ndim == 3:  # some tools store the ids as three equal channels
            if (stored[:, :, :3] != stored[:, :, :1]).any():
                raise _Unreadable("a picture in colors, not a mask of part ids; use the data set's own PNGs")
            stored = np.ascontiguousarray(stored[:, :, 0])
        if depth < 8:
            stored //= 255 // (2**depth - 1)  # OpenCV stretched them over the range of a byte
        return stored.astype(np.int32) if depth > 8 else stored


def stray_ids(mask: np.ndarray, classes: int) -> list[int]:
    """The ids in ``mask``, sorted, that are neither one of ``classes`` parts nor 255 (ignore)."""
    # In bytes, 255 + 1 is 0: one maximum tells whether there is anything to list.
    if mask.dtype == np.uint8 and (mask + np.uint8(1)).max(initial=0) <= classes:
        return []
    return [int(i) for i in np.unique(mask) if not 0 <= i < classes and i != IGNORE]


def some(ids: list[int]) -> str:
    """The first of ``ids`` for a message."""
    return ", ".join(map(str, ids[:5])) + ", …" * (len(ids) > 5)


def images_in(folder: str | Path) -> dict[str, Path]:
    """``{stem: path}`` of the images in a folder; of several with one stem the ``.jpg``."""
    files = sorted(Path(folder).glob("[!.]*"), key=lambda path: (path.suffix == ".jpg", path))
    return {path.stem: path for path in files if path.suffix.lower() in SUFFIXES}


# Decoders print warnings without the file's name to C's stderr, which Python's own output does not use.
_LIBC = ctypes.CDLL(None)
_LIBC.fopen.restype = ctypes.c_void_p
_C_STDERR = ctypes.c_void_p.in_dll(_LIBC, "__stderrp" if sys.platform == "darwin" else "stderr")
_TERMINAL, _NOWHERE = _C_STDERR.value, _LIBC.fopen(os.devnull.encode(), b"w")
_blocks, _counting = 0, threading.Lock()


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Within it, in any thread, what C code prints to its stderr is dropped."""
    global _blocks
    with _counting:
        _blocks, _C_STDERR.value = _blocks + 1, _NOWHERE
    try:
        yield
    finally:
        with _counting:
            _blocks -= 1
            _C_STDERR.value = _NOWHERE if _blocks else _TERMINAL
