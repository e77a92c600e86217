"""Features of photographs that the plain rendering lacks: natural surroundings, folds, losses of cameras and files.

Only the data set of ``PhotoConfig`` uses them; the pictures of ``PeopleConfig`` and ``CrowdConfig`` do not change.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rendered_people.backdrop import background
from rendered_people.colours import natural_colour
from rendered_people.scene import Light, Scene, sample_scene

# LIP's people: half of them whole, many close, with others beside them.
_FRAMING = {"cuts": (0.33, 0.43, 0.46, 0.86), "widest": 0.22, "others": (0.6, 0.27, 0.13)}
_CLOSE = {"cuts": (0.4, 1.0, 1.0, 0.7), "widest": 0.3}  # upper bodies and heads only


@dataclass(frozen=True)
class Folds(Light):
    """A light on crumpled cloth: the normals lean by the slope of ``waves`` (K, 4), wave vectors (radians per metre)
    over the rest body and phases; ``depth`` is the slope, and ``shadow`` (0..1) how dark the broad waves are."""

    waves: np.ndarray
    depth: float
    shadow: float

    def shade(self, normals: np.ndarray, places: np.ndarray) -> np.ndarray:
        """As of :class:`Light`, at ``places`` (N, 3) on the rest body."""
        directions = self.waves[:, :3] / np.linalg.norm(self.waves[:, :3], axis=1, keepdims=True)
        phases = places @ self.waves[:, :3].T.astype(np.float32) + self.waves[:, 3].astype(np.float32)
        leaning = normals + self.depth * np.cos(phases) @ directions.astype(np.float32)
        leaning /= np.maximum(np.linalg.norm(leaning, axis=1, keepdims=True), 1e-6)
        broad = 1 - self.shadow * np.clip(np.sin(0.3 * phases[:, :3]).mean(1, keepdims=True), 0, 1)
        return super().shade(leaning, places) * broad


def photo_scene(rng: np.random.Generator, size: int, *, close: bool = False) -> Scene:
    """A scene framed as LIP's photographs are, or a ``close`` one, in a light that shows folds."""
    scene = sample_scene(rng, size, **(_CLOSE if close else _FRAMING))
    lengths = np.exp(rng.uniform(np.log(0.03), np.log(0.25), 7))  # metres from one fold to the next
    vectors = rng.normal(0, 1, (7, 3)) * [1, 1, 0.6]
    vectors *= 2 * np.pi / (lengths * np.linalg.norm(vectors, axis=1))[:, None]
    waves = np.column_stack([vectors, rng.uniform(0, 2 * np.pi, 7)])
    light = Folds(**vars(scene.light), waves=waves, depth=rng.uniform(0, 0.3), shadow=rng.uniform(0, 0.9))
    return Scene(scene.actors, scene.view, light)


def surroundings(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) float RGB in 0..1: overlapping surfaces with natural spectra, sharp or out of focus."""
    if rng.random() < 0.3:
        return background(rng, height, width)
    canvas = _surface(rng, height, width)
    for _ in range(int(rng.integers(0, 9))):
        edge = _fractal(rng, height, width, rng.uniform(1.5, 2.6))
        y, x = np.mgrid[:height, :width] / max(height, width)
        turn, kind = rng.uniform(0, 2 * np.pi), rng.random()
        if kind < 0.35:  # the ground, a hill, a wall's end
            turn = rng.normal(np.pi / 2, 0.15) if rng.random() < 0.7 else turn
            field = (x - rng.random() * width / max(height, width)) * np.cos(turn) * 6
            field = field + (y - rng.random() * height / max(height, width)) * np.sin(turn) * 6
        else:  # a thing: from round to lobed
            field = 1 - ((x - rng.random()) / rng.uniform(0.05, 0.4)) ** 2
            field = field - ((y - rng.random()) / rng.uniform(0.05, 0.4)) ** 2
        cover = np.clip((field + edge * rng.choice([0.05, 0.3, 0.8])) * rng.uniform(2, 30) + 0.5, 0, 1)[..., None]
        canvas += cover.astype(np.float32) * (_surface(rng, height, width) - canvas)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.03 * max(height, width)))
    return np.clip(canvas, 0, 1, out=canvas)


def _surface(rng, height: int, width: int) -> np.ndarray:
    """(H, W, 3) float32: one material in one light: grass, sand, foliage, a wall, sky."""
    colour, other = np.float32([natural_colour(rng), natural_colour(rng)])
    pale = np.float32(rng.uniform(0, 0.8))  # large surfaces are rarely as bright as things and clothes
    colour, other = colour + pale * (colour.mean() - colour), other + pale * (other.mean() - other)
    grain = _fractal(rng, height, width, rng.uniform(0.3, 2.0))[..., None]
    patch = np.clip(0.5 + 0.3 * _fractal(rng, height, width, rng.uniform(1, 2.4)), 0, 1)[..., None]
    rough, mixed = rng.choice([0.02, 0.08, 0.25]) * rng.uniform(0.5, 1.5), rng.choice([0, 0.2, 1], p=[0.4, 0.4, 0.2])
    return (colour + mixed * patch * (other - colour)) * np.exp(rough * grain)


def _fractal(rng, height: int, width: int, slope: float) -> np.ndarray:
    """(H, W) float32, mean 0 and deviation 1: noise whose amplitude falls with the frequency to the power ``slope``."""
    stretch = np.exp(rng.normal(0, 0.4))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * stretch, np.fft.rfftfreq(width) / stretch)
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.exp(2j * np.pi * rng.random(frequency.shape)) * frequency**-slope, (height, width))
    return (field / field.std()).astype(np.float32)


def degrade(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float RGB -> uint8: exposure, white balance, contrast, grey, blur, lost detail, noise and JPEG."""
    height, width = image.shape[:2]
    image = image * np.exp(rng.normal(0.05, 0.2)) * (1 + rng.normal(0, 0.06, 3))
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(-0.05, 0.2))
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * (0 if rng.random() < 0.05 else rng.uniform(0.4, 1.5))
    image = np.float32(0.5 + (image - 0.5) * rng.uniform(0.7, 1.3) + rng.normal(0, 0.05))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.1:  # the camera moved
        streak = np.zeros((9, 9), np.float32)
        cv2.line(streak, *(tuple(map(int, rng.integers(low, low + 4, 2))) for low in (0, 5)), 1.0)
        image = cv2.filter2D(image, -1, streak / streak.sum())
    if rng.random() < 0.35:  # a small picture, enlarged
        share = rng.uniform(0.35, 0.9)
        image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    image = image + rng.normal(0, rng.uniform(0.002, 0.035), (height, width, 1 if rng.random() < 0.5 else 3))
    image = np.ascontiguousarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)[..., ::-1])
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 97))])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])
