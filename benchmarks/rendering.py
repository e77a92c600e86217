"""People rendered a second: ``python -m benchmarks.rendering``. One process against the pool on all usable cores.

What happens once is no part of it, and is reported by itself: the body model's table, built on a machine's first use,
and the start of the processes up to their first pictures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path

import cv2

from benchmarks.timing import compare, publish
from mula_lib.files import usable_cores
from rendered_people import PeopleConfig
from rendered_people.assets import load_assets
from rendered_people.dataset import render_batch, worker_pool
from rendered_people.tree import Tree

BENCHMARK = "rendering"
SIZE = 160  # pixels of the longer edge, as in the demo set
PICTURES = 48
BATCH = 4  # pictures a process takes at a time, as in render_dataset
_FIRST_PICTURE = f"from rendered_people import render_person; render_person(0, 'train', 0, {SIZE})"


class Folders:
    """A new tree for each call: overwriting files is another thing than writing them."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._numbers = count()

    def next(self) -> Path:
        root = self._base / str(next(self._numbers))
        Tree(root).make()
        return root


def _batches(pictures: int) -> list[list[tuple[str, int]]]:
    return [[("train", index) for index in range(start, min(start + BATCH, pictures))]
            for start in range(0, pictures, BATCH)]  # fmt: skip


def render_here(folders: Folders, config: PeopleConfig) -> None:
    """All pictures in this process."""
    root = folders.next()
    for batch in _batches(config.train):
        render_batch(root, config, batch)


def render_in(pool: ProcessPoolExecutor, folders: Folders, config: PeopleConfig) -> None:
    """All pictures in the pool's processes, which may be running already."""
    root = folders.next()
    for job in [pool.submit(render_batch, root, config, batch) for batch in _batches(config.train)]:
        job.result()


def _start_pool(workers: int, folders: Folders) -> None:
    """Start a pool and let each process render something."""
    with worker_pool(workers) as pool:
        render_in(pool, folders, PeopleConfig(train=workers * BATCH, val=0, size=SIZE))


def _build_table() -> None:
    """What a machine's first rendering does before anything else."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MULA_CACHE": folder}
        code = "from rendered_people.assets import load_assets; load_assets(progress=False)"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def main() -> None:
    """Measure and publish."""
    cv2.setNumThreads(1)  # as the pool's processes do
    workers = usable_cores()
    one, many = "one process", f"pool of {workers}"
    load_assets(progress=False)
    with tempfile.TemporaryDirectory() as base:
        folders = Folders(Path(base))
        config = PeopleConfig(train=PICTURES, val=0, size=SIZE)
        with worker_pool(workers) as pool:
            publish(compare(
                BENCHMARK, f"{SIZE} px, steady", {one: lambda: render_here(folders, config),
                                                  many: lambda: render_in(pool, folders, config)},
                plain=one, items=PICTURES, runs=5,
            ))  # fmt: skip
        publish(compare(
            BENCHMARK, "start and first pictures",
            {one: lambda: subprocess.run([sys.executable, "-c", _FIRST_PICTURE], check=True),
             many: lambda: _start_pool(workers, folders)},
            plain=one, runs=3, warmup=0,
        ))  # fmt: skip
    publish(compare(BENCHMARK, "body table, first use only", {one: _build_table}, plain=one, runs=1, warmup=0))


if __name__ == "__main__":
    main()
