"""People rendered a second: ``python -m benchmarks.rendering``. One process against a pool on all usable cores.

Both times contain what a call of ``render_dataset`` contains: starting the processes, and writing the files. What a
machine's first use adds, building the body model's table, is reported by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.timing import compare, publish
from rendered_people import PeopleConfig, render_dataset
from rendered_people.assets import load_assets

BENCHMARK = "rendering"
CONFIG = PeopleConfig(train=200, val=0)


def render(base: Path, numbers: count, workers: int | None) -> None:
    """Into a new folder each time: overwriting files is another thing than writing them."""
    render_dataset(base / str(next(numbers)), CONFIG, ("train",), workers=workers, progress=False)


def build_table() -> None:
    """What a machine's first rendering does before anything else."""
    with tempfile.TemporaryDirectory() as folder:
        code = "from rendered_people.assets import load_assets; load_assets(progress=False)"
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"MULA_CACHE": folder}, check=True)


def main() -> None:
    """Measure and publish."""
    load_assets(progress=False)
    one = "one process"
    with tempfile.TemporaryDirectory() as folder:
        base, numbers = Path(folder), count()
        ways = {one: partial(render, base, numbers, 1), "one process a core": partial(render, base, numbers, None)}
        publish(compare(BENCHMARK, f"{CONFIG.size} px", ways, plain=one, items=CONFIG.train, runs=3))
    publish(compare(BENCHMARK, "body table, first use only", {one: build_table}, plain=one, runs=1, warmup=0))


if __name__ == "__main__":
    main()
