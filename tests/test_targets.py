"""Heatmap targets: equal to a pixel loop, centred on the joint, and zero for joints that take no part."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.data.targets import PAPER_SIGMA, gaussian_heatmaps, heatmap_sigma

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
    joint=st.tuples(st.floats(-20, 60, width=32), st.floats(-20, 60, width=32)),
    grid=st.sampled_from([(8, 8), (5, 9), (12, 7)]),
    stride=st.sampled_from([1, 4, 8]),
    sigma=st.floats(1.5, 12),
)
@settings(max_examples=80, deadline=None)
def test_a_heatmap_equals_the_pixel_loop(joint, grid, stride, sigma):
    drawn = gaussian_heatmaps(torch.tensor([[joint]]), torch.tensor([[True]]), grid=grid, stride=stride, sigma=sigma)
    expected = by_pixel_loop(joint, grid, stride, sigma)
    callable_ = ~expected.isnan()
    torch.testing.assert_close(drawn[0, 0].double()[callable_], expected[callable_], rtol=1e-4, atol=1e-6)


def test_many_joints_are_drawn_each_in_its_own_map():
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(3, 16, 2, generator=generator) * 64
    present = torch.rand(3, 16, generator=generator) < 0.7
    drawn = gaussian_heatmaps(joints, present, grid=(16, 16), stride=4, sigma=5.0)
    assert drawn.shape == (3, 16, 16, 16)
    assert drawn.dtype == torch.float32
    for b in range(3):
        for n in range(16):
            if present[b, n]:
                expected = by_pixel_loop(joints[b, n].tolist(), (16, 16), 4, 5.0)
                known = ~expected.isnan()
                torch.testing.assert_close(drawn[b, n].double()[known], expected[known], rtol=1e-4, atol=1e-6)
            else:
                assert not drawn[b, n].any()


def test_a_joint_in_the_middle_of_a_cell_has_the_value_one_there():
    # cell (row 2, column 5) at stride 4 covers columns 20 to 23 and rows 8 to 11
    drawn = gaussian_heatmaps(torch.tensor([[[21.5, 9.5]]]), torch.tensor([[True]]), grid=(8, 8), stride=4, sigma=5.0)
    assert drawn[0, 0, 2, 5] == 1
    assert drawn.max() == 1
    torch.testing.assert_close(drawn[0, 0, 2, 4], drawn[0, 0, 2, 6])


def test_the_disc_ends_where_the_value_falls_below_the_cutoff():
    sigma = 7.0
    radius = sigma * math.sqrt(2 * 4.6)
    drawn = gaussian_heatmaps(
        torch.tensor([[[50.0, 50.0]]]), torch.tensor([[True]]), grid=(101, 101), stride=1, sigma=sigma
    )[0, 0]
    rows, columns = torch.meshgrid(torch.arange(101), torch.arange(101), indexing="ij")
    distance = torch.hypot(rows - 50.0, columns - 50.0)
    assert (drawn[distance < radius - 0.01] >= CUTOFF * 0.999).all()
    assert not drawn[distance > radius + 0.01].any()


@pytest.mark.parametrize("coordinates", [(math.nan, math.nan), (5.0, math.nan)])
@pytest.mark.parametrize("present", [True, False])
def test_a_missing_joint_gives_zeros_and_never_nan(coordinates, present):
    joints = torch.tensor([[coordinates, (8.0, 8.0)]])
    drawn = gaussian_heatmaps(joints, torch.tensor([[present, True]]), grid=(4, 4), stride=4, sigma=5.0)
    assert not drawn[0, 0].any()
    assert drawn[0, 1].max() > 0.8


def test_a_mirrored_joint_gives_the_mirrored_heatmap():
    crop, joint = 32, torch.tensor([11.25, 20.5])
    mirrored = torch.stack([crop - 1 - joint[0], joint[1]])
    drawn = gaussian_heatmaps(
        torch.stack([joint, mirrored])[None], torch.ones(1, 2, dtype=torch.bool), grid=(8, 8), stride=4, sigma=5.0
    )
    torch.testing.assert_close(drawn[0, 1], drawn[0, 0].flip(-1))


def test_sigma_is_the_papers_at_256_and_in_proportion_elsewhere():
    assert heatmap_sigma(256, 4) == PAPER_SIGMA == 7.0
    assert heatmap_sigma(512, 4) == 14.0


def test_sigma_is_never_thinner_than_a_little_over_a_cell():
    assert heatmap_sigma(96, 4) == pytest.approx(4.8)  # in proportion it would be 2.6
    assert heatmap_sigma(64, 8) == pytest.approx(9.6)
