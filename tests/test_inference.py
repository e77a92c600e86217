"""Testing: geometry of the crop, the mirror and the scales, with networks whose answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib import inference
from mula_lib.anatomy import LIP
from mula_lib.data.augment import fit_affine, warp_image
from mula_lib.data.images import load_image, load_mask
from mula_lib.evaluation import Evaluation, evaluate
from mula_lib.files import CheckpointError, ConfigError, DataError
from mula_lib.inference import CropMaps, Testing, decode, predict, predict_maps
from mula_lib.metrics.pose import pckh_hits
from mula_lib.models.network import StageOutput, build_model
from workbook.experiments import SMOKE, find_experiment


class ColourReader(torch.nn.Module):
    """Finds each joint where the image has that joint's green value, and labels parts by the red channel."""

    def __init__(self, stride=2):
        super().__init__()
        self.config = SimpleNamespace(stride=stride, released=False)
        self.anything = torch.nn.Parameter(torch.zeros(1))  # a network has parameters, and they say on what device

    def forward(self, images):
        small = F.avg_pool2d(images.float(), self.config.stride)
        green = small[:, 1:2]
        values = torch.arange(1, 17).view(1, 16, 1, 1) * 15.0
        pose = torch.exp(-(((green - values) / 4) ** 2))
        parts = torch.stack([-(((small[:, 0] - 12.0 * part) / 6) ** 2) for part in range(20)], dim=1)
        return [StageOutput(parts, pose)]


@pytest.fixture(scope="module")
def model():
    return build_model(find_experiment("HG-1s-1u-MuLA").model_config(SMOKE, LIP), 0).eval()


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 100))
def test_joints_are_found_where_they_were_painted_whatever_the_photos_size(width, height, seed):
    rng = np.random.default_rng(seed)
    crop, long_edge = 96, max(width, height)
    zoom = crop / long_edge
    # away from the crop's edge, where smoothing reflects the peak and may move it
    joints = rng.uniform(0.1, 0.9, (16, 2)) * (width - 1, height - 1)
    maps = torch.zeros(1, 16, crop, crop)
    x = zoom * (joints[:, 0] - (width - 1) / 2) + (crop - 1) / 2
    y = zoom * (joints[:, 1] - (height - 1) / 2) + (crop - 1) / 2
    grid = np.arange(crop)
    for j in range(16):
        maps[0, j] = torch.from_numpy(np.exp(-((grid[None] - x[j]) ** 2 + (grid[:, None] - y[j]) ** 2) / 18))
    prediction = decode(CropMaps(torch.zeros(1, 20, crop, crop), maps), [(width, height)], LIP)[0]
    assert np.abs(prediction.joints - joints).max() <= 0.5 / zoom + 1e-3  # half a crop pixel
    assert prediction.scores == pytest.approx(np.ones(16), abs=0.15)
    assert prediction.mask.shape == (height, width)


def test_the_mask_is_the_arg_max_at_the_photos_own_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, (8, 6))
    image = np.kron(labels, np.ones((12, 12))).astype(np.uint8)  # 96 × 72
    photo = np.stack([image * 12] * 3, axis=2)
    # at crop 96 the photo is neither scaled nor blurred, and the reader's stride of 1 keeps every pixel
    prediction = predict(ColourReader(stride=1), [photo], 96, Testing(mirror=False), LIP)[0]
    assert (prediction.mask == image).all()


def unmirrored(output):
    return output.parsing.flip(3)[:, LIP.part_mirror.tolist()], output.pose.flip(3)[:, LIP.joint_mirror.tolist()]


@pytest.mark.parametrize("scales", [(1.0,), (0.8, 1.0, 1.25)])
def test_the_averaged_maps_are_those_of_separate_forwards_sampled_point_by_point(model, scales):
    photo = np.random.default_rng(4).integers(0, 256, (50, 64, 3), dtype=np.uint8)
    maps = predict_maps(model, [photo], 64, Testing(scales=scales), LIP)
    parts = joints = count = 0
    for scale in scales:
        warped = warp_image(photo, fit_affine((64, 50), 64, scale=scale), 64)
        pixels = torch.from_numpy(warped.transpose(2, 0, 1).copy())
        side = (2 * torch.arange(64) + 1) / 64 - 1
        x, y = torch.meshgrid(side * scale, side * scale, indexing="xy")
        grid, seen = torch.stack([x, y], dim=-1)[None], ((x.abs() <= 1) & (y.abs() <= 1)).float()
        for mirror in (False, True):
            with torch.inference_mode():
                output = model(pixels.flip(2)[None] if mirror else pixels[None])[-1]
            parsing, pose = (
                F.grid_sample(each, grid, padding_mode="border", align_corners=False)
                for each in (unmirrored(output) if mirror else (output.parsing, output.pose))
            )
            parts, joints, count = parts + seen * parsing.softmax(1), joints + seen * pose, count + seen
    torch.testing.assert_close(maps.parts, parts / count, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(maps.joints, joints / count, rtol=1e-3, atol=1e-4)


def test_the_size_of_the_portions_changes_nothing(model, monkeypatch):
    photos = list(np.random.default_rng(5).integers(0, 256, (5, 64, 40, 3), dtype=np.uint8))
    whole = predict_maps(model, photos, 64, Testing(scales=(0.8, 1.0)), LIP)
    monkeypatch.setitem(inference.PORTION, "cpu", 2 * 2 * 64**2)  # two photos and their mirror images
    portions = predict_maps(model, photos, 64, Testing(scales=(0.8, 1.0)), LIP)
    torch.testing.assert_close(portions.parts, whole.parts, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(portions.joints, whole.joints, rtol=1e-3, atol=1e-4)


def test_of_equally_likely_parts_the_first_one_is_taken():
    parts = torch.from_numpy(np.random.default_rng(6).integers(0, 4, (1, 20, 32, 32)).astype(np.float32))
    parts[0, :, 3, 4] = torch.nan
    mask = decode(CropMaps(parts, torch.zeros(1, 16, 32, 32)), [(32, 32)], LIP)[0].mask
    known = ~np.isnan(parts[0, 0].numpy())
    known = cv2.erode(known.astype(np.uint8), np.ones((3, 3))) > 0  # a neighbour's nan may take part with weight 0
    assert (mask[known] == parts[0].numpy().argmax(axis=0)[known]).all()
    assert mask[3, 4] == 0


@pytest.mark.parametrize("scales", [(), (1.25,), (0.0, 1.0)])
def test_scales_that_never_show_the_whole_photo_are_refused(scales):
    with pytest.raises(ConfigError, match="whole photo"):
        Testing(scales=scales)


def test_batches_and_single_photos_score_the_same(model, source):
    testing = Testing(scales=(0.8, 1.0, 1.25))
    together = evaluate(model, source.val, 64, testing, LIP)
    hits, confusions = [], []
    for record in source.val.records:
        prediction = predict(model, [load_image(record.image)], 64, testing, LIP)[0]
        hits.append(pckh_hits(prediction.joints[None], record.joints[None], LIP)[0])
        counts = np.zeros((20, 20), np.int64)
        np.add.at(counts, (load_mask(record.mask), prediction.mask), 1)
        confusions.append(counts)
    alone = Evaluation(tuple(record.name for record in source.val.records), np.stack(confusions), np.stack(hits))
    assert together.names == alone.names
    np.testing.assert_array_equal(together.confusions.sum(axis=(1, 2)), alone.confusions.sum(axis=(1, 2)))
    assert together.scores(LIP) == pytest.approx(alone.scores(LIP), abs=0.01, nan_ok=True)


def test_a_split_without_masks_cannot_be_scored(model, source):
    records = tuple(replace(record, mask=None) if i == 3 else record for i, record in enumerate(source.val.records))
    with pytest.raises(DataError, match=rf"{records[3].name}\.jpg: no mask to score against; the val split"):
        evaluate(model, replace(source.val, records=records), 64, Testing(batch=2), LIP)


def test_an_evaluation_survives_its_file(model, source, tmp_path):
    result = evaluate(model, replace(source.val, records=source.val.records[:3]), 64, Testing(mirror=False), LIP)
    result.hits[0, 3] = np.nan
    result.confusions[1, 2, 3] = 2**20  # of a large photo
    for each in (result, result.only(1)):
        each.save(tmp_path / "evaluation.npz")
        loaded = Evaluation.load(tmp_path / "evaluation.npz")
        assert loaded.names == each.names
        np.testing.assert_array_equal(loaded.confusions, each.confusions)
        np.testing.assert_array_equal(loaded.hits, each.hits)
    content = (tmp_path / "evaluation.npz").read_bytes()
    each.save(tmp_path / "evaluation.npz")
    assert (tmp_path / "evaluation.npz").read_bytes() == content  # so that git sees no change where there is none
    (tmp_path / "evaluation.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"evaluation\.npz: not the counts of a test .*delete it"):
        Evaluation.load(tmp_path / "evaluation.npz")
