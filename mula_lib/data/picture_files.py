"""What the bytes of a picture file say before any pixel is decoded: its format, its size, and whether it is whole.

Decoders forgive: some fill what is missing with grey, some trust a header of billions of pixels. Here the structure is
followed from the first byte to the end marker, which is quick because the compressed data themselves are not looked at
(a PNG's are, by their checksums). What has no checksum cannot be noticed: a flipped bit within the compressed data of
a JPEG changes some pixels, and every decoder shows them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MOST_PIXELS = 2**28  # of one picture; a camera has a fifth of it, and 20,000 pixels of an edge are possible
MOST_BYTES = 2**30  # of one file
MOST_SCANS = 100  # of a progressive JPEG; encoders write about ten, and each one passes over all pixels

_PNG = b"\x89PNG\r\n\x1a\n"
# In compressed data FF is followed by 00, or by D0 to D7 for a restart where these were announced; FF before FF is
# padding.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_RESTARTS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a frame's header
_ONE_PASS = frozenset({0xC0, 0xC1})  # frames whose components come in one scan each
_SCAN, _END, _RESTARTS = 0xDA, 0xD9, 0xDD
# What may follow a scan: any other marker is a damaged byte, at which decoders stop and paint the rest grey.
_AFTER_LAST = frozenset({_END, 0xFE, *range(0xE0, 0xF0)})
_AFTER_SCAN = _AFTER_LAST | {_SCAN, _RESTARTS, 0xC4, 0xDB}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
# Adam7: first column and row, and steps
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
GREY, PALETTE = 0, 3


class Unsound(Exception):
    """Why the bytes cannot be the picture that they promise; the reader adds the file's name."""


@dataclass(frozen=True)
class Png:
    """A PNG whose chunks are all there and have the right checksums."""

    width: int
    height: int
    depth: int  # bits of a sample
    colours: int  # GREY, PALETTE, or 2 RGB, 4 grey and 6 RGB with transparency
    interlaced: bool
    palette: bytes
    packed: bytes  # the compressed rows

    def bare(self) -> bytes:
        """The same pixels as a PNG without all else, such as an orientation, animation or gamma, that a decoder may
        take to heart: a mask's ids are the stored numbers."""
        header = struct.pack(">IIBBBBB", self.width, self.height, self.depth, self.colours, 0, 0, int(self.interlaced))
        chunks = ((b"IHDR", header), (b"PLTE", self.palette), (b"IDAT", self.packed), (b"IEND", b""))
        return _PNG + b"".join(
            struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
            for kind, data in chunks
            if data or kind != b"PLTE"
        )

    def require_all_rows(self) -> None:
        """Raises :class:`Unsound` unless the rows are unpacked to exactly the size that the header promises."""
        for _ in self._pieces():
            pass

    def rows(self) -> bytes:
        """All rows, unpacked, each after the number of its filter; raises as :meth:`require_all_rows` does."""
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        unpacker, wanted, found, left = zlib.decompressobj(), self._unpacked_bytes(), 0, self.packed
        while not unpacker.eof and found <= wanted:
            try:
                piece = unpacker.decompress(left, 2**24)
            except zlib.error:
                raise Unsound("damaged rows") from None
            found, left = found + len(piece), unpacker.unconsumed_tail
            if not piece and not left:
                break
            yield piece
        if not unpacker.eof or found != wanted:
            raise Unsound("more rows than its header promises" if found > wanted else "some rows are missing")

    def _unpacked_bytes(self) -> int:
        bits = self.depth * _CHANNELS[self.colours]
        total = 0
        for column, row, step, row_step in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(self.width - column) // step), -(-(self.height - row) // row_step)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)  # a byte before each row names its filter
        return total


def inspect(content: bytes) -> str:
    """The format of a picture, ``"JPEG"``, ``"PNG"``, ``"BMP"``, ``"WebP"`` or ``"TIFF"``, whose file is whole.

    Of a TIFF the signature alone is looked at. Raises :class:`Unsound` for another format, a file that is cut off or
    damaged as far as its structure and checksums tell, and more than ``MOST_PIXELS`` pixels.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            require_size(*_jpeg_size(content))
            return "JPEG"
        if content.startswith(_PNG):
            read_png(content).require_all_rows()
            return "PNG"
        if content.startswith(b"BM"):
            _require_bmp(content)
            return "BMP"
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            require_size(*_webp_size(content))
            return "WebP"
    except (struct.error, IndexError):  # a header ends before its last field
        raise Unsound("the file is cut off") from None
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    raise Unsound("an empty file" if not content else "not a JPEG, PNG, BMP, WebP or TIFF")


def require_size(width: int, height: int) -> None:
    """Raises :class:`Unsound` for a picture without pixels, or with more than ``MOST_PIXELS``."""
    if width <= 0 or height <= 0:
        raise Unsound("its header promises no pixels")
    if width * height > MOST_PIXELS:
        raise Unsound(f"its header promises {width:,}×{height:,} pixels, more than the {MOST_PIXELS:,} that are read")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height of a JPEG; what follows its end marker is its own affair, as telephones append things there."""
    at, size, scans, restarts = 2, None, 0, False
    allowed, missing = None, 0  # markers that may come next, components of a picture of one pass that have not come yet
    while True:
        if content[at] != 0xFF:
            raise Unsound("damaged between its segments")
        while content[at] == 0xFF:  # padding before a marker
            at += 1
        marker = content[at]
        at += 1
        if allowed is not None and marker not in allowed:
            raise Unsound("damaged within its pixels")
        if marker == _END:
            if size is None or not scans:
                raise Unsound("no picture before its end marker")
            return size
        if marker in _BARE:
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if length < 2:
            raise Unsound("damaged between its segments")
        if marker in _FRAMES:
            if size is not None:
                raise Unsound("two pictures in one")
            height, width, components = struct.unpack_from(">HHB", content, at + 3)
            size, missing = (width, height), components if marker in _ONE_PASS else 2**16
        elif marker == _RESTARTS:
            restarts = content[at + 2 : at + 4] != b"\0\0"
        if at + length >= len(content):
            raise Unsound("the file is cut off")
        if marker == _SCAN:
            scans, missing = scans + 1, missing - content[at + 2]
            if scans > MOST_SCANS:
                raise Unsound(f"more than {MOST_SCANS} scans")
            found = (_MARKER_AFTER_RESTARTS if restarts else _MARKER_AFTER_SCAN).search(content, at + length)
            if found is None:
                raise Unsound("the file is cut off")
            if restarts:
                _require_restarts(content, at + length, found.start())
            at, allowed = found.start(), _AFTER_LAST if missing <= 0 else _AFTER_SCAN
        else:
            at += length


def _require_restarts(content: bytes, start: int, end: int) -> None:
    """Restart markers count from 0 to 7 again and again; where one is missing, so is a strip of the picture."""
    for number, found in enumerate(_RESTART.findall(content, start, end)):
        if found[0] != 0xD0 + number % 8:
            raise Unsound("damaged within its pixels")


def read_png(content: bytes) -> Png:
    """The header and chunks of a PNG, every checksum of which is right; rows stay compressed.

    Raises :class:`Unsound` for what is no PNG, is cut off or damaged, or promises too many pixels.
    """
    if not content.startswith(_PNG):
        raise Unsound("an empty file" if not content else "not a PNG")
    at, header, palette = len(_PNG), None, b""
    rows: list[memoryview] = []
    view = memoryview(content)
    while True:
        if at + 12 > len(content):
            raise Unsound("the file is cut off")
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            raise Unsound("the file is cut off")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise Unsound("a checksum is wrong: the file is damaged")
        data = view[at + 8 : end]
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise Unsound("a PNG without header")
            header = struct.unpack(">IIBBBBB", data)
            _require_png_header(*header)
        elif kind == b"PLTE":
            palette = bytes(data)
        elif kind == b"IDAT":
            rows.append(data)
        elif kind == b"IEND":
            break
        at = end + 4
    width, height, depth, colours, _, _, interlace = header
    return Png(width, height, depth, colours, bool(interlace), palette, b"".join(rows))


def _require_png_header(
    width: int, height: int, depth: int, colours: int, packing: int, filtering: int, interlace: int
) -> None:
    depths = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}.get(colours, (8, 16))
    if colours not in _CHANNELS or depth not in depths or packing or filtering or interlace > 1:
        raise Unsound("a PNG of no known kind")
    require_size(width, height)


def _require_bmp(content: bytes) -> None:
    start, header = struct.unpack_from("<II", content, 10)
    if header == 12:  # of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        packing = 0
    elif header >= 40:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", content, 18)
    else:
        raise Unsound("a BMP of no known kind")
    if packing not in (0, 3, 6):
        raise Unsound("a compressed BMP; save it as PNG")
    require_size(width, abs(height))
    if start < 14 + header or start + (width * bits + 31) // 32 * 4 * abs(height) > len(content):
        raise Unsound("the file is cut off")


def _webp_size(content: bytes) -> tuple[int, int]:
    """Width and height of a WebP, whose chunks must fill it to the length that it promises."""
    end = struct.unpack_from("<I", content, 4)[0] + 8
    if end > len(content):
        raise Unsound("the file is cut off")
    at = 12
    while at < end:
        kind, length = struct.unpack_from("<4sI", content, at)
        if not kind.isascii() or 0 in kind:
            raise Unsound("damaged between its chunks")
        at += 8 + length + length % 2
    if at > end + 1:  # the padding of the last one may be missing
        raise Unsound("the file is cut off")
    kind = content[12:16]
    if kind == b"VP8X":
        return tuple(1 + int.from_bytes(content[at : at + 3], "little") for at in (24, 27))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Unsound("a WebP of no known kind")
