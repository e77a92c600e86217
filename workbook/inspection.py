"""Inspect networks image by image: inside one of them, and two side by side on images chosen by rule.

Is MuLA's gain due to kernels made for *this* image? :func:`write_kernel_diagnostics` tests the same network with
kernels other than its own. If the scores hold with another image's kernels, or with one mean kernel for all, the
network does not adapt to the image.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.anatomy import IGNORE, Anatomy
from mula_lib.data.augment import Draw, augment_sample
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import LipRecord, LipSplit
from mula_lib.data.pascal import PascalRecord
from mula_lib.data.targets import CrowdTargets, centroids
from mula_lib.evaluation import CrowdEvaluation, Evaluation, evaluate
from mula_lib.files import write_text
from mula_lib.grouping import Candidates, find_candidates
from mula_lib.inference import Testing, predict
from mula_lib.models.adaptation import ParameterAdapter
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets
from mula_lib.models.network import Network, hooked
from workbook.datasets import Source
from workbook.experiments import slug
from workbook.figures.people import Picture
from workbook.runs import Run, results_folder

# One view of each image, so that "the image before" is another image and not the same one at another scale.
ONE_VIEW = Testing(scales=(1.0,), mirror=False)
MOST = 500  # images


def truth_picture(record: LipRecord | PascalRecord, anatomy: Anatomy, *, title: str = "") -> Picture:
    """The photo of a record with its annotated mask and joints."""
    mask = load_mask(record.mask, classes=len(anatomy.parts))
    return Picture(load_image(record.image), mask, record.joints, record.occluded, title)


def testing_crop(record: LipRecord | PascalRecord, crop: int, anatomy: Anatomy) -> Picture:
    """The same on the (crop, crop) square that a network is tested on."""
    image, mask, joints = augment_sample(*truth_picture(record, anatomy)[:3], crop, Draw(), anatomy)
    return Picture(image, mask, joints, record.occluded)


def fully_annotated(split: LipSplit, count: int) -> list[LipRecord]:
    """The first ``count`` records with all their joints, topped up with others if those are too few."""
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
    parts = [F.interpolate(output.parsing, size=size, mode="bilinear").argmax(dim=1)[0].cpu() for output in outputs]
    parts = [np.where(picture.mask == IGNORE, IGNORE, mask) for mask in parts]  # beyond the photo nothing is learned
    return parts, [output.pose[0].cpu().numpy() for output in outputs]


def joint_targets(picture: Picture, stride: int, floor: float, **centres: Tensor) -> Tensor | CrowdTargets:
    """Targets of a crop's joint maps in training, a batch of one; ``floor`` is the recipe's ``sigma_floor``."""
    crop, joints = picture.image.shape[0], torch.from_numpy(np.asarray(picture.joints, np.float32))[None]
    present = ((joints >= -0.5) & (joints < crop - 0.5)).all(dim=-1)
    batch = {"image": as_batch(picture), "mask": None, "joints": joints, "present": present, **centres}
    maps = torch.empty(1, joints.shape[-2], *(crop // stride,) * 2)
    return Targets(batch, pose_weight=1.0, sigma_floor=floor).pose_targets(maps)


def crowd_joint_targets(
    picture: Picture, stride: int, anatomy: Anatomy, floor: float
) -> tuple[CrowdTargets, np.ndarray]:
    """The same for the M people on a crop, and (M, 2) centroids in crop pixels."""
    centers = centroids(picture.joints, np.full((len(picture.joints), 4), np.nan), anatomy)
    return joint_targets(picture, stride, floor, centres=torch.from_numpy(centers)[None]), centers


def perfect_candidates(picture: Picture, stride: int, anatomy: Anatomy, floor: float) -> Candidates:
    """The joint candidates of a network that predicts the targets of a crop of several people."""
    targets, _ = crowd_joint_targets(picture, stride, anatomy, floor)
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
def module_outputs(model: Network, images: Tensor, modules: Iterable[nn.Module]) -> dict[nn.Module, Tensor]:
    """The output of each of ``modules`` for B images, computed 32 at a time: (B, …) each."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    where = next(model.parameters()).device
    with hooked((module, lambda own, _, output: outputs.setdefault(own, []).append(output)) for module in modules):
        for some in images.split(32):
            model.eval()(some.to(where))
    return {module: torch.cat(each) for module, each in outputs.items()}


def output_shapes(model: JointModel, images: Tensor, modules: Mapping[str, nn.Module]) -> pd.DataFrame:
    """The output shape of each of the named ``modules`` in one forward pass of ``images``."""
    outputs = module_outputs(model, images, modules.values())
    shapes = {name: "×".join(map(str, outputs[module].shape)) for name, module in modules.items()}
    return pd.DataFrame({"output (B×C×H×W)": shapes})


def image_scores(evaluation: Evaluation | CrowdEvaluation, anatomy: Anatomy, metrics: Sequence[str] = ()) -> pd.Series:
    """Mean of ``metrics`` (default: PCK or mAP, and mIoU) of each image, %, by its name; nan where no joint counts."""
    scores = [evaluation.only(index).scores(anatomy) for index in range(len(evaluation.names))]
    table = pd.DataFrame(scores, evaluation.names)[list(metrics or (anatomy.pose_metric, "mIoU"))]
    return table.mean(axis=1, skipna=False)


def image_gains(better: Run, baseline: Run, metrics: Sequence[str] = ()) -> pd.Series:
    """A run's gain over another on each validation image: difference of :func:`image_scores`.

    Indexed by the image's name, in the split's order; images without a score are left out.
    """
    one, other = (image_scores(run.evaluation(), run.source.anatomy, metrics) for run in (better, baseline))
    return (one - other).dropna()


def telling_images(gains: pd.Series, each: int = 1) -> dict[str, str]:
    """The images to look at, by rule and not by eye: ``each`` largest gains, medians, largest losses; name -> rule."""
    order = list(gains.sort_values(ascending=False, kind="stable").index)
    each = min(each, len(order) // 3) or 1
    middle = (len(order) - each + 1) // 2
    chosen = {"largest gain": order[:each], "median": order[middle:][:each], "largest loss": order[-each:]}
    return {name: rule for rule, names in chosen.items() for name in names}


def prediction_rows(source: Source, names: Sequence[str], runs: Sequence[Run]) -> list[list[Picture]]:
    """A row of pictures for each of the validation images ``names``: the photo, the truth, what each run predicts.

    A prediction's title gives its own scores on this one image. Of one person, joints that are not annotated are left
    out; of several the photo is, and the truth and each prediction are two pictures: people, and the parts beside them.
    """
    by_name = {record.name: record for record in source.val.records}
    truths = [truth_picture(by_name[name], source.anatomy) for name in names]
    crowds, pose = source.anatomy.crowds, source.anatomy.pose_metric
    rows = [_apart(truth) if crowds else [Picture(truth.image), truth] for truth in truths]
    for run in runs:
        evaluation, images = run.evaluation(), [truth.image for truth in truths]
        predictions = predict(run.model(), images, run.profile.crop, run.profile.testing, source.anatomy)
        for row, name, truth, prediction in zip(rows, names, truths, predictions, strict=True):
            scores = evaluation.only(evaluation.names.index(name)).scores(source.anatomy)
            has = {pose: prediction.joints, "mIoU": prediction.mask}  # its scores of the tasks that it has
            title = ", ".join(f"{metric} {scores[metric]:.0f}" for metric, maps in has.items() if maps is not None)
            joints = prediction.joints
            joints = joints if crowds or joints is None else np.where(np.isnan(truth.joints), np.nan, joints)
            picture = Picture(truth.image, prediction.mask, joints, title=title.replace("nan", "–"))
            row += _apart(picture) if crowds else [picture]
    return rows


def changes(names: Sequence[str], before: Run, after: Run) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each image in ``names``, of one person: (N,) bool, joints that only ``after`` hits, or only ``before``."""
    counts = [run.evaluation() for run in (before, after)]
    pairs = [[each.hits[each.names.index(name)] for each in counts] for name in names]
    return [((was == 0) & (now == 1), (was == 1) & (now == 0)) for was, now in pairs]


def _apart(picture: Picture) -> list[Picture]:
    """The people and the parts of one picture, side by side."""
    return [picture._replace(mask=None), picture._replace(joints=None, occluded=None, title="")]


def adapters_of(model: nn.Module) -> list[ParameterAdapter]:
    """The parameter adapters of a network, in the order in which it has them."""
    return [module for module in model.modules() if isinstance(module, ParameterAdapter)]


def exchanged_kernels(model: nn.Module, exchange: Callable[..., Tensor]) -> AbstractContextManager[None]:
    """Within this context every adapter's kernels go through ``exchange``."""
    return hooked((adapter, lambda own, _, kernels: exchange(own, kernels)) for adapter in adapters_of(model))


class ImageBefore(dict[nn.Module, Tensor]):
    """Each image gets the kernels of the one before it, the very first one those of the last image in its batch."""

    def __call__(self, adapter: nn.Module, kernels: Tensor) -> Tensor:
        before = self.get(adapter, kernels[-1:])
        self[adapter] = kernels[-1:]
        return torch.cat([before, kernels[:-1]])


def write_kernel_diagnostics(runs: Sequence[Run]) -> pd.DataFrame:
    """Test runs of one profile and data set with their own and exchanged kernels; added to ``kernel_diagnostics.csv``.

    Each line has pose metric and mIoU on one view of the first :data:`MOST` validation images, over which "mean" is
    taken, and their differences from the run's own kernels. The counts on which claim B01 rests are kept as well.
    """
    tables, folder = [], results_folder(runs[0].profile, runs[0].source)
    for run in runs:
        model, crop, scores, anatomy = run.model(), run.profile.crop, {}, run.source.anatomy
        few = replace(run.source.val, records=run.source.val.records[:MOST])
        crops = as_batch(*(testing_crop(record, crop, anatomy) for record in few.records))
        predicted = module_outputs(model, crops, adapters_of(model))
        means = {adapter: kernels.mean(dim=0, keepdim=True) for adapter, kernels in predicted.items()}
        exchanges = {
            "its own": lambda adapter, kernels: kernels,
            "another image's": ImageBefore(),
            "mean": lambda adapter, kernels, means=means: means[adapter].expand_as(kernels),
            "zero": lambda adapter, kernels: torch.zeros_like(kernels),  # R* is what U's bias and the BN make of it
        }
        for kernels, exchange in exchanges.items():
            with exchanged_kernels(model, exchange):
                found = evaluate(model, few, crop, ONE_VIEW, anatomy)
            scores[kernels] = found.scores(anatomy)
            if kernels in ("its own", "another image's"):
                name = slug(f"{run.experiment.name} ({kernels} kernels)")
                found.save(folder / "counts" / f"{name}-seed-{run.seed}.npz")
        table = pd.DataFrame(scores).T.rename_axis("kernels")[[anatomy.pose_metric, "mIoU"]]
        table = table.join((table - table.loc["its own"]).add_suffix(" Δ")).round(2)
        tables.append(table.assign(seed=run.seed, images=len(few), dataset=run.source.name, profile=run.profile.name))
    whole = pd.concat(tables, keys=[run.experiment.name for run in runs], names=["method"]).reset_index()
    path = folder / "kernel_diagnostics.csv"
    before = [pd.read_csv(path)] if path.is_file() else []  # of other networks and seeds, too
    together = pd.concat([*before, whole]).drop_duplicates(["method", "seed", "kernels"], keep="last")
    write_text(path, together.to_csv(index=False))
    return whole


def predicted_kernels(model: Network, images: Tensor) -> list[np.ndarray]:
    """What each adapter predicts for B images: one array (B, C, h, h) per adapter."""
    return [kernels.cpu().numpy() for kernels in module_outputs(model, images, adapters_of(model)).values()]
