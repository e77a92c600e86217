"""Two runs side by side, image by image; the images to look at are chosen by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mula_lib.anatomy import Anatomy
from mula_lib.evaluation import CrowdEvaluation, Evaluation
from mula_lib.inference import predict
from workbook.datasets import Source
from workbook.figures.corrections import Change
from workbook.figures.people import Picture
from workbook.inspection import truth_picture
from workbook.runs import Run


def image_scores(evaluation: Evaluation | CrowdEvaluation, anatomy: Anatomy, metrics: Sequence[str] = ()) -> pd.Series:
    """Mean of ``metrics`` (default: PCK or mAP, and mIoU) of each single image, in percent, by the image's name.

    nan where no joint of the image counts.
    """
    scores = [evaluation.only(index).scores(anatomy) for index in range(len(evaluation.names))]
    table = pd.DataFrame(scores, evaluation.names)[list(metrics or (anatomy.pose_metric, "mIoU"))]
    return table.mean(axis=1, skipna=False)


def image_gains(better: Sequence[Run], baseline: Sequence[Run], metrics: Sequence[str] = ()) -> pd.Series:
    """Gain of one row over another on each validation image: difference of :func:`image_scores`, mean over seeds.

    Indexed by the image's name, in the split's order; images without a score are left out.
    """
    anatomy = baseline[0].source.anatomy
    scores = [[image_scores(run.evaluation(), anatomy, metrics) for run in runs] for runs in (better, baseline)]
    return (sum(scores[0]) / len(better) - sum(scores[1]) / len(baseline)).rename("gain").dropna()


def telling_images(gains: pd.Series) -> Mapping[str, str]:
    """The images to look at, chosen by rule and not by eye: largest gain, median, largest loss -> name."""
    order = gains.sort_values(ascending=False, kind="stable").index
    return {"largest gain": order[0], "median": order[len(order) // 2], "largest loss": order[-1]}


def spread_images(gains: pd.Series, each: int) -> dict[str, list[str]]:
    """More images by the rule of :func:`telling_images`: the ``each`` largest gains, middle ones and largest losses.

    Where there are too few images none is named twice.
    """
    order = list(gains.sort_values(ascending=False, kind="stable").index)
    each = min(each, len(order) // 3) or 1
    middle = (len(order) - each) // 2
    return {"largest gain": order[:each], "median": order[middle:][:each], "largest loss": order[-each:]}


def prediction_rows(source: Source, names: Sequence[str], runs: Sequence[Run]) -> list[list[Picture]]:
    """A row of pictures for each of the validation images ``names``: the photo, the truth, what each run predicts.

    A prediction's title gives its own scores on this one image. Where there are several people, the photo is left out,
    and the truth and each prediction are two pictures: people, and the parts beside them.
    """
    by_name = {record.name: record for record in source.val.records}
    truths = [truth_picture(by_name[name], source.anatomy) for name in names]
    crowds, pose = source.anatomy.crowds, source.anatomy.pose_metric
    rows = [_apart(truth) if crowds else [Picture(truth.image), truth] for truth in truths]
    for run in runs:
        evaluation, images = run.evaluation(), [truth.image for truth in truths]
        predictions = predict(run.model(), images, run.profile.crop, run.profile.testing, source.anatomy)
        for row, name, image, prediction in zip(rows, names, images, predictions, strict=True):
            scores = evaluation.only(evaluation.names.index(name)).scores(source.anatomy)
            has = {pose: prediction.joints, "mIoU": prediction.mask}  # its scores of the tasks that it has
            title = ", ".join(f"{metric} {scores[metric]:.0f}" for metric, maps in has.items() if maps is not None)
            picture = Picture(image, prediction.mask, prediction.joints, title=title.replace("nan", "–"))
            row += _apart(picture) if crowds else [picture]
    return rows


def changes(source: Source, names: Sequence[str], before: Run, after: Run) -> list[Change]:
    """What ``after`` predicts otherwise than ``before`` on the validation images ``names``, of one person each."""
    counts, found = [run.evaluation() for run in (before, after)], []
    for name, (_, *pictures) in zip(names, prediction_rows(source, names, [before, after]), strict=True):
        was, now = (each.hits[each.names.index(name)] for each in counts)
        found.append(Change(*pictures, corrected=(was == 0) & (now == 1), lost=(was == 1) & (now == 0)))
    return found


def _apart(picture: Picture) -> list[Picture]:
    """The people and the parts of one picture, side by side."""
    return [picture._replace(mask=None), picture._replace(joints=None, occluded=None, title="")]
