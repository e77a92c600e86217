"""Speed against baselines: ``python -m benchmarks [NAME …]`` (all of it: about ten minutes on two quiet cores).

``results.csv`` keeps the latest ratios of each, which can be compared between machines as seconds cannot.
"""

import argparse
from importlib import import_module
from pathlib import Path

import cv2
import pandas as pd
import torch

from mula_lib.files import write_text

ALL = ("dynamic_convolution", "training_step", "input_pipeline", "evaluation", "rendering")
RESULTS = Path(__file__).parent / "results.csv"


def main() -> None:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*ALL, []], metavar="NAME", help=f"{', '.join(ALL)}; default: all")
    names = parser.parse_args().names or ALL
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for name in names:
        print(f"\n{name}", flush=True)
        rows += import_module(f"benchmarks.{name}").run()
    kept = pd.read_csv(RESULTS)
    table = pd.concat([kept[~kept["benchmark"].isin(names)], pd.DataFrame(rows)])
    table = table.sort_values("benchmark", key=lambda each: each.map(ALL.index), kind="stable")
    write_text(RESULTS, table.to_csv(index=False))


if __name__ == "__main__":
    main()
