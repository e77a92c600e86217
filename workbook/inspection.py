"""Looking inside a network on one image: testing crops, outputs of every stage, shapes on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.anatomy import Anatomy
from mula_lib.data.augment import Draw, augment_sample
from mula_lib.data.lip import LipRecord, LipSplit, load_image, load_mask
from mula_lib.data.pascal import PascalRecord
from mula_lib.data.targets import CrowdTargets, centroids
from mula_lib.grouping import Candidates, find_candidates
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets
from mula_lib.models.network import Network, hooked
from workbook.figures.people import Picture


def truth_picture(record: LipRecord | PascalRecord, anatomy: Anatomy, *, title: str = "") -> Picture:
    """The photo of a record with its annotated mask and joints."""
    mask = load_mask(record.mask, classes=len(anatomy.parts))
    return Picture(load_image(record.image), mask, record.joints, record.occluded, title)


def testing_crop(record: LipRecord | PascalRecord, crop: int, anatomy: Anatomy) -> Picture:
    """The same on the (crop, crop) square that a network is tested on."""
    image, mask, joints = augment_sample(*truth_picture(record, anatomy)[:3], crop, Draw(), anatomy)
    return Picture(image, mask, joints, record.occluded)


def fully_annotated(split: LipSplit, count: int) -> list[LipRecord]:
    """The first ``count`` records with all their joints, filled up with the others where those are too few."""
    return sorted(split.records, key=lambda record: bool(np.isnan(record.joints).any()))[:count]


def as_batch(*pictures: Picture) -> Tensor:
    """Square crops as a batch for a network: (B, 3, crop, crop) uint8 RGB."""
    return torch.from_numpy(np.stack([picture.image for picture in pictures]).transpose(0, 3, 1, 2).copy())


@torch.inference_mode()
def stage_predictions(model: JointModel, picture: Picture) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What each of the T stages predicts for one crop, at one scale and without the mirror image.

    Returns T part maps (crop, crop) of ids and T arrays (N, h, w) of joint confidence.
    """
    outputs = model.eval()(as_batch(picture).to(next(model.parameters()).device))
    size = picture.image.shape[:2]
    parts = [F.interpolate(output.parsing, size=size, mode="bilinear").argmax(dim=1)[0] for output in outputs]
    return [mask.cpu().numpy() for mask in parts], [output.pose[0].cpu().numpy() for output in outputs]


def joint_targets(picture: Picture, stride: int) -> np.ndarray:
    """(N, h, w) target maps of a crop's joints at a network's stride."""
    return _targets(picture, stride)[0].numpy()


def crowd_joint_targets(picture: Picture, stride: int, anatomy: Anatomy) -> tuple[CrowdTargets, np.ndarray]:
    """Targets of the M people on a crop at a network's stride, a batch of one, and (M, 2) centroids in crop pixels."""
    centers = centroids(picture.joints, np.full((len(picture.joints), 4), np.nan), anatomy)
    return _targets(picture, stride, centres=torch.from_numpy(centers)[None]), centers


def _targets(picture: Picture, stride: int, **centres: Tensor) -> Tensor | CrowdTargets:
    """What training compares the joint maps of a crop with."""
    crop, joints = picture.image.shape[0], torch.from_numpy(np.asarray(picture.joints, np.float32))[None]
    present = ((joints >= -0.5) & (joints < crop - 0.5)).all(dim=-1)
    batch = {"image": as_batch(picture), "mask": None, "joints": joints, "present": present, **centres}
    return Targets(batch, pose_weight=1.0).pose_targets(torch.empty(1, joints.shape[-2], *(crop // stride,) * 2))


def perfect_candidates(picture: Picture, stride: int, anatomy: Anatomy) -> Candidates:
    """The joint candidates of a network that predicts the targets of a crop of several people."""
    targets, _ = crowd_joint_targets(picture, stride, anatomy)
    crop = picture.image.shape[0]
    confidence = F.interpolate(targets.heatmaps, size=(crop, crop), mode="bilinear", align_corners=False)[0]
    # Between the cells' centres a perfect network's arrows end at the same point, so they change with the pixel.
    offsets = F.interpolate(targets.offsets * crop / 2, size=(crop, crop), mode="nearest")[0].unflatten(0, (2, -1))
    pixels = torch.arange(crop)
    beside = (stride - 1) / 2 + stride * (pixels // stride) - pixels
    across, down = torch.broadcast_tensors(beside[None], beside[:, None])
    offsets = offsets + torch.stack([across, down])[:, None]
    return find_candidates(confidence.numpy(), offsets.transpose(0, 1).numpy())


@torch.inference_mode()
def module_outputs(
    model: Network, images: Tensor, modules: Iterable[nn.Module], batch: int = 32
) -> dict[nn.Module, Tensor]:
    """What leaves each of ``modules`` for B images, computed ``batch`` at a time: (B, …) each."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    where = next(model.parameters()).device
    with hooked((module, lambda own, _, output: outputs.setdefault(own, []).append(output)) for module in modules):
        for some in images.split(batch):
            model.eval()(some.to(where))
    return {module: torch.cat(each) for module, each in outputs.items()}


def output_shapes(model: JointModel, images: Tensor, modules: Mapping[str, nn.Module]) -> pd.DataFrame:
    """The shape that leaves each of the named ``modules`` in one forward pass of ``images``."""
    outputs = module_outputs(model, images, modules.values())
    shapes = {name: "×".join(map(str, outputs[module].shape)) for name, module in modules.items()}
    return pd.DataFrame({"output (B×C×H×W)": shapes})
