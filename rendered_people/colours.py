"""Colours and patterns of skin, hair and cloth, spread evenly, and drawn from the same palette as backgrounds."""

import colorsys
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # linear-looking RGB in 0..1

_SKIN = np.array([[0.96, 0.82, 0.73], [0.89, 0.70, 0.58], [0.78, 0.57, 0.43], [0.62, 0.42, 0.29], [0.42, 0.27, 0.19],
                  [0.26, 0.17, 0.13]])  # fmt: skip
_HAIR = np.array([[0.06, 0.05, 0.05], [0.15, 0.09, 0.06], [0.32, 0.20, 0.11], [0.55, 0.38, 0.20], [0.80, 0.66, 0.40],
                  [0.50, 0.20, 0.10]])  # fmt: skip
PATTERNS = ("stripes", "bands", "checks", "dots", "blots", "logo")


@dataclass(frozen=True)
class Cloth:
    """A material: two colours and how they alternate over the rest body, with a period of ``scale`` metres."""

    colour: Colour
    second: Colour
    pattern: str = "plain"
    scale: float = 0.06
    phase: float = 0.0

    def paint(self, rest: np.ndarray) -> np.ndarray:
        """(N, 3) rest positions -> (N, 3) RGB."""
        first, second = np.array(self.colour, np.float32), np.array(self.second, np.float32)
        if self.pattern == "plain":
            return np.broadcast_to(first, rest.shape)
        share = self._second_share(rest)
        return first + share[:, None] * (second - first)

    def _second_share(self, rest: np.ndarray) -> np.ndarray:
        if self.pattern == "logo":
            u, v = np.abs(rest[:, 0]), np.abs(rest[:, 2] - 0.58)
            return ((u < self.scale) & (v < 0.5 * self.scale) & (rest[:, 1] < 0)).astype(np.float32)
        return _SECOND_SHARES[self.pattern](*((rest * (2 * np.pi / self.scale)).T + self.phase))


_SECOND_SHARES = {  # of phases x, y, z (N,) -> (N,) share of the second colour
    "bands": lambda x, y, z: np.float32(np.sin(z) > 0.2),
    "stripes": lambda x, y, z: np.float32(np.sin(x + 0.4 * y) > 0.3),
    "checks": lambda x, y, z: 0.5 * (np.sin(z) > 0.2) + 0.5 * (np.sin(x + 0.3 * y) > 0.2),
    "dots": lambda x, y, z: np.float32(np.sin(x + 0.3 * y) * np.sin(z) > 0.55),
    "blots": lambda x, y, z: (
        0.85 * (np.sin(0.7 * x + np.sin(0.9 * z)) + np.sin(0.6 * z + 1.3 * np.sin(0.5 * x + y)) > 0.5)
    ),
    "strands": lambda x, y, z: 0.5 + 0.5 * np.sin(x + 0.4 * np.sin(z * 0.15) + y),
    "shine": lambda x, y, z: np.clip(np.sin(x * 0.5 + z * 0.6), 0, 1),
}


def natural_colour(rng: np.random.Generator) -> Colour:
    """A colour as things have it: often grey or brown, now and then bright."""
    kind = rng.random()
    if kind < 0.3:
        grey = rng.choice([rng.uniform(0.04, 0.25), rng.uniform(0.25, 0.7), rng.uniform(0.75, 0.97)])
        return tuple(np.clip(grey + rng.normal(0, 0.015, 3), 0, 1))
    if kind < 0.45:  # earth, wood, skin
        return colorsys.hsv_to_rgb(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.65), rng.uniform(0.2, 0.92))
    return colorsys.hsv_to_rgb(rng.random(), rng.beta(2, 2) * 0.9, rng.uniform(0.15, 0.97))


def sample_clothing(rng: np.random.Generator, skin: np.ndarray, **wishes) -> Cloth:
    """A cloth that cannot be taken for the bare ``skin`` of its wearer; ``wishes`` as for :func:`sample_cloth`."""
    while True:
        cloth = sample_cloth(rng, **wishes)
        colour = np.array(cloth.colour)
        hue_apart = np.abs(colour / (colour.sum() + 1e-3) - skin / skin.sum()).sum()
        lightness_ratio = (colour.sum() + 0.05) / (skin.sum() + 0.05)
        if hue_apart > 0.17 or not 0.4 < lightness_ratio < 1.8:
            return cloth


def sample_cloth(rng: np.random.Generator, *, patterns: float = 0.42, denim: bool = False) -> Cloth:
    """A random cloth; ``patterns`` is the share of patterned ones, ``denim`` asks for trouser colours."""
    if denim:
        hue, shade = rng.uniform(0.57, 0.65), rng.uniform(0.15, 0.7)
        blue = colorsys.hsv_to_rgb(hue, rng.uniform(0.15, 0.6), shade)
        first = blue if rng.random() < 0.6 else tuple(np.array([1, 0.93, 0.8]) * rng.uniform(0.08, 0.75))
        return Cloth(first, first)
    first, second = natural_colour(rng), natural_colour(rng)
    if rng.random() >= patterns:
        return Cloth(first, first)
    pattern = str(rng.choice(PATTERNS))
    scale = rng.uniform(0.04, 0.09) if pattern == "logo" else float(np.exp(rng.uniform(np.log(0.03), np.log(0.16))))
    return Cloth(first, second, pattern, scale, rng.uniform(0, 6))


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) RGB, evenly from the palest to the darkest."""
    return _between(_SKIN, rng.uniform(0, len(_SKIN) - 1)) * rng.normal(1, 0.02, 3)


def hair_colour(rng: np.random.Generator, *, old: bool) -> np.ndarray:
    """(3,) RGB; grey is common among the old, dyed rare."""
    if rng.random() < (0.6 if old else 0.04):
        return np.full(3, rng.uniform(0.4, 0.85)) * rng.normal(1, 0.02, 3)
    if rng.random() < 0.03:
        return np.array(natural_colour(rng))
    return _between(_HAIR, rng.uniform(0, len(_HAIR) - 1))


def _between(table: np.ndarray, at: float) -> np.ndarray:
    return np.array([np.interp(at, np.arange(len(table)), column) for column in table.T])
