"""Rendered people: the fixtures are what the recipes make, labels are true, and a rendering can be resumed."""

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
from conftest import tree_bytes

from mula_lib.anatomy import LIP
from mula_lib.data.images import load_image, load_mask
from mula_lib.files import ConfigError, DataError
from rendered_people import (
    CrowdConfig,
    PeopleConfig,
    dataset,
    ensure_people,
    fingerprint,
    part_frequencies,
    pictures,
    render,
    render_dataset,
    scene,
)
from rendered_people.__main__ import main
from rendered_people.body import body_model, vertex_normals
from rendered_people.poses import about, rotations, sample_pose
from workbook.datasets import FIXTURES, open_source

SMALL = PeopleConfig(train=5, val=3, size=48, seed=7)
pytestmark = pytest.mark.usefixtures("body_cache")


@pytest.fixture(scope="session")
def small_tree(tmp_path_factory, body_cache) -> Path:
    return render_dataset(tmp_path_factory.mktemp("people") / "small", SMALL, workers=1)


@pytest.mark.parametrize(
    ("name", "kind", "render_one", "keys"),
    [
        ("fixture", PeopleConfig, pictures.render_person, [("train", 0), ("train", 11), ("train", 23), ("val", 11)]),
        ("crowd-fixture", CrowdConfig, pictures.render_crowd, [("train", 0), ("train", 2), ("val", 8), ("val", 10)]),
    ],
)
def test_the_fixtures_are_what_the_recipes_make(name, kind, render_one, keys):
    source = open_source(name)
    recipe = json.loads((source.root / "people.json").read_text())
    config = kind(**recipe["config"])
    assert recipe["complete"]
    assert recipe["fingerprint"] == fingerprint(config), f"the recipe changed: render {source.root} again"
    for split, index in keys:
        record, found = getattr(source, split)[index], render_one(config.seed, split, index, config.size)
        image, mask = load_image(record.image), load_mask(record.mask, classes=len(source.anatomy.parts))
        assert found.image.shape == image.shape
        assert np.abs(found.image.astype(int) - image).mean() < 4  # the stored one went through JPEG
        assert (found.mask == mask).mean() > 0.995
        np.testing.assert_allclose(found.joints, record.joints, atol=1)
        np.testing.assert_array_equal(found.occluded, record.occluded)
        if source.anatomy.crowds:
            np.testing.assert_allclose(found.boxes, record.boxes, atol=1)


def test_every_part_occurs_in_the_fixtures_training_images():
    table = part_frequencies(FIXTURES["people"])
    assert list(table.index) == list(LIP.parts)
    assert (table["images"] > 0).all(), table
    assert table["pixels"].sum() == pytest.approx(1)


@pytest.mark.parametrize(("joint", "part"), [("wrist", "arm"), ("elbow", "arm"), ("knee", "leg"), ("ankle", "shoe")])
def test_pixels_around_a_visible_joint_are_of_its_side(source, joint, part):
    right_side = wrong_side = 0
    for record in (*source.train.records, *source.val.records):
        mask = load_mask(record.mask)
        for side, other in (("left", "right"), ("right", "left")):
            index = LIP.joint(f"{side}_{joint}")
            if record.occluded[index] or np.isnan(record.joints[index, 0]):
                continue
            column, row = record.joints[index].astype(int)
            around = mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            own = (around == LIP.part(f"{side}_{part}")).sum()
            foreign = (around == LIP.part(f"{other}_{part}")).sum()
            right_side += own > foreign
            wrong_side += foreign > own
    assert right_side >= 4
    assert wrong_side <= 0.1 * right_side


def test_a_person_who_faces_the_camera_has_the_left_side_at_the_right_of_the_picture():
    model = body_model()
    assert model.eye_centre[1] < model.rest[model.crown, 1]  # the face looks along -y
    for seed in range(4):
        actor = scene.sample_actor(np.random.default_rng(seed), model, np.eye(3), np.array([0, 0, 4.0]))
        left, right = (actor.joints[LIP.joint(f"{side}_shoulder")] for side in ("left", "right"))
        assert left[0] > right[0] + 0.1
        face = actor.surface.vertices[: len(model.rest)][model.eyes].mean(0)
        assert face[2] < actor.joints[LIP.joint("upper_neck")][2] + 0.02  # the eyes are nearer than the neck


def test_a_joint_behind_something_is_occluded():
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
    fewer = PeopleConfig(train=2, val=1, size=SMALL.size, seed=SMALL.seed)
    root = render_dataset(tmp_path / "fewer", fewer, workers=1)
    image = "TrainVal_images/train_images/train_000001.jpg"
    assert (root / image).read_bytes() == (small_tree / image).read_bytes()
    images = [pictures.render_person(*key, 48).image for key in ((7, "train", 0), (8, "train", 0), (7, "val", 0))]
    assert len({(image.shape, image.tobytes()) for image in images}) == 3


def test_what_is_seen_in_pictures_for_photographs_lies_on_the_person_and_some_show_nobody():
    for person in (pictures.render_photo(0, "val", index, 96) for index in range(4, 8)):
        seen = ~np.isnan(person.joints[:, 0]) & ~person.occluded
        column, row = np.rint(person.joints[seen]).astype(int).T
        assert (person.mask[row, column] > 0).mean() > 0.7
    assert not pictures.render_photo(0, "val", 15, 96).mask.any()


def test_splits_are_rendered_one_at_a_time_into_the_folder_that_the_fingerprint_names(
    small_tree, tmp_path, monkeypatch
):
    root = ensure_people(SMALL, tmp_path, splits=("val",))
    assert root == tmp_path / f"people-{fingerprint(SMALL)[:12]}"
    assert json.loads((root / "people.json").read_text())["complete"] == {"train": False, "val": True}
    assert not list(root.rglob("*train_0*"))
    rendered, real = [], pictures.render_person
    monkeypatch.setattr(pictures, "render_person", lambda *key: rendered.append(key) or real(*key))
    assert render_dataset(root, SMALL, ("train",), workers=1) == root
    assert [key[1] for key in rendered] == ["train"] * SMALL.train
    assert tree_bytes(root) == tree_bytes(small_tree)
    recipe = json.loads((root / "people.json").read_text())
    for complete in (recipe["complete"], True):  # so a tree says from before splits were told apart
        (root / "people.json").write_text(json.dumps(recipe | {"complete": complete}))
        assert ensure_people(SMALL, tmp_path) == root
    assert len(rendered) == SMALL.train


@pytest.mark.parametrize("config", [SMALL, CrowdConfig(train=4, val=2, size=64, seed=5)], ids=["people", "crowds"])
def test_only_damaged_pictures_are_rendered_again_and_the_same_by_any_number_of_processes(config, small_tree, tmp_path):
    whole = small_tree if config is SMALL else render_dataset(tmp_path / "whole", config, workers=2)
    root = shutil.copytree(whole, tmp_path / "damaged")
    gone, half = (next(root.rglob(name)) for name in ("train_000001.jpg", "val_000001.png"))
    gone.unlink()
    half.write_bytes(half.read_bytes()[:-20])
    for path in root.rglob("train_000000.mat"):
        path.write_bytes(b"half")
    untouched = {path: path.stat().st_mtime_ns for path in root.rglob("train_00000[23].*")}
    render_dataset(root, config, workers=1)
    assert tree_bytes(root) == tree_bytes(whole)
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
    monkeypatch.setattr(dataset, "_start_worker", partial(os._exit, 1))
    with pytest.raises(DataError, match=f"{tmp_path.name}.*run it again"):
        render_dataset(tmp_path, SMALL, workers=2)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(small_tree, tmp_path, complaint):
    before = tree_bytes(small_tree)
    said = complaint(main([str(small_tree), "--train", "6", "--val", "3", "--size", "48", "--seed", "7"]))
    assert f"{small_tree} holds another rendering" in said
    assert tree_bytes(small_tree) == before
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match=r"people\.json"):
        render_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("wrong", [{"train": -1}, {"train": 0, "val": 0}, {"size": 8}, {"seed": -1}])
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PeopleConfig(**wrong)


# The renderer's shortcuts change nothing: each against the plain way.


def test_normals_of_some_vertices_are_those_of_all():
    model = body_model()
    wanted = np.zeros(len(model.rest), bool)
    wanted[100:400:7] = True
    full = vertex_normals(model.rest, model.faces)
    np.testing.assert_array_equal(vertex_normals(model.rest, model.faces, wanted)[wanted], full[wanted])
    np.testing.assert_allclose(np.linalg.norm(full, axis=1), 1, atol=1e-5)


def test_a_posed_bone_follows_its_parents():
    model, rng = body_model(), np.random.default_rng(5)
    shape = model.sample_shape(rng)
    local = rotations(sample_pose(rng), model, shape)
    maps = []
    for name, index in model.bone.items():  # one bone after the other, as 4 x 4 matrices
        turn, about_head, parent = np.eye(4), np.eye(4), model.parents[index]
        turn[:3, :3] = local.get(name, np.eye(3))
        about_head[:3, 3] = shape.bones[index]
        maps.append((np.eye(4) if parent < 0 else maps[parent]) @ about_head @ turn @ np.linalg.inv(about_head))
    np.testing.assert_allclose(model.pose(shape.bones, local), np.array(maps)[:, :3], atol=1e-5)
    axis = np.array([1.0, 2.0, -2.0])
    np.testing.assert_allclose(about(axis, 60) @ axis, axis)
    np.testing.assert_allclose(np.trace(about(axis, 60)), 2)


def test_rendering_leaves_the_process_its_cores():
    before = os.sched_getaffinity(0)
    render._device.__wrapped__()
    assert os.sched_getaffinity(0) == before
