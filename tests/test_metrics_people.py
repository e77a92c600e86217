"""AP of several people: against hand-worked cases, a naive loop, and the protocol's rules about who takes part."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import PASCAL
from mula_lib.metrics.people import ANNOTATED_HEADS, HEAD_OF_BOX, average_precision, judge, people_scores, yardsticks

N = len(PASCAL.joints)
FOREHEAD, NECK = PASCAL.joint("forehead"), PASCAL.joint("neck")

# An image is four arrays, as judge() takes them: predicted (Q, N, 2), scores (Q, N), truth (M, N, 2), boxes (M, 4).


# The protocol once more in plain loops, on nested lists.


def known(point) -> bool:
    return not any(math.isnan(value) for value in point)


def loop_yardstick(person, box) -> tuple[float, bool]:
    if known(person[FOREHEAD]) and known(person[NECK]):
        return math.dist(person[FOREHEAD], person[NECK]), True
    points = [point for point in person if known(point)]
    if known(box):
        x1, y1, x2, y2 = box
    elif points:
        x1, x2 = min(x for x, _ in points), max(x for x, _ in points)
        y1, y2 = min(y for _, y in points), max(y for _, y in points)
    else:
        return math.nan, False
    return HEAD_OF_BOX * max(x2 - x1, y2 - y1), False


def loop_matches(prediction, person, yardstick) -> list[bool]:
    return [
        known(p) and known(t) and math.dist(p, t) <= 0.5 * yardstick for p, t in zip(prediction, person, strict=True)
    ]


def loop_judge(predicted, scores, truth, boxes):
    """The (joint, score, right, headed) of every predicted joint, and the (joint, headed) of every annotated one."""
    predicted, scores, truth, boxes = (array.tolist() for array in (predicted, scores, truth, boxes))
    lengths, headed = [], []
    for person, box in zip(truth, boxes, strict=True):
        length, has_head = loop_yardstick(person, box)
        lengths.append(length)
        headed.append(has_head)

    kept, fits = [], []  # per prediction: the person it fits best (None: it fits nobody) and how well
    for prediction in predicted:
        best, best_fit = None, 0.0
        for m, person in enumerate(truth):
            count = sum(known(point) for point in person)
            fit = sum(loop_matches(prediction, person, lengths[m])) / count if count else 0.0
            if fit > best_fit:  # of equals the first
                best, best_fit = m, fit
        kept.append(best)
        fits.append(best_fit)

    assigned = [None] * len(predicted)
    for m in range(len(truth)):
        best, best_fit = None, 0.0
        for q in range(len(predicted)):
            if kept[q] == m and fits[q] > best_fit:
                best, best_fit = q, fits[q]
        if best is not None:
            assigned[best] = m

    found = []
    for q, prediction in enumerate(predicted):
        person = assigned[q]
        right = [False] * N if person is None else loop_matches(prediction, truth[person], lengths[person])
        takes_part = kept[q] is None or headed[kept[q]]
        found += [(n, scores[q][n], right[n], takes_part) for n in range(N) if known(prediction[n])]
    wanted = [(n, headed[m]) for m, person in enumerate(truth) for n in range(N) if known(person[n])]
    return found, wanted


def loop_ap(found, annotated: int) -> float:
    """Per cent, of (score, right) pairs: one point of the curve per threshold, each under the best to its right."""
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


def loop_mean(values) -> float:
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def loop_scores(images) -> dict[str, float]:
    found, wanted = [], []
    for image in images:
        more_found, more_wanted = loop_judge(*image)
        found += more_found
        wanted += more_wanted
    every, headed = [], []
    for n in range(N):
        every.append(loop_ap([(s, r) for k, s, r, _ in found if k == n], sum(k == n for k, _ in wanted)))
        headed.append(loop_ap([(s, r) for k, s, r, h in found if k == n and h], sum(k == n and h for k, h in wanted)))
    scores = {column: loop_mean([every[PASCAL.joint(name)] for name in names]) for column, names in PASCAL.columns}
    return {**scores, "mAP": loop_mean(every), ANNOTATED_HEADS: loop_mean(headed)}


def loop_is_tied(predicted, _scores, truth, boxes) -> bool:
    """Whether two people suit one prediction equally well, or two predictions one person."""
    lengths = [loop_yardstick(*each)[0] for each in zip(truth.tolist(), boxes.tolist(), strict=True)]
    kept = []
    for prediction in predicted.tolist():
        fits = []
        for person, length in zip(truth.tolist(), lengths, strict=True):
            matches = sum(loop_matches(prediction, person, length))
            fits.append(matches / max(1, sum(map(known, person))))
        best = max(fits, default=0)
        if best > 0 and fits.count(best) > 1:
            return True
        if best > 0:
            kept.append((fits.index(best), best))
    return len(set(kept)) < len(kept)


# Random scenes.


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


def scored(images) -> dict[str, float]:
    return people_scores([judge(*image, PASCAL) for image in images], PASCAL)


SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, missing=st.floats(0, 1), images=st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_scores_equal_the_naive_loops(seed, missing, images):
    scene = random_scene(seed, missing, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scored(scene)
    assert scores == pytest.approx(loop_scores(scene), rel=0, abs=1e-9, nan_ok=True)


@given(seed=SEEDS, missing=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_verdicts_of_every_image_equal_the_naive_loops(seed, missing):
    image = random_image(np.random.default_rng(seed), missing)
    verdicts = judge(*image, PASCAL)
    found, wanted = loop_judge(*image)
    columns = (verdicts.joint, verdicts.score, verdicts.right, verdicts.headed)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(found)
    joints, headed = [n for n, _ in wanted], [n for n, has_head in wanted if has_head]
    assert verdicts.annotated.tolist() == [joints.count(n) for n in range(N)]
    assert verdicts.annotated_headed.tolist() == [headed.count(n) for n in range(N)]


# Properties.


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_order_of_images_is_of_no_account_though_scores_are_tied(seed):
    scene = random_scene(seed)
    order = np.random.default_rng(seed).permutation(len(scene))
    assert scored([scene[i] for i in order]) == pytest.approx(scored(scene), nan_ok=True)


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_order_of_people_is_of_no_account_unless_fits_are_tied(seed):
    rng = np.random.default_rng(seed)
    scene = [image for image in random_scene(seed, images=8) if not loop_is_tied(*image)]
    shuffled = []
    for predicted, scores, truth, boxes in scene:
        ours, theirs = rng.permutation(len(predicted)), rng.permutation(len(truth))
        shuffled.append((predicted[ours], scores[ours], truth[theirs], boxes[theirs]))
    assert scored(shuffled) == pytest.approx(scored(scene), nan_ok=True)


@given(seed=SEEDS, missing=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_scores_lie_between_0_and_100(seed, missing):
    assert all(math.isnan(score) or 0 <= score <= 100 + 1e-9 for score in scored(random_scene(seed, missing)).values())


@given(seed=SEEDS, scale=st.floats(0.01, 100), x=st.floats(-1000, 1000), y=st.floats(-1000, 1000))
@settings(max_examples=30, deadline=None)
def test_scores_do_not_change_when_a_whole_scene_is_moved_and_scaled(seed, scale, x, y):
    scene = random_scene(seed)
    elsewhere = [
        (predicted * scale + (x, y), scores, truth * scale + (x, y), boxes * scale + (x, y, x, y))
        for predicted, scores, truth, boxes in scene
    ]
    assert scored(elsewhere) == pytest.approx(scored(scene), nan_ok=True)


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_only_the_order_of_confidences_counts(seed):
    scene = random_scene(seed)
    louder = [(predicted, 7 * scores**3 - 2, truth, boxes) for predicted, scores, truth, boxes in scene]
    assert scored(louder) == pytest.approx(scored(scene), nan_ok=True)


@given(seed=SEEDS, confidence=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
@settings(max_examples=30, deadline=None)
def test_one_more_wrong_prediction_never_raises_a_score(seed, confidence):
    scene = random_scene(seed)
    before = scored(scene)
    predicted, scores, truth, boxes = scene[0]
    far_off = np.full((1, N, 2), 1e6)
    more = np.concatenate([predicted, far_off]), np.concatenate([scores, np.full((1, N), confidence)]), truth, boxes
    after = scored([more, *scene[1:]])
    for name, score in before.items():
        assert math.isnan(after[name]) if math.isnan(score) else after[name] <= score + 1e-9
    if confidence == -1.0:  # below all others it adds no recall, and so no area
        assert after == pytest.approx(before, nan_ok=True)


# The curve alone.

CURVES = st.lists(st.tuples(st.integers(0, 10).map(lambda tenths: tenths / 10), st.booleans()), max_size=40)


def area(pairs, annotated) -> float:
    return average_precision(np.array([s for s, _ in pairs], float), np.array([r for _, r in pairs], bool), annotated)


@given(pairs=CURVES, unfound=st.integers(0, 5))
@settings(deadline=None)
def test_average_precision_is_the_area_by_a_loop_over_thresholds(pairs, unfound):
    annotated = unfound + sum(right for _, right in pairs)
    assert area(pairs, annotated) == pytest.approx(loop_ap(pairs, annotated), rel=0, abs=1e-9, nan_ok=True)


@given(pairs=CURVES, unfound=st.integers(1, 5))
@settings(deadline=None)
def test_average_precision_is_the_mean_interpolated_precision_over_every_annotated_joint(pairs, unfound):
    # the same area by another formula, in whole numbers: the k-th of the annotated joints to be found contributes the
    # best precision at which at least k are found, nothing if no threshold finds so many
    annotated = unfound + sum(right for _, right in pairs)
    total = Fraction(0)
    for k in range(1, annotated + 1):
        best = Fraction(0)
        for threshold, _ in pairs:
            above = [right for score, right in pairs if score >= threshold]
            if sum(above) >= k:
                best = max(best, Fraction(sum(above), len(above)))
        total += best
    assert area(pairs, annotated) == pytest.approx(float(100 * total / annotated), rel=0, abs=1e-9)


@given(pairs=CURVES, unfound=st.integers(0, 5), order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_average_precision_does_not_depend_on_the_order_of_equal_scores(pairs, unfound, order):
    annotated = unfound + sum(right for _, right in pairs)
    mixed = order.sample(pairs, len(pairs))
    assert area(mixed, annotated) == pytest.approx(area(pairs, annotated), rel=0, abs=1e-9, nan_ok=True)


def test_a_curve_with_a_dent_is_filled_up_to_its_envelope():
    # right, wrong, wrong, right, right of 4:  recall 1/4  1/4  1/4  2/4  3/4
    #                                       precision   1  1/2  1/3  2/4  3/5, at best to the right: 1 … 3/5 3/5
    # 1/4·1 + 1/4·3/5 + 1/4·3/5 = 0.55; without the envelope it would be 1/4 + 1/8 + 3/20 = 0.525
    pairs = list(zip([0.9, 0.8, 0.7, 0.6, 0.5], [True, False, False, True, True], strict=True))
    assert area(pairs, 4) == pytest.approx(55)


def test_equal_scores_are_one_point_of_the_curve():
    # two of which one is right at 0.9, one right at 0.5; of 2: precision 1/2 at recall 1/2, then 2/3 at 1,
    # so the envelope is 2/3 throughout. Read as separate points, right first, it would be 1/2·1 + 1/2·2/3.
    for pairs in ([(0.9, True), (0.9, False), (0.5, True)], [(0.9, False), (0.9, True), (0.5, True)]):
        assert area(pairs, 2) == pytest.approx(200 / 3)


def test_the_curve_of_no_predictions_is_0_and_of_no_annotations_nan():
    assert area([], 3) == 0
    assert math.isnan(area([], 0))
    assert math.isnan(area([(0.9, False)], 0))


# Hand-worked scenes. In each of them a joint of a person far away matches nothing.


def person(x: float = 0.0) -> np.ndarray:
    """(N, 2) somebody with a head of 20 pixels, so that 10 are near enough."""
    joints = np.array([(x, 40.0 * n) for n in range(N)])
    joints[NECK] = joints[FOREHEAD] + (0, 20)
    return joints


def moved(joints: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    return joints + np.array([x, y])


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
    """How many joints are judged right of each of some predictions that have all joints."""
    verdicts = judge(*image(predicted, [0.5] * len(predicted), truth), PASCAL)
    return verdicts.right.reshape(-1, N).sum(axis=1).tolist()


A, B, FAR = person(), person(1000), person(5000)


def test_perfect_predictions_score_100_in_every_column():
    scores = scored([image([A, B], [0.3, 0.9], [B, A]), image([FAR], [0.1], [FAR])])
    assert list(scores) == ["Head", "Sho.", "Elb.", "Wri.", "Hip", "Knee", "Ank.", "mAP", ANNOTATED_HEADS]
    assert all(score == pytest.approx(100) for score in scores.values())


def test_predictions_all_wrong_score_0():
    assert set(scored([image([FAR], [0.9], [A, B])]).values()) == {0.0}


def test_an_image_without_predictions_counts_in_recall():
    # one of two people found, at precision 1
    assert scored([image([A], [0.9], [A]), image(truth=[B])])["mAP"] == pytest.approx(50)


@pytest.mark.parametrize(("score", "expected"), [(0.9, 50), (0.5, 50), (0.1, 100)])
def test_a_prediction_in_an_image_of_nobody_is_wrong(score, expected):
    # before the right one (0.5), or at one threshold with it, it halves the precision at which recall is 1;
    # behind it, it adds nothing. It fits nobody, and so counts in both variants.
    scores = scored([image([A], [0.5], [A]), image([B], [score])])
    assert scores["mAP"] == scores[ANNOTATED_HEADS] == pytest.approx(expected)


@pytest.mark.parametrize(("score", "expected"), [(0.9, 50), (0.5, 50), (0.1, 100)])
def test_somebody_found_twice_is_found_once_and_the_second_is_all_wrong(score, expected):
    assert right_of([A, A], [A]) == [N, 0]  # of equals the first is taken
    scores = scored([image([A, A], [0.5, score], [A])])
    assert scores["mAP"] == scores[ANNOTATED_HEADS] == pytest.approx(expected)


@pytest.mark.parametrize(("scores", "wrist"), [((0.9, 0.8), 50), ((0.8, 0.9), 100)])
def test_a_joint_unannotated_on_its_person_is_wrong(scores, wrist):
    # A's left wrist is unannotated: of the two predicted ones B's is right, and there was 1 to be found.
    # Behind A's, precision is 1/2 at recall 1; before it, 1.
    found = scored([image([A, B], scores, [without(A, "left_wrist"), B])])
    assert found["Wri."] == pytest.approx((100 + wrist) / 2)
    assert found["mAP"] == pytest.approx((13 * 100 + wrist) / 14)


def test_a_joint_that_was_not_predicted_is_unfound_but_not_wrong():
    # left knees: one of two found, at precision 1 although its score is the lower
    scores = scored([image([without(A, "left_knee"), B], [0.9, 0.1], [A, B])])
    assert scores["Knee"] == pytest.approx(75)
    assert scores["mAP"] == pytest.approx((13 * 100 + 50) / 14)


def test_a_joint_with_one_coordinate_missing_is_missing():
    half = A.copy()
    half[PASCAL.joint("left_knee"), 1] = np.nan
    assert len(judge(*image([half], [0.9], [A]), PASCAL).joint) == N - 1
    assert judge(*image([A], [0.9], [half]), PASCAL).annotated.sum() == N - 1
    half = A.copy()
    half[FOREHEAD, 0] = np.nan
    assert not judge(*image([A], [0.9], [half]), PASCAL).headed.any()


def test_joints_that_nobody_annotated_are_left_out_of_the_means():
    # predicted all the same; the right knee is never found
    truth = without(A, "left_ankle", "right_ankle", "left_knee")
    scores = scored([image([without(A, "right_knee")], [0.9], [truth])])
    assert math.isnan(scores["Ank."])
    assert scores["Knee"] == 0  # the right one's
    assert scores["mAP"] == scores[ANNOTATED_HEADS] == pytest.approx(10 * 100 / 11)  # 14 joints without 3


@pytest.mark.parametrize(
    ("offset", "matches"),
    [((0, 0), N), ((10, 0), N), ((0, -10), N), ((6, 8), N), ((10.001, 0), 0), ((6, 8.001), 0)],
)
def test_a_match_is_at_most_half_the_yardstick_away(offset, matches):
    assert right_of([moved(A, *offset)], [A]) == [matches]


def test_the_yardstick_is_the_truths_not_the_predictions():
    guess = moved(A, 10)
    guess[FOREHEAD] = guess[NECK]
    assert right_of([guess], [A]) == [N - 1]


def test_an_assigned_prediction_is_right_only_where_it_matches():
    guess = A.copy()
    guess[3:] += 11
    assert right_of([guess], [A]) == [3]


def test_a_fit_is_the_share_of_the_annotated_joints_not_their_number():
    # 6 of 14 joints are A's, 2 of 4 those of somebody of whom there is less to see
    little = np.full((N, 2), np.nan)
    little[[FOREHEAD, NECK, -2, -1]] = B[[FOREHEAD, NECK, -2, -1]]
    guess = FAR.copy()
    guess[2:8], guess[-2:] = A[2:8], B[-2:]
    for truth in ([A, little], [little, A]):
        assert right_of([guess], truth) == [2]
    guess[-1] = FAR[-1]  # 1 of 4 is less than 6 of 14
    assert right_of([guess], [A, little]) == [6]


def test_the_better_of_two_predictions_is_taken_wherever_it_stands_and_whatever_its_score():
    worse = A.copy()
    worse[5:] += 11
    assert right_of([worse, A], [A]) == [0, N]
    # the surer one is all wrong, even where it matches: precision is 1/2 at recall 1
    assert scored([image([worse, A], [0.9, 0.1], [A])])["mAP"] == pytest.approx(50)


def test_a_prediction_that_lost_its_person_takes_nobody_else():
    # both fit A best, the second with 8 joints; that it has 6 of B's, whom nobody else found, does not help it
    guess = A.copy()
    guess[:6] = B[:6]
    assert right_of([A, guess], [A, B]) == [N, 0]


def test_of_two_people_who_suit_a_prediction_equally_the_first_is_taken():
    guess = A.copy()
    guess[:7] = B[:7]
    for truth in ([A, B], [B, A]):
        verdicts = judge(*image([guess], [0.5], truth), PASCAL)
        assert verdicts.joint[verdicts.right].tolist() == (list(range(7, N)) if truth[0] is A else list(range(7)))


# Yardsticks, and people without an annotated head.


def test_the_yardstick_is_the_distance_from_forehead_to_neck_whatever_the_box():
    lengths, headed = yardsticks(np.stack([A, A]), np.array([[0, 0, 900, 900], [np.nan] * 4]), PASCAL)
    assert lengths.tolist() == [20, 20]
    assert headed.all()


@pytest.mark.parametrize("missing", [("forehead",), ("neck",), ("forehead", "neck")])
@pytest.mark.parametrize("box", [(5, 5, 105, 205), (5, 5, 205, 105)])
def test_without_a_head_it_is_a_share_of_the_longer_edge_of_the_box(missing, box):
    lengths, headed = yardsticks(without(A, *missing)[None], np.array([box], float), PASCAL)
    assert lengths == pytest.approx([HEAD_OF_BOX * 200])
    assert not headed.any()


@pytest.mark.parametrize("box", [[math.nan] * 4, [0, 0, 9999, math.nan]])
def test_without_a_box_either_it_is_a_share_of_the_extent_of_the_joints(box):
    # neck at 20, the last joint at 13 × 40 = 520; lying instead of standing the same
    truth = without(A, "forehead")
    for joints in (truth, truth[:, ::-1]):
        lengths, headed = yardsticks(joints[None], np.array([box], float), PASCAL)
        assert lengths == pytest.approx([HEAD_OF_BOX * 500])
        assert not headed.any()


def test_joints_match_within_half_the_yardstick_of_the_box():
    near = HEAD_OF_BOX * 200 / 2
    truth, box = without(A, "forehead"), np.array([[0, 0, 50, 200]])
    for distance, right in ((0.999 * near, N - 1), (1.001 * near, 0)):  # the forehead is unannotated
        verdicts = judge(moved(A, distance)[None], np.ones((1, N)), truth[None], box, PASCAL)
        assert verdicts.right.sum() == right


def test_somebody_of_whom_nothing_is_annotated_is_not_to_be_found_and_fits_nobody():
    nobody = np.full((N, 2), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdicts = judge(*image([A], [0.9], [nobody]), PASCAL)
    assert verdicts.annotated.sum() == 0
    assert not verdicts.right.any()
    assert verdicts.headed.all()  # a prediction that fits nobody takes part in both variants


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


def test_a_prediction_that_fits_nobody_stays_in_the_second_variant_beside_somebody_without_a_head():
    # nobody in the first image has a head; what fits none of them is wrong all the same: precision 1/2 at recall 1
    scores = scored([image([FAR], [0.9], [without(B, "neck")]), image([A], [0.5], [A])])
    assert scores[ANNOTATED_HEADS] == pytest.approx(50)


def test_with_no_annotated_head_at_all_the_second_variant_is_nan():
    scores = scored([image([A], [0.9], [without(A, "neck")])])
    assert scores["mAP"] == pytest.approx(100)
    assert math.isnan(scores[ANNOTATED_HEADS])


# Nothing, and nonsense.


@pytest.mark.parametrize("images", [[], [image()], [image([A], [0.9])]])
def test_nobody_annotated_gives_nan_in_every_column_without_a_warning(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scored(images)
    assert all(math.isnan(score) for score in scores.values())


def test_no_predictions_at_all_score_0():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(scored([image(truth=[A, B])]).values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *[("predicted", shape) for shape in [(0,), (2, N), (2, N, 3), (2, N - 1, 2), (N, 2)]],
        *[("scores", shape) for shape in [(0,), (2,), (2, N - 1), (3, N), (2, N, 1)]],
        *[("truth", shape) for shape in [(0,), (3, N), (3, N, 3), (3, N + 1, 2), (N, 2)]],
        *[("boxes", shape) for shape in [(0,), (4,), (3, 2), (2, 4), (3, 2, 2)]],
    ],
)
def test_other_shapes_are_refused(name, shape):
    shapes = {"predicted": (2, N, 2), "scores": (2, N), "truth": (3, N, 2), "boxes": (3, 4)}
    judge(*map(np.zeros, shapes.values()), PASCAL)
    shapes[name] = shape
    with pytest.raises(ValueError, match=f"{name} of shape"):
        judge(*map(np.zeros, shapes.values()), PASCAL)


def test_scores_of_any_number_type_are_sorted_alike_and_nan_or_other_lengths_are_refused():
    assert average_precision(np.array([0, 2], np.uint8), np.array([False, True]), 1) == 100.0
    for scores, right in (([0.5, np.nan], [True, False]), ([0.5], [True, False])):
        with pytest.raises(ValueError, match="one number for each label"):
            average_precision(np.array(scores), np.array(right), 2)
