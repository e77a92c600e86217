"""Charts: what is in a data set, training curves, our scores beside the paper's, and the intervals of all claims."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from mula_lib.anatomy import Anatomy
from workbook.figures.style import BLUE, GREY, LINES, OURS_BAR, PAPER_BAR, VERDICTS, in_house_style

CURVES = {"loss": "training loss, logarithmic", "PCK": "PCK, %", "mAP": "mAP, %", "mIoU": "mIoU, %"}
PAPER_MARK = {"marker": "D", "markerfacecolor": "none", "markeredgecolor": "#222222", "linestyle": "none"}
EDGE = {"edgecolor": "#333333", "linewidth": 0.6}


@in_house_style
def part_frequencies(in_images: np.ndarray, of_pixels: np.ndarray, anatomy: Anatomy) -> Figure:
    """Two bars per part: (P,) percent of the images that show it, and of all annotated pixels (logarithmic)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), sharey=True, layout="constrained")
    names = [part.replace("_", " ") for part in anatomy.parts]
    palette = [tuple(color) for color in np.array(anatomy.palette) / 255]
    for axes, values in ((left, in_images), (right, of_pixels)):
        sns.barplot(x=values, y=names, hue=names, palette=palette, saturation=1, legend=False, ax=axes, **EDGE)
        axes.grid(axis="x")
    left.set(xlabel="images that show it, %", xlim=(0, 100))
    right.set(xlabel="pixels, % (logarithmic)", xscale="log")
    return figure


@in_house_style
def joint_states(visible: np.ndarray, occluded: np.ndarray, missing: np.ndarray, anatomy: Anatomy) -> Figure:
    """One stacked bar per joint; each argument is (N,) percent of the people, and the three add up to 100."""
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    names = [joint.replace("_", " ") for joint in anatomy.joints]
    axes.barh(names, visible, color=BLUE, label="visible (v = 0)", **EDGE)
    axes.barh(names, occluded, left=visible, color=LINES[1], hatch="////", label="occluded (v = 1)", **EDGE)
    axes.barh(names, missing, left=visible + occluded, color="white", hatch="..", label="missing (nan)", **EDGE)
    axes.set(xlabel="people, %", xlim=(0, 100))
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


@in_house_style
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]], label: str) -> Figure:
    """Loss and watched scores after each epoch, a curve per run: ``logs`` has the lines of each run's ``log.jsonl``."""
    table = pd.DataFrame([{"run": name, **line} for name, log in logs.items() for line in log])
    watched = [key for key in CURVES if key in table and table[key].notna().any()]
    table["run"] += np.where(table.groupby("run")[watched].transform("any").sum(axis=1) > 1, "", " (loss only)")
    table = table.astype(dict.fromkeys(watched, float)).melt(["run", "epoch"], watched)
    grid = sns.relplot(
        table, x="epoch", y="value", col="variable", hue="run", style="run", kind="line", height=3.9, linewidth=1.4,
        errorbar=None, palette=LINES[: len(logs)], facet_kws={"sharey": False},
    )  # fmt: skip
    for key, axes in grid.axes_dict.items():
        axes.set(ylabel="", title=CURVES[key])
        if key == "loss":
            axes.set_yscale("log", subs=(2, 3, 5))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
    grid.figure.suptitle(label, y=1.03, fontsize=10, color=GREY)
    return grid.figure


@in_house_style
def learning_curves(table: pd.DataFrame) -> Figure:
    """Scores and, below, gains of ``claims.scores_by_budget`` against epochs: 95 % intervals, seeds as small dots."""
    table = table.assign(at=table["epochs"] * 1.02 ** table["method"].factorize()[0])  # side by side
    ends = table.melt(["metric", "at", "method", "kind"], ["low", "ours", "high"], value_name="points")
    grid = sns.relplot(
        ends, x="at", y="points", row="kind", col="metric", hue="method", style="method", kind="line", markers=True,
        dashes=False, palette=LINES[: table["method"].nunique()], height=3.2, aspect=1.3, facet_kws={"sharey": False},
        estimator="median", errorbar=("pi", 100), err_style="bars",  # of the interval's ends and the mean between them
    )  # fmt: skip
    grid.set(xscale="log", xticks=table["epochs"].unique(), xlabel="epochs", ylabel="")
    grid.set_titles("{col_name}: {row_name}").legend.set_title("")
    for (kind, metric), axes in grid.axes_dict.items():
        seeds = table[(table["kind"] == kind) & (table["metric"] == metric)].explode("by_seed")
        axes.plot(seeds["at"], seeds["by_seed"], ".", color="black", markersize=4, zorder=3)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid()
    for axes in grid.axes[-1]:
        axes.axhline(0, color="#333333", linewidth=0.8)
    return grid.figure


@in_house_style
def gradient_ratios(table: pd.DataFrame) -> Figure:
    """The other task's gradient over an encoder's own, one panel per encoder: ``table`` is tools.gradients' file."""
    sizes = table["kernel_size"].map("{0}×{0}".format) + table["beta"].map(", β {:g}".format)
    ratios = pd.DataFrame({
        "kernels, β": sizes, "update": table["update"],
        "parsing's gradient in pose's encoder": table["parsing_in_pose"] / table["pose_in_pose"],
        "pose's gradient in parsing's encoder": table["pose_in_parsing"] / table["parsing_in_parsing"],
    }).melt(["kernels, β", "update"], var_name="which", value_name="ratio")  # fmt: skip
    grid = sns.relplot(
        ratios[ratios["ratio"] > 0], x="update", y="ratio", col="which", hue="kernels, β", style="kernels, β",
        kind="line", markers=True, dashes=False, palette=LINES[: sizes.nunique()], height=3.6, aspect=1.2,
    )  # fmt: skip
    grid.refline(y=1, color="#333333", linestyle="-", linewidth=0.8)
    grid.set(yscale="log").set_axis_labels(y_var="ratio to its own gradient").set_titles("{col_name}")
    for axes in grid.axes.flat:
        axes.grid()
    return grid.figure


@in_house_style
def paper_beside_ours(table: pd.DataFrame, label: str, *, paper_data: str = "LIP val", baseline: str = "") -> Figure:
    """Scores (left) and differences from the baseline row (right), one row of panels per metric.

    ``table`` is one of ``results.write_table``; ``label`` names the source of our bars, ``paper_data`` of the paper's;
    differences are from ``baseline``, by default the first row.
    """
    metrics, methods = (list(dict.fromkeys(table[name])) for name in ("metric", "method"))
    figure, grid = plt.subplots(
        len(metrics), 2, figsize=(12, 0.45 * len(methods) * len(metrics) + 1.4), squeeze=False, sharey=True,
        layout="constrained", width_ratios=(1.2, 1),
    )  # fmt: skip
    for (scores, gains), metric in zip(grid, metrics, strict=True):
        lines = table[table["metric"] == metric].set_index("method").reindex(methods)
        why = lines["ours"].isna().map({True: "not run", False: "baseline not run"})
        _bars(scores, lines["paper"], lines["ours"], lines["std"], why)
        scores.set(title=f"{metric}, %", xlim=(0, 100))
        _bars(gains, lines["paper_delta_vs_baseline"], lines["delta_vs_baseline"], None, why)
        gains.set_title(f"{metric}: difference from {baseline or methods[0]}, points")
        gains.axvline(0, color="#333333", linewidth=0.8)
    handles = Patch(**PAPER_BAR, label=f"paper: full size, {paper_data}"), Patch(**OURS_BAR, label=f"ours: {label}")
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _bars(axes: Axes, paper: pd.Series, ours: pd.Series, spread: pd.Series | None, why: pd.Series) -> None:
    both = pd.concat({"paper": paper, "ours": ours}, names=["whose"]).astype(float).rename("value").reset_index()
    sns.barplot(both.fillna(0), y="method", x="value", hue="whose", width=0.76, ax=axes, legend=False, errorbar=None)
    for bars, look in zip(axes.containers, (PAPER_BAR, OURS_BAR), strict=True):
        plt.setp(bars.patches, linewidth=0.8, **look)
    rows = np.arange(len(ours)) + 0.19
    if spread is not None and spread.notna().any():
        axes.errorbar(ours, rows, xerr=spread.astype(float), fmt="none", ecolor="black", capsize=2.5)
    for row, text in zip(rows[ours.isna()], why[ours.isna()], strict=True):
        _remark(axes, row, text)
    axes.set(xlabel="", ylabel="")
    axes.grid(axis="x")


def _remark(axes: Axes, row: float, text: str = "not run") -> None:
    """Say why there is no bar, at the left edge of the panel, because zero may lie in the middle of it."""
    axes.text(0.01, row, text, transform=axes.get_yaxis_transform(), va="center", size=8.5, style="italic", color=GREY)


@in_house_style
def scores_by_stages(table: pd.DataFrame, stages: Mapping[str, int], control: str, label: str) -> Figure:
    """Gain over the baseline against the number of adapted stages, one panel per metric, the paper's beside ours.

    ``stages`` has the number for each method of ``table``; ``control``, a row without adaptation, is a diamond at its
    number of stages. ``label`` names the source of our line.
    """
    metrics, line = list(dict.fromkeys(table["metric"])), [method for method in stages if method != control]
    figure, grid = plt.subplots(1, len(metrics), figsize=(10.5, 4.0), squeeze=False, layout="constrained")
    for axes, metric in zip(grid[0], metrics, strict=True):
        gains = table[table["metric"] == metric].set_index("method").astype({"delta_vs_baseline": float})
        lines = ("paper", "paper_", "LIP val", GREY, "s--"), ("ours", "", label, BLUE, "o-")
        for whose, prefix, of, color, look in lines:
            gain = gains[f"{prefix}delta_vs_baseline"]
            hollow = {"markerfacecolor": "none", "markeredgecolor": color, "markersize": 9}
            axes.plot([stages[m] for m in line], gain[line], look, color=color, label=f"{whose}: {of}")
            axes.plot(stages[control], gain[control], "D", **hollow, label=f"{control}, {whose}")
        axes.set(title=f"{metric}: gain over no adapted stage, points", xlabel="adapted stages")
        axes.set_xticks(sorted(set(stages.values())))
        axes.grid()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


@in_house_style
def claim_intervals(effects: pd.DataFrame, claims: pd.DataFrame, label: str) -> Figure:
    """Every claim's difference in points with its 95 % interval, pose (left) and parsing (right), and the paper's.

    To the right of zero a claim holds. For a claim with several comparisons, each panel shows the one whose interval
    reaches furthest to the left. Dots are seeds; of a single one the interval is dotted. Only differences from zero in
    points are drawn. ``effects`` are of ``claims.measure``, ``claims`` of its ``verdicts``, ``label`` says whose.
    """
    effects = effects[effects["effect"].map(lambda effect: not effect.limit)].sort_values("low", kind="stable")
    claims = claims[claims["id"].isin(effects["id"])].reset_index(drop=True)
    panels = {"pose: PCK (C15: mAP)": ("PCK", "mAP"), "parsing: mIoU": ("mIoU",)}
    figure, grid = plt.subplots(1, 2, figsize=(13, 0.4 * len(claims) + 1.5), sharey=True, layout="constrained")
    for axes, (title, metrics) in zip(grid, panels.items(), strict=True):
        worst = effects[effects["metric"].isin(metrics)].drop_duplicates("id").set_index("id")
        for row, line in claims[["id", "verdict"]].join(worst, on="id", how="inner").iterrows():
            color, marker = VERDICTS[line["verdict"]]
            axes.plot(line["paper"], row, **PAPER_MARK, zorder=4)  # over our marker
            seeds = line["by_seed"]
            if not seeds:
                _remark(axes, row)
                continue
            style = {"linestyle": "-" if len(seeds) > 1 else ":", "alpha": 0.55}
            axes.plot([line["low"], line["high"]], [row, row], color=color, linewidth=3, **style)
            axes.plot(line["ours"], row, marker, color=color, markeredgecolor="white", markersize=9)
            axes.plot(seeds, [row] * len(seeds), ".", color="black", markersize=4)
        axes.axvline(0, color="#333333", linewidth=0.9)
        axes.set(title=f"{title}, difference in points", ylim=(len(claims) - 0.4, -0.6))
        axes.grid(axis="x")
    grid[0].set_yticks(range(len(claims)), claims["id"] + "  " + claims["claim"], fontsize=9)
    handles = [
        Line2D([], [], color=color, marker=marker, markeredgecolor="white", markersize=9, linewidth=3, label=verdict)
        for verdict, (color, marker) in VERDICTS.items()
    ]
    handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=3, label="one seed only"))
    handles.append(Line2D([], [], **PAPER_MARK, label="the paper, on LIP"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, title=f"ours: {label}")
    return figure
