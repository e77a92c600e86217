"""The affine and the warps: against OpenCV, against painted dots, and mirrored twice; and samples, step by step."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.data.augment import (
    PAD_VALUE,
    Augmentation,
    Draw,
    augment_sample,
    draw,
    fit_affine,
    training_affine,
    transform_points,
    warp_image,
)
from mula_lib.data.images import load_image
from mula_lib.data.lip import LipSplit
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import gaussian_heatmaps
from mula_lib.files import DataError

draws = st.builds(
    Draw,
    scale=st.floats(0.8, 1.5),
    rotation=st.floats(-40, 40),
    shift=st.tuples(st.floats(-0.16, 0.16), st.floats(-0.16, 0.16)),
    mirror=st.booleans(),
)
sizes = st.tuples(st.integers(20, 90), st.integers(20, 90))


def paint_dot(width: int, height: int, centre: np.ndarray) -> np.ndarray:
    """A photo of the padding's value with one bright, soft dot: a hard one would move with the sampling."""
    rows, columns = np.indices((height, width))
    dot = 127 * np.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * 2.0**2))
    return np.repeat((PAD_VALUE + np.round(dot)).astype(np.uint8)[:, :, None], 3, axis=2)


def dot_centre(picture: np.ndarray) -> np.ndarray:
    """(x, y) of the centre of mass of a bright dot on a ground of the padding's value."""
    weight = picture.astype(np.float64) - PAD_VALUE
    rows, columns = np.indices(weight.shape)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@given(size=sizes, crop=st.sampled_from([32, 63, 96]), drawn=draws, data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_painted_dot_lands_where_the_points_say(size, crop, drawn, data):
    width, height = size
    joint = np.array([data.draw(st.integers(8, width - 9)), data.draw(st.integers(8, height - 9))])
    image = paint_dot(width, height, joint)
    matrix = training_affine(size, crop, drawn)
    landed = transform_points(joint, matrix)
    reach = 2 + 8 * abs(np.linalg.det(matrix[:, :2])) ** 0.5
    assume((landed > reach).all() and (landed < crop - 1 - reach).all())
    warped = warp_image(image, matrix, crop)[:, :, 0]
    assert np.abs(dot_centre(warped) - landed).max() < 0.1


@given(size=sizes, crop=st.sampled_from([64, 96, 256]), drawn=draws)
def test_the_training_affine_is_what_opencv_composes_step_by_step_and_its_inverse_takes_points_back(size, crop, drawn):
    def whole(matrix):
        return np.vstack([matrix, [0, 0, 1]])

    width, height = size
    zoom, middle = crop / max(size), (crop - 1) / 2
    fit = np.array([[zoom, 0, middle - zoom * (width - 1) / 2], [0, zoom, middle - zoom * (height - 1) / 2]])
    turn = cv2.getRotationMatrix2D((middle, middle), drawn.rotation, drawn.scale)
    mirror = np.array([[-1, 0, crop - 1], [0, 1, 0]]) if drawn.mirror else np.eye(3)[:2]
    shift = np.array([[1, 0, crop * drawn.shift[0]], [0, 1, crop * drawn.shift[1]]])
    expected = (whole(shift) @ whole(mirror) @ whole(turn) @ whole(fit))[:2]
    matrix = training_affine(size, crop, drawn)
    np.testing.assert_allclose(matrix, expected, atol=1e-9)
    points = np.array([[[0.0, 0.0], [3.25, -7.0]], [[80.0, 41.0], [1000.0, 2.0]]])
    there = transform_points(points, matrix)
    np.testing.assert_allclose(transform_points(there, cv2.invertAffineTransform(matrix)), points, atol=1e-8)


@given(size=sizes, crop=st.sampled_from([63, 96]))
def test_the_testing_transform_fills_the_crop_with_the_long_edge_and_centres_the_other(size, crop):
    width, height = size
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])  # of the area that the pixels cover
    (left, top), (right, bottom) = transform_points(corners, fit_affine(size, crop))
    assert max(right - left, bottom - top) == pytest.approx(crop)
    assert left + right == pytest.approx(crop - 1)
    assert top + bottom == pytest.approx(crop - 1)


def test_shrinking_averages_fine_texture_instead_of_picking_from_it():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::4] = 255  # a quarter of the columns
    shrunk = warp_image(stripes, fit_affine((256, 256), 64), 64)[8:-8, 8:-8]
    assert shrunk.std() < 10
    assert shrunk.mean() == pytest.approx(255 / 4, abs=6)  # linear interpolation alone gives 0


@pytest.fixture
def person():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    mask = rng.integers(0, 20, (48, 48), dtype=np.uint8)
    joints = rng.uniform(0, 47, (16, 2)).astype(np.float32)
    joints[4] = np.nan
    return image, mask, joints


def test_a_mirror_changes_sides_of_pixels_joints_and_parts(person):
    image, mask, joints = person
    mirrored_image, mirrored_mask, mirrored_joints = augment_sample(*person, 48, Draw(mirror=True), LIP)
    np.testing.assert_array_equal(mirrored_image, image[:, ::-1])
    left, right = LIP.part("left_arm"), LIP.part("right_arm")
    np.testing.assert_array_equal(mirrored_mask[:, ::-1] == left, mask == right)
    np.testing.assert_array_equal(mirrored_mask[:, ::-1] == LIP.part("face"), mask == LIP.part("face"))
    wrist = mirrored_joints[LIP.joint("left_wrist")]
    np.testing.assert_allclose(wrist, [47, 0] + joints[LIP.joint("right_wrist")] * [-1, 1], rtol=1e-6)
    assert np.isnan(mirrored_joints[LIP.joint("right_knee")]).all()  # the left one, 4, was missing


def test_draws_stay_in_their_ranges_and_fill_them():
    drawn = [draw(Augmentation(), np.random.default_rng(i)) for i in range(2000)]
    values = np.array([[d.scale, d.rotation, *d.shift] for d in drawn])
    low, high = np.array([(0.8, 1.5), (-40, 40), (-40 / 256, 40 / 256), (-40 / 256, 40 / 256)]).T
    shares = (values - low) / (high - low)
    assert (shares.min(axis=0) >= 0).all() and (shares.min(axis=0) < 0.01).all()  # noqa: PT018
    assert (shares.max(axis=0) <= 1).all() and (shares.max(axis=0) > 0.99).all()  # noqa: PT018
    np.testing.assert_allclose(shares.mean(axis=0), 0.5, atol=0.03)
    assert np.mean([d.mirror for d in drawn]) == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(values[:, 2:].T)[0, 1]) < 0.1  # x and y are drawn apart


def samples_of(source, crop=64, augmentation=None, **changes):
    """Samples of one record of the fixture, changed."""
    record = replace(source.train[0], **changes)
    return TrainingSamples(LipSplit(source.root, "train", (record,)), crop, augmentation or Augmentation(), LIP, 0)


def test_a_joint_is_present_if_annotated_and_inside_the_crop(source):
    height, width = load_image(source.train[0].image).shape[:2]
    crop, joints = max(width, height), np.tile(np.float32([width / 3, height / 2]), (16, 1))
    joints[0], joints[1] = np.nan, 500
    still = Augmentation(scale=(1.0, 1.0), rotation=0.0, shift=0.0, mirror=0.0)
    sample = samples_of(source, crop, still, joints=joints)[0, 0]
    assert sample["present"].tolist() == [False, False] + [True] * 14
    assert sample["joints"][0].isnan().all()
    padding = np.array([crop - width, crop - height]) / 2
    np.testing.assert_allclose(sample["joints"][2:], joints[2:] + padding, atol=1e-4)


@pytest.mark.parametrize("released", [False, True])
def test_in_the_released_protocol_a_joint_just_outside_the_crop_draws_what_reaches_in(source, released):
    height, width = load_image(source.train[0].image).shape[:2]
    crop, joints = max(width, height), np.full((16, 2), np.nan, np.float32)
    joints[:3] = [width / 2, -(crop - height) / 2 - 4], [width / 2, -(crop - height) / 2 - 40], [width / 2, height / 2]
    still = Augmentation(scale=(1.0, 1.0), rotation=0.0, shift=0.0, mirror=0.0, joints_outside=released)
    sample = samples_of(source, crop, still, joints=joints)[0, 0]
    where, there = sample["joints"][None], sample["present"][None]
    maps = gaussian_heatmaps(where, there, grid=(crop // 4, crop // 4), stride=4, sigma=4.8)[0]
    assert [bool(each.any()) for each in maps[:4]] == [released, False, True, False]


def test_a_training_record_without_a_mask_is_named_at_once(source):
    with pytest.raises(DataError, match=r"train_000000\.jpg: no mask train_000000\.png"):
        samples_of(source, mask=None)


def test_a_mask_that_does_not_fit_its_image_is_named_with_it(source, tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((50, 31), np.uint8))
    with pytest.raises(DataError, match=r"1\.png: the mask is 31×50 pixels but the image \d+×\d+; unzip both again"):
        samples_of(source, mask=tmp_path / "1.png")[0, 0]


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
