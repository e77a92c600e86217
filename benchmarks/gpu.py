"""On a GPU at the paper's size: training in float32, TF32, bf16 and compiled bf16, and ⊗c by Triton and other ways.

    python -m benchmarks.gpu [--rows ROW ...] [--batch 24]     # about five minutes

``--cpu`` rehearses it with tiny networks, for those who have no GPU; its numbers mean nothing.
"""

import argparse
import time
from dataclasses import replace

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from benchmarks.dynamic_convolution import ways_of
from mula_lib.anatomy import LIP
from mula_lib.models.network import build_model
from mula_lib.training import Objective, make_optimizer, update
from workbook.experiments import find_experiment, find_profile

WAYS = {  # TF32, bf16 autocast, torch.compile
    "float32": (False, False, False),
    "TF32": (True, False, False),
    "bf16": (True, True, False),
    "bf16, compiled": (True, True, True),
}


def measure(row: str, way: str, batch: int, *, cpu: bool, steps: int = 20) -> dict[str, object]:
    """Time ``steps`` training steps of a row of the paper's tables, after three that are not timed."""
    tf32, bf16, compiled = WAYS[way]
    profile = find_profile("paper-rehearsal" if cpu else "paper")
    device = torch.device("cpu" if cpu else "cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    model = build_model(find_experiment(row).model_config(profile, LIP), 0).to(device)
    model.to(memory_format=torch.channels_last).train()
    recipe = replace(profile.recipe, bf16=bf16)
    optimizer, objective = make_optimizer(model, recipe), Objective(model, recipe)
    if compiled:
        objective.compile()
    crop, joints = profile.crop, len(LIP.joints)
    data = {
        "image": torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8),
        "mask": torch.randint(0, len(LIP.parts), (batch, crop, crop), dtype=torch.uint8),
        "joints": torch.rand(batch, joints, 2) * crop,
        "present": torch.ones(batch, joints, dtype=torch.bool),
    }
    data = {name: value.to(device) for name, value in data.items()}
    for _ in range(3):
        update(objective, optimizer, data, recipe)
    if not cpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        update(objective, optimizer, data, recipe)
    if not cpu:
        torch.cuda.synchronize()
    rate = batch * steps / (time.perf_counter() - started)
    memory = None if cpu else round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return {"row": row, "way": way, "images_per_second": round(rate, 1), "GiB": memory}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", default=["VGG16-FCN-MuLA", "HG-2s-1u-MuLA", "HG-5s-1u-MuLA"])
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if not (options.cpu or torch.cuda.is_available()):
        parser.exit(2, "no GPU here; --cpu rehearses this with tiny networks\n")
    ways = [way for way in WAYS if not (options.cpu and "compiled" in way)]
    print(torch.__version__, "cpu" if options.cpu else torch.cuda.get_device_name())
    lines = []
    for row in options.rows:
        for way in ways:
            try:
                lines.append(measure(row, way, options.batch, cpu=options.cpu, steps=2 if options.cpu else 20))
            except torch.cuda.OutOfMemoryError:
                lines.append({"row": row, "way": way, "images_per_second": None, "GiB": "out of memory"})
            torch.cuda.empty_cache()
    print(pd.DataFrame(lines).to_string(index=False))
    case, device = ((2, 16, 16, 7), "cpu") if options.cpu else ((options.batch, 256, 64, 7), "cuda")
    print(f"\n⊗c forward and backward in float32, (batch, channels, side, kernel) = {case}, ms:")
    for way, call in ways_of(*case, device).items():
        timer = Timer("call()", globals={"call": call})  # waits for the device
        print(f"{1000 * timer.blocked_autorange(min_run_time=1).median:10.3f}  {way}")


if __name__ == "__main__":
    main()
