"""Predictions for photographs, and how confident a network must be."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mula_lib.anatomy import LIP, PASCAL, Anatomy
from mula_lib.checkpoint import load_model, read_facts
from mula_lib.files import CheckpointError, DataError, read_json
from mula_lib.inference import Prediction, predict
from mula_lib.models.network import Network
from workbook.datasets import VARIABLES
from workbook.experiments import Profile, find_profile
from workbook.runs import shipped_weights

ONE, SEVERAL = shipped_weights("HG-1s-1u-MuLA", "photo"), shipped_weights("HG-2s-1u-MuLA", crowd=True)  # of people
LONGEST = 1024  # pixels: a photo with a longer edge is predicted at this size, since the networks see less anyway


@dataclass(frozen=True)
class Confidence:
    """Thresholds on the heights of a network's peaks; at 0 everything is accepted."""

    joint: float = 0.0
    picture: float = 0.0  # mean over the joints of a picture's person
    chosen_on: str = "nothing"
    joint_precision: float = 0.0  # at that threshold, as is the recall
    joint_recall: float = 0.0
    picture_precision: float = 0.0
    picture_recall: float = 0.0

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

    def __call__(self, photo: np.ndarray) -> Prediction:
        """Parts and joints of one (H, W, 3) uint8 RGB photo, at its own size; nan for a joint beyond the photo."""
        height, width = photo.shape[:2]
        share = min(1.0, LONGEST / max(height, width))
        size_wh = max(1, round(width * share)), max(1, round(height * share))
        small = photo if share == 1 else cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA)
        (found,) = predict(self.network, [small], self.profile.crop, self.profile.testing, self.anatomy)
        mask = cv2.resize(found.mask, (width, height), interpolation=cv2.INTER_NEAREST)
        joints = (found.joints + 0.5) * (np.array([width, height]) / size_wh) - 0.5  # pixel centers are integers
        inside = ((joints >= -0.5) & (joints < np.array([width, height]) - 0.5)).all(axis=-1, keepdims=True)
        return Prediction(mask, np.where(inside, joints, np.nan).astype(np.float32), found.scores)


def load_predictor(weights: Path | None = None, *, crowd: bool = False) -> Predictor:
    """A trained joint network on the CPU, by default the committed one for photographs, or for a ``crowd``.

    Raises :class:`CheckpointError` for a file that is no network of this project, :class:`DataError` for one without a
    task.
    """
    path = weights or (SEVERAL if crowd else ONE)
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
    network, name = load_model(path), str(facts["experiment"])
    (blank,) = predict(network, [np.zeros((8, 8, 3), np.uint8)], profile.crop, profile.testing, anatomy)
    if blank.mask is None or blank.joints is None:
        raise DataError(f"{path}: {name} has one of the two tasks only; use a joint network's weights")
    return Predictor(network, profile, anatomy, name, path, trained_on, confidence)
