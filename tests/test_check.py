"""The check of both kinds of tree: a sound one passes, damage is counted and its file named, oddities are warned of."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY

from mula_lib.anatomy import PASCAL
from mula_lib.data import pascal
from mula_lib.data.check import check_tree, main, require_sound
from mula_lib.data.images import load_mask
from mula_lib.data.pascal import OTHER_LOOKUP, OTHER_PARTS, read_people
from rendered_people.crowd_tree import people_mat
from workbook.datasets import FIXTURES

SWAPPED = [0, 1, *range(8, 14), *range(2, 8)]  # the joints of both sides, exchanged
LIP_IMAGE = "TrainVal_images/val_images/val_000003.jpg"
LIP_MASK = "TrainVal_parsing_annotations/val_segmentations/val_000003.png"
LIP_CSV, LIP_IDS = "TrainVal_pose_annotations/lip_val_set.csv", "TrainVal_images/val_id.txt"
IMAGE, MASK, MAT = "JPEGImages/val_000003.jpg", "SegmentationPart/val_000003.png", "PersonJoints/val_000003.mat"


@pytest.fixture
def people(tmp_path):
    """A tree in LIP's layout."""
    return shutil.copytree(FIXTURES["people"], tmp_path / "people")


@pytest.fixture
def crowds(tmp_path):
    """A tree in PASCAL-Person-Part's layout."""
    return shutil.copytree(FIXTURES["crowds"], tmp_path / "crowds")


@pytest.fixture
def run(capsys):
    def run_check(root: Path, *arguments: str) -> tuple[int, str]:
        return main([str(root), *arguments]), capsys.readouterr().out

    return run_check


def findings(output: str, kind: str) -> list[str]:
    """Headings of errors or warnings, but for those of the fixtures."""
    found = [line.removeprefix(f"{kind}: ") for line in output.splitlines() if line.startswith(f"{kind}: ")]
    return [line for line in found if "not the full" not in line]


def rewrite(root: Path, change) -> None:
    """Write the people of each ``.mat`` again, as ``change`` of their joints, occluded and boxes."""
    for path in (root / "PersonJoints").iterdir():
        path.write_bytes(people_mat(*change(*read_people(path))))


@pytest.mark.parametrize("kind", ["people", "crowds"])
def test_the_fixtures_are_sound(kind, run):
    status, output = run(FIXTURES[kind])
    assert status == 0
    assert output.splitlines()[0].endswith(": 24 train ids, 12 val ids")
    assert (findings(output, "error"), findings(output, "warning")) == ([], [])
    assert f"warning: val: not the full {check_tree(FIXTURES[kind]).anatomy.name} (1)" in output


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def changed(change) -> Callable[[Path], None]:
    """What rewrites a mask as ``change`` of it."""
    return lambda path: cv2.imwrite(str(path), change(load_mask(path)))


shrink_mask = changed(lambda mask: mask[1:])


@pytest.mark.parametrize("kind", ["people", "crowds"])
@pytest.mark.parametrize(
    ("damage", "piece", "what"),
    [
        (Path.unlink, "image", "missing image"), (truncate, "image", "unreadable image"),
        (Path.unlink, "mask", "missing mask"),
        (truncate, "mask", "unreadable mask"), (shrink_mask, "mask", "mask and image sizes differ"),
        (changed(lambda mask: mask + np.uint8(100)), "mask", "mask ids above "),
    ],
)  # fmt: skip
def test_a_damaged_file_is_counted_once_and_named(run, request, kind, damage, piece, what):
    tree = request.getfixturevalue(kind)
    path = tree / {"image": (LIP_IMAGE, IMAGE), "mask": (LIP_MASK, MASK)}[piece][kind == "crowds"]
    damage(path)
    status, output = run(tree)
    assert status == 1
    assert len(findings(output, "error")) == 1
    assert re.search(rf"error: val: {what}\d* \(1\)\n  {path}: ", output)


@pytest.mark.parametrize(
    ("kind", "piece", "said"),
    [("people", LIP_CSV, "line 1: 1 columns instead of 49"), ("crowds", MAT, "not cell arrays")],
)
def test_what_keeps_a_split_from_being_read_is_named(kind, piece, said, run, request):
    tree = request.getfixturevalue(kind)
    (tree / piece).write_text("garbage\n")
    status, output = run(tree)
    assert status == 1
    assert re.search(rf"error: val: cannot be read \(1\)\n  {tree / piece}\W+{said}", output)


def test_the_test_split_needs_no_annotations(tmp_path, run):
    images = tmp_path / "Testing_images" / "testing_images"
    images.mkdir(parents=True)
    cv2.imwrite(str(images / "7_7.jpg"), np.zeros((8, 6, 3), np.uint8))
    (images.parent / "test_id.txt").write_text("7_7\n")
    status, output = run(tmp_path)
    assert (status, output.splitlines()[0]) == (0, "LIP: 1 test ids")


def test_a_shortened_id_list_is_a_warning_only(people, run):
    (people / LIP_IDS).write_text("val_000000\nval_000001\n")
    status, output = run(people)
    assert (status, findings(output, "warning")) == (0, ["val: CSV row without id (10)"])
    assert list(check_tree(people, ["val"]).listed) == ["val"]


def test_the_first_ten_offenders_are_named_and_the_rest_counted(people, run):
    for mask in (people / LIP_MASK).parent.iterdir():
        mask.unlink()
    _, output = run(people)
    assert "error: val: missing mask (12)" in output
    assert output.count("the mask cannot be opened (No such file") == 10
    assert "  and 2 more" in output


def change_masks(root: Path, change) -> None:
    for path in root.rglob("*.png"):
        changed(change)(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda mask: mask - np.uint8(1), "masks seem shifted by one"),
        (lambda mask: np.minimum(mask + np.uint8(1), 19), "masks seem shifted by one"),
        (lambda mask: (mask > 0).astype(np.uint8), "masks of one part only"),
        (lambda mask: (mask > 0).astype(np.uint8) * 255, "masks of one part only"),
        (lambda mask: mask, None),
    ],
    ids=["shifted down", "shifted up", "0 and 1", "0 and 255", "as they are"],
)
def test_masks_that_are_shifted_or_of_people_instead_of_parts_are_warned_of(people, run, change, what, capsys):
    change_masks(people, change)
    status, output = run(people)
    assert (status, findings(output, "warning")) == (0, [f"{what} (1)"] if what else [])
    require_sound(people, people.parent / "stamp")  # as before a run
    assert capsys.readouterr().out == output


def test_ids_without_a_mat_are_a_warning_and_their_files_are_not_needed(crowds, run):
    for path in (MAT, IMAGE, "PersonJoints/val_000004.mat"):
        (crowds / path).unlink()
    status, output = run(crowds)
    assert status == 0
    assert f"warning: val: id without .mat (2)\n  {crowds / MAT}\n" in output
    for path in (crowds / "PersonJoints").glob("val_*"):
        path.unlink()
    assert run(crowds)[0] == 1


def test_a_list_of_which_pascal_has_none_is_checked_like_the_others(crowds, run):
    (crowds / "val_id.txt").rename(crowds / "test_id.txt")
    status, output = run(crowds, "--split", "test")
    assert status == 0
    assert "not the full" not in output


def test_a_tree_that_counts_from_0_is_noticed(crowds, run, monkeypatch):
    rewrite(crowds, lambda joints, occluded, boxes: (joints - 1, occluded, boxes - 1))
    status, output = run(crowds)
    assert status == 0
    assert findings(output, "warning") == ["coordinates seem to count from 0, not 1 (1)"]  # once for the whole tree
    assert re.search(r"\d\d are 0: make FIRST_PIXEL 0 in mula_lib/data/pascal\.py", output)
    monkeypatch.setattr(pascal, "FIRST_PIXEL", 0)
    assert findings(run(crowds)[1], "warning") == []


def test_joints_of_the_other_side_are_noticed(crowds, run):
    rewrite(crowds, lambda *people: tuple(np.concatenate([values] * 2) for values in people))
    assert findings(run(crowds)[1], "warning") == []
    rewrite(crowds, lambda joints, occluded, boxes: (joints[:, SWAPPED], occluded[:, SWAPPED], boxes))
    status, output = run(crowds)
    assert status == 0
    assert findings(output, "warning") == ["joints 2 to 7 seem to be of the left side, not the right (1)"]
    assert re.search(r"of \d\d people .*, only \d have the right shoulder left of the left one: ex", output)
    rewrite(crowds, lambda joints, occluded, boxes: (joints, np.ones_like(occluded), boxes))
    assert findings(run(crowds)[1], "warning") == []  # hidden shoulders say nothing


def test_masks_of_the_other_part_order_are_an_error_that_says_how_to_renumber_them(crowds, run):
    assert [PASCAL.parts[OTHER_LOOKUP[part]] for part in range(7)] == list(OTHER_PARTS)
    change_masks(crowds, lambda mask: cv2.LUT(mask, np.argsort(OTHER_LOOKUP).astype(np.uint8)))
    status, output = run(crowds)
    assert status == 1
    (error,) = findings(output, "error")
    assert error.startswith("parts numbered like PASCAL-Person-Part's other release (1 lower arm, 2 head, …)")
    assert "write all masks again as cv2.LUT(mask, mula_lib.data.pascal.OTHER_LOOKUP)" in output
    change_masks(crowds, lambda mask: cv2.LUT(mask, OTHER_LOOKUP))
    assert run(crowds)[0] == 0


def test_what_is_no_tree_is_refused_in_one_line(complaint):
    assert "error: nowhere: no such folder" in complaint(main(["nowhere"]))


def test_it_runs_as_a_module_on_a_terminal_that_knows_ascii_only(people):
    shrink_mask(people / LIP_MASK)
    tiff = cv2.imencode(".tif", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    bands = tiff.replace(b"\x15\1\3\0\1\0\0\0\3", b"\x15\1\3\0\1\0\0\0\x09")  # more than Pillow reads: it logs so
    (people / LIP_IMAGE).with_name("val_000004.jpg").write_bytes(bands)
    command = [sys.executable, "-m", "mula_lib.data.check", str(people), "--split", "val"]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"val_000003\.png: the mask is \d+\\xd7\d+, the image", done.stdout)
