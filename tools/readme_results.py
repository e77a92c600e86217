"""Writes the README's tables from ``results/demo``: ``python tools/readme_results.py``."""

import re
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[1]
# Which tables stand together, the metrics that a reader looks for first, and what the differences are to.
PARTS = (
    ("Tables 1 and 2: MuLA and its ablations", (1, 2), ("PCK", "mIoU"), "against the baseline"),
    (
        "Tables 3 and 4: compared systems, each at the best of three learning rates (controls: the same rate)",
        (3, 4),
        ("PCK", "mIoU"),
        "PCK against HG-0s-1u-MuLA, mIoU against VGG16-FCN",
    ),
    ("Tables 5 and 6: several people", (5, 6), ("mAP", "mIoU"), "against the plain network of the same depth"),
)


def summary(folder: Path) -> str:
    """Markdown: the paper's numbers beside ours, from ``table<n>.csv``."""
    text = ""
    for title, numbers, metrics, against in PARTS:
        lines = pd.concat(pd.read_csv(folder / f"table{number}.csv") for number in numbers)
        heads = "".join(f" {metric}, paper | ours |" for metric in metrics)
        of = f"{lines['profile'].iloc[0]} profile, {lines['dataset'].iloc[0]} data; in brackets: {against}, same seeds"
        text += f"**{title}** (ours: {of})\n\n| |{heads}\n|---|{'---:|---:|' * len(metrics)}\n"
        for method, rows in lines.groupby("method", sort=False):
            text += f"| {method} |{''.join(_cells(rows, metric) for metric in metrics)}\n"
        text += "\n"
    return text


def _cells(rows: pd.DataFrame, metric: str) -> str:
    """The paper's number and ours ± spread, each with its difference from the row's baseline."""
    columns = ["paper", "paper_delta_vs_baseline", "ours", "std", "delta_vs_baseline"]
    found = rows.loc[rows["metric"] == metric, columns].astype(float).max()  # nan where there is none
    paper, ours = (f"{value:.1f}" for value in found[["paper", "ours"]])
    spread, *gains = found[["std", "paper_delta_vs_baseline", "delta_vs_baseline"]]
    baseline = not any(gain and pd.notna(gain) for gain in gains)
    gained = ["" if baseline or pd.isna(gain) else f" ({gain:+.1f})" for gain in gains]
    ours += f" ± {spread:.1f}" if pd.notna(spread) else ""
    return f" {paper}{gained[0]} | {ours}{gained[1]} |".replace("nan", "–").replace("-", "−")


def update(readme: Path, results: Path) -> None:
    """Put the summary of ``results/demo`` between its marks in ``readme``."""
    begin, end = "<!-- results: begin -->\n", "<!-- results: end -->\n"
    text = f"{begin}\n{summary(results / 'demo')}{end}"
    page = re.sub(f"(?s){begin}.*{end}", lambda _: text, readme.read_text(encoding="utf-8"))
    readme.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    update(REPOSITORY / "README.md", REPOSITORY / "results")
