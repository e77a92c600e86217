"""Testing: both tasks in one batched forward over scales and mirror images, decoded at the photo's own size."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import Anatomy
from mula_lib.data.augment import fit_affine, transform_points, warp_image
from mula_lib.data.targets import PAPER_CROP
from mula_lib.files import ConfigError
from mula_lib.grouping import SMOOTHING, Candidates, find_candidates, partition
from mula_lib.models.network import Network, StageOutput

PORTION = {"cpu": 2**18, "cuda": 2**22}  # crop pixels in one forward pass


@dataclass(frozen=True)
class Testing:
    """How a network is tested: ``scales`` of the photo in the crop and the mirrored image, averaged (Sec. 4.1)."""

    __test__ = False  # not a test case, in spite of its name

    scales: tuple[float, ...] = (1.0,)
    mirror: bool = True
    batch: int = 32
    mirror_parts: bool = True  # if False, only joints use the mirrored image, as released

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) > 1 or min(self.scales) <= 0:
            raise ConfigError(f"scales={self.scales}: all must be above 0 and one at most 1, to show the whole photo")


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for one photo."""

    mask: np.ndarray | None  # (H, W) uint8 part ids; None for a task that the network does not have
    # (N, 2) float32, (column, row) in the photo's pixels; of several people (Q, N, 2), nan where one lacks a joint
    joints: np.ndarray | None
    scores: np.ndarray | None  # (N,) or (Q, N) float32, height of each joint's peak


@dataclass(frozen=True)
class CropMaps:
    """Averaged maps of a batch on the square testing crop."""

    parts: Tensor | None = None  # (B, P, crop, crop) probabilities; None for a task the network does not have
    joints: Tensor | None = None  # (B, N, crop, crop) confidence
    offsets: Tensor | None = None  # of several people: (B, 2N, crop, crop), x of each joint and then y, in crop pixels


@torch.inference_mode()
def predict_maps(
    model: Network, images: Sequence[np.ndarray], crop: int, testing: Testing, anatomy: Anatomy, *, stage: int = -1
) -> CropMaps:
    """Average a stage's maps over ``testing.scales`` and the mirror image, on the crop's own pixels.

    The canvas keeps the size that the network was trained on, and the photo is scaled within it: the adapters pool
    their guidance to kernels of a fixed size, so on a larger canvas a tap would cover another share of the person.
    Pixels that a scale above 1 pushes out of the canvas are averaged over the other scales.

    ``images`` are B arrays (H, W, 3) uint8 RGB, of any sizes; each is scaled so that its long edge fills the crop.
    ``stage`` is the one to read, by default the last.
    """
    # In portions, because a network's activations are many times its input, and beyond the cache it is slower.
    portion = max(1, PORTION[next(model.parameters()).device.type] // (crop**2 * (1 + testing.mirror)))
    starts = range(0, len(images), portion)
    found = [_averaged(model, images[start : start + portion], crop, testing, anatomy, stage) for start in starts]
    return CropMaps(**{name: torch.cat([each[name] for each in found]) for name in found[0]})


def _averaged(
    model: Network, images: Sequence[np.ndarray], crop: int, testing: Testing, anatomy: Anatomy, stage: int
) -> dict[str, Tensor]:
    """:func:`predict_maps` for the images of one forward pass; maps by their names in CropMaps."""
    sums: dict[str, Tensor] = {}  # of the tasks that the network has
    covering = torch.zeros(crop, crop, device=(device := next(model.parameters()).device))  # scales that cover a pixel

    def add(name: str, values: Tensor, covered: slice) -> None:
        if name not in sums:
            sums[name] = values.new_zeros(len(images), values.shape[1], crop, crop)
        sums[name][:, :, covered, covered] += values

    for scale in testing.scales:
        crops = [warp_image(each, fit_affine(each.shape[1::-1], crop, scale=scale), crop) for each in images]
        batch = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2)).to(device)
        output = model(torch.cat([batch, batch.flip(3)]) if testing.mirror else batch)[stage]
        if output.pose is not None:  # without the released structure's map of the background
            output = output._replace(pose=output.pose[:, : len(anatomy.joints)])
        views = _turned_back(output, anatomy) if testing.mirror else [output]
        if output.parsing is not None:
            covered, taps = _unscaling(crop, scale, output.parsing, align_corners=model.config.released)
            for view in views if testing.mirror_parts else views[:1]:
                add("parts", _resample(view.parsing, taps).softmax(dim=1), covered)
        # Confidence may be added up before it is upsampled, as probabilities may not.
        if output.pose is not None:
            covered, taps = _unscaling(crop, scale, output.pose)
            add("joints", _resample(sum(view.pose for view in views), taps), covered)
        if output.offsets is not None:
            add("offsets", _resample(sum(view.offsets for view in views), taps) * (crop / 2 / scale), covered)
        covering[covered, covered] += 1
    views = {"parts": 1 + (testing.mirror and testing.mirror_parts)}
    return {name: total.div_(covering * views.get(name, 1 + testing.mirror)) for name, total in sums.items()}


def _turned_back(output: StageOutput, anatomy: Anatomy) -> list[StageOutput]:
    """The first half of a batch, and the second half mirrored back with its sides swapped."""
    first, second = ([each if each is None else each.chunk(2)[half] for each in output] for half in (0, 1))
    joints = anatomy.joint_mirror
    orders = (anatomy.part_mirror, joints, np.append(joints, len(joints) + joints))  # offsets: x of all, then y
    turned = [
        each if each is None else each.flip(3)[:, order.tolist()] for each, order in zip(second, orders, strict=True)
    ]
    if turned[2] is not None:
        turned[2][:, : len(joints)].neg_()
    return [StageOutput(*first), StageOutput(*turned)]


def _unscaling(crop: int, scale: float, maps: Tensor, *, align_corners: bool = False) -> tuple[slice, Tensor]:
    """How to read the unscaled crop off ``maps`` (…, cells, cells) of the scaled one, alike for rows and columns.

    Returns which of its pixels the scaled crop covers, and their (pixels, cells) matrix of interpolation weights.
    ``align_corners`` lays the centres of the outermost cells on those of the outermost pixels, not edges on edges.
    """
    cells = maps.shape[-1]
    side = ((2 * np.arange(crop) + 1) / crop - 1) * scale  # -1 and 1 are the scaled crop's edges
    covered = np.flatnonzero(np.abs(side) <= 1)
    if align_corners:
        place = ((side[covered] + 1) * crop - 1) / 2 * (cells - 1) / (crop - 1)
    else:
        place = ((side[covered] + 1) * cells - 1) / 2
    place = place.clip(0, cells - 1)
    taps = (1 - np.abs(place[:, None] - np.arange(cells))).clip(0)
    return slice(int(covered[0]), int(covered[-1]) + 1), torch.from_numpy(taps.astype(np.float32)).to(maps.device)


def _resample(maps: Tensor, taps: Tensor) -> Tensor:
    """Bilinear values of (B, C, cells, cells) maps, as two products: (B, C, pixels, pixels)."""
    return taps @ (maps.float() @ taps.T)


def decode(maps: CropMaps, sizes_wh: Sequence[tuple[int, int]], anatomy: Anatomy) -> list[Prediction]:
    """Part masks by arg max at each photo's size, joints by arg max of the smoothed maps (Sec. 3.2).

    If the maps come with offsets, all local maxima are candidates and are grouped into people.
    ``sizes_wh`` are the B photos' (width, height).
    """
    crop = (maps.joints if maps.parts is None else maps.parts).shape[-1]
    matrices = [fit_affine(size, crop) for size in sizes_wh]
    masks = [None] * len(matrices)
    if maps.parts is not None:
        photos = (_sample_at_photo(*each) for each in zip(maps.parts, matrices, sizes_wh, strict=True))
        # max is five times as fast as argmax
        masks = [each.max(dim=0).indices.to(torch.uint8).cpu().numpy() for each in photos]
    found = [(None, None)] * len(matrices)
    if maps.offsets is not None:
        found = [partition(each, anatomy) for each in crowd_candidates(maps)]
    elif maps.joints is not None:
        found = [peaks(joints, SMOOTHING * crop / PAPER_CROP) for joints in maps.joints.cpu().numpy()]
    return [
        Prediction(mask, None if points is None else transform_points(points, back), scores)
        for mask, (points, scores), back in zip(masks, found, map(cv2.invertAffineTransform, matrices), strict=True)
    ]


def crowd_candidates(maps: CropMaps) -> list[Candidates]:
    """The joint candidates of each of B images of several people, in crop pixels."""
    offsets = maps.offsets.unflatten(1, (2, -1)).transpose(1, 2).cpu().numpy()  # (B, N, 2, crop, crop)
    return [find_candidates(*each) for each in zip(maps.joints.cpu().numpy(), offsets, strict=True)]


def peaks(maps: np.ndarray, sigma: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Arg max of each (N, h, w) map, smoothed by ``sigma``: (N, 2) float32 points in map pixels and (N,) heights."""
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), sigma) for each in maps]) if sigma else maps
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
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    return F.grid_sample(maps[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def predict(
    model: Network, images: Sequence[np.ndarray], crop: int, testing: Testing, anatomy: Anatomy
) -> list[Prediction]:
    """Parts and joints of each (H, W, 3) uint8 RGB image, at its own size; ``model`` must be in eval mode."""
    maps = predict_maps(model, images, crop, testing, anatomy)
    return decode(maps, [(image.shape[1], image.shape[0]) for image in images], anatomy)
