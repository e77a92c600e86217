"""Two runs, or ours and the paper's, side by side: readable tables, and the images that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mula_lib.anatomy import Anatomy
from mula_lib.evaluation import Evaluation
from mula_lib.inference import predict
from workbook.datasets import CROWDS, Source
from workbook.figures.corrections import Change
from workbook.figures.people import Picture
from workbook.inspection import truth_picture
from workbook.profiles import Profile
from workbook.runs import RunResult

PAPER_DATA = {False: "LIP", True: "PASCAL-Person-Part"}  # what the paper's numbers are of; by: several people?


def run_label(profile: Profile, source: Source, seeds: Sequence[int]) -> str:
    """What our numbers are of, for every figure and table: ``smoke profile, fixture data, seed 0``."""
    numbers = ", ".join(map(str, seeds))
    return f"{profile.name} profile, {source.name} data, seed{'s' if len(seeds) > 1 else ''} {numbers}"


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table for the eye: a row a method, per metric the paper's number beside ours and both differences Δ to
    the baseline, in points.

    Our columns carry profile and data set in their heading; a row that was not run has a dash.
    """
    ours = f"ours ({table['profile'].iloc[0]}, {table['dataset'].iloc[0]})"
    crowds = table["dataset"].iloc[0] in CROWDS
    headings = {
        "paper": f"paper ({PAPER_DATA[crowds]})",
        "ours": ours,
        "paper_delta_vs_baseline": "paper Δ",
        "delta_vs_baseline": "ours Δ",
    }
    methods = list(dict.fromkeys(table["method"]))
    columns = {}
    for metric in dict.fromkeys(table["metric"]):
        lines = table[table["metric"] == metric].set_index("method").reindex(methods)
        for name, heading in headings.items():
            form = "{:+.1f}" if "delta" in name else "{:.1f}"
            columns[metric, heading] = [_shown(value, form) for value in lines[name]]
    return pd.DataFrame(columns, index=pd.Index(methods, name="method"))


COSTS = {"params": ("parameters", "{:,.0f}"), "gflops": ("GFLOPs", "{:.3f}"), "train_seconds": ("train s", "{:,.0f}")}


def systems_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A results table of many systems for the eye: what the paper reports, all our scores, and what each one costs.

    A column of the paper stands only where it reports the metric of some row. A dash is a system that was not run, or
    does not have the task.
    """
    methods = list(dict.fromkeys(table["method"]))
    first = table.drop_duplicates("method").set_index("method")
    heading = f"ours ({table['profile'].iloc[0]}, {table['dataset'].iloc[0]})"
    by_metric = {
        metric: table[table["metric"] == metric].set_index("method").reindex(methods)
        for metric in dict.fromkeys(table["metric"])
    }
    columns = {
        (f"paper ({PAPER_DATA[False]})", metric): [_shown(value, "{:.1f}") for value in lines["paper"]]
        for metric, lines in by_metric.items()
        if lines["paper"].notna().any()
    }
    for metric, lines in by_metric.items():
        columns[heading, metric] = [_shown(value, "{:.1f}") for value in lines["ours"]]
    for name, (title, form) in COSTS.items():
        columns["cost", title] = ["–" if pd.isna(value) else form.format(value) for value in first.loc[methods, name]]
    return pd.DataFrame(columns, index=pd.Index(methods, name="method"))


def _shown(value: float | None, form: str) -> str:
    return "–" if pd.isna(value) else form.format(round(value, 1) + 0.0)  # + 0.0: no minus sign before a zero


def image_scores(evaluation: Evaluation, anatomy: Anatomy, metrics: Sequence[str] = ()) -> np.ndarray:
    """(M,) mean of ``metrics`` of each single image, in percent; nan where no joint of the image counts.

    By default of PCK (or mAP) and mIoU.
    """
    metrics = metrics or (anatomy.pose_metric, "mIoU")
    scores = [_one_image(evaluation, index, anatomy) for index in range(len(evaluation.names))]
    return np.array([np.mean([each[metric] for metric in metrics]) for each in scores])


def _one_image(evaluation: Evaluation, index: int, anatomy: Anatomy) -> dict[str, float]:
    """All scores, as if the split held this image alone."""
    return evaluation.only(index).scores(anatomy)


def image_gains(
    better: Sequence[RunResult], baseline: Sequence[RunResult], metrics: Sequence[str] = ()
) -> pd.Series:
    """Gain of one row over another on each validation image: difference of :func:`image_scores`, mean over seeds.

    Indexed by the image's name, in the split's order; images without a score are left out.
    """
    anatomy = baseline[0].run.source.anatomy
    means = [
        np.mean([image_scores(result.evaluation(), anatomy, metrics) for result in results], axis=0)
        for results in (better, baseline)
    ]
    return pd.Series(means[0] - means[1], index=list(baseline[0].evaluation().names), name="gain").dropna()


def telling_images(gains: pd.Series) -> Mapping[str, str]:
    """The images to look at, chosen by rule and not by eye: largest gain, median, largest loss -> name."""
    order = gains.sort_values(ascending=False, kind="stable").index
    return {"largest gain": order[0], "median": order[len(order) // 2], "largest loss": order[-1]}


def prediction_rows(source: Source, names: Sequence[str], results: Sequence[RunResult]) -> list[list[Picture]]:
    """A row of pictures for each of the validation images ``names``: the photo, the truth, what each run says.

    A prediction's title gives its own scores on this one image. Where there are several people, the photo is left out,
    and the truth and each prediction are two pictures: people, and the parts beside them.
    """
    by_name = {record.name: record for record in source.val.records}
    truths = [truth_picture(by_name[name], source.anatomy) for name in names]
    crowds, pose = source.anatomy.crowds, source.anatomy.pose_metric
    rows = [_apart(truth) if crowds else [Picture(truth.image), truth] for truth in truths]
    for result in results:
        profile, evaluation = result.run.profile, result.evaluation()
        images = [truth.image for truth in truths]
        predictions = predict(result.model(), images, profile.crop, profile.testing, source.anatomy)
        for row, name, image, prediction in zip(rows, names, images, predictions, strict=True):
            index = evaluation.names.index(name)
            scores = _one_image(evaluation, index, source.anatomy)
            has = {pose: prediction.joints, "mIoU": prediction.mask}  # its scores of the tasks that it has
            title = ", ".join(f"{metric} {scores[metric]:.0f}" for metric, maps in has.items() if maps is not None)
            title = title.replace("nan", "–")
            picture = Picture(image, prediction.mask, prediction.joints, title=title)
            row += _apart(picture) if crowds else [picture]
    return rows


def changes(source: Source, names: Sequence[str], before: RunResult, after: RunResult) -> list[Change]:
    """What ``after`` says otherwise than ``before`` of the validation images ``names``, of one person each."""
    pictures = prediction_rows(source, names, [before, after])
    found = []
    for name, (_, truth, first, second) in zip(names, pictures, strict=True):
        was, is_ = (
            evaluation.hits[evaluation.names.index(name)] for evaluation in (before.evaluation(), after.evaluation())
        )
        found.append(Change(truth, first, second, corrected=(was == 0) & (is_ == 1), lost=(was == 1) & (is_ == 0)))
    return found


def spread_images(gains: pd.Series, each: int) -> dict[str, list[str]]:
    """More images by the rule of :func:`telling_images`: the ``each`` largest gains, middle ones and largest losses.

    Where there are too few images none is named twice.
    """
    order = list(gains.sort_values(ascending=False, kind="stable").index)
    each = min(each, len(order) // 3) or 1
    middle = (len(order) - each) // 2
    return {
        "largest gain": order[:each],
        "median": order[middle : middle + each],
        "largest loss": order[len(order) - each :],
    }


def _apart(picture: Picture) -> list[Picture]:
    """The people and the parts of one picture, side by side."""
    return [picture._replace(mask=None), picture._replace(joints=None, occluded=None, title="")]
