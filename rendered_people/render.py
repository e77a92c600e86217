"""From a scene to pixels: ray casting with Embree, shading, and which joints are hidden.

Colours are anti-aliased (a ray through each pixel's centre and one through each of its corners); a label is what the
centre's ray met, never a blend.
"""

import os
from dataclasses import dataclass
from functools import cache

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene

from mula_lib.anatomy import Anatomy
from rendered_people.body import JOINT_DEPTH, JOINTS, body_model, vertex_normals
from rendered_people.paint import body_parts, labels_and_colours
from rendered_people.scene import Actor, Scene, View


@dataclass(frozen=True)
class Drawing:
    """M people without a background: ``colour`` (H, W, 3) float premultiplied by ``cover`` (H, W) in 0..1; ``mask``
    (H, W) uint8 parts; ``people`` (H, W) uint8: each pixel's person, from 1, 0 for nobody; ``joints`` (M, J, 2) columns
    and rows; ``hidden`` (M, J) bool."""

    colour: np.ndarray
    cover: np.ndarray
    mask: np.ndarray
    people: np.ndarray
    joints: np.ndarray
    hidden: np.ndarray


class _Caster:
    """The triangles that the camera can see, and rays against them.

    A ray that meets two surfaces at exactly the same depth (about one ray in five hundred pictures) goes to one of them
    by the order of all triangles: so leaving out even triangles that no ray can meet would change some pictures.
    """

    def __init__(self, actors: tuple[Actor, ...], view: View) -> None:
        chosen = [_facing_camera(actor, view) for actor in actors]
        self.face = np.concatenate(chosen)  # index within its actor
        self.actor = np.repeat(np.arange(len(actors)), [len(faces) for faces in chosen])
        vertices = np.concatenate([actor.surface.vertices for actor in actors])
        starts = np.cumsum([0, *(len(actor.surface.vertices) for actor in actors)])
        faces = np.concatenate([actor.surface.faces[kept] + start
                                for actor, kept, start in zip(actors, chosen, starts, strict=False)])  # fmt: skip
        used = np.zeros(len(vertices), bool)
        used[faces] = True
        faces = (np.cumsum(used) - 1)[faces]
        # embreex reads one number at a time, twice as fast from rows of Python numbers as from an array.
        rows = np.fromiter(faces.tolist(), dtype=object, count=len(faces))
        self._scene = EmbreeScene(_device())
        self._mesh = TriangleMesh(self._scene, vertices[used], rows)

    def cast(self, directions: np.ndarray) -> dict[str, np.ndarray]:
        """First hits of rays from the camera: primID (-1: none), tfar (the depth), u, v."""
        return self._scene.run(np.zeros_like(directions), directions, output=True)


@cache
def _device() -> EmbreeDevice:
    """This process's ray caster, held to one thread.

    Embree would start one thread per processor, and their waiting costs more than so small a scene gains. It has no
    setting for this, but starts no more threads than the processors that the calling thread may use at that moment.
    """
    try:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
    except (AttributeError, OSError):  # not Linux, or not allowed
        return EmbreeDevice()
    try:
        return EmbreeDevice()
    finally:
        os.sched_setaffinity(0, allowed)


def _facing_camera(actor: Actor, view: View) -> np.ndarray:
    """Indices of an actor's triangles that face the camera and touch the window; a mesh is costly to hand over."""
    surface = actor.surface
    ahead = surface.vertices[:, 2] > 0.2
    all_ahead = ahead.all()
    points = surface.vertices if all_ahead else np.where(ahead[:, None], surface.vertices, [[0, 0, 1]])
    column, row = view.project(points.astype(np.float64)).T
    corners = surface.faces.T
    x, y = column[corners], row[corners]  # each (3, F)
    turn = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    seen = (turn < 0) | (surface.owner > 0)  # hanging clothes are seen from behind too
    if not all_ahead:
        seen &= ahead[surface.faces].all(1)
    for side, end in ((x, view.width), (y, view.height)):
        seen &= (np.minimum(np.minimum(side[0], side[1]), side[2]) < end + 1) & (
            np.maximum(np.maximum(side[0], side[1]), side[2]) > -2
        )
    return np.flatnonzero(seen)


def draw(scene: Scene, anatomy: Anatomy) -> Drawing:
    """Render a scene's people with the parts and joints of ``anatomy``, LIP's or PASCAL-Person-Part's."""
    caster, view = _Caster(scene.actors, scene.view), scene.view
    chosen = [JOINTS.index(name) for name in anatomy.joints]
    points = [_points(caster, view, actor, index) for index, actor in enumerate(scene.actors)]
    joints, hidden = (np.stack([each[k][chosen] for each in points]) for k in (0, 1))
    height, width = view.height, view.width
    centres, corners = np.mgrid[:height, :width], np.mgrid[: height + 1, : width + 1] - 0.5
    rows, columns = np.concatenate([centres.reshape(2, -1), corners.reshape(2, -1)], axis=1)
    mask, people, colour, cover = _trace(caster, scene, anatomy, view.directions(columns, rows))
    pixels = height * width
    mask, people = (values[:pixels].reshape(height, width) for values in (mask, people))
    colour, cover = ((values[:pixels].reshape(height, width, -1)
                      + _corners(values[pixels:].reshape(height + 1, width + 1, -1))) / 2
                     for values in (colour, cover))  # fmt: skip
    return Drawing(colour, cover[..., 0], mask, people, joints, hidden)


def _corners(grid: np.ndarray) -> np.ndarray:
    """(H + 1, W + 1, C) -> (H, W, C): the mean of each pixel's four corners."""
    return (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4


def _trace(caster: _Caster, scene: Scene, anatomy: Anatomy, directions: np.ndarray):
    """What rays ``directions`` (N, 3) meet: parts and people (N,) uint8, colours (N, 3) and cover (N,) float, all zero
    where nothing is."""
    hits = caster.cast(directions)
    mask, people = np.zeros(len(directions), np.uint8), np.zeros(len(directions), np.uint8)
    colours = np.zeros((len(directions), 3), np.float32)
    found = hits["primID"] >= 0
    met = np.flatnonzero(found)
    primitive = hits["primID"][met]
    u, v = hits["u"][met], hits["v"][met]
    shares = np.stack([1 - u - v, u, v])
    whose = caster.actor[primitive]
    for index, actor in enumerate(scene.actors):
        own = np.flatnonzero(whose == index)
        if not len(own):
            continue
        face = caster.face[primitive[own]]
        table, normals = _interpolated(actor, actor.surface.faces[face], shares[:, own])
        owner = actor.surface.owner[face]
        parts, albedo = labels_and_colours(body_model(), actor.outfit, owner, table)
        towards = directions[met[own]]
        normals *= -np.sign((normals * towards).sum(1, keepdims=True))  # the inside of a skirt is lit from inside
        colours[met[own]] = albedo * scene.light.shade(normals, table[:, :3])
        mask[met[own]] = body_parts(actor.outfit, owner, table) if anatomy.crowds else parts
        people[met[own]] = index + 1
    return mask, people, colours, found.astype(np.float32)


def _interpolated(actor: Actor, corners: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 8) packed body coordinates and (N, 3) unit normals where rays met triangles with ``corners`` (N, 3);
    ``shares`` (3, N) is how near to each."""
    surface = actor.surface
    used = np.zeros(len(surface.vertices), bool)
    used[corners] = True
    attributes = np.column_stack([surface.table, vertex_normals(surface.vertices, surface.faces, used)])
    mixed = sum(attributes.take(corners[:, k], axis=0) * shares[k][:, None] for k in range(3))
    width = surface.table.shape[1]
    normals = mixed[:, width:]
    return mixed[:, :width], normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _points(caster: _Caster, view: View, actor: Actor, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(18, 2) columns and rows of an actor's joints, and (18,) bool: hidden, because the joint's ray meets another
    surface first, by more than the limb's own thickness."""
    joints = actor.joints
    hits = caster.cast((joints / joints[:, 2:]).astype(np.float32))
    met = hits["primID"] >= 0
    ahead = np.where(met, joints[:, 2] - hits["tfar"], 0)
    stranger = met & (caster.actor[np.maximum(hits["primID"], 0)] != index) & (ahead > 0)
    return view.project(joints), stranger | (ahead > JOINT_DEPTH * actor.scale + 0.02)
