"""One training step (forward, loss, backward, clipping, RMSProp): the plain way against this library's.

    python -m benchmarks.training_step [--case CASE] [--profile]

The plain way is what one writes first: contiguous tensors, the batch folded into a grouped convolution, logits
upsampled to the image before the cross entropy, one optimizer call a parameter, memory given back after every step.
Each way runs in processes of its own, in turn, because what it asks of the C library's memory lasts as long as its
process does; peak memory is read there too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import torch

from benchmarks.timing import Row, machine, publish
from mula_lib.anatomy import LIP
from mula_lib.data.targets import PAPER_CROP
from mula_lib.files import keep_freed_memory, usable_cores
from mula_lib.kernels import jit
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets
from mula_lib.models.network import ModelConfig
from workbook.costs import forward_gflops
from workbook.datasets import REPOSITORY
from workbook.experiments import find_experiment
from workbook.profiles import DEMO


@dataclass(frozen=True)
class Case:
    """A network, a crop and a batch."""

    config: ModelConfig
    crop: int
    batch: int
    threads: int
    steps: int  # that are timed, after one that is not
    rounds: int  # of new processes


def _demo(row: str) -> Case:
    return Case(find_experiment(row).model_config(DEMO, LIP), DEMO.crop, DEMO.recipe.batch, 1, 12, 3)


def _paper(stages: int) -> Case:
    config = ModelConfig("hourglass", ("adapt",) * stages, 256, adaptation=AdaptationConfig(7))
    return Case(config, PAPER_CROP, 4, usable_cores(), 1, 3)


CASES = {
    "HG-5s-1u-MuLA, 256, batch 4": _paper(5),
    "HG-1s-1u-MuLA, 256, batch 4": _paper(1),
    **{f"{row}, demo": _demo(row) for row in ("HG-5s-1u-MuLA", "HG-1s-1u-MuLA", "VGG16-FCN-MuLA")},
}
WAYS = ("plain", "mula_lib", "mula_lib, stages recomputed", "mula_lib, bf16")


def step_of(case: Case, way: str):
    """A function without arguments that does one training step."""
    plain, bf16 = way == "plain", way.endswith("bf16")
    layout = torch.contiguous_format if plain else torch.channels_last
    torch.manual_seed(0)
    model = JointModel(case.config).train().to(memory_format=layout)
    model.recompute_stages = way.endswith("recomputed")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4, foreach=not plain)
    size = (case.batch, case.crop, case.crop)
    batch = {
        "image": torch.randint(0, 256, (case.batch, 3, *size[1:]), dtype=torch.uint8),
        "mask": torch.randint(0, case.config.parts, size, dtype=torch.uint8),
        "joints": torch.rand(case.batch, case.config.joints, 2) * case.crop,
        "present": torch.ones(case.batch, case.config.joints, dtype=torch.bool),
    }
    batch["image"] = batch["image"].contiguous(memory_format=layout)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = model(batch["image"])
        loss = model.loss(outputs, Targets(batch, 100.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=not plain)
        optimizer.step()

    if not plain:
        keep_freed_memory()
        return step

    def plainly() -> None:
        with jit.plain():
            step()

    return plainly


def measure(case: Case, way: str) -> None:
    """In a child process: print the seconds of each step and the peak of memory as JSON."""
    torch.set_num_threads(case.threads)
    step = step_of(case, way)
    step()
    seconds = []
    for _ in range(case.steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def profile(case: Case, way: str) -> None:
    """Print where one step's time goes, by PyTorch's operations."""
    torch.set_num_threads(case.threads)
    step = step_of(case, way)
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=45))


def matrix_product_peak(threads: int) -> float:
    """10⁹ operations a second of a large float32 matrix product, the best of five."""
    torch.set_num_threads(threads)
    side = 2048
    left, right = torch.randn(side, side), torch.randn(side, side)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e9


def compare_ways(name: str, case: Case, ways: list[str]) -> None:
    """Run the ways in turn and publish their medians, memory and share of the machine's peak."""
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(case.rounds):
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.training_step", "--case", name, "--child", way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
    medians = {way: statistics.median(s for run in runs for s in run["seconds"]) for way, runs in found.items()}
    publish(
        [
            Row(
                "training step", name, way, float(f"{medians[way]:.4g}"), float(f"{case.batch / medians[way]:.4g}"),
                round(medians["plain"] / medians[way], 2), case.rounds * case.steps, case.threads, machine(),
            )
            for way in ways
        ]
    )  # fmt: skip
    peak = matrix_product_peak(case.threads)
    # Backward is twice forward: the gradients of inputs and of weights are a convolution each.
    operations = 3 * case.batch * forward_gflops(JointModel(case.config), case.crop)
    print(f"    {operations:.1f} GFLOP a step; matrix products here reach {peak:.0f} GFLOP/s: at least", end=" ")
    print(f"{operations / peak:.2f} s a step")
    for way in ways:
        memory = statistics.median(run["peak_gb"] for run in found[way])
        print(f"    {way}: {operations / medians[way] / peak:.0%} of that peak; peak memory {memory:.2f} GB")


def main() -> None:
    """Measure one case or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--bf16", action="store_true", help="measure bf16 autocast too; slow where it is emulated")
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes instead")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return measure(CASES[options.case], options.child)
    for name in [options.case] if options.case else CASES:
        if options.profile:
            for way in WAYS[:2]:
                print(f"{name}: {way}")
                profile(CASES[name], way)
        else:
            deep = CASES[name].config.stages > 1
            compare_ways(name, CASES[name], [*WAYS[: 3 if deep else 2], *WAYS[3 : 4 * options.bf16]])


if __name__ == "__main__":
    main()
