"""Samples a second on one core: from LIP's files to training tensors at crop 256, augmentation and targets included.

The tree is made for the occasion: the fixture's people at LIP's size
with a grain that brings the JPEGs to LIP's 20 to 30 kB.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate

from benchmarks.timing import Row, compare
from mula_lib.anatomy import IGNORE, LIP
from mula_lib.data.augment import PAD_VALUE, Augmentation, draw
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import LipRecord, LipSplit, read_split
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import PAPER_SIGMA, gaussian_heatmaps
from workbook.datasets import FIXTURES

CROP, STRIDE, BATCH = 256, 4, 24
SIZE = (256, 320)  # pixels wide and high
GRAIN = 20.0  # grey levels
JPEG_QUALITY = 92


def write_tree(root: Path) -> LipSplit:
    """One batch of people of LIP's size under ``root``."""
    rng = np.random.default_rng(0)
    people = read_split(FIXTURES["people"], "train")
    records = []
    for number in range(BATCH):
        person = people[number % len(people)]
        image, mask = load_image(person.image), load_mask(person.mask)
        zoom = np.divide(SIZE, mask.shape[::-1])
        image = cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + cv2.GaussianBlur(rng.normal(0, GRAIN, image.shape), (0, 0), 0.8), 0, 255)
        photo, annotation = root / f"{number}.jpg", root / f"{number}.png"
        cv2.imwrite(str(photo), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        cv2.imwrite(str(annotation), cv2.resize(mask, SIZE, interpolation=cv2.INTER_NEAREST))
        joints = (zoom * (person.joints + 0.5) - 0.5).astype(np.float32)
        records.append(LipRecord(str(number), photo, annotation, joints, person.occluded))
    return LipSplit(root, "train", tuple(records))


def plain_sample(record: LipRecord, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """A sample as it is usually written: one step after another on image, mask and joints, floats from the start."""
    image = np.asarray(Image.open(record.image).convert("RGB"))
    mask = np.asarray(Image.open(record.mask))
    joints = record.joints.astype(np.float64)
    drawn = draw(Augmentation(), rng)

    zoom = drawn.scale * CROP / max(image.shape[:2])
    size = (round(zoom * image.shape[1]), round(zoom * image.shape[0]))
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    joints = zoom * (joints + 0.5) - 0.5

    turn = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), drawn.rotation, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    grown = (int(np.ceil(size[0] * cosine + size[1] * sine)), int(np.ceil(size[0] * sine + size[1] * cosine)))
    turn[:, 2] += (grown[0] - size[0]) / 2, (grown[1] - size[1]) / 2
    image = cv2.warpAffine(image, turn, grown, borderMode=cv2.BORDER_CONSTANT, borderValue=(PAD_VALUE,) * 3)
    mask = cv2.warpAffine(mask, turn, grown, flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    joints = joints @ turn[:, :2].T + turn[:, 2]

    shift = np.round(CROP * np.asarray(drawn.shift)).astype(int)
    left, top = (CROP - grown[0]) // 2 + shift[0], (CROP - grown[1]) // 2 + shift[1]
    padded_image = np.full((CROP, CROP, 3), PAD_VALUE, np.uint8)
    padded_mask = np.full((CROP, CROP), IGNORE, np.uint8)
    x, y, x_end, y_end = max(left, 0), max(top, 0), min(left + grown[0], CROP), min(top + grown[1], CROP)
    padded_image[y:y_end, x:x_end] = image[y - top : y_end - top, x - left : x_end - left]
    padded_mask[y:y_end, x:x_end] = mask[y - top : y_end - top, x - left : x_end - left]
    image, mask, joints = padded_image, padded_mask, joints + np.array([left, top])

    if drawn.mirror:
        image, mask = image[:, ::-1], LIP.mirror_lookup[mask[:, ::-1]]
        joints = joints[LIP.joint_mirror] * (-1, 1) + (CROP - 1, 0)
    pixels = (image.astype(np.float32) / 255 - 0.5) / 0.25
    return {
        "image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
        "mask": torch.from_numpy(mask.astype(np.int64)),
        "heatmaps": torch.from_numpy(plain_heatmaps(joints)),
    }


def plain_heatmaps(joints: np.ndarray) -> np.ndarray:
    """Joint by joint, each Gaussian computed on a patch of three sigma and pasted, as hourglass code does."""
    side, sigma = CROP // STRIDE, PAPER_SIGMA / STRIDE
    reach = int(np.ceil(3 * sigma))
    maps = np.zeros((len(joints), side, side), np.float32)
    for one, joint in zip(maps, (joints - (STRIDE - 1) / 2) / STRIDE, strict=True):
        if np.isnan(joint).any() or (joint < 0).any() or (joint >= side).any():
            continue
        x, y = np.round(joint).astype(int)
        columns = np.arange(max(0, x - reach), min(side, x + reach + 1))
        rows = np.arange(max(0, y - reach), min(side, y + reach + 1))
        patch = np.exp(-((columns[None] - joint[0]) ** 2 + (rows[:, None] - joint[1]) ** 2) / (2 * sigma**2))
        one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = patch
    return maps


def run() -> list[Row]:
    """Measure: one batch of each way a call, collated as the data loader does."""
    with tempfile.TemporaryDirectory() as folder:
        split = write_tree(Path(folder))
        grid = (CROP // STRIDE, CROP // STRIDE)

        def plain() -> None:
            default_collate([plain_sample(each, np.random.default_rng(i)) for i, each in enumerate(split.records)])

        def ours() -> None:
            samples = TrainingSamples(split, CROP, Augmentation(), LIP, seed=0)  # nothing decoded yet
            batch = default_collate([samples[0, index] for index in range(len(samples))])
            gaussian_heatmaps(batch["joints"], batch["present"], grid=grid, stride=STRIDE, sigma=PAPER_SIGMA)

        kilobytes = np.mean([record.image.stat().st_size for record in split.records]) / 1000
        ways = {"four steps, floats": plain, "one affine, bytes": ours}
        return compare("input_pipeline", f"JPEGs of {kilobytes:.0f} kB", ways, items=BATCH, runs=15)
