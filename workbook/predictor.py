"""Predictions for photographs: how confident a network must be, and how a single-person network finds several people.

It looks for a person in each window of a photo; each one found is then cropped and predicted.
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from mula_lib.anatomy import LIP, PASCAL, Anatomy
from mula_lib.checkpoint import load_model, read_facts
from mula_lib.files import CheckpointError, DataError, read_json
from mula_lib.grouping import FEWEST
from mula_lib.inference import Prediction, Testing, decode, predict, predict_maps
from mula_lib.models.network import Network
from workbook.datasets import VARIABLES
from workbook.experiments import Profile, find_profile
from workbook.runs import shipped_weights

SHIPPED = "HG-1s-1u-MuLA", "photo"  # the default network, and the profile that trained it
LONGEST = 1024  # pixels: a photo with a longer edge is predicted at this size, since the networks see less anyway
SEARCHED = 480  # pixels of a photo's longer edge, at most, in the search for people
HEIGHTS = (1.0, 0.7, 0.5, 0.35)  # of the windows, as shares of the photo's
WIDTHS = (0.5, 0.9)  # as shares of their heights: people stand
STEP = 0.4  # from one window to the next, as a share of their size
MARGIN = 0.12  # around a person's joints, as a share of their extent
SAME = 0.45  # two boxes that overlap by more (intersection over union) show one person
NEW = 0.5  # of a person's foreground, at least, must not belong to others


@dataclass(frozen=True)
class Confidence:
    """Thresholds on the heights of a network's peaks; at 0 everything is accepted."""

    joint: float = 0.0
    picture: float = 0.0  # mean over the joints of a picture's person
    person: float = 0.0  # the same, for somebody cropped from a crowd
    chosen_on: str = "nothing"
    joint_precision: float = 0.0  # at that threshold, as is the recall
    joint_recall: float = 0.0
    picture_precision: float = 0.0
    picture_recall: float = 0.0
    person_precision: float = 0.0
    person_recall: float = 0.0

    def unsure(self, found: Prediction) -> np.ndarray:
        """(N,) or (Q, N) bool: joints that were not found, or are too faint to be shown."""
        return np.isnan(found.joints).any(axis=-1) | (found.scores < self.joint)

    def recognized(self, found: Prediction) -> bool:
        """Whether anybody was recognized."""
        return bool((found.scores.mean(axis=-1) >= self.picture).any())


@dataclass(frozen=True)
class Predictor:
    """A trained network with its crop and testing protocol, and whose joints and parts it predicts."""

    network: Network
    profile: Profile
    anatomy: Anatomy
    name: str
    weights: Path
    trained_on: str
    confidence: Confidence
    cuts_out: bool  # people are searched for and cropped one by one

    def __call__(self, photo: np.ndarray) -> Prediction:
        """Parts and joints of one (H, W, 3) uint8 RGB photo, at its own size; nan for a joint beyond the photo."""
        if self.cuts_out:
            return predict_each(replace(self, cuts_out=False), photo)
        height, width = photo.shape[:2]
        share = min(1.0, LONGEST / max(height, width))
        size_wh = max(1, round(width * share)), max(1, round(height * share))
        small = photo if share == 1 else cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA)
        (found,) = predict(self.network, [small], self.profile.crop, self.profile.testing, self.anatomy)
        mask = cv2.resize(found.mask, (width, height), interpolation=cv2.INTER_NEAREST)
        joints = (found.joints + 0.5) * (np.array([width, height]) / size_wh) - 0.5  # pixel centers are integers
        inside = ((joints >= -0.5) & (joints < np.array([width, height]) - 0.5)).all(axis=-1, keepdims=True)
        return Prediction(mask, np.where(inside, joints, np.nan).astype(np.float32), found.scores)


def windows(width: int, height: int) -> np.ndarray:
    """(K, 4) int x1, y1, x2, y2 of windows of all sizes, the last column and row not included."""
    found = []
    for tall, narrow in product(HEIGHTS, WIDTHS):
        sides = max(min(tall * narrow * height, width), 1), max(tall * height, 1)
        lefts, tops = (np.linspace(0, edge - side, 1 + int(np.ceil((edge - side) / (STEP * side))))
                       for edge, side in zip((width, height), sides, strict=True))  # fmt: skip
        found += [(x, y, x + sides[0], y + sides[1]) for y in tops for x in lefts]
    return np.rint(np.unique(found, axis=0)).astype(int)


def boxes_of(joints: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """(Q, 4) int boxes around people's joints (Q, N, 2), nan where unknown, with a margin, within the photo."""
    low, high = np.nanmin(joints, axis=1), np.nanmax(joints, axis=1)
    margin = MARGIN * (high - low).max(axis=1, keepdims=True)
    box = np.concatenate([low - margin, high + margin + 1], axis=1)
    return np.rint(box.clip(0, [*size_wh, *size_wh])).astype(int)


def find_people(predictor: Predictor, photo: np.ndarray) -> np.ndarray:
    """(Q, 4) int boxes of the people in an (H, W, 3) uint8 photo, the most certain first."""
    height, width = photo.shape[:2]
    share = min(1.0, SEARCHED / max(height, width))
    small = cv2.resize(photo, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) if share < 1 else photo
    tried = windows(*small.shape[1::-1])
    crops = [np.ascontiguousarray(small[y1:y2, x1:x2]) for x1, y1, x2, y2 in tried]
    quick = Testing(mirror=False)
    maps = predict_maps(predictor.network, crops, predictor.profile.crop, quick, predictor.anatomy)
    found = decode(replace(maps, parts=None), [crop.shape[1::-1] for crop in crops], predictor.anatomy)
    joints, scores = (np.stack([getattr(each, name) for each in found]) for name in ("joints", "scores"))
    unsure = scores < predictor.confidence.joint
    sure = np.flatnonzero((scores.mean(axis=1) >= predictor.confidence.picture) & ((~unsure).sum(axis=1) >= FEWEST))
    if not len(sure):
        return np.zeros((0, 4), int)
    joints = np.where(unsure[..., None], np.nan, joints)[sure] + tried[sure, None, :2]
    boxes = boxes_of((joints + 0.5) / share - 0.5, (width, height))
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return boxes[cv2.dnn.NMSBoxes(sides.tolist(), scores[sure].mean(axis=1).tolist(), 0.0, SAME)]


def predict_each(predictor: Predictor, photo: np.ndarray) -> Prediction:
    """Parts of everybody in a photo and joints (Q, N, 2) of each person, the surest first and in front of others.

    Joints that the network is unsure of are nan: among several people they would be taken for somebody else's. A find
    whose foreground mostly belongs to somebody already is only a part of them, and is dropped. One that is recognized
    but falls below the threshold of a person contributes parts only.
    """
    mask, people = np.zeros(photo.shape[:2], np.uint8), []
    for x1, y1, x2, y2 in find_people(predictor, photo):
        found, free = predictor(np.ascontiguousarray(photo[y1:y2, x1:x2])), mask[y1:y2, x1:x2] == 0
        sure, own = ~predictor.confidence.unsure(found), found.mask > 0
        is_new = own[free].sum() > NEW * own.sum()
        if is_new and predictor.confidence.recognized(found) and sure.sum() >= FEWEST:
            mask[y1:y2, x1:x2][free] = found.mask[free]
            if found.scores.mean() >= predictor.confidence.person:
                people.append((np.where(sure[:, None], found.joints + np.float32([x1, y1]), np.nan), found.scores))
    names = len(predictor.anatomy.joints)
    joints = np.array([each[0] for each in people], np.float32).reshape(-1, names, 2)
    return Prediction(mask, joints, np.array([each[1] for each in people], np.float32).reshape(-1, names))


def load_predictor(weights: Path | None = None, *, crowd: bool = False) -> Predictor:
    """A trained joint network on the CPU, by default the committed one for photographs.

    For a ``crowd``, a single-person network is shown one person at a time; one that predicts offsets sees all. Raises
    :class:`CheckpointError` for a file that is no network of this project, :class:`DataError` for one without a task.
    """
    path = weights or shipped_weights(*SHIPPED)
    if weights is None and not path.is_file():
        raise CheckpointError(f"{path}: no such weights; name a file (--weights), or a checkout (MULA_HOME)")
    config, facts = read_facts(path, "profile", "experiment")
    profile = find_profile(facts["profile"]).for_trunk(config.backbone)
    profile = profile.for_crowds() if config.offsets else profile
    anatomy = PASCAL if config.joints == len(PASCAL.joints) else LIP
    trained_on = facts["dataset"] if facts.get("dataset") in VARIABLES else "rendered people, not on photographs"
    confidence, chosen = Confidence(), path.with_suffix(".confidence.json")
    if chosen.is_file():
        confidence = Confidence(**read_json(chosen, "a network's confidence", fix="choose it again"))
    network, name, cuts_out = load_model(path), str(facts["experiment"]), crowd and not config.offsets
    (blank,) = predict(network, [np.zeros((8, 8, 3), np.uint8)], profile.crop, profile.testing, anatomy)
    if blank.mask is None or blank.joints is None:
        raise DataError(f"{path}: {name} has one of the two tasks only; use a joint network's weights")
    if cuts_out and not confidence.person:
        raise DataError(f"{path}: to crop people, choose its thresholds first: python -m tools.confidence '{path}'")
    return Predictor(network, profile, anatomy, name, path, trained_on, confidence, cuts_out)
