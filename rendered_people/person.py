"""One annotated picture: everything put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rendered_people.backdrop import background, camera_effects, occlude
from rendered_people.render import draw
from rendered_people.scene import sample_scene
from rendered_people.tree import SPLITS

_OCCLUDER = 0.16  # share of pictures with something in front of the person
_LEAST_PIXELS = 0.04  # share of a picture that the person fills at least


@dataclass(frozen=True)
class Person:
    """``image`` (H, W, 3) uint8 RGB; ``mask`` (H, W) uint8 LIP parts; ``joints`` (16, 2) float columns and rows, nan
    for a joint outside the picture (LIP's annotators leave those out); ``occluded`` (16,) bool, False where nan."""

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray
    occluded: np.ndarray


def render_person(seed: int, split: str, index: int, size: int) -> Person:
    """Picture ``index`` of a split: the same on every call, whatever else is rendered; longer edge ``size`` pixels."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    while True:
        person = _render(rng, size)
        if (person.mask > 0).mean() >= _LEAST_PIXELS and np.isfinite(person.joints[:, 0]).sum() >= 4:
            return person


def _render(rng: np.random.Generator, size: int) -> Person:
    scene = sample_scene(rng, size)
    drawing = draw(scene)
    height, width = drawing.mask.shape
    image = background(rng, height, width)
    image = image * (1 - drawing.cover[..., None]) + drawing.colour
    image = np.clip(image, 0, 1).astype(np.float32)
    mask, joints, hidden = drawing.mask.copy(), drawing.joints.copy(), drawing.hidden.copy()
    column, row = np.rint(joints).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if rng.random() < _OCCLUDER:
        front = occlude(rng, image, mask)
        mask[front] = 0
        hidden[inside] |= front[row[inside], column[inside]]
    joints[~inside] = np.nan
    return Person(camera_effects(rng, image), mask, joints, hidden & inside)
