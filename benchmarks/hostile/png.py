"""Writes PNGs of every kind, and wrong ones, byte by byte: no library writes interlaced or impossible ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colours: int = GREY, interlaced: bool = False) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, int(interlaced)))


def rows(samples: np.ndarray, depth: int) -> bytes:
    """(H, W) or (H, W, C) samples as unfiltered rows, each after a zero."""
    height = len(samples)
    flat = samples.reshape(height, -1)
    if depth == 16:
        flat = flat.astype(">u2").view(np.uint8)
    elif depth < 8:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        flat = np.packbits(bits.reshape(height, -1), axis=1)
    return np.pad(flat.astype(np.uint8), ((0, 0), (1, 0))).tobytes()


def interlaced_rows(samples: np.ndarray, depth: int) -> bytes:
    """The rows of Adam7's seven passes; those without pixels are left out."""
    passes = [samples[row::row_step, column::step] for row, column, row_step, step in _PASSES]
    return b"".join(rows(each, depth) for each in passes if each.size)


def write(
    samples: np.ndarray, *, depth: int = 8, colours: int = GREY, palette: np.ndarray | None = None,
    interlaced: bool = False, more: bytes = b"", pieces: int = 1, raw: bytes | None = None, packed: bytes | None = None,
) -> bytes:  # fmt: skip
    """A PNG of ``samples``; ``more`` goes before the rows, ``raw`` or ``packed`` in place of them, in ``pieces``."""
    if packed is None:
        unpacked = interlaced_rows(samples, depth) if interlaced else rows(samples, depth)
        packed = zlib.compress(unpacked if raw is None else raw)
    size = -(-len(packed) // pieces)
    return b"".join(
        [
            SIGNATURE,
            header(samples.shape[1], samples.shape[0], depth, colours, interlaced),
            chunk(b"PLTE", palette.astype(np.uint8).tobytes()) if palette is not None else b"",
            more,
            *(chunk(b"IDAT", packed[start : start + size]) for start in range(0, len(packed), size)),
            chunk(b"IEND", b""),
        ]
    )


def exif(orientation: int) -> bytes:
    """The smallest EXIF block, of an orientation only."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
