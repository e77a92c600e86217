"""LIP's submission format: what is written is read again, scored as the library scores it, and checked by name."""

import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.checkpoint import load_model, save_weights
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import read_rows
from mula_lib.files import DataError
from mula_lib.inference import predict
from mula_lib.metrics.parsing import confusion_matrix, parsing_scores
from mula_lib.metrics.pose import pckh, pckh_hits
from mula_lib.models.network import build_model
from workbook.datasets import FIXTURES
from workbook.experiments import SMOKE, find_experiment
from workbook.scoring import main as score
from workbook.submission import KEYPOINTS, PARTS, make_submission, write_predictions

TREE = FIXTURES["people"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model(find_experiment("VGG16-FCN-MuLA").model_config(SMOKE, LIP), 0)
    save_weights(path, model, {"experiment": "VGG16-FCN-MuLA", "profile": "smoke", "fingerprint": "none"})
    return path


@pytest.fixture(scope="module")
def submitted(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("submitted")
    make_submission(weights, TREE, "val", out)
    return out


def test_a_submission_has_33_columns_of_whole_pixels(submitted, source):
    lines = (submitted / KEYPOINTS).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{record.name}.jpg" for record in source.val.records]
    assert all(re.fullmatch(r"[^,]+(,\d{1,3}){32}", line) for line in lines)


def test_its_scores_are_those_of_the_library(submitted, weights, source, tmp_path, capsys):
    images = [load_image(record.image) for record in source.val.records]
    found = predict(load_model(weights), images, SMOKE.crop, SMOKE.testing, LIP)
    sizes = [np.array(image.shape[1::-1]) for image in images]
    joints = [each.joints.astype(float).clip(0, size - 1).round() for each, size in zip(found, sizes, strict=True)]
    masks = [load_mask(record.mask) for record in source.val.records]
    confusion = sum(confusion_matrix(each.mask, mask, 20) for each, mask in zip(found, masks, strict=True))
    truth = np.stack([record.joints for record in source.val.records])
    expected = {**pckh(pckh_hits(np.stack(joints), truth, LIP), LIP), **parsing_scores(confusion)}
    assert score(["--gt", str(TREE), "--pred", str(submitted), "--csv", str(tmp_path / "scores.csv")]) == 0
    written = pd.read_csv(tmp_path / "scores.csv").set_index("metric")["percent"]
    for name, value in expected.items():
        assert written[name] == pytest.approx(value, nan_ok=True)
    assert {"face", "background"} <= set(written.index)
    printed = capsys.readouterr().out
    assert f"{round(expected['PCK'], 2)}" in printed
    assert "PCKh@0.5" in printed


def test_the_truth_scores_a_hundred_by_csv_and_folder(source, tmp_path, capsys):
    write_predictions(tmp_path / "mine.csv", {record.name: record.joints for record in source.val.records})
    masks = tmp_path / "masks"
    masks.mkdir()
    for record in source.val.records:
        shutil.copy(record.mask, masks / record.mask.name)
        cv2.imwrite(str(masks / f"{record.name}_vis.png"), np.full((9, 9, 3), 200))  # as JPPNet writes beside them
    predicted = [str(tmp_path / "mine.csv"), str(masks)]
    assert score(["--gt", str(TREE), "--pred", *predicted, "--csv", str(tmp_path / "all.csv")]) == 0
    written = pd.read_csv(tmp_path / "all.csv").set_index("metric")["percent"]
    assert written["mIoU"] == 100.0
    assert written["PCK"] > 99


def test_a_network_for_crowds_is_refused(tmp_path):
    path = tmp_path / "crowds.safetensors"
    model = build_model(find_experiment("HG-2s-1u-MuLA").model_config(SMOKE.for_crowds(), PASCAL), 0)
    save_weights(path, model, {"experiment": "HG-2s-1u-MuLA", "profile": "smoke", "fingerprint": "none"})
    with pytest.raises(DataError, match="for several people"):
        make_submission(path, TREE, "val", tmp_path / "out")


def change_rows(change):
    def spoil(folder):
        (folder / KEYPOINTS).write_text("\n".join(change((folder / KEYPOINTS).read_text().splitlines())))

    return spoil


def change_a_mask(change):
    def spoil(folder):
        path = next((folder / PARTS).glob("*.png"))
        cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change_rows(lambda rows: rows[1:]), "no row for 1 images of the truth, val_"),
        (change_rows(lambda rows: [*rows, "new.jpg" + ",1" * 32]), "a row for 1 images that the truth lacks, new"),
        (change_rows(lambda rows: [rows[0].rsplit(",", 1)[0], *rows[1:]]), "line 1: 32 columns instead of 33"),
        (lambda folder: next((folder / PARTS).glob("*.png")).unlink(), "no mask for 1 images of the truth, val_"),
        (lambda folder: cv2.imwrite(str(folder / PARTS / "new.png"), np.zeros((3, 4))), "a mask for 1 .* lacks, new"),
        (change_a_mask(lambda mask: mask[:3, :4]), "4×3 pixels, but .* predict at the image's own size"),
        (change_a_mask(lambda mask: mask * 0 + 255), "255 in a prediction; parts are 0 to 19"),
        (lambda folder: [each.unlink() for each in folder.rglob("*.*")], "no pred_keypoints.csv"),
    ],
)
def test_missing_extra_and_broken_files_are_a_line_that_names_them(submitted, tmp_path, complaint, spoil, said):
    copied = shutil.copytree(submitted, tmp_path / "copied")
    spoil(copied)
    assert re.search(said, complaint(score(["--gt", str(TREE), "--pred", str(copied)])))


def test_nothing_in_common_is_an_error_and_any_terminal_shows_the_help(submitted, complaint, capsys):
    truth, predicted = str(submitted / PARTS), str(submitted / KEYPOINTS)
    assert "nothing to score" in complaint(score(["--gt", truth, "--pred", predicted]))
    with pytest.raises(SystemExit):
        score(["--help"])
    assert capsys.readouterr().out.isascii()


def test_a_written_joint_is_a_whole_pixel_and_an_unfound_one_a_miss(tmp_path):
    joints = np.full((16, 2), 7.4)
    joints[3] = np.nan
    write_predictions(tmp_path / "some.csv", {"a": joints})
    read = read_rows(tmp_path / "some.csv", 33, "")["a"].reshape(16, 2)
    np.testing.assert_array_equal(read, joints.round())
