"""The naked body: sampling a shape, posing it, its annotated joints, and the coordinates that clothes are cut by.

Everything is in metres in the rest frame: z up, the body faces -y, its left is at +x. Rotations of bones are given in
the axes of the rest frame, so a pose needs to know nothing about how a rig's bones are oriented.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from mula_lib.anatomy import LIP, PASCAL
from rendered_people.assets import load_assets

# How far behind the surface a joint lies in a slim limb, in metres: what hides it by more than this is something else.
_DEPTH = {
    "ankle": 0.07, "knee": 0.09, "hip": 0.16, "pelvis": 0.19, "thorax": 0.17, "upper_neck": 0.13, "head_top": 0.09,
    "wrist": 0.06, "elbow": 0.075, "shoulder": 0.11, "forehead": 0.06, "neck": 0.14,
}  # fmt: skip
# The joints of a body: LIP's, in LIP's order, and those that PASCAL-Person-Part has besides.
JOINTS = (*LIP.joints, *(name for name in PASCAL.joints if name not in LIP.joints))
JOINT_DEPTH = np.array([_DEPTH[name.removeprefix("left_").removeprefix("right_")] for name in JOINTS])


@dataclass(frozen=True)
class Coordinates:
    """Where points of the body's surface lie, whatever its shape and pose: what a tailor measures. All (N,) float.

    ``rest`` (N, 3) position on the average body; ``arm`` -0.5 on the trunk, 0 shoulder, 1 elbow, 2 wrist, 3 fingertip;
    ``down`` -1 at the neck, 0 hip joint, 1 knee, 2 ankle, 3 sole (arms: -0.8); ``neck`` above 0 over the collar, in
    units of 10 cm; ``hair`` above 0 inside the hairline, metres; ``skull`` 1 on the head and 0 elsewhere.
    """

    rest: np.ndarray
    arm: np.ndarray
    down: np.ndarray
    neck: np.ndarray
    hair: np.ndarray
    skull: np.ndarray

    @cached_property
    def packed(self) -> np.ndarray:
        """(N, 8): the columns side by side, to be interpolated together."""
        return np.column_stack([self.rest, self.arm, self.down, self.neck, self.hair, self.skull]).astype(np.float32)

    @staticmethod
    def unpacked(table: np.ndarray) -> "Coordinates":
        """Inverse of :attr:`packed`."""
        return Coordinates(table[:, :3], *table[:, 3:].T)


@dataclass(frozen=True)
class Shape:
    """One person's rest body: ``vertices`` (V, 3), ``bones`` (B, 3) bone heads; ``stature`` in metres, ``scale``
    relative to 1.75 m."""

    vertices: np.ndarray
    bones: np.ndarray
    stature: float
    female: float  # 0 man to 1 woman
    age: float  # 0 child, 1 young, 2 old

    @property
    def scale(self) -> float:
        return self.stature / 1.75


class BodyModel:
    """MakeHuman's body as arrays; :func:`body_model` returns the one instance of a process."""

    def __init__(self, assets: dict[str, np.ndarray]) -> None:
        self._assets = assets
        self.faces = assets["faces"]  # (F, 3)
        self.parents = assets["bone_parents"]  # (B,) of each bone, none before its parent; -1 of a root
        self.bone = {str(name): index for index, name in enumerate(assets["bone_names"])}
        count, width = assets["weights"].shape
        self.skinning = csr_matrix(
            (assets["weights"].ravel(), assets["weight_bones"].ravel(), np.arange(count + 1) * width),
            shape=(count, len(self.bone)),
        )
        # The average adult, on which all coordinates are measured.
        self.rest = assets["shapes"][:, 1, 0].mean(0)
        self.rest_precise = self.rest.astype(np.float64)
        self.rest_bones = assets["bone_shapes"][:, 1, 0].mean(0)
        self.rest_normals = vertex_normals(self.rest, self.faces)  # along which cloth is pushed out
        self.eyes = assets["eye_vertices"]
        self.eye_centre = self.rest_bones[self.bone["eye.L"]]  # (3,) the left one
        self.mouth = self.rest_bones[self.bone["oris05"]]  # (3,) the middle of the lips
        x, y, z = self.rest.T
        self.crown = int(z.argmax())  # the vertex on top of the skull
        forehead = (np.abs(x) < 0.01) & (np.abs(z - self.eye_centre[2] - 0.05) < 0.02)
        self.forehead = int(np.where(forehead, y, np.inf).argmin())  # the vertex in its middle

    def sample_shape(self, rng: np.random.Generator) -> Shape:
        """A random person: either sex, children to old, slim to stout, short to tall."""
        female = float(rng.beta(0.35, 0.35))
        low, high = ((0.1, 0.8), (0.85, 1.4), (1.4, 2.0))[rng.choice(3, p=[0.1, 0.7, 0.2])]
        age = rng.uniform(low, high)
        ages = np.clip(1 - np.abs(age - np.arange(3)), 0, 1)
        builds = rng.dirichlet([1.2, 0.5, 0.45, 0.5])
        mix = np.array([1 - female, female])[:, None, None] * ages[:, None] * builds
        tall = rng.uniform(-0.8, 0.8)
        vertices = self._mixed("shapes", "tall", mix, tall)
        stature = float(np.ptp(vertices[:, 2]))
        return Shape(vertices, self._mixed("bone_shapes", "bone_tall", mix, tall), stature, female, age)

    def _mixed(self, base: str, delta: str, mix: np.ndarray, amount: float) -> np.ndarray:
        corners = np.flatnonzero(mix > 1e-3)
        part = mix.ravel()[corners] / mix.ravel()[corners].sum()
        base, delta = (self._assets[name].reshape(mix.size, -1, 3) for name in (base, delta))
        out = np.zeros(base.shape[1:], np.float32)
        for weight, corner in zip(part, corners, strict=True):
            out += np.float32(weight) * base[corner] + np.float32(weight * amount) * delta[corner]
        return out

    def pose(self, bones: np.ndarray, rotations: dict[str, np.ndarray]) -> np.ndarray:
        """Forward kinematics: bone heads (B, 3) and local rotations by bone name -> (B, 3, 4) rest-to-posed maps."""
        turns, places = np.tile(np.eye(3), (len(bones), 1, 1)), bones.astype(float)
        for (name, index), parent in zip(self.bone.items(), self.parents, strict=True):
            if parent >= 0:
                turns[index] = turns[parent]
                places[index] = places[parent] + turns[parent] @ (bones[index] - bones[parent])
            if name in rotations:
                turns[index] = turns[index] @ rotations[name]
        shifts = places - np.einsum("bij,bj->bi", turns, bones)
        return np.concatenate([turns, shifts[:, :, None]], axis=2, dtype=np.float32)

    def joints(self, shape: Shape, transforms: np.ndarray) -> np.ndarray:
        """(18, 3) the joints of a posed body, in the order of :data:`JOINTS`."""
        heads = np.einsum("bij,bj->bi", transforms[:, :, :3], shape.bones) + transforms[:, :, 3]
        at = {name: heads[index] for name, index in self.bone.items()}
        crown, forehead = (
            transforms[self.bone["head"]] @ np.append(shape.vertices[vertex], 1)
            for vertex in (self.crown, self.forehead)
        )
        right = {"ankle": "foot", "knee": "lowerleg01", "hip": "upperleg01",
                 "wrist": "wrist", "elbow": "lowerarm01", "shoulder": "upperarm01"}  # fmt: skip
        joints = {f"{word}_{joint}": at[f"{bone}.{word[0].upper()}"]
                  for joint, bone in right.items() for word in ("left", "right")}  # fmt: skip
        joints["pelvis"] = (joints["left_hip"] + joints["right_hip"]) / 2
        joints["thorax"] = 0.6 * (joints["left_shoulder"] + joints["right_shoulder"]) / 2 + 0.4 * at["neck01"]
        joints["upper_neck"] = (at["neck03"] + at["head"]) / 2
        joints["head_top"] = crown
        joints["neck"], joints["forehead"] = at["neck01"], forehead
        return np.array([joints[name] for name in JOINTS])

    @cached_property
    def smoothing(self) -> np.ndarray:
        """(V, 3) what takes the average body's surface to a smoothed one, as cloth bridges creases."""
        smooth = self.smoothed(self.rest, 12)
        inwards = ((smooth - self.rest) * self.rest_normals).sum(1, keepdims=True)
        # Cloth lies over the skin: it may flatten a bump by its own thickness, but not make a limb thinner.
        return (smooth - self.rest) - np.minimum(inwards + 0.009, 0) * self.rest_normals

    def smoothed(self, values: np.ndarray, times: int) -> np.ndarray:
        """(V, ...) values of the vertices, each averaged with its neighbours', ``times`` times over."""
        for _ in range(times):
            values = self._neighbours @ values
        return values

    @cached_property
    def _neighbours(self) -> csr_matrix:
        """(V, V) averages each vertex with those it shares a triangle with."""
        i = self.faces[:, [0, 1, 2, 1, 2, 0]].ravel()
        j = self.faces[:, [1, 2, 0, 0, 1, 2]].ravel()
        n = len(self.rest)
        links = csr_matrix((np.ones(len(i), np.float32), (i, j)), shape=(n, n))
        links.data[:] = 1
        links = links + csr_matrix((np.ones(n, np.float32), (np.arange(n), np.arange(n))), shape=(n, n))
        return csr_matrix(links.multiply(1 / links.sum(1)).astype(np.float32))

    @cached_property
    def coordinates(self) -> Coordinates:
        """Of every vertex."""
        at = {name: self.rest_bones[index] for name, index in self.bone.items()}
        x, y, z = self.rest.T
        mirrored = np.column_stack([np.abs(x), y, z])

        of_arms = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
        arm_bones = [index for name, index in self.bone.items() if name.startswith(of_arms)]
        in_arm = np.asarray(self.skinning[:, arm_bones].sum(1)).ravel()
        tip = at["finger3-3.L"] + 0.6 * (at["finger3-3.L"] - at["finger3-2.L"])
        chain = [at["upperarm01.L"], at["lowerarm01.L"], at["wrist.L"], tip]
        along = np.zeros(len(x))
        for index, (a, b) in enumerate(pairwise(chain)):
            t = (mirrored - a) @ (b - a) / ((b - a) @ (b - a))
            along += np.clip(t, -0.5 if index == 0 else 0, 1)
        belongs = np.clip((in_arm - 0.15) / 0.5, 0, 1)
        arm = self.smoothed((along + 0.5) * belongs - 0.5, 6)

        down = _level(z, self.rest_bones, self.bone, z.min())
        down = self.smoothed(np.where(in_arm > 0.5, -0.8, down), 2)

        neck_base = at["neck01"]
        neck = ((z - neck_base[2]) - 0.57 * (y - neck_base[1])) / 0.1
        neck = np.where(np.abs(x) > 0.17, np.minimum(neck, -0.5), neck)
        eye = at["eye.L"]
        hairline = np.interp(y - eye[1], [-0.04, -0.005, 0.02, 0.05, 0.075, 0.1, 0.16, 0.2],
                             [0.07, 0.068, 0.05, 0.02, -0.015, -0.045, -0.075, -0.08])  # fmt: skip
        hair = np.where(neck > 0, z - eye[2] - hairline, -1.0)
        skull = np.clip((neck - 0.6) / 0.3, 0, 1)
        return Coordinates(self.rest.astype(np.float32), arm, down, neck, hair, skull)

    def level(self, shape: Shape, heights: np.ndarray) -> np.ndarray:
        """(N,) how far down the body, as :class:`Coordinates` measure it, heights (N,) of a rest shape's trunk are."""
        return _level(heights, shape.bones, self.bone, shape.vertices[:, 2].min())


def _level(heights: np.ndarray, bones: np.ndarray, index: dict[str, int], sole: float) -> np.ndarray:
    at = [bones[index[name]][2] for name in ("foot.L", "lowerleg01.L", "upperleg01.L", "neck01")]
    return np.interp(heights, [sole, *at], [3.0, 2.0, 1.0, 0.0, -1.0])


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """(V, 3) unit normals, averaged over the triangles around each vertex, weighted by area.

    Where ``wanted`` (V,) bool is False, whatever comes out is no normal.
    """
    if wanted is not None:
        faces = faces[wanted[faces[:, 0]] | wanted[faces[:, 1]] | wanted[faces[:, 2]]]
    corners = np.ascontiguousarray(faces.T)
    x, y, z = (column[corners] for column in np.ascontiguousarray(vertices.T))  # each (3, F)
    normals = np.zeros_like(vertices)
    for axis, (p, q) in enumerate(((y, z), (z, x), (x, y))):  # the cross product of two edges
        facing = (p[1] - p[0]) * (q[2] - q[0]) - (q[1] - q[0]) * (p[2] - p[0])
        normals[:, axis] = sum(np.bincount(corners[k], facing, len(vertices)) for k in range(3))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@cache
def body_model() -> BodyModel:
    """The body model of this process, read (and on the machine's first use built) once."""
    return BodyModel(load_assets())
