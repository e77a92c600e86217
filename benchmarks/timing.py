"""How everything here is timed: the ways of doing one thing alternate in one run, and their medians are compared.

Alternating makes a ratio trustworthy on a machine whose speed varies: whatever slows one way down slows the others too.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """How fast one way of doing one thing is: ``speedup`` is the first way's median time over this one's."""

    benchmark: str
    case: str
    way: str
    speedup: float


def compare(
    benchmark: str, case: str, ways: Mapping[str, Callable[[], object]], *, items: int, runs: int = 7
) -> list[Row]:
    """Call every way ``runs`` times, in turn, after a round that does not count; a row for each.

    The others are compared with the first. ``items`` are the samples or photos that one call handles.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + runs):
        for way, call in ways.items():
            started = time.perf_counter()
            call()
            seconds[way].append(time.perf_counter() - started)
    return summarize(benchmark, case, {way: each[1:] for way, each in seconds.items()}, items=items)


def summarize(benchmark: str, case: str, seconds: Mapping[str, Sequence[float]], *, items: int) -> list[Row]:
    """The rows of measured ``seconds`` a call, printed with medians and rates."""
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    plain = next(iter(medians.values()))
    rows = [Row(benchmark, case, way, round(plain / median, 2)) for way, median in medians.items()]
    for row, median in zip(rows, medians.values(), strict=True):
        rate = f"{items / median:10.1f}/s"
        print(f"{row.case:30} {row.way:40} {median * 1e3:10.2f} ms {rate} {row.speedup:6.2f}×", flush=True)
    return rows
