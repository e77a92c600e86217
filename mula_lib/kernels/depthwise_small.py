"""The loops of :mod:`depthwise` for kernels of one or nine weights, for which lifting planes would be most of the work.

Channels stay innermost. A row of pixels is one long run of numbers, to which each weight is applied at once, repeated
along the run for every pixel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mula_lib.kernels.jit import compiled

LARGEST = 3
GROUP = 32  # channels of one image that one thread takes at a time: their repeated weights stay in the first cache
_ZERO = np.float32(0)


@compiled
def _pad(image, start, stop, border, rows):
    """Copy channels of an (H, W, C) image into the middle of padded rows."""
    height, width, _ = image.shape
    channels = stop - start
    for y in range(height):
        row = rows[y + border]
        for x in range(width):
            pixel, place = image[y, x, start:stop], (x + border) * channels
            for c in range(channels):
                row[place + c] = pixel[c]


@lru_cache
def small_loops(size: int):
    """Forward and backward, called like those of :func:`depthwise.plane_loops`."""
    border = size // 2

    @compiled
    def spread(kernels, start, stop, width, turned, weights):
        channels = stop - start
        for i in range(size):
            for j in range(size):
                one = weights[i, j]
                for c in range(channels):
                    one[c] = kernels[start + c, size - 1 - i, size - 1 - j] if turned else kernels[start + c, i, j]
                for x in range(1, width):
                    one[x * channels : (x + 1) * channels] = one[:channels]

    @compiled
    def convolve(rows, weights, start, stop, result):
        height, width, _ = result.shape
        channels = stop - start
        total = np.empty(width * channels, np.float32)
        for y in range(height):
            total[:] = _ZERO
            for i in range(size):
                source = rows[y + i]
                for j in range(size):
                    shifted, weight = source[j * channels :], weights[i, j]
                    for n in range(len(total)):
                        total[n] += shifted[n] * weight[n]
            for x in range(width):
                pixel, place = result[y, x, start:stop], x * channels
                for c in range(channels):
                    pixel[c] = total[place + c]

    @compiled
    def correlate(rows, slope_rows, height, width, channels, sums):
        length = width * channels
        sums[:] = _ZERO
        for y in range(height):
            slope = slope_rows[y + border, border * channels :]
            for i in range(size):
                source = rows[y + i]
                for j in range(size):
                    shifted, total = source[j * channels :], sums[i, j]
                    for n in range(length):
                        total[n] += slope[n] * shifted[n]

    @compiled
    def forward(image, kernels, result, start, stop):
        height, width, _ = image.shape
        channels = stop - start
        rows = np.zeros((height + 2 * border, (width + 2 * border) * channels), np.float32)
        weights = np.empty((size, size, width * channels), np.float32)
        _pad(image, start, stop, border, rows)
        spread(kernels, start, stop, width, False, weights)
        convolve(rows, weights, start, stop, result)

    @compiled
    def backward(image, kernels, slopes, image_slopes, kernel_slopes, start, stop):
        height, width, _ = image.shape
        channels = stop - start
        rows = np.zeros((height + 2 * border, (width + 2 * border) * channels), np.float32)
        slope_rows = np.zeros_like(rows)
        weights = np.empty((size, size, width * channels), np.float32)
        _pad(image, start, stop, border, rows)
        _pad(slopes, start, stop, border, slope_rows)
        correlate(rows, slope_rows, height, width, channels, weights)
        for c in range(channels):
            for i in range(size):
                for j in range(size):
                    total = _ZERO
                    for x in range(width):
                        total += weights[i, j, x * channels + c]
                    kernel_slopes[start + c, i, j] = total
        spread(kernels, start, stop, width, True, weights)
        convolve(slope_rows, weights, start, stop, image_slopes)

    return forward, backward
