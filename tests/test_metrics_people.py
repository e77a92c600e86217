"""AP of several people: against a naive loop, hand-worked cases, and the protocol's rules about who takes part."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import PASCAL
from mula_lib.metrics.people import (
    ANNOTATED_HEADS,
    HEAD_OF_BOX,
    average_precision,
    match_people,
    people_scores,
    reference_lengths,
)

N = len(PASCAL.joints)
FOREHEAD, NECK = PASCAL.joint("forehead"), PASCAL.joint("neck")

# An image is four arrays: predicted (Q, N, 2), scores (Q, N), truth (M, N, 2), boxes (M, 4).


def matches_of(predicted, scores, truth, boxes):
    return match_people(predicted, scores, truth, *reference_lengths(truth, boxes, PASCAL))


def scored(images) -> dict[str, float]:
    return people_scores([matches_of(*image) for image in images], PASCAL)


# The protocol once more in plain loops, on nested lists.


def known(point) -> bool:
    return not any(math.isnan(value) for value in point)


def loop_hits(prediction, person, length) -> list[bool]:
    return [known(p) and known(t) and math.dist(p, t) <= 0.5 * length for p, t in zip(prediction, person, strict=True)]


def loop_best(candidates) -> int | None:
    """The index of the highest of some fits, of equals the first; None if none is above zero."""
    best = max(candidates, key=lambda pair: pair[1], default=(None, 0))
    return best[0] if best[1] > 0 else None


def loop_match(predicted, scores, truth, boxes):
    """The (joint, score, right, headed) of every predicted joint, and the (joint, headed) of every annotated one."""
    lengths, headed = reference_lengths(truth, boxes, PASCAL)  # tested by hand below
    predicted, scores, truth = (array.tolist() for array in (predicted, scores, truth))
    fits = [
        [
            sum(loop_hits(prediction, person, length)) / max(1, sum(map(known, person)))
            for person, length in zip(truth, lengths, strict=True)
        ]
        for prediction in predicted
    ]
    kept = [loop_best(enumerate(fit)) for fit in fits]
    assigned = {}
    for m in range(len(truth)):
        best = loop_best((q, fits[q][m]) for q in range(len(predicted)) if kept[q] == m)
        if best is not None:
            assigned[best] = m
    found = []
    for q, prediction in enumerate(predicted):
        right = loop_hits(prediction, truth[assigned[q]], lengths[assigned[q]]) if q in assigned else [False] * N
        takes_part = kept[q] is None or headed[kept[q]]
        found += [(n, scores[q][n], right[n], takes_part) for n in range(N) if known(prediction[n])]
    return found, [(n, headed[m]) for m, person in enumerate(truth) for n in range(N) if known(person[n])]


def loop_ap(found, annotated: int) -> float:
    """Percent, of (score, right) pairs: one point of the curve per threshold, each under the best to its right."""
    if annotated == 0:
        return math.nan
    curve = []
    for threshold in sorted({score for score, _ in found}, reverse=True):
        above = [right for score, right in found if score >= threshold]
        curve.append((sum(above) / annotated, sum(above) / len(above)))
    area = last = 0.0
    for i, (recall, _) in enumerate(curve):
        area += (recall - last) * max(precision for _, precision in curve[i:])
        last = recall
    return 100 * area


def loop_scores(images) -> dict[str, float]:
    by_image = [loop_match(*image) for image in images]
    found, wanted = (list(itertools.chain(*each)) for each in zip(*by_image, strict=True))

    def mean(values) -> float:
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    every = [loop_ap([(s, r) for k, s, r, _ in found if k == n], sum(k == n for k, _ in wanted)) for n in range(N)]
    headed = [
        loop_ap([(s, r) for k, s, r, h in found if k == n and h], sum(k == n and h for k, h in wanted))
        for n in range(N)
    ]
    scores = {column: mean([every[PASCAL.joint(name)] for name in names]) for column, names in PASCAL.columns}
    return {**scores, "mAP": mean(every), ANNOTATED_HEADS: mean(headed)}


def random_people(rng, count, missing):
    """(count, N, 2) people, some beside and some over one another, and their boxes, some of them unknown."""
    truth = rng.uniform(0, 300, (count, 1, 2)) + rng.uniform(0, 60, (count, N, 2))
    truth[:, FOREHEAD] = truth[:, NECK] + rng.uniform(-20, 20, (count, 2))
    for m in range(1, count):
        if rng.random() < 0.3:  # a double, so near that predictions fit both
            truth[m] = truth[m - 1] + rng.normal(0, 4, (N, 2))
    boxes = np.concatenate([truth.min(axis=1, initial=1000), truth.max(axis=1, initial=0)], axis=1)
    boxes += rng.uniform(-9, 9, boxes.shape)
    truth[rng.random((count, N)) < missing] = np.nan
    truth[rng.random((count, N, 2)) < missing / 20] = np.nan  # only one coordinate
    boxes[rng.random(count) < 0.3] = np.nan
    return truth, boxes


def random_image(rng, missing):
    """Up to four people and five predictions of them: exact, near or far, with joints too few and too many."""
    truth, boxes = random_people(rng, rng.integers(5), missing * (rng.random() < 0.8))
    guesses, _ = random_people(rng, rng.integers(6), 0)
    for guess in guesses:
        if len(truth) and rng.random() < 0.9:
            person = truth[rng.integers(len(truth))]
            guess[:] = np.where(np.isnan(person), guess, person) + rng.normal(0, rng.choice([0, 3, 9]), (N, 2))
    guesses[rng.random(guesses.shape[:2]) < missing / 2] = np.nan
    guesses[rng.random(guesses.shape) < missing / 20] = np.nan
    return guesses, rng.random(guesses.shape[:2]).round(1), truth, boxes


def random_scene(seed, missing=0.2, images=5):
    rng = np.random.default_rng(seed)
    return [random_image(rng, missing) for _ in range(images)]


SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, missing=st.floats(0, 1), images=st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_matches_and_scores_equal_the_naive_loops(seed, missing, images):
    scene = random_scene(seed, missing, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scored(scene)
        matches = matches_of(*scene[0])
    assert scores == pytest.approx(loop_scores(scene), rel=0, abs=1e-9, nan_ok=True)
    assert all(math.isnan(score) or 0 <= score <= 100 + 1e-9 for score in scores.values())
    found, wanted = loop_match(*scene[0])
    columns = (matches.joint, matches.score, matches.right, matches.headed)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(found)
    assert matches.annotated.tolist() == [sum(k == n for k, _ in wanted) for n in range(N)]
    assert matches.annotated_headed.tolist() == [sum(k == n and h for k, h in wanted) for n in range(N)]


CURVES = st.lists(st.tuples(st.integers(0, 10).map(lambda tenths: tenths / 10), st.booleans()), max_size=40)


def area(pairs, annotated) -> float:
    return average_precision(np.array([s for s, _ in pairs], float), np.array([r for _, r in pairs], bool), annotated)


@pytest.mark.parametrize(
    ("pairs", "annotated", "expected"),
    [
        # recall 1/4 1/4 1/4 2/4 3/4, precision 1 1/2 1/3 2/4 3/5; the envelope 1 3/5 3/5: 1/4 + 2/4 · 3/5
        (list(zip([0.9, 0.8, 0.7, 0.6, 0.5], [True, False, False, True, True], strict=True)), 4, 55),
        # equal scores are one point, in any order: precision 1/2 at recall 1/2, then 2/3 at 1
        ([(0.9, True), (0.9, False), (0.5, True)], 2, 200 / 3),
        ([(0.9, False), (0.9, True), (0.5, True)], 2, 200 / 3),
        ([], 3, 0),
        ([], 0, math.nan),
        ([(0.9, False)], 0, math.nan),
    ],
)
def test_curves_worked_by_hand(pairs, annotated, expected):
    assert area(pairs, annotated) == pytest.approx(expected, nan_ok=True)


# Hand-worked scenes. In each of them a joint of a person far away matches nothing.


def person(x: float = 0.0) -> np.ndarray:
    """(N, 2) somebody with a head of 20 pixels, so that 10 are near enough."""
    joints = np.array([(x, 40.0 * n) for n in range(N)])
    joints[NECK] = joints[FOREHEAD] + (0, 20)
    return joints


def without(joints: np.ndarray, *names: str) -> np.ndarray:
    joints = joints.copy()
    joints[[PASCAL.joint(name) for name in names]] = np.nan
    return joints


def image(predicted=(), scores=(), truth=()):
    """One image of a list of predictions, each of one score throughout, and a list of people without boxes."""
    return (
        np.array(predicted).reshape(-1, N, 2),
        np.repeat(np.array(scores, float)[:, None], N, axis=1),
        np.array(truth).reshape(-1, N, 2),
        np.full((len(truth), 4), np.nan),
    )


def right_of(predicted, truth) -> list[int]:
    """How many joints are right of each of some predictions that have all joints."""
    matches = matches_of(*image(predicted, [0.5] * len(predicted), truth))
    return matches.right.reshape(-1, N).sum(axis=1).tolist()


A, B, FAR = person(), person(1000), person(5000)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([image([A, B], [0.3, 0.9], [B, A]), image([FAR], [0.1], [FAR])], 100),  # perfect
        ([image([FAR], [0.9], [A, B])], 0),  # all wrong
        ([image(truth=[A, B])], 0),  # nothing predicted
        ([image([A], [0.9], [A]), image(truth=[B])], 50),  # an image without predictions counts in recall
        # a wrong prediction before the right one (0.5), or at one threshold with it, halves the precision at which
        # recall is 1; behind it, it adds nothing: in an image of nobody, or as somebody's second finding
        *[([image([A], [0.5], [A]), image([B], [s])], e) for s, e in ((0.9, 50), (0.5, 50), (0.1, 100))],
        *[([image([A, A], [0.5, s], [A])], e) for s, e in ((0.9, 50), (0.5, 50), (0.1, 100))],
        ([image()], math.nan),
        ([image([A], [0.9])], math.nan),  # nobody annotated
    ],
)
def test_scenes_worked_by_hand(images, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scored(images)
    assert list(scores) == ["Head", "Sho.", "Elb.", "Wri.", "Hip", "Knee", "Ank.", "mAP", ANNOTATED_HEADS]
    assert all(score == pytest.approx(expected, nan_ok=True) for score in scores.values())


@pytest.mark.parametrize(
    ("offset", "right"), [((0, 0), N), ((10, 0), N), ((0, -10), N), ((6, 8), N), ((10.001, 0), 0), ((6, 8.001), 0)]
)
def test_a_match_is_at_most_half_the_reference_length_away(offset, right):
    assert right_of([A + offset], [A]) == [right]


def test_a_fit_is_the_share_of_the_annotated_joints_not_their_number():
    # 6 of 14 joints are A's, 2 of 4 those of somebody of whom there is less to see
    little = np.full((N, 2), np.nan)
    little[[FOREHEAD, NECK, -2, -1]] = B[[FOREHEAD, NECK, -2, -1]]
    guess = FAR.copy()
    guess[2:8], guess[-2:] = A[2:8], B[-2:]
    assert right_of([guess], [A, little]) == right_of([guess], [little, A]) == [2]
    guess[-1] = FAR[-1]  # 1 of 4 is less than 6 of 14
    assert right_of([guess], [A, little]) == [6]


def test_the_better_of_two_predictions_is_taken_and_the_other_takes_nobody_else():
    worse = A.copy()
    worse[:6] = B[:6]  # it has 8 of A's joints and 6 of B's, whom nobody else found
    assert right_of([worse, A], [A, B]) == [0, N]
    # the surer one is all wrong, even where it matches: precision is 1/2 at recall 1
    worse[:6] = FAR[:6]
    assert scored([image([worse, A], [0.9, 0.1], [A])])["mAP"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("missing", "box", "length"),
    [
        ((), [0, 0, 900, 900], 20),
        ((), [math.nan] * 4, 20),
        (("forehead",), [5, 5, 105, 205], HEAD_OF_BOX * 200),
        (("neck",), [5, 5, 205, 105], HEAD_OF_BOX * 200),
        # without a whole box the joints' extent: from the neck at 20 to the last joint at 13 × 40
        (("forehead",), [math.nan] * 4, HEAD_OF_BOX * 500),
        (("forehead",), [0, 0, 9999, math.nan], HEAD_OF_BOX * 500),
    ],
)
def test_the_reference_is_the_head_and_without_one_a_share_of_the_box(missing, box, length):
    for truth in (without(A, *missing), without(A, *missing)[:, ::-1]):  # standing, and lying
        lengths, headed = reference_lengths(truth[None], np.array([box], float), PASCAL)
        assert lengths == pytest.approx([length])
        assert headed.tolist() == [not missing]


def test_people_without_an_annotated_head_and_their_predictions_are_left_out_of_the_second_variant():
    # A is found whole, with a score of 0.5. B has no forehead and is found but for one ankle, with 0.9; another
    # prediction, with 0.9 too, fits B best but less well, and so is all wrong. The curves of the first variant:
    #   forehead, 1 annotated: two wrong at 0.9, then A's: precision 1/3 at recall 1, AP 1/3
    #   left ankle, 2 annotated: two wrong at 0.9, then A's: precision 1/3 at recall 1/2, AP 1/6
    #   12 others, 2 annotated: one of two right at 0.9, 2 of 3 with A's: the envelope is 2/3 throughout, AP 2/3
    guess = B.copy()
    guess[PASCAL.joint("left_ankle")] += 1000
    worse = guess.copy()
    worse[5:9] += 1000
    scores = scored([image([A, worse, guess], [0.5, 0.9, 0.9], [A, without(B, "forehead")])])
    assert scores["mAP"] == pytest.approx(100 * (1 / 3 + 1 / 6 + 12 * 2 / 3) / 14)
    assert scores["Ank."] == pytest.approx(100 * (1 / 6 + 2 / 3) / 2)
    assert scores[ANNOTATED_HEADS] == pytest.approx(100)
    # what fits nobody stays in the second variant: precision 1/2 at recall 1
    scores = scored([image([FAR], [0.9], [without(B, "neck")]), image([A], [0.5], [A])])
    assert scores[ANNOTATED_HEADS] == pytest.approx(50)
    assert math.isnan(scored([image([A], [0.9], [without(A, "neck")])])[ANNOTATED_HEADS])
