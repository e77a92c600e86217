"""The authors' released checkpoints: ``python -m mula_lib.models.released convert FILE.pth.tar OUT.safetensors``.

Their networks are this library's :class:`~mula_lib.models.joint.JointModel` in its ``released`` structure, with other
names, another order of the joints, and BGR pixels. The result is a weights file like any other: it holds its own
configuration, and ``python -m workbook.photo`` and ``python -m workbook.submission`` take it.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mula_lib.anatomy import LIP
from mula_lib.checkpoint import load_checkpoint, save_weights
from mula_lib.files import CheckpointError, exit_status
from mula_lib.models.adaptation import released_adaptation
from mula_lib.models.network import RELEASED, ModelConfig, Network, network_of

PREFIX = re.compile(r"(module\.)?(front_end_net\.)?")  # added by nn.DataParallel and the module that built the network

# The channels of their joint maps, by LIP's names; the 17th is the background.
JOINTS = (
    "head_top", "upper_neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "thorax", "pelvis",
)  # fmt: skip

# Our names -> theirs; T is the task. What they call U comes before the dynamic convolution, and is Eq. 6's V.
_STEM = (
    (r"(T)\.stem\.layers\.([01])\.", r"\1_encoder.basic_block.\2."),
    (r"(T)\.stem\.layers\.3\.body\.", r"\1_encoder.basic_block.3.res_block."),
    (r"(T)\.stem\.layers\.3\.shortcut\.", r"\1_encoder.basic_block.3.conv1x1."),
    (r"(T)\.stem\.layers\.5\.body\.", r"\1_encoder.res_block."),
    (r"(T)\.stem\.layers\.6\.body\.", r"\1_encoder.res_pre_act.res_block."),
    (r"(T)\.stem\.layers\.6\.shortcut\.", r"\1_encoder.res_pre_act.conv1x1."),
)
_STAGES = (
    *(
        (rf"(T)\.encoder\.(\d+)\.layers\.0\.{group}\.(\d+)\.body\.", rf"\1_encoder.hg_list.\2.srb{k}.\3.res_block.")
        for k, group in enumerate([*(rf"down\.{d}" for d in range(4)), "bottom", *(rf"up\.{u}" for u in range(4))], 1)
    ),
    (r"(T)\.encoder\.(\d+)\.layers\.0\.close\.0\.", r"\1_encoder.hg_list.\2.bn."),
    (r"(T)\.encoder\.(\d+)\.layers\.1\.", r"\1_encoder.conv1x1_1_list.\2."),
    (r"(T)\.encoder\.(\d+)\.layers\.2\.", r"\1_encoder.bn.\2."),
    (r"(T)\.classifier\.(\d+)\.", r"\1_encoder.conv_pred_list.\2."),
    (r"(T)\.mapping\.(\d+)\.from_features\.", r"\1_encoder.conv1x1_2_list.\2."),
    (r"(T)\.mapping\.(\d+)\.from_prediction\.", r"\1_encoder.conv_remap_list.\2."),
    *(
        (rf"interaction\.(\d+)\.to_(T)\.adapter\.conv{k}\.", rf"\2_param_adapter_list.\1.{2 * k - 2}.")
        for k in (1, 2, 3)
    ),
    (r"interaction\.(\d+)\.to_(T)\.dynamic\.V\.", r"\2_conv1x1_U_list.\1."),
    (r"interaction\.(\d+)\.to_(T)\.dynamic\.U\.", r"\2_conv1x1_V_list.\1."),
    (r"interaction\.(\d+)\.to_(T)\.dynamic\.close\.0\.", r"\2_bn_list.\1."),
)
_VGG = (
    (r"(T)\.encoder\.0\.layers\.(\d+)\.", r"\1_encoder.model.\2."),
    (r"(T)\.classifier\.0\.", r"\1_classifier."),
    *((rf"interaction\.0\.to_(T)\.adapter\.conv{k}\.", rf"\1_param_adapter.{2 * k - 2}.") for k in (1, 2, 3)),
    (r"interaction\.0\.to_(T)\.dynamic\.V\.", r"\1_conv1x1_U."),
    (r"interaction\.0\.to_(T)\.dynamic\.U\.", r"\1_conv1x1_V."),
)
NAMES = {
    backbone: tuple((re.compile(ours.replace("T", "pose|parsing")), theirs) for ours, theirs in rules)
    for backbone, rules in (("hourglass", _STEM + _STAGES), ("vgg", _VGG))
}
# Unused entries of their networks: shortcuts of residuals that keep their channels, the VGG's norms, the second names
# of an hourglass's classifiers, and counters that a later PyTorch saved.
DEAD = re.compile(
    r"\w+_encoder\.hg_list\.\d+\.srb\d\.\d+\.conv1x1\..*|(pose|parsing)_(bn\.|classifier\.\d).*|.*\.num_batches_tracked"
)


def released_config(backbone: str, stages: int = 5, units: int = 1) -> ModelConfig:
    """The authors' network: ``hourglass`` (T stages of ``units`` residuals a group) or ``vgg`` (one stage)."""
    vgg = backbone == "vgg"
    return ModelConfig(
        backbone=backbone,
        interactions=("adapt",) if vgg else ("adapt",) * stages,
        width=512 if vgg else 256,
        units=units,
        adaptation=released_adaptation(3 if vgg else 7, vgg=vgg),
        image=RELEASED,
        released=True,
    )


def convert(state: Mapping[str, Tensor], file: Path | str = "the state dict") -> Network:
    """The network, in evaluation mode, with the weights of the authors' state dict, hourglass or VGG.

    Raises :class:`CheckpointError`, naming ``file`` and the keys, if keys are unknown, missing or of another shape.
    """
    state = {PREFIX.sub("", name, count=1): value for name, value in state.items()}
    backbone = "vgg" if any(name.startswith("pose_encoder.model.") for name in state) else "hourglass"
    stages = _count(state, r"pose_encoder\.hg_list\.(\d+)\.")
    units = _count(state, r"pose_encoder\.hg_list\.0\.srb1\.(\d+)\.")
    if backbone == "hourglass" and not (stages and units):
        raise CheckpointError(f"{file}: neither the authors' VGG nor their hourglass network; it has {list(state)[:5]}")
    network = network_of(released_config(backbone, stages, units or 1))  # a VGG has no residual units
    ours = network.state_dict()
    names = {_their_name(name, backbone): name for name in ours}
    converted = {names.get(name, name): value.float() for name, value in state.items() if not DEAD.fullmatch(name)}
    counters = {name: value for name, value in ours.items() if name.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(counters | converted)
    except RuntimeError as error:  # names every key that is unknown, missing or of another shape
        raise CheckpointError(f"{file}: not the authors' network: {' '.join(str(error).split())}") from error
    _reorder_joints(network)
    return network.eval()


def load_official(path: Path) -> dict[str, Tensor]:
    """The state dict in one of the authors' ``.pth.tar`` files, old format or new; none of its code is run.

    Raises :class:`CheckpointError` for a file that is missing, damaged, or holds anything but tensors and plain values.
    """
    # The files also hold scores as NumPy numbers, which are skipped.
    makers = [f"numpy.{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("scalar", "_reconstruct")]
    skipped = [(_Skipped, name) for name in (*makers, "numpy.dtype", "numpy.ndarray")]
    with torch.serialization.safe_globals([_Skipped, *skipped]):
        content = load_checkpoint(path, fix="download it again")
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: no dictionary of tensors under 'state_dict'; is it one of the authors' files?")
    return state


def convert_file(source: Path, target: Path) -> Network:
    """Convert one of the authors' files into a weights file, written atomically; returns the network."""
    network = convert(load_official(source), source)
    config = network.config
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    facts = {
        "experiment": "VGG16-FCN-MuLA" if config.backbone == "vgg" else f"HG-{config.stages}s-{config.units}u-MuLA",
        "profile": "paper-released",
        "dataset": "lip",
        "seed": None,
        "fingerprint": f"official {digest[:16]}",
        "converted_from": {"file": source.name, "sha256": digest},
    }
    save_weights(target, network, facts)
    return network


class _Skipped:
    """A stand-in for objects in a checkpoint that are not needed; takes any arguments and state, and keeps none."""

    def __init__(self, *ignored: object) -> None:
        pass

    __setstate__ = __init__


def _their_name(name: str, backbone: str) -> str:
    return next(ours.sub(theirs, name, count=1) for ours, theirs in NAMES[backbone] if ours.match(name))


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers ``pattern`` finds among the keys."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def _reorder_joints(network: Network) -> None:
    """Permute the joint maps from the authors' order to LIP's, where written and where read; background stays last."""
    order = torch.tensor([*(JOINTS.index(joint) for joint in LIP.joints), len(JOINTS)])
    with torch.no_grad():
        for classifier in network.pose.classifier:
            classifier.weight.copy_(classifier.weight[order])
            classifier.bias.copy_(classifier.bias[order])
        for mapping in network.pose.mapping:
            mapping.from_prediction.weight.copy_(mapping.from_prediction.weight[:, order])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.models.released", description=__doc__)
    parser.add_argument("command", choices=["convert"])
    parser.add_argument("source", type=Path, metavar="FILE.pth.tar")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    options = parser.parse_args(arguments)

    def command() -> None:
        config = convert_file(options.source, options.target).config
        print(f"{options.target}: {config.backbone}, {config.stages} stages, {config.width} channels")

    return exit_status(command, kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
