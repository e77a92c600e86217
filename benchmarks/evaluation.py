"""Photos a second of full testing on one core: three scales, mirror images, both tasks, scored at the photo's size.

Run: ``python -m benchmarks.evaluation``. The networks are the shipped ones at crop 96, the photos the fixture's.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import Row, compare, publish
from mula_lib.anatomy import IGNORE, LIP
from mula_lib.checkpoint import load_model
from mula_lib.data.augment import fit_affine, invert_affine, warp_image
from mula_lib.data.lip import LipSplit, load_image, load_mask
from mula_lib.evaluation import evaluate
from mula_lib.inference import SMOOTHING
from mula_lib.metrics.pose import pckh_hits
from mula_lib.models.joint import JointModel
from workbook.datasets import REPOSITORY, open_source
from workbook.profiles import DEMO

NETWORKS = ("VGG16-FCN-MuLA", "HG-1s-1u-MuLA")
CROP, SCALES = DEMO.crop, DEMO.testing.scales


@torch.inference_mode()
def evaluate_plainly(model: JointModel, split: LipSplit) -> tuple[float, np.ndarray]:
    """Mean IoU, and hits, one photo at a time: a forward for each task, scale and side of the mirror."""
    parts = len(LIP.parts)
    shared, either = np.zeros(parts), np.zeros(parts)
    joints = []
    for record in split.records:
        image, truth = load_image(record.image), load_mask(record.mask)
        size = image.shape[1::-1]
        parsing = pose = 0
        for scale in SCALES:
            matrix = fit_affine(size, CROP, scale=scale)
            pixels = torch.from_numpy(warp_image(image, matrix, CROP).transpose(2, 0, 1).copy())[None]
            mirrored = pixels.flip(3)
            maps = (
                _enlarge(model(pixels)[-1].parsing).softmax(1),
                _enlarge(model(mirrored)[-1].parsing).softmax(1).flip(3)[:, LIP.part_mirror.tolist()],
                _enlarge(model(pixels)[-1].pose),
                _enlarge(model(mirrored)[-1].pose).flip(3)[:, LIP.joint_mirror.tolist()],
            )
            at_photo = [np.stack([_unwarp(each.numpy(), matrix, size) for each in one[0]]) for one in maps]
            parsing, pose = parsing + at_photo[0] + at_photo[1], pose + at_photo[2] + at_photo[3]
        mask = parsing.argmax(axis=0)
        for part in range(parts):
            predicted, annotated = (mask == part) & (truth != IGNORE), truth == part
            shared[part] += (predicted & annotated).sum()
            either[part] += (predicted | annotated).sum()
        smoothing = SMOOTHING * max(size) / 256
        smooth = [cv2.GaussianBlur(each, (0, 0), smoothing) for each in pose]
        joints.append([np.unravel_index(each.argmax(), each.shape)[::-1] for each in smooth])
    hits = pckh_hits(np.array(joints), np.stack([record.joints for record in split.records]), LIP)
    return float(100 * (shared[either > 0] / either[either > 0]).mean()), hits


def _enlarge(maps: torch.Tensor) -> torch.Tensor:
    return F.interpolate(maps, size=(CROP, CROP), mode="bilinear", align_corners=False)


def _unwarp(one: np.ndarray, matrix: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    return cv2.warpAffine(one, invert_affine(matrix), size_wh, borderMode=cv2.BORDER_REPLICATE)


def measure(network: str, weights: Path, split: LipSplit) -> list[Row]:
    """Both ways on every photo of ``split``."""
    model = load_model(weights).eval()
    ways = {
        "photo by photo, task by task": lambda: evaluate_plainly(model, split),
        "one batch, both tasks": lambda: evaluate(model, split, CROP, DEMO.testing, LIP),
    }
    plain = "photo by photo, task by task"
    return compare("evaluation", f"{network}, crop {CROP}", ways, plain=plain, items=len(split), runs=5)


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    split = open_source("fixture").train
    for network in NETWORKS:
        publish(measure(network, REPOSITORY / "weights" / "demo" / f"{network.lower()}-seed-0.safetensors", split))


if __name__ == "__main__":
    main()
