"""All benchmarks, one after the other: ``python -m benchmarks`` (a quarter of an hour on two quiet cores)."""

from __future__ import annotations

import subprocess
import sys

from workbook.datasets import REPOSITORY

ALL = (
    "dynamic_convolution",
    "training_step",
    "growth",
    "input_pipeline",
    "evaluation",
    "crowds",
    "rendering",
    "start_up",
)

if __name__ == "__main__":
    for name in ALL:
        print(f"\n{name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True, cwd=REPOSITORY)
