"""Heatmap and offset targets: equal to loops over pixels, and zero for joints that take no part."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data.augment import Augmentation, training_affine, transform_points
from mula_lib.data.augment import draw as draw_augmentation
from mula_lib.data.images import load_image
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import PAPER_SIGMA, CrowdTargets, centroids, crowd_targets, gaussian_heatmaps, heatmap_sigma
from mula_lib.models.losses import pose_loss
from mula_lib.models.network import StageOutput

CUTOFF = math.exp(-4.6)


def by_pixel_loop(joint, grid, stride, sigma) -> torch.Tensor:
    """The definition, cell by cell in double precision; nan in cells too near the cutoff to call in float32."""
    heatmap = torch.zeros(grid, dtype=torch.float64)
    for row in range(grid[0]):
        for column in range(grid[1]):
            x, y = (stride - 1) / 2 + stride * column, (stride - 1) / 2 + stride * row
            value = math.exp(-((x - joint[0]) ** 2 + (y - joint[1]) ** 2) / (2 * sigma**2))
            if abs(value - CUTOFF) < 1e-6:
                heatmap[row, column] = math.nan
            elif value >= CUTOFF:
                heatmap[row, column] = value
    return heatmap


@given(
    joints=st.lists(st.tuples(st.floats(-20, 60, width=32), st.floats(-20, 60, width=32)), min_size=4, max_size=4),
    present=st.lists(st.booleans(), min_size=4, max_size=4),
    grid=st.sampled_from([(8, 8), (5, 9), (12, 7)]),
    stride=st.sampled_from([1, 4, 8]),
    sigma=st.floats(1.5, 12),
)
@settings(max_examples=40, deadline=None)
def test_heatmaps_equal_the_pixel_loop_each_in_its_own_map(joints, present, grid, stride, sigma):
    where, there = torch.tensor(joints).view(2, 2, 2), torch.tensor(present).view(2, 2)
    drawn = gaussian_heatmaps(where, there, grid=grid, stride=stride, sigma=sigma)
    assert (drawn.shape, drawn.dtype) == ((2, 2, *grid), torch.float32)
    for found, joint, here in zip(drawn.flatten(0, 1), joints, present, strict=True):
        expected = by_pixel_loop(joint, grid, stride, sigma) if here else torch.zeros(grid).double()
        known = ~expected.isnan()
        torch.testing.assert_close(found.double()[known], expected[known], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("coordinates", [(math.nan, math.nan), (5.0, math.nan)])
@pytest.mark.parametrize("present", [True, False])
def test_a_missing_joint_gives_zeros_and_never_nan(coordinates, present):
    joints = torch.tensor([[coordinates, (8.0, 8.0)]])
    drawn = gaussian_heatmaps(joints, torch.tensor([[present, True]]), grid=(4, 4), stride=4, sigma=5.0)
    assert not drawn[0, 0].any()
    assert drawn[0, 1].max() > 0.8


def test_sigma_is_the_papers_at_256_and_in_proportion_elsewhere():
    assert heatmap_sigma(256, 4) == PAPER_SIGMA == 7.0
    assert heatmap_sigma(512, 4) == 14.0
    assert heatmap_sigma(96, 4) == pytest.approx(4.8)  # a little over a cell; in proportion it would be 2.6
    assert heatmap_sigma(128, 8, floor=0.875) == pytest.approx(7.0)


# Several people

STRIDE, CROP, SIGMA = 4, 32, 5.0
GRID = (CROP // STRIDE, CROP // STRIDE)


def draw(joints, present, centres):
    return crowd_targets(joints, present, centres, grid=GRID, stride=STRIDE, sigma=SIGMA, crop=CROP)


def naive(joints, present, centres):
    """The same for one image, a loop over everything."""
    people, number, _ = joints.shape
    heatmaps, discs = np.zeros((number, *GRID)), np.zeros((number, *GRID), bool)
    offsets = np.zeros((2, number, *GRID))
    for joint in range(number):
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                x, y = ((STRIDE - 1) / 2 + STRIDE * cell for cell in (column, row))
                nearest = math.inf
                for person in range(people):
                    if not present[person, joint]:
                        continue
                    squared = (x - joints[person, joint, 0]) ** 2 + (y - joints[person, joint, 1]) ** 2
                    exponent = -squared / (2 * SIGMA**2)
                    if exponent < -4.6:
                        continue
                    heatmaps[joint, row, column] += math.exp(exponent)
                    if squared < nearest:
                        nearest = squared
                        discs[joint, row, column] = True
                        offsets[:, joint, row, column] = (centres[person] - (x, y)) / (CROP / 2)
    return np.minimum(heatmaps, 1), offsets.reshape(2 * number, *GRID), discs


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_targets_equal_a_loop_over_pixels(seed, people):
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-8, CROP + 8, (2, people, 3, 2)).astype(np.float32)
    joints[rng.random(joints.shape[:3]) < rng.choice([0.2, 0.9])] = np.nan
    present = ((joints >= -0.5) & (joints < CROP - 0.5)).all(-1)
    centres = rng.uniform(-20, CROP + 20, (2, people, 2)).astype(np.float32)
    found = draw(*(torch.from_numpy(each) for each in (joints, present, centres)))
    for index in range(2):
        heatmaps, offsets, discs = naive(joints[index], present[index], centres[index])
        np.testing.assert_allclose(found.heatmaps[index], heatmaps, atol=1e-5)
        agree = found.discs[index].numpy() == discs
        assert agree.mean() > 0.99  # a cell may lie on a disc's very edge
        same = np.concatenate([agree, agree])
        np.testing.assert_allclose(found.offsets[index].numpy()[same], offsets[same], atol=1e-5)


def test_rows_of_nan_that_fill_up_change_nothing():
    joints, centres = torch.rand(2, 2, 14, 2) * CROP, torch.rand(2, 2, 2) * CROP
    present = torch.rand(2, 2, 14) < 0.8
    filled = [torch.cat([each, torch.full((2, 3, *each.shape[2:]), math.nan)], dim=1) for each in (joints, centres)]
    more = torch.cat([present, torch.zeros(2, 3, 14, dtype=torch.bool)], dim=1)
    for found, expected in zip(draw(filled[0], more, filled[1]), draw(joints, present, centres), strict=True):
        assert torch.equal(found, expected)


def test_a_centroid_is_the_mean_of_the_joints_then_the_boxs_middle_and_a_pelvis_where_there_is_one():
    joints = np.full((3, 14, 2), np.nan)
    joints[0, :2] = [[0, 0], [4, 8]]
    boxes = np.array([[0, 0, 9, 9], [2, 4, 6, 8], [np.nan] * 4])
    found = centroids(joints, boxes, PASCAL)
    assert found[:2].tolist() == [[2, 4], [4, 6]]
    assert np.isnan(found[2]).all()
    lip = np.full((2, 16, 2), np.nan)
    lip[:, 0], lip[0, LIP.joint("pelvis")] = [10, 10], [3, 5]
    assert centroids(lip, boxes[:2], LIP).tolist() == [[3, 5], [10, 10]]


def test_a_samples_joints_and_centroids_move_together(crowds):
    samples = TrainingSamples(crowds.train, 64, Augmentation(), PASCAL, seed=0)
    record = crowds.train[2]
    sample = samples[3, 2]
    assert sample["joints"].shape == (crowds.train.most_people, 14, 2)
    assert sample["present"].shape == sample["joints"].shape[:2]
    drawn = draw_augmentation(Augmentation(), np.random.default_rng((0, 3, 2)))
    assert not sample["joints"][len(record.joints) :].isfinite().any()
    assert not sample["present"][len(record.joints) :].any()
    height, width = load_image(record.image).shape[:2]
    matrix = training_affine((width, height), 64, drawn)
    expected = transform_points(centroids(record.joints, record.boxes, PASCAL), matrix)
    np.testing.assert_allclose(sample["centres"][: len(record.joints)], expected, atol=1e-3)
    # a mirrored person's sides are swapped, but the mean of the joints is the same place
    joints = sample["joints"][: len(record.joints)].numpy()
    np.testing.assert_allclose(np.nanmean(joints, axis=1), expected, atol=1e-2)


def test_the_loss_adds_offsets_where_they_are_defined_and_nowhere_else():
    torch.manual_seed(0)
    stage = StageOutput(None, torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4))
    discs = torch.rand(2, 3, 4, 4) < 0.4
    both = torch.cat([discs, discs], dim=1)
    targets = CrowdTargets(torch.rand(2, 3, 4, 4), torch.where(both, torch.randn(2, 6, 4, 4), 0.0), discs)
    expected = F.mse_loss(stage.pose, targets.heatmaps)
    for index in both.nonzero().tolist():
        away = abs(float(stage.offsets[tuple(index)] - targets.offsets[tuple(index)]))
        expected += (0.5 * away**2 if away < 1 else away - 0.5) / discs.numel()
    assert float(pose_loss(stage, targets)) == pytest.approx(float(expected), rel=1e-5)
