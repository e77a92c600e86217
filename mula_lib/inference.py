"""Testing: both tasks in one batched forward over scales and mirror images, decoded at the photo's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import Anatomy
from mula_lib.data.augment import fit_affine, invert_affine, transform_points, warp_image
from mula_lib.data.targets import PAPER_CROP
from mula_lib.models.joint import JointModel
from mula_lib.profiles import Testing

SMOOTHING = 3.0  # σ in pixels at a crop of 256, before the arg max


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo."""

    mask: np.ndarray  # (H, W) uint8 part ids
    joints: np.ndarray  # (N, 2) float32, (column, row) in the photo's pixels
    scores: np.ndarray  # (N,) float32, height of each joint's peak


@dataclass(frozen=True)
class CropMaps:
    """Averaged maps of a batch on the square testing crop."""

    parts: Tensor  # (B, P, crop, crop) probabilities
    joints: Tensor  # (B, N, crop, crop) confidence


@torch.inference_mode()
def predict_maps(
    model: JointModel, images: Sequence[np.ndarray], crop: int, testing: Testing, anatomy: Anatomy, *, stage: int = -1
) -> CropMaps:
    """Average a stage's maps over ``testing.scales`` and the mirror image, on the crop's own pixels.

    The canvas keeps the size that the network was trained on, and the photo is scaled within it: the adapters pool
    their guidance to kernels of a fixed size, so on a larger canvas a tap would look at another share of the person.
    What a scale above 1 pushes out of the canvas is averaged over the other scales.

    Args:
        images: B arrays (H, W, 3) uint8 RGB, of any sizes; each is scaled so that its long edge fills the crop.
        crop: side of the testing crop.
        stage: which stage to read; the last one by default.
    """
    device = next(model.parameters()).device
    part_mirror = torch.as_tensor(anatomy.part_mirror, device=device)
    joint_mirror = torch.as_tensor(anatomy.joint_mirror, device=device)
    parts = joints = weights = 0
    for scale in testing.scales:
        crops = [warp_image(image, fit_affine(image.shape[1::-1], crop, scale=scale), crop) for image in images]
        batch = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2)).to(device)
        if testing.mirror:
            batch = torch.cat([batch, batch.flip(3)])
        output = model(batch)[stage]
        grid, seen = _unscaling(crop, scale, device)
        scaled_parts = _sample(output.parsing, grid).softmax(dim=1)
        scaled_joints = _sample(output.pose, grid)
        if testing.mirror:
            scaled_parts = _unmirror(scaled_parts, part_mirror)
            scaled_joints = _unmirror(scaled_joints, joint_mirror)
        parts = parts + seen * scaled_parts
        joints = joints + seen * scaled_joints
        weights = weights + seen
    return CropMaps(parts / weights, joints / weights)


def _unscaling(crop: int, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(crop, crop, 2): where each pixel of the unscaled crop lies on the scaled one; (crop, crop): whether it does."""
    side = (2 * torch.arange(crop, device=device) + 1) / crop - 1
    x, y = torch.meshgrid(side * scale, side * scale, indexing="xy")
    return torch.stack([x, y], dim=-1), ((x.abs() <= 1) & (y.abs() <= 1)).float()


def _sample(maps: Tensor, grid: Tensor) -> Tensor:
    """Bilinear values of (B, C, h, w) maps at the points of a (H, W, 2) grid: (B, C, H, W)."""
    grids = grid.expand(len(maps), *grid.shape)
    return F.grid_sample(maps.float(), grids, mode="bilinear", padding_mode="border", align_corners=False)


def _unmirror(maps: Tensor, channels: Tensor) -> Tensor:
    """Mean of the first half of a batch and the second half mirrored back, sides swapped."""
    plain, mirrored = maps.chunk(2)
    return (plain + mirrored.flip(3)[:, channels]) / 2


def decode(maps: CropMaps, sizes_wh: Sequence[tuple[int, int]]) -> list[Prediction]:
    """Part masks by arg max at each photo's size, joints by arg max of the smoothed maps (Sec. 3.2).

    ``sizes_wh`` are the B photos' (width, height).
    """
    crop = maps.parts.shape[-1]
    smoothing = SMOOTHING * crop / PAPER_CROP
    predictions = []
    for parts, joints, size in zip(maps.parts, maps.joints.cpu().numpy(), sizes_wh, strict=True):
        matrix = fit_affine(size, crop)
        points, scores = _peaks(joints, smoothing)
        predictions.append(
            Prediction(
                mask=_sample_at_photo(parts, matrix, size).argmax(dim=0).to(torch.uint8).cpu().numpy(),
                joints=transform_points(points, invert_affine(matrix)),
                scores=scores,
            )
        )
    return predictions


def _peaks(maps: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Arg max of each smoothed (N, h, w) map: (N, 2) float32 points in map pixels and (N,) heights."""
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), sigma) for each in maps])
    flat = smooth.reshape(len(maps), -1)
    best = flat.argmax(axis=1)
    rows, columns = np.unravel_index(best, maps.shape[1:])
    return np.stack([columns, rows], axis=1).astype(np.float32), flat[np.arange(len(maps)), best].astype(np.float32)


def _sample_at_photo(maps: Tensor, matrix: np.ndarray, size_wh: tuple[int, int]) -> Tensor:
    """Bilinear values of crop maps (P, crop, crop) at every pixel of the photo: (P, H, W)."""
    width, height = size_wh
    crop = maps.shape[-1]
    # The testing transform has no rotation, so columns and rows are sampled independently.
    columns = matrix[0, 0] * np.arange(width) + matrix[0, 2]
    rows = matrix[1, 1] * np.arange(height) + matrix[1, 2]
    x, y = (torch.as_tensor((2 * (v + 0.5) / crop - 1).astype(np.float32), device=maps.device) for v in (columns, rows))
    return _sample(maps[None], torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1))[0]


def predict(
    model: JointModel, images: Sequence[np.ndarray], crop: int, testing: Testing, anatomy: Anatomy
) -> list[Prediction]:
    """Parts and joints of each (H, W, 3) uint8 RGB image, at its own size; ``model`` must be in eval mode."""
    maps = predict_maps(model, images, crop, testing, anatomy)
    return decode(maps, [(image.shape[1], image.shape[0]) for image in images])
