"""Surfaces: the body puffed out by its clothes, and what hangs free, lofted at rest and posed with the body."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, vstack

from rendered_people.body import BodyModel, Coordinates, Shape
from rendered_people.clothes import Hanging, HeadLayer, Layer, Outfit

RING = 40  # points around a lofted ring
DOWN = 4  # column of ``Coordinates.down`` in a packed table


@dataclass(frozen=True)
class Surface:
    """A posed person: ``vertices`` (V, 3), ``faces`` (F, 3), ``owner`` (F,) 0 for the body, i + 1 for hanging[i];
    ``table`` (V, 8) packed body coordinates of each vertex (of hangings: only the rest position and ``down``)."""

    vertices: np.ndarray
    faces: np.ndarray
    owner: np.ndarray
    table: np.ndarray


def build(model: BodyModel, shape: Shape, outfit: Outfit, transforms: np.ndarray, rng: np.random.Generator) -> Surface:
    """Dress the rest body, then pose body and clothes together."""
    bones = transforms.reshape(-1, 12).astype(np.float32)
    rest = _puffed(model, shape, outfit, rng)
    # of the body and each hanging: rest positions, bone maps, packed coordinates, triangles and their owner
    pieces = [(rest, model.skinning @ bones, model.coordinates.packed, model.faces, np.zeros(len(model.faces), int))]
    start = len(rest)
    for index, item in enumerate(outfit.hanging):
        points, triangles, skin = _LOFTS[item.kind](model, shape, item)
        table = np.zeros((len(points), 8), np.float32)
        table[:, :3], table[:, DOWN] = points, model.level(shape, points[:, 2])
        pieces.append((points, skin @ bones, table, triangles + start, np.full(len(triangles), index + 1)))
        start += len(points)
    rest, maps, table, faces, owner = map(np.concatenate, zip(*pieces, strict=True))
    # In one precision from here on: einsum is four times slower where it must convert as it goes.
    maps = maps.reshape(-1, 3, 4).astype(rest.dtype)
    posed = np.einsum("vij,vj->vi", maps[:, :, :3], rest) + maps[:, :, 3]
    return Surface(posed.astype(np.float32), faces, owner, table)


def topmost(outfit: Outfit, at: Coordinates) -> np.ndarray:
    """(N,) index of the outermost layer that covers each point, -1 for bare skin."""
    out = np.full(len(at.arm), -1)
    for index in range(len(outfit.layers) - 1, -1, -1):
        out[outfit.layers[index].covers(at)] = index
    return out


def _puffed(model: BodyModel, shape: Shape, outfit: Outfit, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) rest vertices, each pushed out by the thickest garment over it."""
    at = model.coordinates
    out = np.zeros(len(at.arm), np.float32)
    loose = np.zeros_like(out)
    for layer in outfit.layers:
        inside = layer.covers(at)
        push = np.full(int(inside.sum()), layer.thickness, np.float32)
        if isinstance(layer, Layer) and layer.flare:
            end = min(layer.down[1], 2.0)
            push += layer.flare * np.clip((at.down[inside] - end + 1.0), 0, 1)
        if isinstance(layer, HeadLayer) and layer.kind == "scalp":
            push *= np.clip((at.hair[inside] - layer.shift) / 0.03, 0.25, 1)
        out[inside] = np.maximum(out[inside], push)
        loose[inside] = np.maximum(loose[inside], layer.loose)
    waves = _wrinkles(model.rest_precise, rng)
    loose *= (at.skull < 0.5) & (at.arm < 1.95) & (at.down < 2.2)  # fingers, feet and heads keep their form
    out, loose = model.smoothed(np.stack([out, loose], axis=1), 2).T  # no step at a hem, which would look torn
    amount = out * (1 + 0.35 * loose * waves)
    return shape.vertices + loose[:, None] * model.smoothing + amount[:, None] * model.rest_normals


def _wrinkles(rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(V,) smooth noise in about -1..1 with folds a few centimetres apart."""
    out = np.zeros(len(rest), np.float32)
    for _ in range(4):
        direction = rng.normal(size=3) * [1, 1, 1.4]
        out += np.sin(rest @ (direction / np.linalg.norm(direction) * rng.uniform(35, 110)) + rng.uniform(0, 6.3))
    return out / 2.5


def _grid_faces(rows: int, columns: int, *, tube: bool = False, ring: bool = False) -> np.ndarray:
    """Triangles of a grid of points; a ``tube`` joins the last column to the first, a ``ring`` the last row too."""
    index = np.arange(rows * columns).reshape(rows, columns)
    index = np.pad(index, ((0, ring), (0, tube or ring)), mode="wrap")
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _weights(model: BodyModel, count: int, **shares: np.ndarray | float) -> csr_matrix:
    """(count, B) skinning from bone name -> share of each point; a name's ``__`` stands for a dot."""
    names = [name.replace("__", ".") for name in shares]
    dense = np.stack([np.broadcast_to(share, count) for share in shares.values()], axis=1).astype(np.float32)
    columns = np.tile([model.bone[name] for name in names], count)
    return csr_matrix((dense.ravel(), columns, np.arange(count + 1) * len(names)), shape=(count, len(model.bone)))


def _skirt(model: BodyModel, shape: Shape, item: Hanging):
    """Rings around both legs from the waist to the hem, never narrower than above; its halves follow the legs."""
    levels = np.linspace(item.top, item.hem, 14)
    at = model.coordinates
    trunk = at.arm < -0.3
    down, trunk_vertices = at.down[trunk], shape.vertices[trunk]
    angles = np.linspace(-np.pi, np.pi, RING, endpoint=False)
    if item.opening:
        half = np.deg2rad(item.opening)
        angles = np.linspace(-np.pi + half, np.pi - half, RING)
    rings, radii = [], np.zeros(2)
    for level in levels:
        near = trunk_vertices[np.abs(down - level) < 0.05]
        centre, reach = (near.min(0) + near.max(0)) / 2, np.ptp(near, axis=0)[:2] / 2
        fuller = item.flare * np.clip((level - 0.0) / max(item.hem, 0.3), 0, 1)
        radii = np.maximum(reach + 0.012 + item.thickness, radii) if level < 0 else np.maximum(reach * 0.9, radii)
        folds = 1 + 0.03 * np.sin(9 * angles) * np.clip(level, 0, 1)
        size = (radii + fuller) * 1.03
        # angle 0 points backwards, so that an opening lies in front
        ring = np.stack([np.sin(angles) * size[0], np.cos(angles) * size[1]], 1) * folds[:, None]
        rings.append(np.column_stack([ring + centre[:2], np.full(RING, centre[2])]))
    points = np.concatenate(rings)
    level = np.repeat(levels, RING)
    left = _smooth((points[:, 0] / 0.05 + 1) / 2)
    thigh = _smooth((level + 0.25) / 0.6)
    shin = 0.85 * _smooth((level - 0.9) / 0.4)
    skin = _weights(
        model, len(points), root=0.5 * (1 - thigh), spine05=0.5 * (1 - thigh),
        upperleg01__L=left * thigh * (1 - shin), upperleg01__R=(1 - left) * thigh * (1 - shin),
        lowerleg01__L=left * thigh * shin, lowerleg01__R=(1 - left) * thigh * shin,
    )  # fmt: skip
    return points, _grid_faces(len(levels), RING, tube=not item.opening), skin


def _head_frame(model: BodyModel, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the cranium at the height of the eyes, and its half extents (3,), in the person's rest pose."""
    scalp = shape.vertices[model.coordinates.hair > 0.0]
    eye = shape.bones[model.bone["eye.L"]]
    low, high = scalp.min(0), scalp.max(0)
    centre = np.array([0, (low[1] + high[1]) / 2, eye[2]])
    return centre, np.array([high[0], (high[1] - low[1]) / 2, high[2] - eye[2]])


def _curtain(model: BodyModel, shape: Shape, item: Hanging):
    """Long hair: a sheet around the back and sides of the head, down to ``hem`` metres below the eyes."""
    centre, half = _head_frame(model, shape)
    scale = shape.scale
    turn = np.linspace(-2.0, 2.0, 28)  # from the front left over the back to the front right
    drop = np.linspace(-0.6 * half[2], item.hem * scale, 12)
    rows = []
    for d in drop:
        down = max(d, 0) / scale
        wide = half[0] + item.thickness * 0.6 + min(down, 0.15) * 0.12 + item.flare * down * 2
        deep = half[1] + item.thickness * 0.6 - min(down, 0.12) * 0.15
        if d < 0:
            wide, deep = (v * np.sqrt(max(1 - (d / half[2]) ** 2, 0.1)) for v in (wide, deep))
        back = 0.1 * max(down - 0.1, 0)
        rows.append(np.column_stack([np.sin(turn) * wide, np.cos(turn) * deep + back, np.full(len(turn), -d)]) + centre)
    points = np.concatenate(rows)
    level = np.repeat(drop, len(turn)) / scale
    with_trunk = 0.85 * _smooth((level - 0.06) / 0.16)
    skin = _weights(model, len(points), head=1 - with_trunk, spine01=0.4 * with_trunk, neck01=0.6 * with_trunk)
    return points, _grid_faces(len(drop), len(turn)), skin


def _tail(model: BodyModel, shape: Shape, item: Hanging):
    """A pony tail: a tube from the back of the head."""
    centre, half = _head_frame(model, shape)
    scale = shape.scale
    t = np.linspace(0, 1, 10)
    length = (0.12 + item.hem * 0.6) * scale
    path = np.column_stack([0 * t, half[1] + 0.02 + 0.045 * np.sin(t * 2.6), 0.5 * half[2] - length * t]) + centre
    thick = 0.034 * scale * (0.5 + np.sin(np.pi * np.clip(t * 0.85 + 0.12, 0, 1)))
    points = _tube(path, thick, 12)
    share = _smooth((np.repeat(t, 12) * length - 0.12) / 0.2) * 0.7
    return points, _grid_faces(len(t), 12, tube=True), _weights(model, len(points), head=1 - share, spine01=share)


def _bun(model: BodyModel, shape: Shape, item: Hanging):
    """A knot of hair at the back of the head."""
    centre, half = _head_frame(model, shape)
    t = np.linspace(0.02, 0.98, 9)
    size = 0.045 * shape.stature / 1.75
    path = np.column_stack([0 * t, half[1] + 0.01 + 0 * t, 0.55 * half[2] + size * np.cos(np.pi * t)]) + centre
    points = _tube(path, size * np.sin(np.pi * t), 12)
    return points, _grid_faces(len(t), 12, tube=True), _weights(model, len(points), head=1.0)


def _brim(model: BodyModel, shape: Shape, item: Hanging):
    """A hat's brim all around, or a cap's peak in front."""
    centre, half = _head_frame(model, shape)
    scale = shape.scale
    turn = np.linspace(-np.pi, np.pi, 36) if item.kind == "brim" else np.linspace(np.pi - 1.15, np.pi + 1.15, 20)
    peak = np.sqrt(np.clip(np.cos((turn - np.pi) * 1.3), 0, 1)) if item.kind == "cap" else 1.0
    rows = []
    for step in np.linspace(0, 1, 4):
        out = 0.012 + item.thickness * scale * step * peak
        y = np.cos(turn) * (half[1] + out)
        x = np.sin(turn) * (half[0] + out)
        tilt = -0.25 * y - 0.018 * step * scale
        rows.append(np.column_stack([x, y, tilt + (0.075 + item.top) * scale * 0.9]) + centre)
    points = np.concatenate(rows)
    return points, _grid_faces(4, len(turn)), _weights(model, len(points), head=1.0)


def _scarf(model: BodyModel, shape: Shape, item: Hanging):
    """A ring of cloth around the neck, and an end hanging down in front."""
    neck = shape.bones[model.bone["neck02"]]
    at = model.coordinates
    ring = shape.vertices[(at.neck > 0.0) & (at.neck < 0.35)]
    centre, half = (ring.min(0) + ring.max(0)) / 2, np.ptp(ring, axis=0) / 2
    scale = shape.scale
    around = np.linspace(-np.pi, np.pi, 28, endpoint=False)
    points = []
    for tube in np.linspace(-np.pi, np.pi, 10, endpoint=False):
        out = (np.cos(tube) * 0.7 + 0.35) * item.thickness * scale
        x, y = np.sin(around) * (half[0] + out), np.cos(around) * (half[1] + out)
        rise = 0.35 * y + np.sin(tube) * item.thickness * 1.3 * scale
        points.append(np.column_stack([x, y + centre[1], centre[2] + rise]))
    points = np.concatenate(points)
    faces = _grid_faces(10, 28, ring=True)
    skin = _weights(model, len(points), neck01=0.7, spine01=0.3)
    if not item.hem:
        return points, faces, skin
    levels = np.linspace(0, item.hem, 10)
    # The end lies on the chest: its depth is the chest's, its upper end is tucked into the ring.
    front = shape.vertices[(at.arm < -0.35) & (np.abs(at.rest[:, 0] - 0.05) < 0.05) & (at.rest[:, 1] < 0.02)]
    wide = 0.045 * scale
    end = []
    for level in levels:
        z = neck[2] - 0.03 - level * scale
        near = front[np.abs(front[:, 2] - z) < 0.04]
        y = near[:, 1].min() if len(near) else centre[1] - half[1]
        end.append(np.column_stack([np.linspace(0.045 - wide, 0.045 + wide, 5), np.full(5, y - 0.045), np.full(5, z)]))
    tail = np.concatenate(end)
    tail_weights = _smooth(np.repeat(levels, 5) / 0.4)
    tail_skin = _weights(model, len(tail), spine01=1 - tail_weights, spine03=tail_weights)
    return (np.concatenate([points, tail]), np.concatenate([faces, _grid_faces(10, 5) + len(points)]),
            vstack([skin, tail_skin]).tocsr())  # fmt: skip


def _tube(path: np.ndarray, radius: np.ndarray, around: int) -> np.ndarray:
    """(len(path) * around, 3) circles of ``radius`` in horizontal planes along a path."""
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    return (path[:, None] + radius[:, None, None] * circle).reshape(-1, 3)


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


_LOFTS = {"skirt": _skirt, "curtain": _curtain, "tail": _tail, "bun": _bun, "cap": _brim, "brim": _brim,
          "scarf": _scarf}  # fmt: skip
