"""PCKh and parsing metrics: against hand-worked cases, naive loops, and the protocol's rules about who takes part."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mula_lib.anatomy import LIP
from mula_lib.metrics.parsing import class_iou, confusion_matrix, parsing_scores
from mula_lib.metrics.pose import pckh, pckh_hits

N = len(LIP.joints)
TOP, NECK = LIP.joint("head_top"), LIP.joint("upper_neck")


def people(count: int, head: float = 10.0, seed: int = 0) -> np.ndarray:
    """(count, N, 2) people whose head is ``head`` pixels long, standing anywhere."""
    truth = np.random.default_rng(seed).uniform(0, 200, (count, N, 2))
    truth[:, TOP] = truth[:, NECK] + (0, -head)
    return truth


def moved(truth: np.ndarray, distance: float) -> np.ndarray:
    """The same people with every joint ``distance`` pixels to the right."""
    return truth + np.array([distance, 0])


def loop_hits(predicted, truth, threshold) -> np.ndarray:
    hits = np.full(truth.shape[:2], np.nan)
    for m in range(len(truth)):
        head = math.dist(truth[m, TOP], truth[m, NECK])
        if math.isnan(head):
            continue
        for n in range(N):
            if not np.isnan(truth[m, n]).any():
                hits[m, n] = float(math.dist(predicted[m, n], truth[m, n]) <= threshold * head)
    return hits


def loop_scores(hits) -> dict[str, float]:
    """Each column from a list of its hits, joint by joint."""

    def percent(values):
        return 100 * sum(values) / len(values) if values else math.nan

    def annotated(n):
        return [h for h in hits[:, n].tolist() if not math.isnan(h)]

    scores = {}
    for column, names in LIP.columns:
        rates = [percent(annotated(LIP.joint(name))) for name in names]
        rates = [rate for rate in rates if not math.isnan(rate)]
        scores[column] = sum(rates) / len(rates) if rates else math.nan
    scores["U.Body"] = percent([h for n in range(8, 16) for h in annotated(n)])
    scores["PCK"] = percent([h for n in range(16) if n not in (6, 7) for h in annotated(n)])
    return scores


@given(seed=st.integers(0, 10_000), missing=st.floats(0, 1), threshold=st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=50, deadline=None)
def test_hits_and_scores_equal_the_naive_loops(seed, missing, threshold):
    rng = np.random.default_rng(seed)
    truth = people(6, head=rng.uniform(1, 40), seed=seed)
    predicted = truth + rng.normal(0, 10, truth.shape)
    truth[rng.random((6, N)) < missing] = np.nan
    truth[rng.random((6, N, 2)) < missing / 20] = np.nan  # only one coordinate
    predicted[rng.random((6, N)) < missing / 4] = np.nan
    hits = pckh_hits(predicted, truth, LIP, threshold=threshold)
    np.testing.assert_array_equal(hits, loop_hits(predicted, truth, threshold))
    assert pckh(hits, LIP) == pytest.approx(loop_scores(hits), nan_ok=True)


@pytest.mark.parametrize(("distance", "hit"), [(0, 1), (4.99, 1), (5, 1), (5.01, 0)])
def test_a_hit_is_at_most_half_a_head_away(distance, hit):
    truth = np.round(people(3, head=10))
    assert (pckh_hits(moved(truth, distance), truth, LIP) == hit).all()


def test_a_negative_coordinate_is_taken_as_it_is_and_not_as_pixel_1():
    truth, predicted = people(1, head=10), people(1, head=10)
    truth[0, 4], predicted[0, 4] = (1, 50), (-5, 50)  # 6 pixels apart, where 5 would hit
    truth[0, 5], predicted[0, 5] = (1, 50), (-3, 50)
    assert pckh_hits(predicted, truth, LIP)[0, 4:6].tolist() == [0, 1]


def test_with_a_head_of_no_length_only_an_exact_prediction_hits():
    truth = people(1, head=0)
    predicted = truth.copy()
    predicted[0, :5] += 0.001
    assert pckh_hits(predicted, truth, LIP)[0].tolist() == [0] * 5 + [1] * 11


def test_a_column_is_the_mean_of_its_joints_and_the_average_pools_joints():
    hits = np.full((4, N), np.nan)
    hits[:, LIP.joint("right_knee")] = [1, 1, 1, 1]  # 100 %
    hits[:1, LIP.joint("left_knee")] = [0]  # 0 %
    scores = pckh(hits, LIP)
    assert scores["Knee"] == 50  # the mean of 100 and 0
    assert scores["PCK"] == 80  # four of five
    assert math.isnan(scores["U.Body"])
    assert math.isnan(scores["Head"])


def test_nobody_annotated_gives_nan_in_every_column_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = pckh_hits(people(2), np.full((2, N, 2), np.nan), LIP)
        scores = pckh(hits, LIP)
    assert list(scores) == ["Head", "Sho.", "Elb.", "Wri.", "Hip", "Knee", "Ank.", "U.Body", "PCK"]
    assert all(math.isnan(score) for score in scores.values())


# Parsing

CLASSES = 4
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=7)
masks = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1)),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])),
    )
)


def loop_parsing_scores(prediction, truth) -> dict[str, float]:
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
def test_parsing_scores_equal_the_naive_loop(pair):
    prediction, truth = pair
    scores = parsing_scores(confusion_matrix(prediction, truth, CLASSES))
    assert scores == pytest.approx(loop_parsing_scores(prediction, truth), nan_ok=True)


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
