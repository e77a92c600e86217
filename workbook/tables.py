"""Every row of the paper's tables: its name, the paper's numbers, and which network it is here (paper_tables.csv)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from mula_lib.anatomy import LIP
from workbook.experiments import EXPERIMENTS, Experiment, find_experiment

TABLES = (1, 2, 3, 4, 5, 6)
COMPARED_TABLES = (3, 4)  # of many systems, each with its costs
CROWD_TABLES = (5, 6)  # of several people an image
METRICS = {
    1: ("PCK", "mIoU"),
    2: ("PCK", "mIoU"),
    3: ("PCK", *(name for name, _ in LIP.columns), "U.Body"),  # PCK is what the paper calls "Avg."
    4: ("mIoU", "PixelAcc", "MeanAcc"),
    5: ("mAP", "mAP (annotated heads)"),  # the paper reports one figure and does not say how it measures heads
    6: ("mIoU",),
}
# Published on LIP val, mIoU, by systems trained on ImageNet or more and tested at larger sizes: context, not targets.
CONTEXT = json.loads(Path(__file__).with_name("paper_context.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    table: int
    name: str  # the paper's, to the letter
    paper: dict[str, float]  # its percentages by metric
    experiment: Experiment | None  # None for a system that is only quoted
    baseline: str  # the row that it is compared with
    note: str = ""  # why it is only quoted, or what stands in its place


with open(Path(__file__).with_name("paper_tables.csv"), encoding="utf-8", newline="") as _file:
    ROWS = tuple(
        Row(
            table := int(line["table"]),
            line["method"],
            {metric: float(line[metric]) for metric in METRICS[table] if line.get(metric)},
            find_experiment(line["network"]) if line["network"] else None,
            line["baseline"],
            line["note"],
        )
        for line in csv.DictReader(_file)
    )
OF_CLAIMS = 0  # in place of a table's number: networks that a claim needs and no table has
_IN_TABLES = [row.experiment for row in ROWS]
ROWS += tuple(Row(OF_CLAIMS, each.name, {}, each, each.name) for each in EXPERIMENTS if each not in _IN_TABLES)


def table_rows(table: int) -> tuple[Row, ...]:
    """The rows of one table, in the paper's order."""
    return tuple(row for row in ROWS if row.table == table)


def table_experiments(table: int) -> tuple[Experiment, ...]:
    """The networks that a table needs, in the order of its rows."""
    return tuple(row.experiment for row in table_rows(table) if row.experiment is not None)
