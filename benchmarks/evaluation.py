"""Photos a second of full testing on one core: three scales, mirror images, both tasks, scored at the photo's size.

The networks are the demo's, untrained, the photos the fixture's.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import Row, compare
from mula_lib.anatomy import LIP
from mula_lib.data.augment import fit_affine, warp_image
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import LipSplit
from mula_lib.evaluation import evaluate
from mula_lib.grouping import SMOOTHING
from mula_lib.metrics.parsing import confusion_matrix, parsing_scores
from mula_lib.metrics.pose import pckh, pckh_hits
from mula_lib.models.network import Network, build_model
from workbook.datasets import open_source
from workbook.experiments import DEMO, find_experiment

NETWORKS = ("VGG16-FCN-MuLA", "HG-2s-1u-MuLA")
CROP = DEMO.crop


@torch.inference_mode()
def evaluate_plainly(model: Network, split: LipSplit) -> dict[str, float]:
    """All scores, one photo and one view at a time: maps are upsampled, brought to the photo's size and averaged."""
    confusion, joints = 0, []
    for record in split.records:
        image = load_image(record.image)
        size = image.shape[1::-1]
        parsing = pose = 0
        for scale in DEMO.testing.scales:
            matrix = fit_affine(size, CROP, scale=scale)
            pixels = torch.from_numpy(warp_image(image, matrix, CROP).transpose(2, 0, 1).copy())[None]
            for mirror in (False, True):
                output = model(pixels.flip(3) if mirror else pixels)[-1]
                parts, maps = (
                    F.interpolate(each, size=(CROP, CROP), mode="bilinear") for each in (output.parsing, output.pose)
                )
                parts = parts.softmax(1)
                if mirror:
                    parts, maps = (
                        each.flip(3)[:, order.tolist()]
                        for each, order in ((parts, LIP.part_mirror), (maps, LIP.joint_mirror))
                    )
                parsing = parsing + _at_photo(parts, matrix, size)
                pose = pose + _at_photo(maps, matrix, size)
        confusion = confusion + confusion_matrix(parsing.argmax(axis=0), load_mask(record.mask), len(LIP.parts))
        smooth = [cv2.GaussianBlur(each, (0, 0), SMOOTHING * max(size) / 256) for each in pose]
        joints.append([np.unravel_index(each.argmax(), each.shape)[::-1] for each in smooth])
    hits = pckh_hits(np.array(joints), np.stack([record.joints for record in split.records]), LIP)
    return {**pckh(hits, LIP), **parsing_scores(confusion)}


def _at_photo(maps: torch.Tensor, matrix: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    back = cv2.invertAffineTransform(matrix)
    return np.stack([cv2.warpAffine(each, back, size_wh, borderMode=cv2.BORDER_REPLICATE) for each in maps[0].numpy()])


def run() -> list[Row]:
    """Measure every network."""
    split, rows = open_source("fixture").train, []
    for name in NETWORKS:
        model = build_model(find_experiment(name).model_config(DEMO, LIP), 0).eval()
        ways = {
            "photo by photo, view by view": lambda model=model: evaluate_plainly(model, split),
            "batches, both tasks": lambda model=model: evaluate(model, split, CROP, DEMO.testing, LIP),
        }
        rows += compare("evaluation", f"{name}, crop {CROP}", ways, items=len(split), runs=5)
    return rows
