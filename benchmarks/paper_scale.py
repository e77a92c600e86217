"""What every row costs at the paper's size: counted, and measured on one thread of this CPU at a batch of two.

python -m benchmarks.paper_scale        (a quarter of an hour; writes the table of docs/paper_scale.md)
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.files import write_text
from mula_lib.models.network import build_model
from mula_lib.training import Objective, make_optimizer, update
from workbook.costs import network_cost
from workbook.datasets import REPOSITORY
from workbook.experiments import find_experiment
from workbook.profiles import PAPER
from workbook.tables import TABLES, table_experiments

PAGE = REPOSITORY / "docs" / "paper_scale.md"
BEGIN, END = "<!-- costs: begin -->\n", "<!-- costs: end -->\n"
IMAGES = {"LIP": 30_462, "PASCAL-Person-Part": 1_716}  # of training
BATCH = 2
SUSTAINED = 10.0  # 10¹² operations a second of a GPU, to turn arithmetic into hours
GIB = 2**30


def rows() -> list[tuple[str, bool]]:
    """Every network of the tables once, by its name; and whether it is one for several people."""
    crowds = {table: table > 4 for table in TABLES}
    named = [(row.name, crowds[table]) for table in TABLES for row in table_experiments(table)]
    return [(name, many) for name, many in dict.fromkeys(named) if not name.endswith("own rate")]


def measure(name: str, crowds: bool) -> dict:
    """One row in this process: counted cost, seconds an image and memory of a training step of two images."""
    anatomy = PASCAL if crowds else LIP
    profile = PAPER.for_crowds() if crowds else PAPER
    experiment = find_experiment(name)
    config = experiment.model_config(profile, anatomy)
    cost = network_cost(config, profile.crop)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    people = (3,) if crowds else ()
    batch = {
        "image": torch.randint(0, 256, (BATCH, 3, profile.crop, profile.crop), dtype=torch.uint8, generator=generator),
        "mask": torch.randint(0, len(anatomy.parts), (BATCH, profile.crop, profile.crop), generator=generator).byte(),
        "joints": torch.rand(BATCH, *people, len(anatomy.joints), 2, generator=generator) * profile.crop,
        "present": torch.ones(BATCH, *people, len(anatomy.joints), dtype=torch.bool),
    }
    if crowds:
        batch["centres"] = batch["joints"].mean(dim=-2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build_model(config, 0).to(memory_format=torch.channels_last).train()
    recipe = experiment.recipe(profile)
    objective, optimizer = Objective(model, recipe), make_optimizer(model, recipe)
    for _ in range(2):  # the first step allocates, and compiles
        started = time.perf_counter()
        float(update(objective, optimizer, batch, recipe)[0])
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "data": anatomy.name,
        "parameters": cost.parameters,
        "gflops": cost.gflops,
        "counted": cost.training_bytes(BATCH),
        "counted_24": cost.training_bytes(24),
        "measured": (peak - before) * 1024,
        "seconds": seconds / BATCH,
        "training_gflops": cost.training_gflops,
    }


def line(found: dict) -> str:
    """A row of the page's table."""
    images = IMAGES[found["data"]]
    hours = found["training_gflops"] * images * 250 / (SUSTAINED * 1e3) / 3600
    cells = (
        found["name"] + (" (several people)" if found["data"] == PASCAL.name else ""),
        f"{found['parameters'] / 1e6:.1f}",
        f"{found['gflops']:.1f}",
        f"{found['counted'] / GIB:.1f}",
        f"{found['measured'] / GIB:.1f}",
        f"{found['counted_24'] / GIB:.1f}",
        f"{found['seconds']:.2f}",
        f"{found['seconds'] * images / 3600:,.1f}",
        f"{hours:,.1f}",
    )
    return f"| {' | '.join(cells)} |\n"


HEAD = (
    "| row | Mparams | GFLOPs forward | GiB, batch 2: counted | measured | GiB, batch 24: counted "
    "| CPU: seconds an image | CPU: hours an epoch | hours of 250 epochs at 10 TFLOP/s |\n" + "|---" * 9 + "|\n"
)


def main() -> None:
    """Measure every row, each in a process of its own, and put the table into the page."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2] == "crowds")))
        return
    table = HEAD
    for name, crowds in tqdm(rows(), unit="row"):
        command = [sys.executable, "-m", "benchmarks.paper_scale", name, "crowds" if crowds else "one"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
        found = json.loads(done.stdout.splitlines()[-1])
        table += line(found)
        tqdm.write(line(found).rstrip())
    page = PAGE.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    write_text(PAGE, page[:start] + table + page[end:])


if __name__ == "__main__":
    main()
