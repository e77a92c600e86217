"""One training step (forward, loss, backward, clipping, optimizer): the plain way against this library's.

The plain way is what one writes first: contiguous tensors, the batch folded into a grouped convolution, logits
upsampled to the image before the cross entropy, one optimizer call per parameter, memory returned after every step, all
in float32. The other ways take out one thing each, so that their ratios say what it gains; they use bf16 where the
processor has it, as the recipe does. Each way runs in processes of its own, in turn, because memory settings last as
long as a process; peak memory is read there too.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from benchmarks.timing import Row, summarize
from mula_lib.anatomy import LIP
from mula_lib.data.targets import PAPER_CROP
from mula_lib.kernels import depthwise, has_bf16, keep_freed_memory
from mula_lib.models import adaptation, losses
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets, upsample
from mula_lib.models.network import ModelConfig
from workbook.datasets import REPOSITORY
from workbook.experiments import DEMO, find_experiment

ROUNDS = 2  # of new processes


class Case(NamedTuple):
    """A network, a crop and a batch."""

    config: ModelConfig
    crop: int
    batch: int = DEMO.recipe.batch
    steps: int = 8  # timed, after one that is not


CASES = {
    f"{row.name}, demo": Case(row.model_config(DEMO, LIP), DEMO.for_trunk(row.backbone).crop)
    for row in map(find_experiment, ("HG-2s-1u-MuLA", "VGG16-FCN-MuLA"))
}
CASES["HG-1s-1u-MuLA, 256, batch 2"] = Case(ModelConfig("hourglass", ("adapt",), 256), PAPER_CROP, 2, steps=1)
WITHOUT = ("without the loops of ⊗c", "without the matrix products of upsampling")
FLOAT32 = "mula_lib in float32"
WAYS = ("plain", "mula_lib", FLOAT32, *WITHOUT, "stages recomputed")


def interpolate(maps: torch.Tensor, size: tuple[int, int], *, align_corners: bool = False) -> torch.Tensor:
    """What :func:`upsample` computes, by PyTorch's own function."""
    return F.interpolate(maps.float(), size, mode="bilinear", align_corners=align_corners)


def step_of(case: Case, way: str) -> Callable[[], None]:
    """A function without arguments that does one training step. Its operators are set for the whole process."""
    plain = way == "plain"
    adaptation.dynamic_depthwise = depthwise.reference if plain or way == WITHOUT[0] else depthwise.dynamic_depthwise
    losses.upsample = interpolate if plain or way == WITHOUT[1] else upsample
    layout = torch.contiguous_format if plain else torch.channels_last
    torch.manual_seed(0)
    model = JointModel(case.config).train().to(memory_format=layout)
    model.recompute_stages = way == "stages recomputed"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=not plain)
    size = (case.batch, case.crop, case.crop)
    images = torch.randint(0, 256, (case.batch, 3, *size[1:]), dtype=torch.uint8).contiguous(memory_format=layout)
    batch = {
        "image": images,
        "mask": torch.randint(0, case.config.parts, size, dtype=torch.uint8),
        "joints": torch.rand(case.batch, case.config.joints, 2) * case.crop,
        "present": torch.ones(case.batch, case.config.joints, dtype=torch.bool),
    }
    if not plain:
        keep_freed_memory()
    bf16 = way not in ("plain", FLOAT32) and has_bf16(images.device)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = model(images)
        loss = model.loss(outputs, Targets(batch, DEMO.recipe.pose_weight))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=not plain)
        optimizer.step()

    return step


def measure(case: Case, way: str) -> None:
    """In a child process: print the seconds of each step and the peak of memory as JSON."""
    torch.set_num_threads(1)
    step = step_of(case, way)
    seconds = []
    for _ in range(1 + case.steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds[1:], "peak_gb": peak}))


def compare_ways(name: str, case: Case) -> list[Row]:
    """Run the ways in turn; prints the memory of each, too."""
    ways = [way for way in WAYS if case.config.stages > 1 or way != "stages recomputed"]
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.training_step", name, way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
    seconds = {way: [each for run in runs for each in run["seconds"]] for way, runs in found.items()}
    rows = summarize("training_step", name, seconds, items=case.batch)
    peaks = (f"{way} {statistics.median(run['peak_gb'] for run in runs):.2f}" for way, runs in found.items())
    print(f"    peak memory, GB: {', '.join(peaks)}")
    return rows


def run() -> list[Row]:
    """Measure every case."""
    return [row for name, case in CASES.items() for row in compare_ways(name, case)]


if __name__ == "__main__":
    measure(CASES[sys.argv[1]], sys.argv[2])
