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
from tools.confidence import best_threshold, choose
from workbook.experiments import SMOKE, find_experiment
from workbook.photo import coco, main
from workbook.predictor import LONGEST, Confidence, load_predictor

PERSON = REPOSITORY / "tests/fixture/people/TrainVal_images/val_images/val_000000.jpg"
CROWD = REPOSITORY / "tests/fixture/crowds/JPEGImages/val_000000.jpg"


@pytest.fixture(scope="module")
def predictor():
    return load_predictor()


def test_one_photo_gives_an_overlay_part_labels_and_keypoints(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([str(PERSON), "--out=~/out"]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["val_000000_keypoints.json", "val_000000_overlay.png", "val_000000_parts.png"]
    width, height = Image.open(PERSON).size
    parts = Image.open(tmp_path / "out" / "val_000000_parts.png")
    assert (parts.size, parts.mode) == ((width, height), "P")
    assert np.asarray(parts).max() < len(LIP.parts)
    assert tuple(parts.getpalette()[15:18]) == LIP.palette[5]
    said = json.loads((tmp_path / "out" / "val_000000_keypoints.json").read_text())
    (person,) = said["annotations"]
    assert said["images"] == [{"id": 1, "file_name": "val_000000.jpg", "width": width, "height": height}]
    assert len(person["keypoints"]) == 3 * len(LIP.joints)
    assert 10 <= person["num_keypoints"] <= 16
    assert said["categories"][0]["keypoints"] == list(LIP.joints)
    assert [LIP.joints[a - 1] for a, _ in said["categories"][0]["skeleton"]] == [a for a, _ in LIP.limbs]
    assert "rendered people" in capsys.readouterr().out


def test_several_people_are_found(tmp_path):
    assert main([str(CROWD), "--crowd", "--out", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "val_000000_keypoints.json").read_text())
    assert said["categories"][0]["keypoints"] == list(PASCAL.joints)
    assert [each["id"] for each in said["annotations"]] == list(range(1, len(said["annotations"]) + 1))
    assert len(said["annotations"]) > 1


def test_the_threshold_has_the_best_f1():
    rng = np.random.default_rng(0)
    scores, right = rng.random(50), rng.random(50) < 0.5
    f1 = [2 * (right & (scores >= at)).sum() / ((scores >= at).sum() + right.sum()) for at in scores]
    assert best_threshold(scores, right)[0] == scores[np.argmax(f1)]


def test_a_joint_where_there_is_none_is_wrong_and_a_picture_of_nobody_too():
    truth = np.full((2, 16, 2), np.nan)
    truth[0] = np.arange(32).reshape(16, 2) * 10.0
    truth[0, 3] = np.nan
    scores = np.full((2, 16), 0.2)
    scores[0], scores[0, 3] = 0.8, 0.6
    said = [Prediction(None, np.nan_to_num(truth[0]), each) for each in scores]
    confidence = choose(said, truth, LIP, "a test")
    assert (confidence.joint, confidence.joint_precision, confidence.joint_recall) == (0.8, 1.0, 1.0)
    assert confidence.recognized(said[0])
    assert not confidence.recognized(said[1])
    assert np.flatnonzero(confidence.unsure(said[0])).tolist() == [3]


def test_of_a_picture_without_anybody_it_is_said_that_nothing_was_recognized(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 60, 3), 120, np.uint8))
    assert main([str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]) == 0
    assert "grey.png: nobody recognized" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "grey_keypoints.json").read_text())["annotations"][0]["num_keypoints"] == 0


def test_joints_that_were_not_found_are_zeros_in_cocos_form():
    joints = np.full((1, 14, 2), np.nan, np.float32)
    joints[0, 2] = 3.25, 4.0
    joints[0, 1] = 2, 2
    found = Prediction(np.zeros((9, 9), np.uint8), joints, np.float32([[0, 0.1, 0.5] + 11 * [0]]))
    (person,) = coco(PERSON, (9, 9), found, PASCAL, Confidence(joint=0.3).unsure(found))["annotations"]
    assert person["keypoints"][:9] == [0, 0, 0, 0, 0, 0, 3.25, 4.0, 2]
    assert (person["num_keypoints"], person["score"]) == (1, 0.5)
    nobody = Prediction(found.mask, joints[:0], np.zeros((0, 14)))
    assert coco(PERSON, (9, 9), nobody, PASCAL, np.zeros((0, 14), bool))["annotations"] == []


def test_a_joint_beyond_the_photo_is_not_found(predictor, monkeypatch):
    joints = np.full((16, 2), 5.0, np.float32)
    joints[3, 1] = -2
    said = Prediction(np.zeros((9, 9), np.uint8), joints, np.ones(16, np.float32))
    monkeypatch.setattr("workbook.predictor.predict", lambda *given: [said])
    found = predictor(np.zeros((9, 9, 3), np.uint8)).joints
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [3]


def test_a_large_photo_gets_the_answers_of_a_small_one_at_its_own_size(predictor):
    photo = load_image(PERSON)
    size_wh = [round(side * LONGEST / max(photo.shape)) for side in photo.shape[1::-1]]
    small = cv2.resize(photo, size_wh, interpolation=cv2.INTER_LINEAR)
    large = np.repeat(np.repeat(small, 3, axis=0), 3, axis=1)
    found, expected = predictor(large), predictor(small)
    assert found.mask.shape == large.shape[:2]
    np.testing.assert_allclose(found.joints, 3 * expected.joints + 1, atol=0.01)
    np.testing.assert_array_equal(found.mask[1::3, 1::3], expected.mask)


def test_a_folder_is_done_but_for_its_broken_files_which_are_named(tmp_path, capsys):
    photos = tmp_path / "photos and more"
    (photos / "more").mkdir(parents=True)
    for name in ("a.JPG", "a.png", "grüße.webp"):
        cv2.imwrite(str(photos / name), load_image(PERSON)[..., ::-1])
    shutil.copy(PERSON, photos / "caf\udce9.jfif")  # not UTF-8
    (photos / "broken.jpg").write_bytes(PERSON.read_bytes()[:20])
    (photos / "dead.jpg").symlink_to("nowhere")
    for name in ("notes.txt", "phone.HEIC"):
        (photos / name).write_text("no photo")
    shutil.copy(PERSON, photos / "a_overlay.png")  # an answer of before
    assert main([str(photos), str(photos / "a.png"), "--out", str(tmp_path / "out")]) == 2
    done = sorted(path.name for path in (tmp_path / "out").glob("*_parts.png"))
    path = "_".join(photos.absolute().parts[1:])
    assert done == ["caf\udce9_parts.png", "grüße_parts.png", f"{path}_a.JPG_parts.png", f"{path}_a.png_parts.png"]
    printed, complaint = capsys.readouterr()
    for name, reason in (("notes.txt", "not an ext"), ("phone.HEIC", "HEIC; save it as JPEG)"), ("more", "a folder;")):
        assert f"skipped: {photos / name} ({reason}" in printed
    for name, fault in (("broken", "decoded"), ("dead", "opened")):
        assert f"error: {photos / name}.jpg: the image cannot be {fault} (" in complaint


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
def test_a_mistake_is_one_line_that_names_the_file(tmp_path, complaint, make, message):
    assert message in complaint(main([*make(tmp_path), "--out", str(tmp_path / "out")]))
