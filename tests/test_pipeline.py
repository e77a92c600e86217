"""The quick ways of the input pipeline give, to the last bit, what the obvious slow ways give."""

import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.data.augment import (
    PAD_VALUE,
    Augmentation,
    draw,
    training_affine,
    transform_points,
    warp_image,
)
from mula_lib.data.images import load_image
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import LOG_CUTOFF, gaussian_heatmaps


@given(size=st.tuples(st.integers(5, 90), st.integers(5, 90)), crop=st.sampled_from([33, 64, 96]), seed=st.integers(0))
@settings(max_examples=40, deadline=None)
def test_four_channels_are_warped_to_the_values_of_three(size, crop, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    matrix = training_affine(size, crop, draw(Augmentation(scale=(1.0, 1.5)), rng))
    if abs(np.linalg.det(matrix[:, :2])) < 1 / 1.5**2:
        return  # smoothed first, which is another matter
    padding = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (PAD_VALUE,) * 3}
    expected = cv2.warpAffine(image, matrix, (crop, crop), flags=cv2.INTER_LINEAR, **padding)
    np.testing.assert_array_equal(warp_image(image, matrix, crop), expected)


def test_a_sample_is_what_its_steps_give_one_by_one(source):
    crop, seed = 64, 3
    samples = TrainingSamples(source.train, crop, Augmentation(), LIP, seed)
    for epoch, index in ((0, 0), (1, 5), (2, 11), (4, 20)):
        record, sample = source.train[index], samples[epoch, index]
        drawn = draw(Augmentation(), np.random.default_rng((seed, epoch, index)))
        image, mask = load_image(record.image), np.array(Image.open(record.mask))
        matrix = training_affine(image.shape[1::-1], crop, drawn)
        mask = cv2.warpAffine(mask, matrix, (crop, crop), flags=cv2.INTER_NEAREST, borderValue=IGNORE)
        joints = transform_points(record.joints, matrix)
        if drawn.mirror:
            mask, joints = LIP.mirror_lookup[mask], joints[LIP.joint_mirror]
        np.testing.assert_array_equal(sample["image"], warp_image(image, matrix, crop).transpose(2, 0, 1))
        np.testing.assert_array_equal(sample["mask"], mask)
        np.testing.assert_array_equal(sample["joints"], joints)
        assert all(value.is_contiguous() for value in sample.values())


@given(
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    stride=st.sampled_from([1, 1.5, 4, 8]),
    sigma=st.floats(1.2, 12),
    seed=st.integers(0),
)
@settings(max_examples=80, deadline=None)
def test_targets_drawn_in_a_window_equal_those_of_whole_maps(grid, stride, sigma, seed):
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-0.4, 1.4, (2, 16, 2)) * (grid[1] * stride, grid[0] * stride)
    joints[0, 0], joints[0, 1], joints[0, 2] = np.nan, np.inf, (1e30, -1e20)
    joints = torch.from_numpy(joints.astype(np.float32))
    present = torch.from_numpy(rng.random((2, 16)) < 0.9)
    drawn = present & joints.isfinite().all(-1)
    place = torch.where(drawn[..., None], joints, 0.0)
    rows, columns = (
        -(((stride - 1) / 2 + stride * torch.arange(size) - place[..., axis, None]) ** 2) / (2 * sigma**2)
        for size, axis in zip(grid, (1, 0), strict=True)
    )
    inside = (rows[..., :, None] + columns[..., None, :] >= LOG_CUTOFF) & drawn[..., None, None]
    expected = torch.where(inside, rows.exp()[..., :, None] * columns.exp()[..., None, :], 0.0)
    actual = gaussian_heatmaps(joints, present, grid=grid, stride=stride, sigma=sigma)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
