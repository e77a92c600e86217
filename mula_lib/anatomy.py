"""Joints, parts, mirror pairs, skeleton and colours of each data set: the only place that knows an index.

Everything else asks by name (``LIP.joint("head_top")``) or uses the derived arrays, so that a data set with
another order needs nothing but another :class:`Anatomy`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

IGNORE = 255  # mask value that neither the loss nor the metrics count


@dataclass(frozen=True)
class Anatomy:
    """The labels of one data set. ``left`` and ``right`` are always the person's own."""

    name: str
    joints: tuple[str, ...]
    parts: tuple[str, ...]  # parts[0] is the background
    limbs: tuple[tuple[str, str], ...]  # the skeleton, as pairs of joint names
    palette: tuple[tuple[int, int, int], ...]  # RGB of each part
    # joint columns of a results table, in order: column name -> its joints
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    # parts that stand for one joint each in structure-sensitive losses; parts in no group are ignored there
    structure: tuple[tuple[str, ...], ...]
    crowds: bool = False  # several people in an image, each with joints of their own

    @property
    def pose_metric(self) -> str:
        """The score by which poses are compared."""
        return "mAP" if self.crowds else "PCK"

    def joint(self, name: str) -> int:
        """Index of the joint ``name``."""
        return self.joints.index(name)

    def part(self, name: str) -> int:
        """Index of the part ``name``."""
        return self.parts.index(name)

    @cached_property
    def joint_mirror(self) -> np.ndarray:
        """(N,) permutation: joint ``i`` of a mirrored person is joint ``joint_mirror[i]`` of the original."""
        return _mirror_permutation(self.joints)

    @cached_property
    def part_mirror(self) -> np.ndarray:
        """(P,) permutation: part ``i`` of a mirrored person is part ``part_mirror[i]`` of the original."""
        return _mirror_permutation(self.parts)

    @cached_property
    def limb_indices(self) -> tuple[tuple[int, int], ...]:
        """The skeleton as pairs of joint indices."""
        return tuple((self.joint(a), self.joint(b)) for a, b in self.limbs)

    @cached_property
    def structure_groups(self) -> tuple[tuple[int, ...], ...]:
        """The groups of ``structure`` as part ids."""
        return tuple(tuple(self.part(name) for name in group) for group in self.structure)

    @cached_property
    def mirror_lookup(self) -> np.ndarray:
        """(256,) uint8 lookup table that mirrors the part ids of a mask and leaves all other values alone."""
        table = np.arange(256, dtype=np.uint8)
        table[: len(self.parts)] = self.part_mirror
        return table


def _mirror_permutation(names: tuple[str, ...]) -> np.ndarray:
    swap = {"left": "right", "right": "left"}
    mirrored = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
    return np.array([names.index(name) for name in mirrored])


# The columns of a pose table that all data sets have.
LIMB_COLUMNS = (
    ("Sho.", ("right_shoulder", "left_shoulder")),
    ("Elb.", ("right_elbow", "left_elbow")),
    ("Wri.", ("right_wrist", "left_wrist")),
    ("Hip", ("right_hip", "left_hip")),
    ("Knee", ("right_knee", "left_knee")),
    ("Ank.", ("right_ankle", "left_ankle")),
)

LIP = Anatomy(
    name="LIP",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    parts=(
        "background", "hat", "hair", "glove", "sunglasses", "upper_clothes", "dress", "coat", "socks", "pants",
        "jumpsuits", "scarf", "skirt", "face", "left_arm", "right_arm", "left_leg", "right_leg", "left_shoe",
        "right_shoe",
    ),
    limbs=(
        ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis"),
        ("left_hip", "pelvis"), ("left_knee", "left_hip"), ("left_ankle", "left_knee"),
        ("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top"),
        ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("right_shoulder", "thorax"),
        ("left_shoulder", "thorax"), ("left_elbow", "left_shoulder"), ("left_wrist", "left_elbow"),
    ),
    # Side pairs differ in lightness as well as in hue, so that they stay apart for every kind of colour vision.
    palette=(
        (0, 0, 0), (148, 52, 110), (92, 62, 34), (230, 200, 60), (40, 40, 110), (70, 130, 180), (210, 120, 170),
        (30, 90, 90), (170, 170, 170), (90, 90, 150), (150, 140, 60), (240, 240, 200), (190, 90, 60),
        (250, 210, 180), (253, 174, 97), (166, 74, 0), (166, 219, 160), (27, 120, 55), (194, 165, 207),
        (118, 42, 131),
    ),
    columns=(("Head", ("upper_neck", "head_top")), *LIMB_COLUMNS),
    structure=(
        ("hat", "hair", "sunglasses", "face"), ("upper_clothes", "coat", "scarf"), ("pants", "skirt"),
        ("left_arm",), ("right_arm",), ("left_leg",), ("right_leg",), ("left_shoe",), ("right_shoe",),
    ),
)

# The annotations of extended PASCAL-Person-Part do not say which side joints 2 to 7 belong to; 8 to 13 are the other
# side. ``mula_lib.data.check`` tells from the joints of a whole tree whether this is likely wrong.
PASCAL_FIRST_SIDE, PASCAL_OTHER_SIDE = "right", "left"


def _pascal_side(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))


PASCAL = Anatomy(
    name="PASCAL-Person-Part",
    joints=("forehead", "neck", *_pascal_side(PASCAL_FIRST_SIDE), *_pascal_side(PASCAL_OTHER_SIDE)),
    parts=("background", "head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg"),  # without sides
    limbs=(
        ("forehead", "neck"),
        ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
        ("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ),
    palette=(
        (0, 0, 0), (250, 210, 180), (70, 130, 180), (253, 174, 97), (166, 74, 0), (166, 219, 160), (27, 120, 55),
    ),
    columns=(("Head", ("forehead", "neck")), *LIMB_COLUMNS),
    structure=(("head",), ("torso",), ("upper_arm",), ("lower_arm",), ("upper_leg",), ("lower_leg",)),
    crowds=True,
)

ANATOMIES = {anatomy.name: anatomy for anatomy in (LIP, PASCAL)}
