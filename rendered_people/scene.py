"""One picture's plan: who, in which pose and clothes, seen from where, cut off how, in which light."""

from dataclasses import dataclass, replace

import numpy as np

from rendered_people.body import BodyModel, body_model
from rendered_people.clothes import Outfit, sample_outfit
from rendered_people.garments import Surface, build
from rendered_people.poses import Z, about_x, about_y, about_z, sample_posed


@dataclass(frozen=True)
class Actor:
    """A dressed person before the camera: a surface and (18, 3) joints (``body.JOINTS``) in camera coordinates."""

    surface: Surface
    outfit: Outfit
    joints: np.ndarray
    scale: float  # stature relative to 1.75 m


@dataclass(frozen=True)
class View:
    """The picture's window. A camera point (X right, Y down, Z forward) falls on column ``X / Z * zoom - left - 0.5``
    and row ``Y / Z * zoom - top - 0.5``, where whole numbers are the centres of pixels."""

    height: int
    width: int
    zoom: float
    left: float
    top: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) camera points -> (N, 2) columns and rows."""
        return points[:, :2] / points[:, 2:] * self.zoom - [self.left, self.top] - 0.5

    def directions(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(N, 3) float32 ray directions with Z = 1 through pixel positions."""
        x, y = (columns + self.left + 0.5) / self.zoom, (rows + self.top + 0.5) / self.zoom
        return np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Light:
    """A key light from ``direction`` (towards it, camera coordinates), a sky and a bounce from the ground."""

    direction: np.ndarray
    key: np.ndarray  # (3,) RGB strength
    sky: np.ndarray
    ground: np.ndarray
    up: np.ndarray

    def shade(self, normals: np.ndarray, places: np.ndarray) -> np.ndarray:
        """(N, 3) unit normals -> (N, 3) light; ``places`` on the rest body matter where cloth has folds."""
        lit = np.clip((normals @ self.direction + 0.15) / 1.15, 0, 1)[:, None]
        high = (0.5 + 0.5 * normals @ self.up)[:, None]
        return lit * self.key + self.ground + high * (self.sky - self.ground)


@dataclass(frozen=True)
class Scene:
    """People, a window and a light."""

    actors: tuple[Actor, ...]
    view: View
    light: Light


def sample_scene(rng: np.random.Generator, size: int, others=(0.76, 0.19, 0.05), **framing) -> Scene:
    """A person, the first of the actors, and others around; the picture's longer edge is ``size`` pixels.

    ``others`` are the shares of pictures with none, one and two others; ``framing`` is of :func:`sample_view`.
    """
    model = body_model()
    azimuth = rng.normal(0, 38) if rng.random() < 0.65 else rng.uniform(-180, 180)
    elevation, roll = np.clip(rng.normal(6, 9), -15, 40), rng.normal(0, 4)
    tilt = about_y(roll) @ about_x(elevation)
    distance = float(np.exp(rng.uniform(np.log(2.6), np.log(9))))
    subject = sample_actor(rng, model, tilt @ about_z(azimuth), np.array([0.0, 0.0, distance]))
    view = sample_view(rng, subject.surface.vertices[::7], size, **framing)
    around = []
    for _ in range(int(rng.choice([0, 1, 2], p=others))):
        side = rng.choice([-1, 1]) * rng.uniform(0.35, 1.1)
        behind = rng.uniform(0.3, 2.5) if rng.random() < 0.85 else rng.uniform(-0.6, -0.2)
        place = np.array([side, rng.normal(0, 0.1), distance + behind])
        around.append(sample_actor(rng, model, tilt @ about_z(rng.uniform(-180, 180)), place))
    return Scene((subject, *around), view, sample_light(rng, tilt))


def sample_crowd(rng: np.random.Generator, size: int, count: int) -> Scene:
    """``count`` people on one ground, side by side and before each other."""
    model = body_model()
    elevation, roll = np.clip(rng.normal(6, 8), -8, 35), rng.normal(0, 3)
    tilt = about_y(roll) @ about_x(elevation)
    distance = float(np.exp(rng.uniform(np.log(3.2), np.log(9))))
    steps = rng.uniform(0.3, 0.85, count)  # metres from one to the next; under 0.5 they overlap
    aside = np.cumsum(steps) - steps.sum() / 2
    behind = rng.uniform(-0.5, 1.1, count) * min(1.0, distance / 5)
    facing = rng.normal(0, 50) if rng.random() < 0.6 else None  # a group faces one way, or everybody another
    actors = []
    for x, z in zip(aside, behind, strict=True):
        azimuth = rng.uniform(-180, 180) if facing is None else rng.normal(facing, 35)
        # The ground rises in the picture as it goes back; who is farther away stands higher.
        place = np.array([x, -z * np.sin(np.deg2rad(elevation)) + rng.normal(0, 0.06), distance + z])
        actors.append(sample_actor(rng, model, tilt @ about_z(azimuth), place))
    points = np.concatenate([actor.surface.vertices[::7] for actor in actors])
    return Scene(tuple(actors), sample_view(rng, points, size), sample_light(rng, tilt))


def sample_actor(rng: np.random.Generator, model: BodyModel, turn: np.ndarray, place: np.ndarray) -> Actor:
    shape = model.sample_shape(rng)
    pose, transforms = sample_posed(rng, model, shape)
    bent = max(pose.left_leg.flex, pose.right_leg.flex, 0) / 90
    outfit = sample_outfit(rng, shape, model.eye_centre, widest_flare=0.2 * (1 - 0.85 * min(bent, 1)))
    surface = build(model, shape, outfit, transforms, rng)
    joints = model.joints(shape, transforms)
    middle = joints[[6, 7]].mean(0)  # pelvis and thorax

    def seen(points: np.ndarray) -> np.ndarray:
        turned = (points - middle) @ turn.T
        return (turned @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) + place).astype(np.float32)

    return Actor(replace(surface, vertices=seen(surface.vertices)), outfit, seen(joints), shape.scale)


def sample_view(rng: np.random.Generator, points: np.ndarray, size: int, cuts=(0.24, 0.29, 0.33, 0.9), widest=0.14):
    """A window like LIP's: a box around ``points`` (N, 3) with some margin, often cutting off legs or sides.

    A draw below the first of ``cuts`` shows the upper body, below the next ones head and shoulders, and no head; above
    the last a side is cut off. Margins are up to ``widest`` of the person's size.
    """
    flat = points[:, :2] / points[:, 2:]
    low, high = flat.min(0), flat.max(0)
    height = high[1] - low[1]
    kind = rng.random()
    if kind < cuts[0]:
        high[1] = low[1] + height * rng.uniform(0.42, 0.8)
    elif kind < cuts[1]:
        high[1] = low[1] + height * rng.uniform(0.26, 0.42)
    elif kind < cuts[2]:
        low[1] = low[1] + height * rng.uniform(0.08, 0.4)
    inside = flat[(flat[:, 1] >= low[1]) & (flat[:, 1] <= high[1])]
    if len(inside) > 20:
        low[0], high[0] = inside[:, 0].min(), inside[:, 0].max()
    extent = high - low
    margins = rng.uniform(-0.01, widest, 4) * np.sqrt(extent.prod())
    if kind >= cuts[3]:
        margins[rng.integers(4)] -= rng.uniform(0.08, 0.25) * extent.max()
    low, high = low - margins[:2], high + margins[2:]
    extent = high - low
    for axis, least in ((0, 0.36 * extent[1]), (1, 0.62 * extent[0])):  # no slivers
        missing = max(least - extent[axis], 0)
        share = rng.random()
        low[axis] -= missing * share
        high[axis] += missing * (1 - share)
    extent = high - low
    zoom = size / extent.max()
    width, height = (max(round(value), 16) for value in extent * zoom)
    return View(min(height, size), min(width, size), zoom, low[0] * zoom, low[1] * zoom)


def sample_light(rng: np.random.Generator, tilt: np.ndarray) -> Light:
    up = tilt @ Z
    up = np.array([up[0], -up[2], up[1]])
    direction = np.array([rng.normal(0, 0.8), -rng.uniform(0.2, 1.3), -rng.uniform(-0.2, 1.0)])
    warm = 1 + rng.normal(0, 0.07) * np.array([1, 0, -1])
    key = rng.uniform(0.25, 0.95)
    ambient = 1.08 - 0.75 * key + rng.uniform(-0.12, 0.12)
    return Light(direction / np.linalg.norm(direction), key * warm, ambient * (2 - warm), 0.62 * ambient * warm, up)
