"""Rendered crowds: the fixture is what the recipe makes, its labels are true; and networks tested on several people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mula_lib.anatomy import PASCAL
from mula_lib.data.images import load_image, load_mask
from mula_lib.evaluation import CrowdEvaluation, evaluate
from mula_lib.inference import CropMaps, decode, predict_maps
from mula_lib.models.network import StageOutput
from rendered_people import CrowdConfig, fingerprint, part_frequencies, render_dataset
from workbook.datasets import FIXTURES, open_source
from workbook.experiments import SMOKE, Testing, find_experiment
from workbook.runs import Run

FIXTURE = FIXTURES["crowds"]
SMALL = CrowdConfig(train=4, val=2, size=64, seed=5)


@pytest.fixture(scope="module")
def crowds():
    return open_source("crowd-fixture")


@pytest.fixture(scope="session")
def small_crowds(tmp_path_factory, body_cache) -> Path:
    return render_dataset(tmp_path_factory.mktemp("crowds") / "small", SMALL, workers=1, progress=False)


def tree_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Rendering


def test_the_fixture_is_what_the_recipe_makes(crowds, body_cache):
    from rendered_people.pictures import render_crowd

    recipe = json.loads((FIXTURE / "people.json").read_text())
    config = CrowdConfig(**recipe["config"])
    assert recipe["complete"]
    assert recipe["fingerprint"] == fingerprint(config), "the recipe changed: render tests/fixture/crowds again"
    for split, index in (("train", 0), ("train", 2), ("val", 8), ("val", 10)):
        record = getattr(crowds, split)[index]
        crowd = render_crowd(config.seed, split, index, config.size)
        mask, image = load_mask(record.mask, classes=7), load_image(record.image)
        assert crowd.image.shape == image.shape
        assert np.abs(crowd.image.astype(int) - image).mean() < 4  # the stored one went through JPEG
        assert (crowd.mask == mask).mean() > 0.995
        np.testing.assert_allclose(crowd.joints, record.joints, atol=1)
        np.testing.assert_array_equal(crowd.occluded, record.occluded)
        np.testing.assert_allclose(crowd.boxes, record.boxes, atol=1)


def test_the_fixture_is_small_and_holds_no_one_one_and_several_people(crowds):
    assert sum(path.stat().st_size for path in FIXTURE.rglob("*") if path.is_file()) < 500_000
    counts = [len(record.joints) for split in (crowds.train, crowds.val) for record in split.records]
    assert {0, 1, 2, 3, 4, 5} == set(counts)
    assert (part_frequencies(FIXTURE)["images"] > 0.5).all()


def test_a_rendered_tree_is_the_same_whoever_renders_it_and_goes_on_after_an_interruption(small_crowds, tmp_path):
    again = render_dataset(tmp_path / "again", SMALL, workers=2, progress=False)
    assert tree_bytes(again) == tree_bytes(small_crowds)
    people = again / "PersonJoints" / "train_000002.mat"
    before = people.stat().st_mtime_ns
    (again / "people.json").write_text((again / "people.json").read_text().replace("true", "false"))
    (again / "PersonJoints" / "train_000001.mat").write_bytes(b"half")
    (again / "SegmentationPart" / "val_000001.png").write_bytes(b"half")
    render_dataset(again, SMALL, workers=1, progress=False)
    assert tree_bytes(again) == tree_bytes(small_crowds)
    assert people.stat().st_mtime_ns == before  # what was whole was kept


def test_visible_joints_lie_on_the_parts_that_they_belong_to(crowds):
    near = {"forehead": ("head",), "neck": ("torso", "head"), "shoulder": ("upper_arm", "torso"),
            "elbow": ("upper_arm", "lower_arm"), "wrist": ("lower_arm",), "hip": ("torso", "upper_leg"),
            "knee": ("upper_leg", "lower_leg"), "ankle": ("lower_leg",)}  # fmt: skip
    on = []
    for record in (*crowds.train.records, *crowds.val.records):
        mask = load_mask(record.mask, classes=7)
        away = {
            part: cv2.distanceTransform((mask != number).astype(np.uint8), cv2.DIST_L2, 3)
            for number, part in enumerate(PASCAL.parts)
        }
        for joints, occluded in zip(record.joints, record.occluded, strict=True):
            for name, (column, row), hidden in zip(PASCAL.joints, joints, occluded, strict=True):
                if not hidden and np.isfinite(column):
                    parts = near[name.split("_")[-1]]
                    on.append(min(away[part][int(row), int(column)] for part in parts) <= 2)
    assert len(on) > 400
    assert np.mean(on) > 0.95


def test_boxes_hold_the_visible_joints_of_their_people(crowds):
    inside = []
    for record in (*crowds.train.records, *crowds.val.records):
        for joints, occluded, (x1, y1, x2, y2) in zip(record.joints, record.occluded, record.boxes, strict=True):
            seen = joints[~occluded & np.isfinite(joints[:, 0])]
            inside += ((seen >= (x1 - 2, y1 - 2)) & (seen <= (x2 + 2, y2 + 2))).all(axis=1).tolist()
    assert np.mean(inside) > 0.99


# Testing


class Perfect(torch.nn.Module):
    """Says the same of every image: maps of its own, whichever side is up."""

    def __init__(self, pose: torch.Tensor, offsets: torch.Tensor) -> None:
        super().__init__()
        self.config = SimpleNamespace(released=False)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.pose, self.offsets = pose, offsets

    def forward(self, images: torch.Tensor) -> list[StageOutput]:
        count = len(images)
        parsing = torch.zeros(count, 7, *self.pose.shape[-2:])
        return [StageOutput(parsing, *(each.expand(count, -1, -1, -1) for each in (self.pose, self.offsets)))]


def test_the_mirrored_images_offsets_are_turned_back():
    """A network that answers a mirrored image with the mirrored answer is not changed by testing it on both."""
    generator = torch.Generator().manual_seed(0)
    pose, offsets = torch.rand(1, 14, 8, 8, generator=generator), torch.randn(1, 28, 8, 8, generator=generator)
    swap = torch.as_tensor(PASCAL.joint_mirror)

    class Symmetric(Perfect):
        def forward(self, images):
            (stage,) = super().forward(images[: len(images) // 2])
            across, down = self.offsets.flip(3).chunk(2, dim=1)
            mirrored = torch.cat([-across[:, swap], down[:, swap]], dim=1)
            return [
                StageOutput(
                    torch.cat([stage.parsing] * 2),
                    torch.cat([stage.pose, stage.pose.flip(3)[:, swap]]),
                    torch.cat([stage.offsets, mirrored]),
                )
            ]

    image = [np.zeros((32, 32, 3), np.uint8)]
    plain = predict_maps(Perfect(pose, offsets), image, 32, Testing(mirror=False), PASCAL)
    both = predict_maps(Symmetric(pose, offsets), image, 32, Testing(mirror=True), PASCAL)
    torch.testing.assert_close(both.offsets, plain.offsets)
    torch.testing.assert_close(both.joints, plain.joints)


def test_offsets_of_a_scaled_image_are_of_the_unscaled_one():
    """On a photo shown at half its size the same centroid is half as far away, in the same units."""
    image = [np.zeros((32, 32, 3), np.uint8)]
    full = Perfect(torch.zeros(1, 14, 8, 8), torch.full((1, 28, 8, 8), 0.25))
    whole = predict_maps(full, image, 32, Testing(mirror=False), PASCAL)
    halves = Perfect(torch.zeros(1, 14, 8, 8), torch.full((1, 28, 8, 8), 0.125))
    half = predict_maps(halves, image, 32, Testing(scales=(0.5,), mirror=False), PASCAL)
    torch.testing.assert_close(half.offsets, whole.offsets)
    assert float(whole.offsets[0, 0, 5, 5]) == pytest.approx(0.25 * 16)


def test_people_are_found_in_the_photos_own_pixels():
    crop, size = 64, (200, 100)
    rows, columns = np.mgrid[:crop, :crop]
    maps = torch.zeros(1, 14, crop, crop)
    for index in range(5):
        bump = np.exp(-((columns - 30 - index) ** 2 + (rows - 32) ** 2) / 18)
        maps[0, index] = torch.from_numpy(bump)
    moved = torch.zeros(1, 28, crop, crop)
    for index in range(5):
        moved[0, index] = 10 - index  # everybody's x points at column 40
    prediction = decode(CropMaps(torch.zeros(1, 7, crop, crop), maps, moved), [size], PASCAL)[0]
    zoom = crop / 200
    assert prediction.mask.shape == (100, 200)
    assert prediction.joints.shape == (1, 14, 2)
    assert prediction.joints[0, 0] == pytest.approx(((30.5 / zoom) - 0.5, 49.5 + 0.5 / zoom), abs=0.2)
    assert np.isnan(prediction.joints[0, 5:]).all()


@pytest.fixture(scope="module")
def crowd_profile():
    recipe = replace(SMOKE.recipe, epochs=1)
    return replace(SMOKE.for_crowds(), name="tiny", width=8, watch=2, recipe=recipe)


def test_a_run_with_several_people_trains_tests_and_is_read_again(crowds, crowd_profile, tmp_path):
    run = Run(find_experiment("HG-2s-1u-MuLA"), crowd_profile, crowds, 0, tmp_path)
    result = run.do()
    assert {"mAP", "mAP (annotated heads)", "mIoU", "PixelAcc", "Head"} <= result.scores.keys()
    assert {"mAP", "mIoU"} <= result.log()[0].keys()
    evaluation = result.evaluation()
    assert len(evaluation.names) == len(crowds.val)
    assert evaluation.scores(PASCAL) == pytest.approx(result.scores, abs=1e-3, nan_ok=True)
    assert run.do().metrics == result.metrics


def test_an_evaluation_is_stored_whole(crowds, tmp_path):
    pose = torch.zeros(1, 14, 8, 8)
    pose[0, :5, 4, 4] = 1.0  # everybody has five joints in the middle
    found = evaluate(Perfect(pose, torch.full((1, 28, 8, 8), 0.2)), crowds.val, 32, Testing(mirror=False), PASCAL)
    assert sum(len(each.joint) for each in found.matches) == 5 * len(crowds.val)
    found.save(tmp_path / "evaluation.npz")
    again = CrowdEvaluation.load(tmp_path / "evaluation.npz")
    assert again.names == found.names
    np.testing.assert_array_equal(again.confusions, found.confusions)
    for one, other in zip(again.matches, found.matches, strict=True):
        for name in ("joint", "score", "right", "headed", "annotated", "annotated_headed"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    first = found.only(0)
    assert first.names == found.names[:1]
    assert len(first.matches) == 1
