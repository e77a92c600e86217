"""A photograph's way through a shipped network: what is written, and what a mistake looks like."""

import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.checkpoint import save_weights
from mula_lib.data.images import load_image
from mula_lib.inference import Prediction
from mula_lib.models.network import build_model
from workbook.experiments import SMOKE, find_experiment
from workbook.photo import LONGEST, coco, load_predictor, main

PERSON = REPOSITORY / "tests/fixture/people/TrainVal_images/val_images/val_000000.jpg"
CROWD = REPOSITORY / "tests/fixture/crowds/JPEGImages/val_000000.jpg"


@pytest.fixture(scope="module")
def predictor():
    return load_predictor()


def test_one_photo_gives_an_overlay_part_labels_and_keypoints(tmp_path, capsys):
    assert main([str(PERSON), "--out", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["val_000000_keypoints.json", "val_000000_overlay.png", "val_000000_parts.png"]
    width, height = Image.open(PERSON).size
    parts = Image.open(tmp_path / "out" / "val_000000_parts.png")
    assert parts.size == (width, height)
    assert parts.mode == "P"
    assert np.asarray(parts).max() < len(LIP.parts)
    assert tuple(parts.getpalette()[15:18]) == LIP.palette[5]
    said = json.loads((tmp_path / "out" / "val_000000_keypoints.json").read_text())
    (person,) = said["annotations"]
    assert said["images"] == [{"id": 1, "file_name": "val_000000.jpg", "width": width, "height": height}]
    assert len(person["keypoints"]) == 3 * len(LIP.joints)
    assert person["num_keypoints"] == 16
    assert said["categories"][0]["keypoints"] == list(LIP.joints)
    assert [LIP.joints[a - 1] for a, _ in said["categories"][0]["skeleton"]] == [a for a, _ in LIP.limbs]
    assert "rendered people" in capsys.readouterr().out


def test_several_people_are_looked_for_on_demand(tmp_path):
    assert main([str(CROWD), "--crowd", "--out", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "val_000000_keypoints.json").read_text())
    assert said["categories"][0]["keypoints"] == list(PASCAL.joints)
    assert [each["id"] for each in said["annotations"]] == list(range(1, len(said["annotations"]) + 1))


def test_joints_that_were_not_found_are_zeros_in_cocos_form():
    joints = np.full((1, 14, 2), np.nan, np.float32)
    joints[0, 2] = 3.25, 4.0
    found = Prediction(np.zeros((9, 9), np.uint8), joints, np.where(np.isnan(joints[..., 0]), 0, 0.5))
    (person,) = coco(PERSON, (9, 9), found, PASCAL)["annotations"]
    assert person["keypoints"][:9] == [0, 0, 0, 0, 0, 0, 3.25, 4.0, 2]
    assert (person["num_keypoints"], person["score"]) == (1, 0.5)
    nobody = Prediction(found.mask, joints[:0], np.zeros((0, 14)))
    assert coco(PERSON, (9, 9), nobody, PASCAL)["annotations"] == []


def test_a_joint_beyond_the_photo_is_not_found(predictor, monkeypatch):
    joints = np.full((16, 2), 5.0, np.float32)
    joints[3, 1] = -2
    said = Prediction(np.zeros((9, 9), np.uint8), joints, np.ones(16, np.float32))
    monkeypatch.setattr("workbook.photo.predict", lambda *given: [said])
    found = predictor(np.zeros((9, 9, 3), np.uint8)).joints
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [3]


def test_a_large_photo_gets_the_answers_of_a_small_one_at_its_own_size(predictor):
    photo = load_image(PERSON)
    share = LONGEST / max(photo.shape[:2])
    size_wh = [round(side * share) for side in photo.shape[1::-1]]
    small = cv2.resize(photo, size_wh, interpolation=cv2.INTER_LINEAR)
    large = np.repeat(np.repeat(small, 3, axis=0), 3, axis=1)
    found, expected = predictor(large), predictor(small)
    assert found.mask.shape == large.shape[:2]
    np.testing.assert_allclose(found.joints, 3 * expected.joints + 1, atol=0.01)
    np.testing.assert_array_equal(found.mask[1::3, 1::3], expected.mask)


def test_a_folder_is_done_but_for_its_broken_files_which_are_named(tmp_path, capsys):
    photos = tmp_path / "photos and more"
    photos.mkdir()
    for name in ("a.JPG", "a.png", "grüße.webp"):
        cv2.imwrite(str(photos / name), load_image(PERSON)[..., ::-1])
    shutil.copy(PERSON, photos / "camera.jfif")
    (photos / "broken.jpg").write_bytes(PERSON.read_bytes()[:20])
    for name in ("notes.txt", "phone.HEIC"):
        (photos / name).write_text("no photo")
    assert main([str(photos), str(photos / "a.png"), "--out", str(tmp_path / "out")]) == 2
    done = sorted(path.name for path in (tmp_path / "out").glob("*_parts.png"))
    path = str(photos).replace("/", "_")
    assert done == [f"{path}_a.JPG_parts.png", f"{path}_a.png_parts.png", "camera_parts.png", "grüße_parts.png"]
    printed, complaint = capsys.readouterr()
    assert f"passed over: {photos / 'notes.txt'} (not a photograph)" in printed
    assert f"passed over: {photos / 'phone.HEIC'} (HEIC; save it as JPEG)" in printed
    assert f"error: {photos / 'broken.jpg'}: the image cannot be decoded" in complaint


def parsing_only(folder):
    path, model = folder / "segnet.safetensors", build_model(find_experiment("SegNet").model_config(SMOKE, LIP), 0)
    save_weights(path, model, {"experiment": "SegNet", "profile": "smoke", "fingerprint": "none"})
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [str(folder)], "no photographs; folders are searched for .jpg, "),
        (lambda folder: [str(folder / "absent.jpg")], "the image cannot be opened (No such file or directory)"),
        (lambda folder: [str(PERSON), "--weights", str(PERSON)], "not a weights file of this project"),
        (lambda folder: [str(PERSON), "--weights", str(parsing_only(folder))], "SegNet has one of the two tasks only"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path, capsys, make, message):
    assert main([*make(tmp_path), "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert message in complaint
    assert complaint.count("\n") == 1
