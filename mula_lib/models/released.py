"""The authors' released checkpoints: ``python -m mula_lib.models.released convert FILE.pth.tar OUT.safetensors``.

Their networks are this library's :class:`~mula_lib.models.joint.JointModel` in its ``released`` structure, with other
names, another order of the joints and BGR pixels. What is written is a weights file like any other: it says how it is
built, and ``python -m workbook.photo`` and ``python -m workbook.submission`` take it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mula_lib.anatomy import LIP
from mula_lib.checkpoint import load_plain, save_weights
from mula_lib.files import CheckpointError, exit_status
from mula_lib.models import network as convention
from mula_lib.models.adaptation import released_adaptation
from mula_lib.models.network import ModelConfig, Network, network_of

PREFIXES = ("module.", "front_end_net.")  # of nn.DataParallel, and of the module that initialised the network

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
COUNTERS = r".*\.num_batches_tracked"  # of a checkpoint that a later PyTorch wrote again
# What their networks have and never use: shortcuts of residuals that keep their channels, a norm without --batch-norm.
DEAD = {
    "hourglass": re.compile(rf"\w+_encoder\.hg_list\.\d+\.srb\d\.\d+\.conv1x1\..*|{COUNTERS}"),
    "vgg": re.compile(rf"(pose|parsing)_bn\..*|{COUNTERS}"),
}
ALIAS = re.compile(r"(pose|parsing)_classifier\.(\d+\..*)")  # of a hourglass's conv_pred_list: one module, two names


def released_config(backbone: str, stages: int = 5, units: int = 1, *, width: int | None = None) -> ModelConfig:
    """The authors' network: ``hourglass`` (T stages of ``units`` residuals a group) or ``vgg`` (one stage).

    ``width`` is 256 or 512, as released, unless another is asked for.
    """
    vgg = backbone == "vgg"
    return ModelConfig(
        backbone=backbone,
        interactions=("adapt",) if vgg else ("adapt",) * stages,
        width=width or (512 if vgg else 256),
        units=units,
        adaptation=released_adaptation(3 if vgg else 7, vgg=vgg),
        image=convention.RELEASED,
        released=True,
    )


def convert(state: Mapping[str, Tensor], file: Path | str = "the state dict") -> Network:
    """The network, in evaluation mode, whose weights are ``state``: the authors' state dict, either architecture.

    Raises :class:`CheckpointError`, naming ``file`` and the keys, if one is unknown, missing or of another shape than
    the released network's, or if the two names of a classifier hold different numbers.
    """
    state = {_without_prefix(name): value for name, value in state.items()}
    backbone = "vgg" if any(name.startswith("pose_encoder.model.") for name in state) else "hourglass"
    stages = _count(state, r"pose_encoder\.hg_list\.(\d+)\.")
    units = _count(state, r"pose_encoder\.hg_list\.0\.srb1\.(\d+)\.")
    if backbone == "hourglass" and not (stages and units):
        raise CheckpointError(
            f"{file}: neither the authors' VGG nor their hourglass network; its keys begin with {_some(state)}"
        )
    config = released_config(backbone, stages, units or 1)  # a VGG has no residual units
    network = network_of(config)
    used = {name: value for name, value in state.items() if not DEAD[backbone].fullmatch(name)}
    if backbone == "hourglass":
        _check_aliases(used, file)
        used = {name: value for name, value in used.items() if not ALIAS.fullmatch(name)}
    ours = network.state_dict()
    wanted = {_their_name(name, backbone): name for name in ours if not name.endswith("num_batches_tracked")}
    _refuse(file, "unknown keys", [name for name in used if name not in wanted])
    _refuse(file, "missing keys", [name for name in wanted if name not in used])
    shapes = [
        f"{name} {tuple(used[name].shape)} instead of {tuple(ours[mine].shape)}"
        for name, mine in wanted.items()
        if used[name].shape != ours[mine].shape
    ]
    _refuse(file, "keys of another shape", shapes)
    network.load_state_dict({**ours, **{mine: used[name].float() for name, mine in wanted.items()}})
    _reorder_joints(network)
    return network.eval()


def load_official(path: Path) -> dict[str, Tensor]:
    """The state dict in one of the authors' ``.pth.tar`` files, of any age; none of its code is run.

    Raises :class:`CheckpointError` for a file that is missing, damaged, or holds anything but tensors and plain values.
    """
    # Beside the weights lie NumPy's numbers, scores of the training: they are passed over, not built.
    makers = [f"numpy.{core}.multiarray.{maker}" for core in ("core", "_core") for maker in ("scalar", "_reconstruct")]
    passed_over = [(_PassedOver, name) for name in (*makers, "numpy.dtype", "numpy.ndarray")]
    with torch.serialization.safe_globals([_PassedOver, *passed_over]):
        content = load_plain(path, "cannot be read safely", fix="download it again")
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: no dictionary of tensors under 'state_dict'; is it one of the authors' files?")
    return state


def convert_file(source: Path, target: Path) -> Network:
    """Convert one of the authors' files into a weights file, written atomically; returns the network."""
    network = convert(load_official(source), source)
    config = network.config
    name = "VGG16-FCN-MuLA" if config.backbone == "vgg" else f"HG-{config.stages}s-{config.units}u-MuLA"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    facts = {
        "experiment": name,
        "profile": "paper-released",
        "dataset": "lip",
        "seed": None,
        "fingerprint": f"official {digest[:16]}",
        "converted_from": {"file": source.name, "sha256": digest},
    }
    save_weights(target, network, facts)
    return network


class _PassedOver:
    """Stands for whatever a checkpoint holds that is not needed; takes any arguments and state, and keeps none."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _without_prefix(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _their_name(name: str, backbone: str) -> str:
    for ours, theirs in NAMES[backbone]:
        match = ours.match(name)
        if match:
            return match.expand(theirs) + name[match.end() :]
    raise AssertionError(f"{name}: not in the table of names")


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers ``pattern`` finds among the keys."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def _check_aliases(state: Mapping[str, Tensor], file: Path | str) -> None:
    for name, value in state.items():
        alias = ALIAS.fullmatch(name)
        if alias is None:
            continue
        same = f"{alias[1]}_encoder.conv_pred_list.{alias[2]}"
        if same not in state or not torch.equal(value, state[same]):
            raise CheckpointError(f"{file}: {name} and {same} are one classifier by two names, and they differ")


def _reorder_joints(network: Network) -> None:
    """Bring the joint maps, made and read, from the authors' order into LIP's; the background stays the last."""
    order = torch.tensor([*(JOINTS.index(joint) for joint in LIP.joints), len(JOINTS)])
    with torch.no_grad():
        for classifier in network.pose.classifier:
            classifier.weight.copy_(classifier.weight[order])
            classifier.bias.copy_(classifier.bias[order])
        for mapping in network.pose.mapping:
            mapping.from_prediction.weight.copy_(mapping.from_prediction.weight[:, order])


def _refuse(file: Path | str, what: str, names: Sequence[str]) -> None:
    if names:
        raise CheckpointError(f"{file}: {what} in the authors' network: {_some(names)}")


def _some(names: Sequence[str] | Mapping[str, object], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.models.released", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="convert")
    command = commands.add_parser("convert", help="make a weights file of one of the authors' checkpoints")
    command.add_argument("source", type=Path, metavar="FILE.pth.tar")
    command.add_argument("target", type=Path, metavar="OUT.safetensors")
    options = parser.parse_args(arguments)

    def command() -> None:
        config = convert_file(options.source, options.target).config
        print(f"{options.target}: {config.backbone}, {config.stages} stages, {config.width} channels")

    return exit_status(command, kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
