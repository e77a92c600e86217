"""How everything here is timed: the ways of doing one thing alternate in one process, and their medians are compared.

Alternating makes a ratio trustworthy on a machine whose speed varies: whatever slows one way down slows the others too.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mula_lib.files import write_text

RESULTS = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Row:
    """One way of doing one thing. ``speedup`` is the plain way's median over this one's."""

    benchmark: str
    case: str
    way: str
    seconds: float  # median of one call
    per_second: float | None  # items of one call a second, where a call has items (images, samples)
    speedup: float
    runs: int
    threads: int
    machine: str


def compare(
    benchmark: str,
    case: str,
    ways: Mapping[str, Callable[[], object]],
    *,
    plain: str,
    items: int | None = None,
    runs: int = 7,
    warmup: int = 1,
    threads: int = 1,
) -> list[Row]:
    """Call every way ``runs`` times, in turn, after ``warmup`` rounds that do not count; a row for each way.

    Args:
        plain: the way that the others are compared with.
        items: images or samples that one call handles.
        threads: PyTorch's, as the caller has set them, for the record.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(warmup + runs):
        for way, call in ways.items():
            started = time.perf_counter()
            call()
            if number >= warmup:
                seconds[way].append(time.perf_counter() - started)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    rows = []
    for way, median in medians.items():
        rate = float(f"{items / median:.4g}") if items else None
        speedup = round(medians[plain] / median, 2)
        rows.append(Row(benchmark, case, way, float(f"{median:.4g}"), rate, speedup, runs, threads, machine()))
    return rows


def publish(rows: list[Row]) -> None:
    """Print the rows as a table and put them into ``results.csv`` in place of earlier ones of the same case."""
    for row in rows:
        rate = f"{row.per_second:10.1f}/s" if row.per_second else " " * 12
        print(f"{row.benchmark:20} {row.case:34} {row.way:34} {row.seconds * 1e3:10.2f} ms {rate} {row.speedup:6.2f}×")
    new = {(row.benchmark, row.case) for row in rows}
    kept = [old for old in stored() if (old["benchmark"], old["case"]) not in new]
    lines = sorted(kept + [asdict(row) for row in rows], key=lambda row: (row["benchmark"], row["case"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(RESULTS, text.getvalue())


def stored() -> list[dict[str, str]]:
    """The rows of ``results.csv`` as it is."""
    if not RESULTS.exists():
        return []
    with open(RESULTS, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def machine() -> str:
    """The processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"
