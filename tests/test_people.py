"""The rendered people: the fixture is what the recipe makes, its labels are true, and a run can be resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mula_lib.anatomy import LIP
from mula_lib.data import lip
from mula_lib.data.images import load_image, load_mask
from mula_lib.files import ConfigError, DataError
from rendered_people import PeopleConfig, ensure_people, fingerprint, part_frequencies, render_dataset
from rendered_people.__main__ import main

FIXTURE = Path(__file__).parent / "fixture" / "people"
SMALL = PeopleConfig(train=5, val=3, size=48, seed=7)
pytestmark = pytest.mark.usefixtures("body_cache")


@pytest.fixture(scope="session")
def small_tree(tmp_path_factory, body_cache) -> Path:
    return render_dataset(tmp_path_factory.mktemp("people") / "small", SMALL, workers=1)


def read_split(root: Path, split: str):
    """(image RGB, mask, joints (16, 3) with nan) of each person."""
    for record in lip.read_split(root, split).records:
        states = np.where(np.isnan(record.joints[:, 0]), np.nan, record.occluded)
        yield load_image(record.image), load_mask(record.mask), np.column_stack([record.joints, states])


@pytest.fixture(scope="session")
def fixture_people() -> list:
    return [row for split in ("train", "val") for row in read_split(FIXTURE, split)]


def tree_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_fixture_is_what_the_recipe_makes():
    from rendered_people.pictures import render_person

    recipe = json.loads((FIXTURE / "people.json").read_text())
    config = PeopleConfig(**recipe["config"])
    assert recipe["complete"]
    assert recipe["fingerprint"] == fingerprint(config), "the recipe changed: render tests/fixture/people again"
    for split, indices in (("train", (0, 11, 23)), ("val", (0, 11))):
        rows = list(read_split(FIXTURE, split))
        for index in indices:
            image, mask, joints = rows[index]
            person = render_person(config.seed, split, index, config.size)
            assert person.image.shape == image.shape
            assert np.abs(person.image.astype(int) - image).mean() < 4  # the stored one went through JPEG
            assert (person.mask == mask).mean() > 0.995
            found = np.column_stack([person.joints, np.where(np.isnan(person.joints[:, 0]), np.nan, person.occluded)])
            np.testing.assert_allclose(found, joints, atol=1)


def test_every_part_occurs_in_the_fixtures_training_images():
    table = part_frequencies(FIXTURE)
    assert list(table.index) == list(LIP.parts)
    assert (table["images"] > 0).all(), table
    assert table["pixels"].sum() == pytest.approx(1)


@pytest.mark.parametrize(("joint", "part"), [("wrist", "arm"), ("elbow", "arm"), ("knee", "leg"), ("ankle", "shoe")])
def test_pixels_around_a_visible_joint_are_of_its_side(fixture_people, joint, part):
    right_side = wrong_side = 0
    for _, mask, joints in fixture_people:
        for side, other in (("left", "right"), ("right", "left")):
            column, row, occluded = joints[LIP.joint(f"{side}_{joint}")]
            if occluded != 0:
                continue
            around = mask[max(int(row) - 2, 0) : int(row) + 3, max(int(column) - 2, 0) : int(column) + 3]
            own = (around == LIP.part(f"{side}_{part}")).sum()
            foreign = (around == LIP.part(f"{other}_{part}")).sum()
            right_side += own > foreign
            wrong_side += foreign > own
    assert right_side >= 4
    assert wrong_side <= 0.1 * right_side


def test_a_person_who_faces_the_camera_has_the_left_side_at_the_right_of_the_picture():
    from rendered_people import scene
    from rendered_people.body import body_model

    model = body_model()
    assert model.eye_centre[1] < model.rest[model.crown, 1]  # the face looks along -y
    for seed in range(4):
        actor = scene.sample_actor(np.random.default_rng(seed), model, np.eye(3), np.array([0, 0, 4.0]))
        left, right = (actor.joints[LIP.joint(f"{side}_shoulder")] for side in ("left", "right"))
        assert left[0] > right[0] + 0.1
        face = actor.surface.vertices[: len(model.rest)][model.eyes].mean(0)
        assert face[2] < actor.joints[LIP.joint("upper_neck")][2] + 0.02  # the eyes are nearer than the neck


def test_a_joint_behind_something_is_occluded():
    from rendered_people import render, scene
    from rendered_people.body import body_model

    model = body_model()
    place = np.array([0, 0, 4.0])
    facing = scene.sample_actor(np.random.default_rng(1), model, np.eye(3), place)
    view = scene.View(200, 200, 300.0, -100.0, -100.0)
    light = scene.sample_light(np.random.default_rng(0), np.eye(3))
    alone = render.draw(scene.Scene((facing,), view, light), LIP)
    screen = scene.sample_actor(np.random.default_rng(2), model, np.eye(3), place - [0, 0, 1.2])
    behind = render.draw(scene.Scene((facing, screen), view, light), LIP)
    centre = [LIP.joint("pelvis"), LIP.joint("thorax")]
    assert not alone.hidden[0, centre].any()
    assert behind.hidden[0, centre].all()
    assert (behind.people == 1).sum() < 0.7 * (alone.people == 1).sum()


def test_a_picture_depends_on_seed_split_and_index_only(small_tree, tmp_path):
    from rendered_people.pictures import render_person

    fewer = PeopleConfig(train=2, val=1, size=SMALL.size, seed=SMALL.seed)
    root = render_dataset(tmp_path / "fewer", fewer, workers=1)
    images = "TrainVal_images/train_images/train_000001.jpg"
    assert (root / images).read_bytes() == (small_tree / images).read_bytes()
    pictures = [render_person(*key, 48).image for key in ((7, "train", 0), (8, "train", 0), (7, "val", 0))]
    assert len({(image.shape, image.tobytes()) for image in pictures}) == 3


def test_what_is_seen_in_pictures_for_photographs_lies_on_the_person_and_some_show_nobody():
    from rendered_people.pictures import render_photo

    for person in (render_photo(0, "val", index, 96) for index in range(4, 8)):
        seen = ~np.isnan(person.joints[:, 0]) & ~person.occluded
        column, row = np.rint(person.joints[seen]).astype(int).T
        assert (person.mask[row, column] > 0).mean() > 0.7
    assert not render_photo(0, "val", 15, 96).mask.any()


def test_splits_are_rendered_one_at_a_time_into_the_folder_that_the_fingerprint_names(
    small_tree, tmp_path, monkeypatch
):
    from rendered_people import pictures

    root = ensure_people(SMALL, tmp_path, splits=("val",))
    assert root == tmp_path / f"people-{fingerprint(SMALL)[:12]}"
    assert json.loads((root / "people.json").read_text())["complete"] == {"train": False, "val": True}
    assert not list(root.rglob("*train_0*"))
    rendered, real = [], pictures.render_person
    monkeypatch.setattr(pictures, "render_person", lambda *key: rendered.append(key) or real(*key))
    assert render_dataset(root, SMALL, ("train",), workers=1) == root
    assert [key[1] for key in rendered] == ["train"] * SMALL.train
    assert tree_bytes(root) == tree_bytes(small_tree)
    assert ensure_people(SMALL, tmp_path) == root
    assert len(rendered) == SMALL.train


def test_a_tree_from_before_splits_were_told_apart_is_complete(small_tree, tmp_path, monkeypatch):
    from rendered_people import pictures

    root = shutil.copytree(small_tree, tmp_path / "old")
    recipe = json.loads((root / "people.json").read_text())
    (root / "people.json").write_text(json.dumps(recipe | {"complete": True}))
    monkeypatch.setattr(pictures, "render_person", lambda *_: pytest.fail("rendered again"))
    assert render_dataset(root, SMALL) == root


def test_only_damaged_pictures_are_rendered_again(small_tree, tmp_path):
    root = tmp_path / "damaged"
    shutil.copytree(small_tree, root)
    gone = root / "TrainVal_images" / "train_images" / "train_000001.jpg"
    half = root / "TrainVal_parsing_annotations" / "val_segmentations" / "val_000002.png"
    gone.unlink()
    half.write_bytes(half.read_bytes()[:-20])
    masks = root / "TrainVal_parsing_annotations" / "train_segmentations"
    untouched = {path: path.stat().st_mtime_ns for path in masks.glob("*.png") if path.stem != gone.stem}
    render_dataset(root, SMALL, workers=1)
    assert tree_bytes(root) == tree_bytes(small_tree)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched


def test_a_killed_rendering_ends_its_workers_and_the_next_continues(small_tree, tmp_path, capsys):
    root = tmp_path / "killed"
    options = [str(root), "--train", "5", "--val", "3", "--size", "48", "--seed", "7", "--workers", "2"]
    with subprocess.Popen([sys.executable, "-m", "rendered_people", *options], stderr=subprocess.PIPE) as first:
        deadline = time.monotonic() + 60
        while not list(root.rglob("*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.kill()
        first.stderr.read()  # ends when the last worker has let go of it
    assert main(options) == 0
    assert tree_bytes(root) == tree_bytes(small_tree)
    assert "sunglasses" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [".killed.lock", "killed"]


def test_a_killed_worker_ends_in_one_line(tmp_path, monkeypatch):
    from rendered_people import dataset

    monkeypatch.setattr(dataset, "_start_worker", partial(os._exit, 1))
    with pytest.raises(DataError, match=f"{tmp_path.name}.*fewer workers"):
        render_dataset(tmp_path, SMALL, workers=2)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(small_tree, tmp_path, capsys):
    before = tree_bytes(small_tree)
    assert main([str(small_tree), "--train", "6", "--val", "3", "--size", "48", "--seed", "7"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{small_tree} holds another rendering" in error
    assert tree_bytes(small_tree) == before
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match=r"people\.json"):
        render_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("wrong", [{"train": -1}, {"train": 0, "val": 0}, {"size": 8}, {"seed": -1}])
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PeopleConfig(**wrong)


def test_reading_needs_neither_body_model_nor_ray_caster():
    code = "import sys, rendered_people; print(sorted({'anny', 'embreex', 'torch', 'warp'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
