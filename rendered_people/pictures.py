"""One annotated picture, of a person or of a crowd: everything put together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mula_lib.anatomy import LIP, PASCAL
from rendered_people.backdrop import background, camera_effects, occlude
from rendered_people.photographs import degrade, photo_scene, surroundings
from rendered_people.render import Drawing, draw
from rendered_people.scene import sample_crowd, sample_scene
from rendered_people.tree import SPLITS

COUNTS = {0: 0.04, 1: 0.10, 2: 0.31, 3: 0.26, 4: 0.17, 5: 0.12}  # people of a crowd, and how often
_PERSON_OCCLUDER, _CROWD_OCCLUDER = 0.16, 0.12  # share of pictures with something in front of the people
_PERSON_PIXELS, _CROWD_PIXELS = 0.04, 0.008  # share of a picture that each person fills at least
_LEAST_JOINTS = 4  # inside the picture
_CROWD_STREAM, _PHOTO_STREAM = 2 << 20, 3 << 20  # keep their random numbers away from those of single people


@dataclass(frozen=True)
class Person:
    """``image`` (H, W, 3) uint8 RGB; ``mask`` (H, W) uint8 LIP parts; ``joints`` (16, 2) float columns and rows, nan
    for a joint outside the picture (LIP's annotators leave those out); ``occluded`` (16,) bool, False where nan."""

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray
    occluded: np.ndarray


@dataclass(frozen=True)
class Crowd(Person):
    """The same of M people: ``mask`` of PASCAL's parts, ``joints`` (M, 14, 2), ``occluded`` (M, 14), and ``boxes``
    (M, 4): first and last column and row of what is seen of each, as x1, y1, x2, y2."""

    boxes: np.ndarray


def render_person(seed: int, split: str, index: int, size: int) -> Person:
    """Picture ``index`` of a split: the same on every call, whatever else is rendered; longer edge ``size`` pixels."""
    return _person(_random(seed, SPLITS.index(split), index), size, sample_scene, background, camera_effects)


def render_photo(seed: int, split: str, index: int, size: int) -> Person:
    """The same with the losses of cameras and files. Of 16 pictures, six are otherwise as usual, nine have the
    surroundings, framing and light of photographs, and one shows nobody, to teach networks that nobody may be there."""
    rng = _random(seed, SPLITS.index(split) + _PHOTO_STREAM, index)
    if index % 8 in (0, 2, 4):
        return _person(rng, size, sample_scene, background, degrade)
    if index % 16 < 15:
        scene = partial(photo_scene, close=index % 16 == 7)
        return _person(rng, size, scene, surroundings, degrade)
    sides = np.rint(size * rng.uniform([0.36, 1], [1, 1])).astype(int)
    height, width = sides if rng.random() < 0.3 else sides[::-1]
    empty = np.zeros((height, width), np.uint8), np.full((len(LIP.joints), 2), np.nan), np.zeros(len(LIP.joints), bool)
    return Person(degrade(rng, surroundings(rng, height, width)), *empty)


def _person(rng: np.random.Generator, size: int, scene: Callable, behind: Callable, camera: Callable) -> Person:
    while True:
        drawing = draw(scene(rng, size), LIP)
        drawing.mask[drawing.people != 1] = 0  # the first is the subject; others belong to the background
        image, inside = _photographed(rng, drawing, _PERSON_OCCLUDER, behind)
        image = camera(rng, image)
        if (drawing.mask > 0).mean() >= _PERSON_PIXELS and inside[0].sum() >= _LEAST_JOINTS:
            return Person(image, drawing.mask, drawing.joints[0], drawing.hidden[0])


def render_crowd(seed: int, split: str, index: int, size: int) -> Crowd:
    """The same for pictures of no, one or several people."""
    rng = _random(seed, SPLITS.index(split) + _CROWD_STREAM, index)
    count = int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    if not count:
        return _nobody(rng, size)
    while True:  # the number is drawn once, so that refusing full pictures does not make them rare
        drawing = draw(sample_crowd(rng, size, count), PASCAL)
        image, inside = _photographed(rng, drawing, _CROWD_OCCLUDER)
        shares = np.bincount(drawing.people.ravel(), minlength=count + 1)[1:] / drawing.people.size
        if shares.min() >= _CROWD_PIXELS and inside.sum(axis=1).min() >= _LEAST_JOINTS:
            boxes = np.array([_box(drawing.people == number + 1) for number in range(count)], np.float64)
            return Crowd(camera_effects(rng, image), drawing.mask, drawing.joints, drawing.hidden, boxes)


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


def _photographed(
    rng: np.random.Generator, drawing: Drawing, occluder: float, behind: Callable = background
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) float RGB before a background and, with a chance of ``occluder``, behind something; and (M, J) bool:
    which joints are inside. ``drawing`` is changed to what is then seen."""
    height, width = drawing.mask.shape
    image = behind(rng, height, width) * (1 - drawing.cover[..., None]) + drawing.colour
    image = np.clip(image, 0, 1).astype(np.float32)
    column, row = np.moveaxis(np.rint(drawing.joints).astype(int), -1, 0)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if rng.random() < occluder:
        front = occlude(rng, image, drawing.mask)
        drawing.mask[front] = drawing.people[front] = 0
        drawing.hidden[inside] |= front[row[inside], column[inside]]
    drawing.joints[~inside], drawing.hidden[~inside] = np.nan, False
    return image, inside


def _nobody(rng: np.random.Generator, size: int) -> Crowd:
    height, width = size, round(size * rng.uniform(0.62, 1.0))
    if rng.random() < 0.6:
        height, width = width, height
    image = camera_effects(rng, background(rng, height, width))
    empty = np.zeros((0, 14, 2)), np.zeros((0, 14), bool), np.zeros((0, 4))
    return Crowd(image, np.zeros((height, width), np.uint8), *empty)


def _box(where: np.ndarray) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(where.any(axis=0)), np.flatnonzero(where.any(axis=1))
    return columns[0], rows[0], columns[-1], rows[-1]
