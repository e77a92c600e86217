"""One training step (forward, loss, backward, clipping, optimizer): the plain way against this library's.

    python -m benchmarks.training_step [--case CASE]

The plain way is what one writes first: contiguous tensors, the batch folded into a grouped convolution, logits
upsampled to the image before the cross entropy, one optimizer call per parameter, memory returned after every step. The
other ways take out one thing each, so that their ratios say what it gains. Each way runs in processes of its own, in
turn, because memory settings last as long as a process; peak memory is read there too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import torch

from benchmarks.timing import Row, machine, publish
from mula_lib.anatomy import LIP
from mula_lib.data.targets import PAPER_CROP
from mula_lib.kernels import cross_entropy, depthwise, keep_freed_memory
from mula_lib.models import adaptation, losses
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets
from mula_lib.models.network import ModelConfig
from workbook.costs import forward_gflops
from workbook.datasets import REPOSITORY
from workbook.experiments import DEMO, find_experiment


@dataclass(frozen=True)
class Case:
    """A network, a crop and a batch."""

    config: ModelConfig
    crop: int
    batch: int
    bf16: bool
    threads: int = 1
    steps: int = 8  # timed, after one that is not
    rounds: int = 3  # of new processes


def _demo(row: str) -> Case:
    recipe = DEMO.recipe
    return Case(find_experiment(row).model_config(DEMO, LIP), DEMO.crop, recipe.batch, recipe.bf16)


PAPER = Case(ModelConfig("hourglass", ("adapt",), 256), PAPER_CROP, 4, bf16=False, threads=2, steps=1)
CASES = {
    **{f"{row}, demo": _demo(row) for row in ("HG-1s-1u-MuLA", "HG-2s-1u-MuLA", "VGG16-FCN-MuLA")},
    "HG-1s-1u-MuLA, 256, batch 4": PAPER,
    "HG-5s-1u-MuLA, 256, batch 4": replace(PAPER, config=replace(PAPER.config, interactions=("adapt",) * 5)),
}
WITHOUT = ("without the loops of ⊗c", "without the loops of the cross entropy")
WAYS = ("plain", "mula_lib", *WITHOUT, "stages recomputed", "other precision")


def step_of(case: Case, way: str):
    """A function without arguments that does one training step. Its operators are set for the whole process."""
    plain = way == "plain"
    adaptation.dynamic_depthwise = depthwise.reference if plain or way == WITHOUT[0] else depthwise.dynamic_depthwise
    losses.upsampled_cross_entropy = (
        cross_entropy.reference if plain or way == WITHOUT[1] else cross_entropy.upsampled_cross_entropy
    )
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

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.bf16 != (way == "other precision")):
            outputs = model(images)
        loss = model.loss(outputs, Targets(batch, 100.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=not plain)
        optimizer.step()

    return step


def measure(case: Case, way: str) -> None:
    """In a child process: print the seconds of each step and the peak of memory as JSON."""
    torch.set_num_threads(case.threads)
    step = step_of(case, way)
    seconds = []
    for _ in range(1 + case.steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds[1:], "peak_gb": peak}))


def matrix_product_peak(threads: int, dtype: torch.dtype) -> float:
    """10⁹ operations per second of a large matrix product, the best of five."""
    torch.set_num_threads(threads)
    side = 2048
    left, right = torch.randn(2, side, side).to(dtype)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e9


def compare_ways(name: str, case: Case) -> None:
    """Run the ways in turn and publish their medians, memory and share of the machine's peak."""
    ways = [way for way in WAYS if case.config.stages > 1 or way != "stages recomputed"]
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(case.rounds):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.training_step", "--case", name, "--child", way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
    medians = {way: statistics.median(s for run in runs for s in run["seconds"]) for way, runs in found.items()}
    rows = []
    for way, median in medians.items():
        figures = float(f"{median:.4g}"), float(f"{case.batch / median:.4g}"), round(medians["plain"] / median, 2)
        rows.append(Row("training step", name, way, *figures, case.rounds * case.steps, case.threads, machine()))
    publish(rows)
    peak = matrix_product_peak(case.threads, torch.bfloat16 if case.bf16 else torch.float32)
    # The backward pass costs two forward passes: a convolution each for the gradients of inputs and of weights.
    operations = 3 * case.batch * forward_gflops(JointModel(case.config), case.crop)
    print(f"    {operations:.1f} GFLOP a step; matrix products reach {peak:.0f} GFLOP/s: {operations / peak:.2f} s")
    for way in ways:
        memory = statistics.median(run["peak_gb"] for run in found[way])
        print(f"    {way}: {operations / medians[way] / peak:.0%} of that peak; peak memory {memory:.2f} GB")


def main() -> None:
    """Measure one case or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return measure(CASES[options.case], options.child)
    for name in [options.case] if options.case else CASES:
        compare_ways(name, CASES[name])


if __name__ == "__main__":
    main()
