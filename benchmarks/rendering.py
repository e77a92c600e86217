"""People rendered a second, in one process and in a pool on all usable cores.

Both times contain what a call of ``render_dataset`` contains: starting the processes, and writing the files.
"""

import tempfile
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.timing import Row, compare
from rendered_people import PeopleConfig, render_dataset
from rendered_people.assets import load_assets

CONFIG = PeopleConfig(train=100, val=0)


def render(base: Path, numbers: count, workers: int | None) -> None:
    """Into a new folder each time: overwriting files is another thing than writing them."""
    render_dataset(base / str(next(numbers)), CONFIG, ("train",), workers=workers)


def run() -> list[Row]:
    """Measure; the body model's table, which a machine's first rendering builds, is there before."""
    load_assets()
    with tempfile.TemporaryDirectory() as folder:
        base, numbers = Path(folder), count()
        ways = {"one process": partial(render, base, numbers, 1), "one a core": partial(render, base, numbers, None)}
        return compare("rendering", f"{CONFIG.size} px", ways, items=CONFIG.train, runs=3)
