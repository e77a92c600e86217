"""Pictures of several people who stand in each other's way, annotated like extended PASCAL-Person-Part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rendered_people.backdrop import background, camera_effects, occlude
from rendered_people.body import body_model
from rendered_people.poses import about_x, about_y, about_z
from rendered_people.render import draw_crowd
from rendered_people.scene import Actor, Light, View, sample_actor, sample_light, sample_view
from rendered_people.tree import SPLITS

COUNTS = {0: 0.04, 1: 0.10, 2: 0.31, 3: 0.26, 4: 0.17, 5: 0.12}  # people a picture, and how often
_OCCLUDER = 0.12  # share of pictures with something in front of the people
_LEAST_PIXELS = 0.008  # share of a picture that each person shows at least
_LEAST_JOINTS = 4  # inside the picture
_APART = 2 << 20  # keeps the random numbers away from those of single people


@dataclass(frozen=True)
class Crowd:
    """``image`` (H, W, 3) uint8 RGB; ``mask`` (H, W) uint8 PASCAL parts; of M people ``joints`` (M, 14, 2) columns
    and rows, nan outside the picture, ``occluded`` (M, 14) bool, False where nan, and ``boxes`` (M, 4): first and last
    column and row of what is seen of them, as x1, y1, x2, y2."""

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray
    occluded: np.ndarray
    boxes: np.ndarray


def render_crowd(seed: int, split: str, index: int, size: int) -> Crowd:
    """Picture ``index`` of a split: the same on every call, whatever else is rendered; longer edge ``size`` pixels."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split) + _APART, index]))
    count = int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    while True:  # the number is drawn once, so that refusing full pictures does not make them rare
        crowd = _render(rng, size, count) if count else _nobody(rng, size)
        if crowd is not None:
            return crowd


def _sample(rng: np.random.Generator, size: int, count: int) -> tuple[tuple[Actor, ...], View, Light]:
    """People on one ground, side by side and before each other, their window and their light."""
    model = body_model()
    elevation, roll = np.clip(rng.normal(6, 8), -8, 35), rng.normal(0, 3)
    tilt = about_y(roll) @ about_x(elevation)
    distance = float(np.exp(rng.uniform(np.log(3.2), np.log(9))))
    steps = rng.uniform(0.3, 0.85, count)  # metres from one to the next; under 0.5 they overlap
    aside = np.cumsum(steps) - steps.sum() / 2
    behind = rng.uniform(-0.5, 1.1, count) * min(1.0, distance / 5)
    facing = rng.normal(0, 50) if rng.random() < 0.6 else None  # a group that looks somewhere, or everybody elsewhere
    actors = []
    for x, z in zip(aside, behind, strict=True):
        azimuth = rng.uniform(-180, 180) if facing is None else rng.normal(facing, 35)
        # The ground rises in the picture as it goes back; who is farther away stands higher.
        place = np.array([x, -z * np.sin(np.deg2rad(elevation)) + rng.normal(0, 0.06), distance + z])
        actors.append(sample_actor(rng, model, tilt @ about_z(azimuth), place))
    points = np.concatenate([actor.surface.vertices[::7] for actor in actors])
    return tuple(actors), sample_view(rng, points, size), sample_light(rng, tilt)


def _render(rng: np.random.Generator, size: int, count: int) -> Crowd | None:
    """A picture of ``count`` people, or None if one of them cannot be seen well enough to be annotated."""
    actors, view, light = _sample(rng, size, count)
    drawing = draw_crowd(actors, view, light)
    height, width = drawing.mask.shape
    image = background(rng, height, width) * (1 - drawing.cover[..., None]) + drawing.colour
    image = np.clip(image, 0, 1).astype(np.float32)
    mask, people, joints, hidden = (
        each.copy() for each in (drawing.mask, drawing.people, drawing.joints, drawing.hidden)
    )
    column, row = np.moveaxis(np.rint(joints).astype(int), -1, 0)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if rng.random() < _OCCLUDER:
        front = occlude(rng, image, mask)
        mask[front], people[front] = 0, 0
        hidden[inside] |= front[row[inside], column[inside]]
    seen = np.bincount(people.ravel(), minlength=count + 1)[1:] / people.size
    if seen.min() < _LEAST_PIXELS or inside.sum(axis=1).min() < _LEAST_JOINTS:
        return None
    joints[~inside] = np.nan
    boxes = np.array([_box(people == number + 1) for number in range(count)], np.float64)
    return Crowd(camera_effects(rng, image), mask, joints, hidden & inside, boxes)


def _nobody(rng: np.random.Generator, size: int) -> Crowd:
    height, width = size, round(size * rng.uniform(0.62, 1.0))
    if rng.random() < 0.6:
        height, width = width, height
    image = camera_effects(rng, background(rng, height, width))
    return Crowd(
        image, np.zeros((height, width), np.uint8), np.zeros((0, 14, 2)), np.zeros((0, 14), bool), np.zeros((0, 4))
    )


def _box(shown: np.ndarray) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    return columns[0], rows[0], columns[-1], rows[-1]
