"""Poses: what people do in photographs, as joint angles in degrees within human limits.

A family draws angles; :func:`rotations` turns them into bone rotations for a given body. Impossible arms (inside the
trunk) are drawn again.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from rendered_people.body import BodyModel, Shape

FAMILIES = {"stand": 0.27, "walk": 0.17, "run": 0.13, "sit": 0.13, "reach": 0.14, "crossed": 0.08, "crouch": 0.08}


@dataclass
class Arm:
    """Angles of one arm: 0 hangs straight down with the elbow's hinge to the side."""

    flex: float = 0.0  # forwards (negative: back)
    spread: float = 8.0  # sideways, away from the body
    turn: float = 25.0  # about its own axis, the forearm inwards
    elbow: float = 12.0
    wrist: float = 0.0
    curl: float = 20.0  # of the fingers


@dataclass
class Leg:
    """Angles of one leg: 0 stands straight."""

    flex: float = 0.0
    spread: float = 3.0
    turn: float = 5.0  # the toes outwards
    knee: float = 3.0
    ankle: float = 0.0


@dataclass
class Pose:
    """All angles of a body."""

    family: str
    left_arm: Arm = field(default_factory=Arm)
    right_arm: Arm = field(default_factory=Arm)
    left_leg: Leg = field(default_factory=Leg)
    right_leg: Leg = field(default_factory=Leg)
    bend: float = 0.0  # of the trunk: forwards
    lean: float = 0.0  # to the left
    twist: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    look: float = 0.0  # the head to the left
    pitch: float = 0.0  # of the whole body: forwards


def sample_pose(rng: np.random.Generator) -> Pose:
    """A random pose of a family drawn by its frequency."""
    family = str(rng.choice(list(FAMILIES), p=np.array(list(FAMILIES.values())) / sum(FAMILIES.values())))
    pose = Pose(family)
    u, n = rng.uniform, rng.normal
    pose.bend, pose.lean, pose.twist = n(3, 4), n(0, 4), n(0, 7)
    pose.nod, pose.tilt, pose.look = n(3, 9), n(0, 6), np.clip(n(0, 22), -60, 60)
    _POSERS[family](pose, u, n)
    if rng.random() < 0.5:
        pose.left_arm, pose.right_arm = pose.right_arm, pose.left_arm
        pose.left_leg, pose.right_leg = pose.right_leg, pose.left_leg
        pose.twist, pose.look = -pose.twist, -pose.look
    return pose


def _hanging(u, n) -> Arm:
    return Arm(flex=n(2, 8), spread=u(4, 18), turn=u(10, 50), elbow=u(5, 35), wrist=n(0, 8), curl=u(15, 45))


def _gesture(u, n) -> Arm:
    """Anything an arm does in front of or beside the trunk."""
    kind = u(0, 1)
    if kind < 0.35:  # hand before the belly or chest: phone, cup, camera
        return Arm(flex=u(5, 40), spread=u(5, 25), turn=u(35, 65), elbow=u(75, 130), wrist=n(0, 12), curl=u(20, 70))
    if kind < 0.55:  # hand on the hip
        return Arm(flex=u(-30, -12), spread=u(35, 48), turn=u(68, 88), elbow=u(78, 95), wrist=n(0, 10), curl=u(20, 50))
    if kind < 0.8:  # out to the side
        return Arm(flex=u(-10, 30), spread=u(30, 90), turn=u(-10, 60), elbow=u(5, 80), wrist=n(0, 12), curl=u(5, 50))
    return Arm(flex=u(35, 85), spread=u(5, 30), turn=u(0, 60), elbow=u(15, 90), wrist=n(0, 12), curl=u(5, 60))


def _raised(u, n) -> Arm:
    elbow, wrist, curl = u(5, 85), n(0, 15), u(0, 80)
    return Arm(flex=u(40, 165), spread=u(10, 50), turn=u(-10, 40), elbow=elbow, wrist=wrist, curl=curl)


def _stand(pose: Pose, u, n) -> None:
    weight = u(0, 1)  # on the right leg, the left one eased
    pose.left_leg = Leg(flex=u(0, 14) * weight, spread=u(1, 11), turn=u(0, 22), knee=u(2, 24) * weight + 2)
    pose.right_leg = Leg(flex=u(-3, 4), spread=u(1, 8), turn=u(0, 18), knee=u(0, 6))
    pose.left_arm = _hanging(u, n) if u(0, 1) < 0.5 else _gesture(u, n)
    pose.right_arm = _hanging(u, n) if u(0, 1) < 0.6 else _gesture(u, n)


def _walk(pose: Pose, u, n) -> None:
    stride = u(10, 28)
    pose.left_leg = Leg(flex=stride + n(0, 3), spread=u(0, 4), turn=u(0, 12), knee=u(4, 22), ankle=u(-12, 4))
    pose.right_leg = Leg(flex=-stride * 0.7, spread=u(0, 4), turn=u(0, 12), knee=u(10, 38), ankle=u(5, 28))
    swing = stride * u(0.5, 1.3)
    pose.left_arm = Arm(flex=-swing, spread=u(5, 14), turn=u(10, 40), elbow=u(8, 35), curl=u(20, 60))
    pose.right_arm = Arm(flex=swing, spread=u(5, 14), turn=u(15, 45), elbow=u(15, 50), curl=u(20, 60))
    if u(0, 1) < 0.25:
        pose.right_arm = _gesture(u, n)
    pose.bend, pose.twist = n(4, 4), u(2, 10)


def _run(pose: Pose, u, n) -> None:
    pose.left_leg = Leg(flex=u(35, 80), spread=u(-2, 6), turn=u(0, 10), knee=u(45, 105), ankle=u(-10, 20))
    pose.right_leg = Leg(flex=u(-28, 2), spread=u(-2, 6), turn=u(0, 10), knee=u(10, 80), ankle=u(5, 40))
    pose.left_arm = Arm(flex=u(-55, -20), spread=u(8, 28), turn=u(10, 40), elbow=u(65, 110), curl=u(50, 85))
    pose.right_arm = Arm(flex=u(10, 50), spread=u(8, 28), turn=u(20, 50), elbow=u(70, 120), curl=u(50, 85))
    pose.bend, pose.twist, pose.pitch = u(2, 20), u(0, 16), u(0, 14)


def _sit(pose: Pose, u, n) -> None:
    for side in ("left", "right"):
        leg = Leg(flex=u(75, 98), spread=u(2, 22), turn=u(-6, 18), knee=u(60, 108), ankle=u(-12, 15))
        setattr(pose, f"{side}_leg", leg)
        arm = Arm(flex=u(5, 42), spread=u(5, 22), turn=u(15, 50), elbow=u(35, 95), wrist=n(0, 10), curl=u(10, 60))
        setattr(pose, f"{side}_arm", arm if u(0, 1) < 0.65 else _gesture(u, n))
    pose.bend, pose.pitch = u(-6, 25), u(-14, 4)


def _reach(pose: Pose, u, n) -> None:
    pose.left_leg = Leg(flex=u(-8, 30), spread=u(2, 28), turn=u(0, 20), knee=u(2, 45))
    pose.right_leg = Leg(flex=u(-14, 18), spread=u(2, 24), turn=u(0, 20), knee=u(2, 30))
    pose.left_arm = _raised(u, n)
    pose.right_arm = _gesture(u, n) if u(0, 1) < 0.6 else _raised(u, n)
    pose.bend, pose.lean, pose.twist = n(6, 10), n(0, 10), n(0, 14)


def _crossed(pose: Pose, u, n) -> None:
    _stand(pose, u, n)
    pose.left_arm = Arm(flex=u(22, 36), spread=u(6, 14), turn=u(68, 82), elbow=u(92, 106), curl=u(15, 50))
    pose.right_arm = Arm(flex=u(34, 48), spread=u(6, 14), turn=u(68, 82), elbow=u(92, 106), curl=u(15, 50))


def _crouch(pose: Pose, u, n) -> None:
    deep = u(0, 1)
    for side in ("left", "right"):
        flex = 45 + 70 * deep + n(0, 7)
        leg = Leg(flex=flex, spread=u(4, 30), turn=u(0, 25), knee=55 + 75 * deep + n(0, 8), ankle=-25 - 8 * deep)
        setattr(pose, f"{side}_leg", leg)
        arm = Arm(flex=u(20, 80), spread=u(5, 30), turn=u(10, 55), elbow=u(15, 85), curl=u(10, 70))
        setattr(pose, f"{side}_arm", arm)
    pose.bend, pose.pitch, pose.nod = u(5, 40), u(5, 25), u(-30, 0)


_POSERS = {"stand": _stand, "walk": _walk, "run": _run, "sit": _sit, "reach": _reach, "crossed": _crossed,
           "crouch": _crouch}  # fmt: skip


def about(axis: np.ndarray, degrees: float) -> np.ndarray:
    """(3, 3) rotation about ``axis`` by ``degrees``, right-handed."""
    x, y, z = _unit(np.asarray(axis, float))
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])  # the cross product with the axis, for Rodrigues' formula
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


X, Y, Z = np.eye(3)
about_x, about_y, about_z = (partial(about, axis) for axis in (X, Y, Z))


def rotations(pose: Pose, model: BodyModel, shape: Shape) -> dict[str, np.ndarray]:
    """Local bone rotations, by bone name, that put the body ``shape`` into ``pose``."""
    out = {"root": about_x(pose.pitch)}
    trunk = about_x(pose.bend / 5) @ about_y(pose.lean / 5) @ about_z(pose.twist / 5)
    out |= {f"spine0{i}": trunk for i in range(1, 6)}
    head = about_x(pose.nod / 4) @ about_y(pose.tilt / 4) @ about_z(pose.look / 4)
    out |= {name: head for name in ("neck01", "neck02", "neck03", "head")}
    at = {name: shape.bones[index] for name, index in model.bone.items()}
    for side, sign, arm, leg in (("L", 1, pose.left_arm, pose.left_leg), ("R", -1, pose.right_arm, pose.right_leg)):
        out |= _arm_rotations(at, arm, side, sign)
        out |= _leg_rotations(at, leg, side, sign)
    return out


def _arm_rotations(at: dict, arm: Arm, side: str, sign: int) -> dict[str, np.ndarray]:
    upper = at[f"lowerarm01.{side}"] - at[f"upperarm01.{side}"]
    lower = at[f"wrist.{side}"] - at[f"lowerarm01.{side}"]
    upper, lower = _unit(upper), _unit(lower)
    hinge = np.cross(lower, upper)
    bent = np.rad2deg(np.arcsin(np.linalg.norm(hinge)))
    hinge = _unit(hinge)
    to_hanging = np.stack([hinge, np.cross(-upper, hinge), -upper])  # the rest arm hung straight, its hinge along x
    raised = max(0.0, max(arm.flex, arm.spread) - 60) * 0.25  # a shoulder blade helps to lift an arm
    out = {f"clavicle.{side}": about_y(-sign * raised)}
    turn = -sign * arm.turn
    out[f"upperarm01.{side}"] = (
        about_x(-arm.flex) @ about_y(-sign * max(arm.spread - 0.5 * raised, 0)) @ about_z(0.5 * turn) @ to_hanging
    )
    out[f"upperarm02.{side}"] = about(-upper, 0.5 * turn)
    out[f"lowerarm01.{side}"] = about(hinge, -(arm.elbow - bent))
    out[f"wrist.{side}"] = about(hinge, -arm.wrist)
    curled = about(np.cross(lower, Z), -0.8 * arm.curl)
    return out | {f"finger{finger}-{phalanx}.{side}": curled for finger in range(2, 6) for phalanx in (1, 2, 3)}


def _leg_rotations(at: dict, leg: Leg, side: str, sign: int) -> dict[str, np.ndarray]:
    upper = _unit(at[f"lowerleg01.{side}"] - at[f"upperleg01.{side}"])
    straighten = about(np.cross(upper, -Z), np.rad2deg(np.arccos(-upper[2])))
    hip = about_x(-leg.flex) @ about_y(-sign * leg.spread) @ about_z(sign * leg.turn) @ straighten
    return {f"upperleg01.{side}": hip, f"lowerleg01.{side}": about_x(leg.knee), f"foot.{side}": about_x(leg.ankle)}


def sample_posed(rng: np.random.Generator, model: BodyModel, shape: Shape) -> tuple[Pose, np.ndarray]:
    """A possible pose and its (B, 3, 4) bone transforms: up to eight draws until no hand is inside the body."""
    for attempt in range(8):
        pose = sample_pose(rng)
        transforms = model.pose(shape.bones, rotations(pose, model, shape))
        if attempt == 7 or _possible(model, shape, transforms):
            break
    return pose, transforms


def _possible(model: BodyModel, shape: Shape, transforms: np.ndarray) -> bool:
    """No forearm or hand inside trunk, thighs or head, nor one arm inside the other."""
    heads = np.einsum("bij,bj->bi", transforms[:, :, :3], shape.bones) + transforms[:, :, 3]
    at = {name: heads[index] for name, index in model.bone.items()}
    scale = shape.scale
    hips = (at["upperleg01.L"] + at["upperleg01.R"]) / 2
    arms = {}
    for side in "LR":
        elbow, wrist, knuckle = at[f"lowerarm01.{side}"], at[f"wrist.{side}"], at[f"finger3-1.{side}"]
        arms[side] = np.array([elbow, 0.5 * elbow + 0.5 * wrist, wrist, knuckle, at[f"finger3-3.{side}"]])
    points = np.concatenate([arms["L"][1:], arms["R"][1:]])
    across = at["upperleg01.L"] - hips
    width = np.linalg.norm(across)
    capsules = [(hips + t * across, at["spine01"] + t * width * _unit(at["upperarm01.L"] - at["upperarm01.R"]), 0.125)
                for t in (-0.5, 0.5)]  # fmt: skip
    capsules += [(at[f"upperleg01.{s}"], at[f"lowerleg01.{s}"], 0.09) for s in "LR"]
    capsules += [(at["neck03"], at["head"] + 0.1 * _unit(at["head"] - at["neck03"]), 0.10)]
    if any((_distance(points, a, b) < radius * scale).any() for a, b, radius in capsules):
        return False
    return not (_distance(arms["L"][1:], *arms["R"][[0, 2]]) < 0.055 * scale).any()


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _distance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) distances of points from the segment a-b."""
    t = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(points - a - t[:, None] * (b - a), axis=1)
