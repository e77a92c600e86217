"""Human parsing: pixel accuracy, mean accuracy and mean IoU from one confusion matrix of the whole data set.

Confusion matrices of images add up; scores do not. Count at the annotation's own size, sum over all images, and only
then score: a mean of per-image IoUs is another number.
"""

import numpy as np

from mula_lib.anatomy import IGNORE


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels: (classes, classes) int64, rows the truth, columns the prediction.

    ``prediction`` and ``truth`` are integer arrays of the same shape. Pixels whose truth is 255 are left out. Raises
    ``ValueError`` if any other pixel has an id that is not below ``classes``.
    """
    counted = truth != IGNORE
    prediction, truth = prediction[counted], truth[counted].astype(np.intp)
    for what, ids in (("prediction", prediction), ("truth", truth)):
        if ids.size and not (ids.min() >= 0 and ids.max() < classes):
            raise ValueError(f"{what} has ids from {ids.min()} to {ids.max()}: there are {classes} classes, from 0")
    cells = np.bincount(truth * classes + prediction, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """(classes,) intersection over union of each class, in percent; nan for one neither annotated nor predicted."""
    hits = np.diagonal(confusion)
    return 100.0 * ratio(hits, confusion.sum(axis=1) + confusion.sum(axis=0) - hits)


def parsing_scores(confusion: np.ndarray) -> dict[str, float]:
    """Score a (classes, classes) confusion matrix, in percent.

    ``PixelAcc`` is trace / total; ``MeanAcc`` the mean over annotated classes of the share of their pixels that is
    right; ``mIoU`` the mean of :func:`class_iou`, background included. A class without a value (nan) is left out of
    its mean; if no pixel was annotated, all three are nan.
    """
    hits = np.diagonal(confusion)
    return {
        "PixelAcc": float(100.0 * ratio(hits.sum(), confusion.sum())),
        "MeanAcc": mean_of_known(100.0 * ratio(hits, confusion.sum(axis=1))),
        "mIoU": mean_of_known(class_iou(confusion)),
    }


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where the whole is zero."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_of_known(values: np.ndarray) -> float:
    """The mean of ``values`` without its nans; nan if all are nan."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
