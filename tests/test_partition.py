"""Candidates and partition: perfect maps of overlapping people give back exactly those people."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import PASCAL
from mula_lib.data.targets import SIGMA_FLOOR, heatmap_sigma
from mula_lib.grouping import FEWEST, Candidates, find_candidates, partition
from workbook.figures import Picture
from workbook.inspection import perfect_candidates

STRIDE = 4
# A standing person one unit tall, (column, row) from the middle, in PASCAL's order; `scene` moves every joint of it.
FIGURE = np.array([(0, -0.46), (0, -0.35), *((x, y) for x in (-1, 1) for y in (-0.3, -0.13, 0.03, 0, 0.24, 0.46))])
FIGURE[2:, 0] *= [0.11, 0.16, 0.18, 0.07, 0.08, 0.08] * 2


def scene(rng: np.random.Generator, count: int, crop: int, apart: float) -> np.ndarray:
    """(count, 14, 2) people somewhere in the crop whose joints of one type keep ``apart`` pixels from each other.

    Their boxes overlap, and some joints are missing. Raises if no such scene is found.
    """
    people: list[np.ndarray] = []
    for _ in range(5000):
        size = crop * rng.uniform(0.3, 0.55)
        pose = FIGURE * [rng.choice([-1, 1]), 1] + rng.normal(0, 0.03, (14, 2))
        person = pose * size + rng.uniform(0.1 * crop, 0.9 * crop, 2)
        # within the last cell a map's peak is at the border wherever the joint is: nothing beyond tells them apart
        person[(person < 1.5 * STRIDE).any(axis=1) | (person > crop - 1 - 1.5 * STRIDE).any(axis=1)] = np.nan
        missing = rng.choice(14, rng.integers(0, 4), replace=False)
        person[missing] = np.nan
        known = ~np.isnan(person[:, 0])
        if known.sum() < FEWEST or not known[PASCAL.joint("neck")]:
            continue
        if all(np.nanmin(np.append(np.hypot(*(person - other).T), np.inf)) >= apart for other in people):
            people.append(person)
            if len(people) == count:
                return np.array(people)
    raise AssertionError("no such scene")


def perfect(people: np.ndarray, crop: int) -> Candidates:
    """The candidates of a network that answers a crop of these people with its targets."""
    return perfect_candidates(Picture(np.zeros((crop, crop, 3), np.uint8), None, people), STRIDE, PASCAL, SIGMA_FLOOR)


def same_people(found: np.ndarray, truth: np.ndarray, tolerance: float) -> bool:
    """Whether both hold the same people, joint by joint, in any order."""
    found, truth = (np.nan_to_num(people, nan=-1e6) for people in (found, truth))
    same = (np.linalg.norm(found[:, None] - truth, axis=-1) <= tolerance).all(axis=-1)
    return (same.sum(axis=0) == 1).all() and (same.sum(axis=1) == 1).all()


@pytest.mark.parametrize("crop", [96, 128, 256])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 10))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_perfect_maps_give_back_exactly_the_people(crop, seed, count):
    apart = 3.0 * heatmap_sigma(crop, STRIDE)
    most = 10 if crop == 256 else 4  # in small crops, ten people's joints would lie within each other's discs
    people = scene(np.random.default_rng(seed), min(count, most), crop, apart)
    found = partition(perfect(people, crop), PASCAL)
    assert same_people(found.joints, people, tolerance=0.25 * STRIDE)


def test_nothing_is_invented_on_an_empty_image():
    crop = 128
    quiet = np.random.default_rng(0).uniform(0, 0.09, (14, crop, crop)).astype(np.float32)
    for maps in (np.zeros_like(quiet), quiet, np.full_like(quiet, np.nan)):
        candidates = find_candidates(maps, np.zeros((14, 2, crop, crop), np.float32))
        people = partition(candidates, PASCAL)
        assert len(candidates) == 0
        assert people.joints.shape == (0, 14, 2)
        assert people.scores.shape == (0, 14)


def candidates_at(rows: list[tuple[str, float, float, float]]) -> Candidates:
    """(joint, embedding x, y, score): each candidate 40 px above its embedding."""
    joint = np.array([PASCAL.joint(name) for name, *_ in rows])
    embedding = np.array([(x, y) for _, x, y, _ in rows], float)
    return Candidates(joint, embedding - [0, 40], embedding, np.array([score for *_, score in rows], np.float32))


def test_a_cluster_without_repeated_joints_is_a_person_and_too_few_joints_are_none():
    names = ("left_hip", "right_hip", "left_knee", "right_knee")
    lonely = partition(candidates_at([(name, 50, 50, 0.5) for name in names[:3]]), PASCAL)
    person = partition(candidates_at([(name, 50, 50, 0.5) for name in names]), PASCAL)
    assert len(lonely.joints) == 0
    assert len(person.joints) == 1
    assert np.isnan(person.joints[0]).any(axis=1).sum() == 10


def test_a_mixed_cluster_is_split_by_the_nearest_embedding():
    rows = []
    for x in (50.0, 62.0):  # nearer than a cluster's reach
        rows += [(name, x + shift, 50, 0.5) for name, shift in (
            ("neck", 0), ("forehead", 1), ("left_shoulder", -2), ("left_hip", 2), ("left_wrist", 3))]  # fmt: skip
    people = partition(candidates_at(rows), PASCAL).joints
    assert len(people) == 2
    for person in people:
        xs = person[~np.isnan(person[:, 0]), 0]
        assert np.ptp(xs) <= 5


def test_in_a_mixed_cluster_left_over_heads_begin_people_and_other_left_overs_are_dropped():
    shared = [(name, 50, 50, 0.5) for name in ("neck", "left_shoulder", "left_hip", "left_elbow")]
    second = [(name, 56, 50, 0.5) for name in ("left_shoulder", "left_hip", "left_elbow")]
    assert len(partition(candidates_at([*shared, *second]), PASCAL).joints) == 1
    heads = [("forehead", 50, 50, 0.5), ("forehead", 56, 50, 0.5)]
    assert len(partition(candidates_at([*shared, *heads, *second]), PASCAL).joints) == 2


def test_people_come_by_their_summed_scores():
    rows = [(name, x, 50, score) for x, score in ((50, 0.3), (400, 0.9)) for name in PASCAL.joints[:5]]
    assert partition(candidates_at(rows), PASCAL).scores.sum(axis=1).tolist() == pytest.approx([4.5, 1.5])


@given(x=st.floats(20, 100), y=st.floats(20, 100), sigma=st.floats(3, 8))
def test_a_gaussians_centre_is_found_to_a_fraction_of_a_pixel(x, y, sigma):
    rows, columns = np.mgrid[:120, :120]
    bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)
    found = find_candidates(bump[None], np.zeros((1, 2, 120, 120), np.float32))
    assert len(found) == 1
    assert found.place[0] == pytest.approx((x, y), abs=0.02)
    assert found.score[0] == bump.max()


def test_a_plateau_is_one_candidate_and_a_maximum_at_the_border_is_kept():
    maps = np.zeros((2, 64, 64), np.float32)
    maps[0, 20:31, 20:31] = 1.0
    maps[1, 0, 63] = 8.0
    found = find_candidates(maps, np.zeros((2, 2, 64, 64), np.float32))
    assert found.joint.tolist() == [0, 1]
    assert found.place[0] == pytest.approx((25, 25), abs=0.51)
    assert found.place[1] == pytest.approx((63, 0), abs=0.51)


def test_candidates_carry_the_offset_at_their_pixel():
    rows, columns = np.mgrid[:64, :64]
    bump = np.exp(-((columns - 30) ** 2 + (rows - 20) ** 2) / 50).astype(np.float32)
    offsets = np.stack([np.full((64, 64), 7.0), np.full((64, 64), -3.0)])[None].astype(np.float32)
    found = find_candidates(bump[None], offsets)
    assert found.embedding[0] == pytest.approx((37, 17), abs=0.02)
