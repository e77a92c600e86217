"""What a run left behind: its tables, to be compared, and whether every file is whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mula_lib.checkpoint import load_checkpoint, read_facts
from mula_lib.files import PARTIAL, MulaError

TIMES = ("train_seconds", "images_per_second")  # columns that no two runs share


def tables(root: Path) -> dict[str, str]:
    """Every CSV of the results, without the columns of times."""
    found = {}
    for path in sorted((root / "results" / "smoke").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        found[path.name] = json.dumps(kept)
    return found


def damaged_files(root: Path) -> list[str]:
    """Files of runs and results that are not whole and not marked as partial: there must be none."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
        ".ipynb": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".csv": _read_csv,
        ".png": lambda path: Image.open(path).load(),
        ".npz": lambda path: [value.shape for value in np.load(path, allow_pickle=False).values()],
        ".safetensors": read_facts,
        ".ckpt": load_checkpoint,
        ".html": _read_page,
    }
    found = []
    for folder in ("runs", "results"):
        for path in (root / folder).rglob("*"):
            if path.name.endswith(PARTIAL) or ".unfinished" in path.parts or path.suffix not in readers:
                continue
            try:
                readers[path.suffix](path)
            except (OSError, ValueError, EOFError, LookupError, SyntaxError, MulaError) as error:
                found.append(f"{path.relative_to(root)}: {error}")
    return found


def _read_csv(path: Path) -> None:
    with open(path, encoding="utf-8", newline="") as file:
        widths = {len(row) for row in csv.reader(file)}
    if len(widths) != 1:
        raise ValueError(f"rows of {widths} cells")


def _read_page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("half a page")
