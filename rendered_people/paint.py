"""What a point of a person's surface is: its part and its colour, from the body coordinates where a ray met it."""

import numpy as np

from mula_lib.anatomy import LIP, PASCAL
from rendered_people.body import BodyModel, Coordinates
from rendered_people.clothes import Outfit
from rendered_people.garments import topmost

_GROIN, _SHOULDER = 0.1, -0.1  # where trunks end, in the body's coordinates
_PART = {name: index for index, name in enumerate(LIP.parts)}


def labels_and_colours(
    model: BodyModel, outfit: Outfit, owner: np.ndarray, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Parts and colours of N points.

    ``owner`` (N,) 0 for the body, i + 1 for ``outfit.hanging[i]``; ``table`` (N, 8) packed body coordinates.
    Returns (N,) uint8 LIP part ids and (N, 3) float RGB in 0..1. Left and right are the person's.
    """
    labels = np.zeros(len(owner), np.uint8)
    colours = np.zeros((len(owner), 3), np.float32)
    body = owner == 0
    labels[body], colours[body] = _body(model, outfit, table[body])
    for index, item in enumerate(outfit.hanging):
        chosen = owner == index + 1
        labels[chosen] = _PART[item.part]
        colours[chosen] = item.cloth.paint(table[chosen, :3])
    return labels, colours


def body_parts(outfit: Outfit, owner: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(N,) uint8 PASCAL-Person-Part ids of N points: parts of the body, whatever is worn over them.

    ``owner`` and ``table`` as above. The neck goes with the torso; hands and feet with lower arms and legs.
    """
    at = Coordinates.unpacked(table)
    names = {name: np.uint8(index) for index, name in enumerate(PASCAL.parts)}
    legs = np.where(at.down < 1, names["upper_leg"], names["lower_leg"])
    trunk = np.where(at.down < _GROIN, names["torso"], legs)
    arms = np.where(at.arm < 1, names["upper_arm"], names["lower_arm"])
    parts = np.where(at.arm > _SHOULDER, arms, np.where(at.skull > 0.5, names["head"], trunk))
    for index, item in enumerate(outfit.hanging):
        chosen = owner == index + 1
        parts[chosen] = trunk[chosen] if item.kind in ("skirt", "scarf") else names["head"]
    return parts


def _body(model: BodyModel, outfit: Outfit, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = Coordinates.unpacked(np.ascontiguousarray(table.T).T)  # each coordinate contiguous, for speed
    left = at.rest[:, 0] > 0

    def sided(part: str) -> np.ndarray:
        return np.where(left, _PART[f"left_{part}"], _PART[f"right_{part}"])

    # Bare skin. LIP has no part for the neck and the trunk's skin: both go with the face, as its annotators mostly did.
    labels = np.where(at.arm > -0.3, sided("arm"), np.where(at.down > -0.1, sided("leg"), _PART["face"]))
    labels = np.where(at.neck > -0.2, _PART["face"], labels).astype(np.uint8)
    colours = _skin(model, outfit, at)
    layer_at = topmost(outfit, at)
    for index, layer in enumerate(outfit.layers):
        chosen = layer_at == index
        if not chosen.any():
            continue
        labels[chosen] = sided("shoe")[chosen] if layer.part == "shoe" else _PART[layer.part]
        colours[chosen] = layer.paint(Coordinates.unpacked(table[chosen]))
    return labels, colours


def _skin(model: BodyModel, outfit: Outfit, at: Coordinates) -> np.ndarray:
    """(N, 3) skin with a face drawn on it: without eyes, brows and mouth a front would look like a back."""
    skin = outfit.skin.astype(np.float32)
    colours = np.broadcast_to(skin, (len(at.arm), 3)).copy()
    x, y, z = np.abs(at.rest[:, 0]), at.rest[:, 1], at.rest[:, 2]
    eye, mouth = model.eye_centre, model.mouth
    front = (at.skull > 0.5) & (y < eye[1] + 0.04)
    hair = outfit.hair.astype(np.float32)

    def tint(where: np.ndarray, colour: np.ndarray, amount: float) -> None:
        colours[where] += amount * (colour - colours[where])

    if outfit.beard:
        jaw = (at.skull > 0.5) & (z < mouth[2] + 0.018) & (y < eye[1] + 0.085)
        tint(jaw, hair, 0.75 * outfit.beard)
    tint(front & (x < 0.024) & (np.abs(z - mouth[2]) < 0.009), skin * [0.8, 0.5, 0.5], 0.75)
    tint(front & (np.abs(x - eye[0]) < 0.021) & (np.abs(z - eye[2] - 0.021) < 0.005), hair, 0.8)
    tint(front & (np.abs(x - eye[0]) < 0.017) & (np.abs(z - eye[2]) < 0.009), np.float32([0.92, 0.92, 0.92]), 0.6)
    tint(front & (np.abs(x - eye[0]) < 0.008) & (np.abs(z - eye[2]) < 0.008), np.float32([0.1, 0.08, 0.06]), 0.9)
    return colours
