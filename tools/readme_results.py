"""Writes the README's table of results from ``results/demo``: ``python tools/readme_results.py``."""

import re
import sys
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
# Which tables stand together, and the metrics that a reader looks for first.
PARTS = (
    ("Tables 1 and 2: MuLA and its ablations", (1, 2), ("PCK", "mIoU")),
    ("Tables 3 and 4: compared systems, one person", (3, 4), ("PCK", "mIoU")),
    ("Tables 5 and 6: several people", (5, 6), ("mAP", "mIoU")),
)


def summary(folder: Path) -> str:
    """Markdown: the paper's numbers beside ours for every row, from ``table<n>.csv``."""
    text = ""
    for title, numbers, metrics in PARTS:
        lines = pd.concat([pd.read_csv(folder / f"table{number}.csv") for number in numbers])
        heads = "".join(f" {metric}, paper | ours |" for metric in metrics)
        of = f"{lines['profile'].iloc[0]} profile, {lines['dataset'].iloc[0]} data"
        text += f"**{title}** (ours: {of})\n\n| |{heads}\n|---|{'---:|---:|' * len(metrics)}\n"
        for method, rows in lines.groupby("method", sort=False):
            text += f"| {method} |{''.join(_cells(rows, metric) for metric in metrics)}\n"
        text += "\n"
    return text


def _cells(rows: pd.DataFrame, metric: str) -> str:
    """The paper's number and ours ± spread; for a row in two tables, ours is the same in both."""
    found = rows.loc[rows["metric"] == metric, ["paper", "ours", "std"]].astype(float)
    paper, ours, std = (f"{value:.1f}" for value in found.max())  # nan where there is none
    return f" {paper} | {ours} ± {std} |".replace(" ± nan", "").replace("nan", "–")


def update(readme: Path, folder: Path) -> None:
    """Put the summary of ``folder`` between the marks in ``readme``."""
    page, text = readme.read_text(encoding="utf-8"), summary(folder)
    readme.write_text(re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}{END}", page), encoding="utf-8")


if __name__ == "__main__":
    update(REPOSITORY / "README.md", Path(sys.argv[1]) if sys.argv[1:] else REPOSITORY / "results" / "demo")
