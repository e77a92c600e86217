"""Scores: training curves, our numbers beside the paper's, scores against the number of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from workbook.figures.style import BLUE, DASHES, LINES, MARKERS, OURS_BAR, PAPER_BAR, RED, in_house_style

CURVES = {"loss": "training loss, logarithmic", "PCK": "PCK, %", "mAP": "mAP, %", "mIoU": "mIoU, %"}
BAR = 0.38  # of a row's height


@in_house_style
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]], label: str) -> Figure:
    """Loss and watched scores after each epoch, a line a run.

    Args:
        logs: run's name -> lines of ``log.jsonl`` (epoch, loss and, where watched, PCK or mAP, and mIoU).
        label: profile and data set, shown in the figure.
    """
    watched = [key for key in CURVES if any(key in line for log in logs.values() for line in log)]
    figure, grid = plt.subplots(1, len(watched), figsize=(12.4, 3.9), squeeze=False, layout="constrained")
    for axes, key in zip(grid[0], watched, strict=True):
        for number, (name, log) in enumerate(logs.items()):
            epochs = [line["epoch"] for line in log]
            values = [np.nan if line.get(key) is None else line[key] for line in log]
            axes.plot(
                epochs, values, label=name, color=LINES[number % len(LINES)], marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)], markersize=4.5, linewidth=1.4,
            )  # fmt: skip
        axes.set(xlabel="epoch", title=CURVES[key], yscale="log" if key == "loss" else "linear")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(label, fontsize=10, color="#555555")
    return figure


@in_house_style
def paper_beside_ours(table: pd.DataFrame, label: str, *, paper_data: str = "LIP val", baseline: str = "") -> Figure:
    """Scores (left) and differences to the baseline row (right), a row of panels a metric.

    Args:
        table: lines of ``results.build_table``: method, metric, paper, ours, std and the two differences.
        label: what our bars are: profile, data set, seeds.
        paper_data: what the paper's bars are measured on.
        baseline: what the differences are to; the first row by default.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    methods = list(dict.fromkeys(table["method"]))
    figure, grid = plt.subplots(
        len(metrics), 2, figsize=(12, 0.45 * len(methods) * len(metrics) + 1.4), squeeze=False, sharey=True,
        layout="constrained", width_ratios=(1.2, 1),
    )  # fmt: skip
    for (scores, gains), metric in zip(grid, metrics, strict=True):
        lines = table[table["metric"] == metric].set_index("method").reindex(methods)
        _bars(scores, lines["paper"], lines["ours"], lines["std"])
        scores.set(title=f"{metric}, %", xlim=(0, 100))
        _bars(gains, lines["paper_delta_vs_baseline"], lines["delta_vs_baseline"], None)
        gains.set_title(f"{metric}: difference to {baseline or methods[0]}, points")
        gains.axvline(0, color="#333333", linewidth=0.8)
        scores.set_yticks(range(len(methods)), methods)
    grid[0, 0].invert_yaxis()
    figure.legend(
        handles=[
            Patch(**PAPER_BAR, label=f"paper: full size, {paper_data}"),
            Patch(**OURS_BAR, label=f"ours: {label}"),
        ],
        loc="outside upper center", ncols=2, frameon=False,
    )  # fmt: skip
    return figure


def _bars(axes: Axes, paper: pd.Series, ours: pd.Series, spread: pd.Series | None) -> None:
    rows = np.arange(len(paper))
    ours = ours.astype(float)
    axes.barh(rows - BAR / 2, paper.astype(float), height=BAR, **PAPER_BAR)
    axes.barh(rows + BAR / 2, ours.fillna(0), height=BAR, **OURS_BAR)
    if spread is not None and spread.notna().any():
        axes.errorbar(ours, rows + BAR / 2, xerr=spread.astype(float), fmt="none", ecolor="black", capsize=2.5)
    for row in rows[ours.isna()]:
        # written at the left edge of the panel, not at zero, which may lie in the middle of it
        axes.text(
            0.01, row + BAR / 2, "not run", transform=axes.get_yaxis_transform(), va="center", fontsize=8.5,
            style="italic", color="#555555",
        )  # fmt: skip
    axes.grid(axis="x")


@in_house_style
def scores_by_stages(
    stages: Sequence[int],
    paper: Mapping[str, Sequence[float]],
    ours: Mapping[str, Sequence[float]],
    label: str,
    *,
    control: tuple[str, int, Mapping[str, float], Mapping[str, float]] | None = None,
) -> Figure:
    """Score against the number of adapted stages, a panel a metric, the paper's line beside ours.

    Args:
        stages: (K,) numbers of adapted stages.
        paper, ours: metric -> (K,) percentages; nan where a row was not run.
        label: what our line is: profile, data set, seeds.
        control: name, number of stages, and the paper's and our scores of a row without adaptation.
    """
    figure, grid = plt.subplots(1, len(paper), figsize=(10.5, 4.0), squeeze=False, layout="constrained")
    for axes, metric in zip(grid[0], paper, strict=True):
        axes.plot(stages, paper[metric], color="#666666", marker="s", linestyle="--", label="paper: full size, LIP val")
        axes.plot(stages, ours[metric], color=BLUE, marker="o", label=f"ours: {label}")
        if control is not None:
            name, at, quoted, found = control
            hollow = {"marker": "D", "markerfacecolor": "none", "markersize": 9, "linestyle": "none"}
            axes.plot(at, quoted[metric], **hollow, markeredgecolor="#666666", label=f"{name}, paper")
            axes.plot(at, found[metric], **hollow, markeredgecolor=RED, label=f"{name}, ours")
        axes.set(title=f"{metric}, %", xlabel="adapted stages", xticks=list(stages))
        axes.grid()
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure
