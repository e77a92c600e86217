"""Figs. 2 and 3 of the paper, drawn from a network itself: its modules, and the shapes that pass through them.

Nothing here is typed from the paper. A forward pass is watched, and what was seen is drawn, so that the figures are
true of whatever network they are given.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mula_lib.models.joint import JointModel
from mula_lib.models.network import Hook, hooked
from workbook.figures.people import bare
from workbook.figures.style import in_house_style
from workbook.figures.systems import IDEA, IMAGE, JOINTS, PARTS, TRUNK, Arrow, Box, draw_diagram

STAGE = 4.4  # columns that a stage takes


def watched_shapes(model: JointModel, crop: int, modules: Mapping[str, nn.Module]) -> dict[str, tuple[str, str]]:
    """The shapes that enter and leave each of the named modules in a forward pass of one crop, without the batch."""
    seen: dict[str, tuple[str, str]] = {}

    def note(name: str) -> Hook:
        return lambda module, given, output: seen.__setitem__(name, (shape_of(given[0]), shape_of(output)))

    with hooked((module, note(name)) for name, module in modules.items()):
        model.eval()(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=next(model.parameters()).device))
    return seen


def shape_of(tensor: Tensor) -> str:
    """``64×12×12`` of a batch of such tensors."""
    return "×".join(map(str, tensor.shape[1:]))


@in_house_style
@torch.inference_mode()
def mutual_adaptation(model: JointModel, crop: int) -> Figure:
    """Fig. 2: both branches through all stages, with the shapes of everything that passes.

    Boxes of the adaptation stand only where the network has it: a one-way or plain stage is drawn as it is.
    """
    branches = {"S": model.parsing, "J": model.pose}
    named: dict[str, nn.Module] = {}
    for key, branch in branches.items():
        named[f"stem {key}"] = branch.stem
        for t in range(model.config.stages):
            named |= {f"E{key}{t}": branch.encoder[t], f"C{key}{t}": branch.classifier[t]}
            if t + 1 < model.config.stages:
                named[f"M{key}{t}"] = branch.mapping[t]
            direction = getattr(model.interaction[t], "to_parsing" if key == "S" else "to_pose", None)
            if direction is not None:
                named |= {f"A{key}{t}": direction.adapter, f"D{key}{t}": direction.dynamic}
    shapes = watched_shapes(model, crop, named)
    boxes, arrows = {"image": Box(f"image\n3×{crop}×{crop}", 0, 2, IMAGE)}, []
    for key, row, colour in (("S", 0, PARTS), ("J", 4, JOINTS)):
        other, side = ("J", 1) if key == "S" else ("S", -1)
        task = "parts" if key == "S" else "joints"
        before = "image"
        if not isinstance(named[f"stem {key}"], nn.Identity):
            boxes[f"stem {key}"] = Box(f"stem\nF: {shapes[f'stem {key}'][1]}", 1.1, row, TRUNK)
            arrows.append(Arrow("image", f"stem {key}"))
            before = f"stem {key}"
        for t in range(model.config.stages):
            at = 2.3 + STAGE * t
            encoder = type(named[f"E{key}{t}"]).__name__.removesuffix("Encoder")
            boxes[f"E{key}{t}"] = Box(f"E: {encoder}\nR: {shapes[f'E{key}{t}'][1]}", at, row, colour)
            arrows.append(Arrow(before, f"E{key}{t}"))
            refined = f"E{key}{t}"
            if f"A{key}{t}" in named:
                boxes[f"D{key}{t}"] = Box(f"+ U ψ̃ V\nR̄: {shapes[f'D{key}{t}'][1]}", at + 1.6, row, IDEA)
                boxes[f"A{key}{t}"] = Box(
                    f"A: kernels\n{shapes[f'A{key}{t}'][1]}", at + 0.8, row + (1.3 if key == "S" else -1.3), IDEA
                )
                arrows += [
                    Arrow(f"E{key}{t}", f"D{key}{t}"), Arrow(f"E{other}{t}", f"A{key}{t}"),
                    Arrow(f"A{key}{t}", f"D{key}{t}"),
                ]  # fmt: skip
                refined = f"D{key}{t}"
            boxes[f"C{key}{t}"] = Box(f"C: {task}\n{shapes[f'C{key}{t}'][1]}", at + 2.8, row - side * 1.3, colour)
            arrows.append(Arrow(refined, f"C{key}{t}"))
            if f"M{key}{t}" in named:
                boxes[f"M{key}{t}"] = Box(f"M\nF: {shapes[f'M{key}{t}'][1]}", at + 3.2, row, TRUNK)
                arrows += [Arrow(refined, f"M{key}{t}"), Arrow(f"C{key}{t}", f"M{key}{t}")]
                before = f"M{key}{t}"
    return _figure(boxes, arrows, 1.35)


@in_house_style
@torch.inference_mode()
def parameter_adapter(model: JointModel, crop: int) -> Figure:
    """Fig. 3 (b): the layers of the first stage's adapter with their kernels, and the shapes between them."""
    adapter = model.interaction[0].to_parsing.adapter
    layers = {name: getattr(adapter, name) for name in ("conv1", "conv2", "conv3")}
    shapes = watched_shapes(model, crop, {**layers, "adapter": adapter})
    boxes = {"R": Box(f"R of the\nother task\n{shapes['conv1'][0]}", 0, 0, JOINTS)}
    names, previous = ["R"], shapes["conv1"][0]
    for name, layer in layers.items():
        given, left = shapes[name]
        if given != previous:  # what lies between two layers is a pooling
            boxes[f"pool {name}"] = Box(f"max pool\n{given}", len(names) * 1.25, 0, TRUNK)
            names.append(f"pool {name}")
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        step = f", stride {stride}" if stride > 1 else ""
        boxes[name] = Box(f"conv {kernel}×{kernel}{step}\n{left}", len(names) * 1.25, 0, IDEA)
        names.append(name)
        previous = left
    if adapter.base is not None:
        boxes["base"] = Box(f"+ learned base\n{shape_of(adapter.base[None])}", len(names) * 1.25, 0, TRUNK)
        names.append("base")
    if adapter.unit_kernels:
        boxes["unit"] = Box("each channel\nto length 1", len(names) * 1.25, 0, TRUNK)
        names.append("unit")
    boxes["out"] = Box(f"ψ̃: a kernel\na channel\n{shapes['adapter'][1]}", len(names) * 1.25, 0, PARTS)
    names.append("out")
    return _figure(boxes, [Arrow(a, b) for a, b in itertools.pairwise(names)], 1.25)


@in_house_style
@torch.inference_mode()
def encoder_layers(model: JointModel, crop: int) -> Figure:
    """Fig. 3 (a): the parsing branch's first encoder, what each of its parts is and gives."""
    encoder = model.parsing.encoder[0]
    named: dict[str, nn.Module] = {}
    if model.config.backbone == "hourglass":
        named["stem"] = model.parsing.stem
        glass = encoder.layers[0]
        named |= {f"down {n + 1}": group for n, group in enumerate(glass.down)}
        named["bottom"] = glass.bottom
        named |= {f"up {n + 1}": group for n, group in enumerate(glass.up)}
        named["1×1, BN, ReLU: R"] = encoder
    else:
        pools = [index for index, layer in enumerate(encoder.layers) if isinstance(layer, nn.MaxPool2d)]
        named |= {f"block {n + 1}, pooled": encoder.layers[index] for n, index in enumerate(pools)}
        named["blocks 4 and 5: R"] = encoder
    shapes = watched_shapes(model, crop, named)
    depth = {name: _depth(name, len(encoder.layers[0].down) if "stem" in named else 0) for name in named}
    boxes = {"image": Box(f"image\n3×{crop}×{crop}", 0, 0, IMAGE)}
    for place, (name, (_, left)) in enumerate(((name, shapes[name]) for name in named), start=1):
        colour = TRUNK if depth[name] else PARTS
        boxes[name] = Box(f"{name}\n{left}", place * 1.15, depth[name], colour)
    names = list(boxes)
    arrows = [Arrow(a, b) for a, b in itertools.pairwise(names)]
    downs = [name for name in named if name.startswith("down")]
    ups = [name for name in named if name.startswith("up")]
    arrows += [Arrow(down, up, dashed=True) for down, up in zip(reversed(downs), ups, strict=True)]
    return _figure(boxes, arrows, 1.2)


def _depth(name: str, halvings: int) -> float:
    """How far down in an hourglass a part stands."""
    kind, _, number = name.partition(" ")
    if kind == "down":
        return 0.9 * int(number)
    if kind == "up":
        return 0.9 * (halvings + 1 - int(number))
    return 0.9 * (halvings + 1) if name == "bottom" else 0.0


def _figure(boxes: Mapping[str, Box], arrows: list[Arrow], across: float) -> Figure:
    columns, rows = ([getattr(box, name) for box in boxes.values()] for name in ("column", "row"))
    size = ((max(columns) - min(columns) + 1.1) * across, (max(rows) - min(rows)) * 0.62 + 1.0)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    bare(axes)
    draw_diagram(axes, boxes, arrows)
    return figure
