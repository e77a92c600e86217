"""Parsing metrics: against hand-worked cases, a naive loop, and the definitions' own properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mula_lib.metrics.parsing import class_iou, confusion_matrix, parsing_scores

CLASSES = 4
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7)
masks = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1)),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])),
    )
)


def loop_scores(prediction, truth) -> dict[str, float]:
    """The definitions, pixel by pixel and class by class, without a confusion matrix."""
    pixels = [(p, t) for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True) if t != 255]
    recalls, ious = [], []
    for c in range(CLASSES):
        both = sum(p == c and t == c for p, t in pixels)
        annotated = sum(t == c for _, t in pixels)
        either = sum(p == c or t == c for p, t in pixels)
        recalls += [both / annotated] if annotated else []
        ious += [both / either] if either else []

    def mean(values):
        return 100 * sum(values) / len(values) if values else math.nan

    return {"PixelAcc": mean([p == t for p, t in pixels]), "MeanAcc": mean(recalls), "mIoU": mean(ious)}


@given(masks)
def test_scores_equal_the_naive_loop(pair):
    prediction, truth = pair
    scores = parsing_scores(confusion_matrix(prediction, truth, CLASSES))
    assert scores == pytest.approx(loop_scores(prediction, truth), nan_ok=True)


def test_a_case_worked_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 1, 2, 255]])
    prediction = np.array([[0, 0, 1, 1], [1, 2, 2, 0]])
    confusion = confusion_matrix(prediction, truth, CLASSES)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(class_iou(confusion), [200 / 3, 50, 50, np.nan])
    assert parsing_scores(confusion) == pytest.approx(
        {"PixelAcc": 500 / 7, "MeanAcc": 100 * (2 / 3 + 2 / 3 + 1) / 3, "mIoU": 100 * (2 / 3 + 1 / 2 + 1 / 2) / 3}
    )


def test_a_class_predicted_but_never_annotated_has_iou_0_and_no_accuracy():
    confusion = confusion_matrix(np.array([0, 3]), np.array([0, 0]), CLASSES)
    np.testing.assert_allclose(class_iou(confusion), [50, np.nan, np.nan, 0])
    assert parsing_scores(confusion) == {"PixelAcc": 50, "MeanAcc": 50, "mIoU": 25}


@pytest.mark.parametrize("pixels", [0, 5])
def test_nothing_annotated_is_nan_not_0(pixels):
    truth = np.full(pixels, 255, np.uint8)
    confusion = confusion_matrix(np.zeros(pixels, np.int64), truth, CLASSES)
    assert confusion.shape == (CLASSES, CLASSES)
    assert all(math.isnan(score) for score in parsing_scores(confusion).values())
    assert np.isnan(class_iou(confusion)).all()


@pytest.mark.parametrize("ids", [([0, -1], [0, 0]), ([0, CLASSES], [0, 0]), ([0, 0], [0, -1]), ([0, 0], [0, 254])])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match=r"has ids .*there are 4 classes"):
        confusion_matrix(*map(np.array, ids), CLASSES)
