"""The README's table of results, written from the CSVs: ``python -m workbook.summary``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mula_lib.files import DataError, exit_status, write_text
from workbook.datasets import REPOSITORY
from workbook.results import COLUMNS, read_table

BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
# Which tables stand together, and the two or fewer metrics of each that a reader looks for first.
PARTS = (
    ("Tables 1 and 2: MuLA and its ablations", (1, 2), ("PCK", "mIoU")),
    ("Tables 3 and 4: compared systems, one person", (3, 4), ("PCK", "mIoU")),
    ("Tables 5 and 6: several people", (5, 6), ("mAP", "mIoU")),
)


def summary(folder: Path) -> str:
    """Markdown: of every row the paper's numbers beside ours, from ``table<n>.csv`` in ``folder``.

    Raises :class:`DataError` where a table is missing.
    """
    text = ""
    for title, numbers, metrics in PARTS:
        lines = pd.concat([_table(folder / f"table{number}.csv") for number in numbers])
        of = f"{lines['profile'].iloc[0]} profile, {lines['dataset'].iloc[0]} data"
        heads = "".join(f" {metric}, paper | ours |" for metric in metrics)
        text += f"**{title}** (ours: {of})\n\n| |{heads}\n|---|{'---:|---:|' * len(metrics)}\n"
        for method, rows in lines.groupby("method", sort=False):
            text += f"| {method} |{''.join(_cells(rows, metric) for metric in metrics)}\n"
        text += "\n"
    return text


def _table(path: Path) -> pd.DataFrame:
    table = read_table(path, COLUMNS)
    if table is None:
        raise DataError(f"{path}: no such table; ./run_all.sh writes it")
    return table


def _cells(rows: pd.DataFrame, metric: str) -> str:
    """The paper's number and ours; a row of two tables has the same of ours in both."""
    found = rows[rows["metric"] == metric]
    numbers = (found[name].dropna() for name in ("paper", "ours"))
    return "".join(f" {number.iloc[0]:.1f} |" if len(number) else " – |" for number in numbers)


def update(readme: Path, folder: Path) -> None:
    """Put the summary of ``folder`` between the marks in ``readme``; DataError where they are missing."""
    page = readme.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise DataError(f"{readme}: no lines {BEGIN.strip()} and {END.strip()} to write between")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    write_text(readme, page[:start] + "\n" + summary(folder) + page[end:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.summary", description=__doc__)
    demo = REPOSITORY / "results" / "demo"
    parser.add_argument("folder", nargs="?", type=Path, default=demo, help="results folder (default: the demo's)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: update(REPOSITORY / "README.md", options.folder), kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
