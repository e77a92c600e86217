"""How the cost of a training step grows with crop, width and stages, from HG-1s-1u-MuLA at demo size.

python -m benchmarks.growth
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.timing import compare, publish
from benchmarks.training_step import CASES, Case, step_of
from mula_lib.models.joint import JointModel
from workbook.costs import forward_gflops, parameter_count

BASE = CASES["HG-1s-1u-MuLA, demo"]


def variants() -> dict[str, dict[str, Case]]:
    """Cases by what is varied and by its value; the first of each is the base."""
    config = BASE.config
    return {
        "crop": {str(crop): replace(BASE, crop=crop) for crop in (96, 64, 128, 192)},
        "width": {str(width): replace(BASE, config=replace(config, width=width)) for width in (32, 16, 64, 128)},
        "stages": {
            str(stages): replace(BASE, config=replace(config, interactions=("adapt",) * stages))
            for stages in (1, 2, 3, 4, 5)
        },
        "batch": {str(batch): replace(BASE, batch=batch) for batch in (12, 4, 24, 48)},
    }


def main() -> None:
    """Measure and publish, with the arithmetic of each beside it."""
    torch.set_num_threads(BASE.threads)
    for varied, cases in variants().items():
        steps = {f"{varied} {value}": step_of(case, "mula_lib") for value, case in cases.items()}
        publish(compare("growth", varied, steps, plain=next(iter(steps)), runs=3))
        for value, case in cases.items():
            model = JointModel(case.config)
            print(f"    {varied} {value}: {forward_gflops(model, case.crop):.3f} GFLOP forward an image,", end=" ")
            print(f"{parameter_count(model):,} parameters")


if __name__ == "__main__":
    main()
