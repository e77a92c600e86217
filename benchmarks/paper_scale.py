"""What every row costs at the paper's size: counted, and measured on one thread of this CPU at a batch of two.

python -m benchmarks.paper_scale        (a quarter of an hour; writes the table of docs/paper_scale.md)
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.files import write_text
from mula_lib.models.network import Network, build_model
from mula_lib.training import Objective, make_optimizer, update
from workbook.costs import forward_gflops, parameter_count
from workbook.datasets import REPOSITORY
from workbook.experiments import PAPER, find_experiment
from workbook.tables import CROWD_TABLES, TABLES, table_experiments

PAGE = REPOSITORY / "docs" / "paper_scale.md"
BEGIN, END = "<!-- costs: begin -->\n", "<!-- costs: end -->\n"
IMAGES = {"LIP": 30_462, "PASCAL-Person-Part": 1_716}  # of training
BATCH = 2
SUSTAINED = 10.0  # 10¹² operations a second of a GPU, to turn arithmetic into hours
STATE = 3  # floats a parameter in training: itself, its gradient, and RMSProp's mean square
BACKWARD = 2  # forward passes that a backward pass costs
FLOAT, GIB = 4, 2**30


def rows() -> list[tuple[str, bool]]:
    """Every network of the tables once, by name; and whether it is one for several people."""
    named = [
        (row.name, table in CROWD_TABLES) for table in TABLES for row in table_experiments(table)
    ]
    return [(name, many) for name, many in dict.fromkeys(named) if not name.endswith("own rate")]


def kept_bytes(model: Network, images: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, and the logits with their soft-max and gradient."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # by storage; held, so that no other one gets the same address

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(images)
    logits = sum(stage.parsing.shape[1] for stage in outputs if stage.parsing is not None)
    features = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return features + 3 * FLOAT * logits * images.shape[-1] ** 2 * len(images)


def measure(name: str, crowds: bool) -> dict:
    """One row in this process: counted cost, seconds an image and memory of a training step of two images."""
    anatomy = PASCAL if crowds else LIP
    profile = PAPER.for_crowds() if crowds else PAPER
    experiment = find_experiment(name)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    people, crop = (3,) if crowds else (), profile.crop
    batch = {
        "image": torch.randint(0, 256, (BATCH, 3, crop, crop), dtype=torch.uint8, generator=generator),
        "mask": torch.randint(0, len(anatomy.parts), (BATCH, crop, crop), generator=generator).byte(),
        "joints": torch.rand(BATCH, *people, len(anatomy.joints), 2, generator=generator) * crop,
        "present": torch.ones(BATCH, *people, len(anatomy.joints), dtype=torch.bool),
    }
    if crowds:
        batch["centres"] = batch["joints"].mean(dim=-2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build_model(experiment.model_config(profile, anatomy), 0).to(memory_format=torch.channels_last).train()
    recipe = experiment.recipe(profile)
    objective, optimizer = Objective(model, recipe), make_optimizer(model, recipe)
    for _ in range(2):  # the first step allocates, and compiles
        started = time.perf_counter()
        update(objective, optimizer, batch, recipe)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "data": anatomy.name,
        "parameters": parameter_count(model),
        "gflops": forward_gflops(model, crop),
        "kept": kept_bytes(model, batch["image"]) / BATCH,
        "measured": (peak - before) * 1024,
        "seconds": seconds / BATCH,
    }


def line(found: dict) -> str:
    """A row of the page's table."""
    images = IMAGES[found["data"]]
    hours = (1 + BACKWARD) * found["gflops"] * images * 250 / (SUSTAINED * 1e3) / 3600
    state = STATE * FLOAT * found["parameters"]
    cells = (
        found["name"] + (" (several people)" if found["data"] == PASCAL.name else ""),
        f"{found['parameters'] / 1e6:.1f}",
        f"{found['gflops']:.1f}",
        f"{(state + BATCH * found['kept']) / GIB:.1f}",
        f"{found['measured'] / GIB:.1f}",
        f"{(state + 24 * found['kept']) / GIB:.1f}",
        f"{found['seconds']:.2f}",
        f"{found['seconds'] * images / 3600:,.1f}",
        f"{hours:,.1f}",
    )
    return f"| {' | '.join(cells)} |\n"


HEAD = (
    "| row | Mparams | GFLOPs forward | GiB, batch 2: counted | measured | GiB, batch 24: counted "
    "| CPU: seconds an image | CPU: hours an epoch | hours of 250 epochs at 10 TFLOP/s |\n" + "|---" * 9 + "|\n"
)


def main(arguments: Sequence[str]) -> None:
    """Measure every row, each in a process of its own, and put the table into the page."""
    if arguments:
        print(json.dumps(measure(arguments[0], arguments[1] == "crowds")))
        return
    table = HEAD
    for name, crowds in tqdm(rows(), unit="row"):
        command = [sys.executable, "-m", "benchmarks.paper_scale", name, "crowds" if crowds else "one"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
        table += line(json.loads(done.stdout.splitlines()[-1]))
        tqdm.write(table.splitlines()[-1])
    page = PAGE.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    write_text(PAGE, page[:start] + table + page[end:])


if __name__ == "__main__":
    main(sys.argv[1:])
