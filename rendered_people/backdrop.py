"""What stands behind and before a person, and what a camera does to it all.

Backgrounds are drawn from the same colours as skin and cloth, and hold limb-like shapes, so that neither a colour nor
an edge gives the person away.
"""

import cv2
import numpy as np

from rendered_people.colours import natural_colour, sample_cloth, skin_colour


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) float RGB in 0..1: a ground, a wall or sky, things on them, more or less out of focus."""
    canvas = _noise(rng, height, width, natural_colour(rng), natural_colour(rng), rng.uniform(0.03, 0.5))
    if rng.random() < 0.75:
        _floor(rng, canvas)
    for _ in range(rng.integers(2, 15)):
        _thing(rng, canvas)
    if rng.random() < 0.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.016 * max(height, width)))
    for _ in range(rng.integers(0, 3)):  # a few sharp things nearby
        _thing(rng, canvas)
    grain = rng.normal(0, 1, (height, width)).astype(np.float32) * np.float32(rng.uniform(0, 0.035))
    canvas += cv2.merge([grain] * 3)  # numpy is slow at repeating over three channels
    return np.clip(canvas, 0, 1, out=canvas)


def _noise(rng, height: int, width: int, first, second, rough: float) -> np.ndarray:
    """A gradient between two colours, broken up by noise of several sizes."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.arange(count, dtype=np.float32) / max(height, width) for count in (height, width))
    share = 0.5 + rng.uniform(0, 0.8) * ((x - 0.5) * np.cos(angle) + ((y - 0.5) * np.sin(angle))[:, None])
    for cells in (3, 8, 20, 50):
        small = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        share += rough * 0.6 / np.sqrt(cells / 3) * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip(share, 0, 1)
    rest = 1 - share
    canvas = np.empty((height, width, 3), np.float32)
    for channel, (one, other) in enumerate(zip(np.float32(first), np.float32(second), strict=True)):
        canvas[..., channel] = one * rest + other * share
    return canvas


def _floor(rng, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    horizon = int(height * rng.uniform(0.25, 0.95))
    ground = _noise(rng, height, width, natural_colour(rng), natural_colour(rng), rng.uniform(0.05, 0.5))
    if rng.random() < 0.35:  # tiles, planks, court lines
        y = np.maximum(np.arange(height, dtype=np.float32)[:, None] - horizon + 4.5, 0.5)
        x = np.arange(width, dtype=np.float32)[None] - width * rng.uniform(0, 1)
        lines = (np.sin(x / y * rng.uniform(4, 30)) > 0.9) | (np.sin(height * rng.uniform(3, 20) / y) > 0.93)
        ground[lines] = natural_colour(rng)
    canvas[horizon:] = ground[horizon:]


def _thing(rng, canvas: np.ndarray) -> None:
    """Paint one thing: furniture, foliage, a pole, a panel with a pattern, something limb-like."""
    height, width = canvas.shape[:2]
    long = max(height, width)
    mask = np.zeros((height, width), np.uint8)
    centre = rng.uniform([0, 0], [width, height])
    size = long * np.exp(rng.uniform(np.log(0.05), np.log(0.5), 2))
    kind = rng.choice(["box", "ellipse", "polygon", "pole", "limb", "foliage"], p=[0.25, 0.13, 0.14, 0.13, 0.22, 0.13])
    shading = None
    if kind == "box":
        corners = cv2.boxPoints((tuple(centre), tuple(size), float(rng.normal(0, 8))))
        cv2.fillPoly(mask, [np.int32(corners)], 255)
    elif kind == "ellipse":
        cv2.ellipse(mask, (tuple(centre), tuple(size), float(rng.uniform(0, 180))), 255, -1)
    elif kind == "polygon":
        angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * size * rng.uniform(0.3, 0.7, (6, 1)) + centre
        cv2.fillPoly(mask, [np.int32(ring)], 255)
    elif kind in ("pole", "limb"):
        thick = long * (rng.uniform(0.01, 0.04) if kind == "pole" else rng.uniform(0.03, 0.09))
        turn = rng.normal(np.pi / 2, 0.12 if kind == "pole" else 0.8)
        points = [centre, centre + np.array([np.cos(turn), np.sin(turn)]) * size.max()]
        if kind == "limb":
            turn += rng.uniform(-1.6, 1.6)
            points.append(points[1] + np.array([np.cos(turn), np.sin(turn)]) * size.max() * 0.9)
        cv2.polylines(mask, [np.int32(points)], False, 255, max(int(thick), 1), cv2.LINE_8)
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / max(thick / 2, 1)
        shading = 0.55 + 0.5 * np.sqrt(np.clip(inside, 0, 1))
    else:
        small = rng.normal(0, 1, (rng.integers(6, 24),) * 2).astype(np.float32)
        field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        y, x = np.arange(height)[:, None], np.arange(width)
        near = np.exp(-(((x - centre[0]) / size[0]) ** 2) - ((y - centre[1]) / size[1]) ** 2)
        mask[(field * 0.5 + near * 1.6) > 0.9] = 255
    _fill(rng, canvas, mask, shading, skin=kind == "limb" and rng.random() < 0.5)


def _fill(rng, canvas: np.ndarray, mask: np.ndarray, shading: np.ndarray | None, *, skin: bool = False) -> None:
    place = np.flatnonzero(mask)
    if not len(place):
        return
    rows, columns = np.divmod(place, mask.shape[1])
    if skin:
        colour = np.broadcast_to(skin_colour(rng), (len(rows), 3))
    else:
        metres = np.stack([columns, 0 * columns, rows], 1) / max(mask.shape) * 1.7
        colour = sample_cloth(rng).paint(metres.astype(np.float32))
    light = rng.uniform(0.6, 1.15) if shading is None else shading.ravel()[place] * rng.uniform(0.7, 1.1)
    if shading is None:  # a soft gradient over a flat thing
        slope = rng.normal(0, 0.25, 2) / max(mask.shape)
        light = light + (rows - rows.mean()) * slope[0] + (columns - columns.mean()) * slope[1]
    alpha = cv2.GaussianBlur(mask, (3, 3), 0).ravel()[place] / 255
    before = canvas.reshape(-1, 3)[place]
    after = np.empty_like(before)
    for channel in range(3):  # numpy is slow at repeating a column over three
        old = before[:, channel]
        after[:, channel] = old + alpha * (np.clip(colour[:, channel] * light, 0, 1) - old)
    canvas[rows, columns] = after


def occlude(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put one thing in front of the person, in place; returns (H, W) bool where it is."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    front = np.zeros((height, width), np.uint8)
    if len(rows) < 50:
        return front > 0
    pick = rng.integers(len(rows))
    extent = np.array([np.ptp(columns), np.ptp(rows)], float)
    kind = rng.choice(["table", "thing", "pole"], p=[0.4, 0.4, 0.2])
    if kind == "table":
        edge = rows.min() + extent[1] * rng.uniform(0.62, 0.95)
        left, right = np.sort(rng.uniform(-0.3, 1.3, 2)) * width
        front[int(edge) :, max(int(left), 0) : max(int(right), 0)] = 255
    elif kind == "thing":
        size = extent.max() * rng.uniform(0.1, 0.3, 2)
        box = ((float(columns[pick]), float(rows[pick])), tuple(size), float(rng.uniform(0, 180)))
        if rng.random() < 0.5:
            cv2.ellipse(front, box, 255, -1)
        else:
            cv2.fillPoly(front, [np.int32(cv2.boxPoints(box))], 255)
    else:
        x = float(columns[pick])
        lean = rng.normal(0, 0.15) * height
        thick = max(int(rng.uniform(0.015, 0.05) * height), 2)
        cv2.line(front, (int(x - lean), 0), (int(x + lean), height), 255, thick)
    if (front[rows, columns] > 0).mean() > 0.4:  # that would hide too much
        return np.zeros_like(front, bool)
    _fill(rng, image, front, None)
    return front > 0


def camera_effects(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float RGB -> uint8: exposure, contrast, blur, sensor noise and a JPEG's losses."""
    image = image * np.exp(rng.normal(0.06, 0.14)) * (1 + rng.normal(0, 0.035, 3))
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.12))
    image = 0.5 + (image - 0.5) * rng.uniform(0.8, 1.1) + rng.normal(0, 0.02)
    if rng.random() < 0.02:
        image = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    image = image + rng.normal(0, rng.uniform(0.002, 0.03), image.shape)
    image = np.ascontiguousarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)[..., ::-1])
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 97))])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])
