"""The check of PASCAL-Person-Part trees: damage is counted and named, and a tree speaks about what is assumed of it."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mula_lib.data import check_pascal, pascal
from mula_lib.data.check import check_tree, main
from mula_lib.data.lip import load_mask
from mula_lib.data.pascal import OTHER_LOOKUP, read_people
from rendered_people.crowd_tree import people_mat
from workbook.datasets import FIXTURES

TO_OTHER = np.argsort(OTHER_LOOKUP).astype(np.uint8)  # part id -> id of the other release
SWAPPED = [0, 1, *range(8, 14), *range(2, 8)]  # the joints of both sides, exchanged
IMAGE, MASK, MAT = (f"{name}/val_000003" for name in pascal.FOLDERS)


@pytest.fixture
def tree(tmp_path):
    return shutil.copytree(FIXTURES["crowds"], tmp_path / "tree")


def check(root: Path, capsys, *arguments: str) -> tuple[int, str]:
    status = main([str(root), "--jobs", "2", *arguments])
    return status, capsys.readouterr().out


def counted(output: str, check_name: str) -> list[str]:
    """The counts in the table's row of that check, one a split."""
    line = next(line for line in output.splitlines() if line.startswith(check_name))
    return line.removeprefix(check_name).split()


def warnings(output: str) -> list[str]:
    """Headings of the warnings, but for those that the fixture gives as it is."""
    found = [line.removeprefix("warning: ") for line in output.splitlines() if line.startswith("warning: ")]
    usual = {
        "val: image without people",
        "train: not the full PASCAL-Person-Part",
        "val: not the full PASCAL-Person-Part",
    }
    return [line for line in found if line not in usual]


def rewrite(root: Path, change: Callable, split: str = "*") -> None:
    """Write the people of each ``.mat`` again, as ``change`` of their joints, occluded and boxes."""
    for path in (root / "PersonJoints").glob(f"{split}_*.mat"):
        path.write_bytes(people_mat(*change(*read_people(path))))


@pytest.mark.parametrize("folder", ["", "pascal_data"])
def test_the_fixture_is_sound(tmp_path, capsys, folder):
    shutil.copytree(FIXTURES["crowds"], tmp_path / folder, dirs_exist_ok=True)
    status, output = check(tmp_path, capsys)
    assert status == 0
    assert output.split()[:2] == ["train", "val"]
    assert counted(output, "ids listed") == ["24", "12"]
    assert counted(output, "ids in the full PASCAL-Person-Part") == ["1,716", "1,817"]
    for check_name in check_pascal.CHECKS.errors:
        assert counted(output, check_name) == ["0", "0"]
    assert counted(output, "id without .mat") == ["0", "0"]
    assert counted(output, "joints outside of the image") == ["0", "0"]
    people = (sum(len(record.joints) for record in pascal.read_split(tmp_path, split)) for split in pascal.SPLITS)
    assert counted(output, "people ") == [str(count) for count in people]
    assert "error" not in output
    assert warnings(output) == []


def test_an_image_without_people_is_a_warning(tree, capsys):
    status, output = check(tree, capsys)
    assert status == 0
    empty = [record.name for record in pascal.read_split(tree, "val") if not len(record.joints)]
    assert counted(output, "image without people") == ["0", str(len(empty))]
    assert f"warning: val: image without people\n  {tree}/PersonJoints/{empty[0]}.mat" in output


def test_fewer_images_than_the_full_data_set_are_a_warning_only(tree, capsys, monkeypatch):
    status, output = check(tree, capsys)
    assert status == 0
    said = f"{tree}/val_id.txt: 12 ids; the full PASCAL-Person-Part has 1,817"
    assert f"warning: val: not the full PASCAL-Person-Part\n  {said}" in output
    monkeypatch.setitem(check_pascal.CHECKS.full, "val", 12)
    assert "warning: val: not the full" not in check(tree, capsys)[1]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def stray_mask(path: Path) -> None:
    mask = load_mask(path)
    mask[0, 0] = 7
    cv2.imwrite(str(path), mask)


def shrink_mask(path: Path) -> None:
    cv2.imwrite(str(path), load_mask(path)[1:])


def other_numbers(path: Path) -> None:
    cv2.imwrite(str(path), cv2.LUT(load_mask(path), TO_OTHER))


def without_boxes(path: Path) -> None:
    savemat(path, {"joints": np.empty((1, 0), object)})


@pytest.mark.parametrize(
    ("damage", "piece", "check_name", "said"),
    [
        (Path.unlink, f"{IMAGE}.jpg", "missing image", ""),
        (truncate, f"{IMAGE}.jpg", "unreadable image", ": the image cannot be decoded"),
        (Path.unlink, f"{MASK}.png", "missing mask", ""),
        (truncate, f"{MASK}.png", "unreadable mask", ": the mask cannot be decoded"),
        (stray_mask, f"{MASK}.png", "mask ids above 6", ": 7"),
        (shrink_mask, f"{MASK}.png", "mask and image sizes differ", ": the mask is "),
        (truncate, f"{MAT}.mat", "malformed .mat", ": not a MATLAB file"),
        (without_boxes, f"{MAT}.mat", "malformed .mat", ": no field 'boxes' (it holds joints)"),
        (other_numbers, f"{MASK}.png", "mask numbered like the other release", ": renumber those"),
    ],
)
def test_a_damaged_file_is_counted_once_and_named(tree, capsys, damage, piece, check_name, said):
    damage(tree / piece)
    status, output = check(tree, capsys)
    assert status == 1
    assert counted(output, check_name) == ["0", "1"]
    assert f"error: val: {check_name}\n  {tree / piece}{said}" in output
    assert output.count("error: ") == 1
    assert warnings(output) == []


def test_masks_of_the_other_release_come_with_the_command_that_renumbers_them(tree, capsys):
    for path in (tree / "SegmentationPart").iterdir():
        other_numbers(path)
    status, output = check(tree, capsys)
    assert status == 1
    train, val = (int(count) for count in counted(output, "mask numbered like the other release"))
    assert train > 12  # where nearly nothing of people is seen, it cannot be told
    assert val > 6
    assert f"python -m mula_lib.data.convert_parts {tree}/SegmentationPart OUT" in output


def test_damage_to_one_file_does_not_hide_that_of_another(tree, capsys):
    (tree / f"{IMAGE}.jpg").unlink()
    stray_mask(tree / f"{MASK}.png")
    truncate(tree / f"{MAT}.mat")
    output = check(tree, capsys)[1]
    for check_name in ("missing image", "mask ids above 6", "malformed .mat"):
        assert counted(output, check_name) == ["0", "1"]


@pytest.mark.parametrize(
    ("folder", "unchecked", "checked"),
    [
        ("JPEGImages", "joints outside of the image", "missing mask"),
        ("SegmentationPart", "mask numbered like the other release", "missing image"),
        ("PersonJoints", "people with visible forehead and shoulders", "missing mask"),
    ],
)
def test_a_missing_folder_is_an_error_and_the_others_are_still_checked(tree, capsys, folder, unchecked, checked):
    (tree / folder).rename(tree / "elsewhere")
    status, output = check(tree, capsys)
    assert status == 1
    assert counted(output, "missing folder") == ["1", "1"]
    assert f"error: val: missing folder\n  {tree}/val_id.txt: there is no {folder} beside it; copy it there" in output
    assert counted(output, unchecked) == ["–", "–"]
    assert counted(output, checked) == ["0", "0"]


def test_a_malformed_id_file_is_named_and_the_other_split_is_still_checked(tree, capsys):
    (tree / "val_id.txt").write_text("val_000001\nval_000001\n")
    status, output = check(tree, capsys)
    assert status == 1
    assert counted(output, "malformed id file") == ["0", "1"]
    assert f"{tree}/val_id.txt, line 2: val_000001 was already listed in line 1" in output
    assert counted(output, "missing image") == ["0", "–"]
    assert counted(output, "people ")[1] == "–"


def test_ids_without_a_mat_are_a_warning_and_their_files_are_not_needed(tree, capsys):
    for path in (f"{MAT}.mat", f"{IMAGE}.jpg", "PersonJoints/val_000004.mat"):
        (tree / path).unlink()
    status, output = check(tree, capsys)
    assert status == 0
    assert counted(output, "id without .mat") == ["0", "2"]
    mats = f"  {tree}/{MAT}.mat\n  {tree}/PersonJoints/val_000004.mat\n"
    assert f"warning: val: id without .mat\n{mats}" in output
    assert counted(output, "ids listed") == ["24", "12"]


def test_a_split_without_any_mat_is_an_error(tree, capsys):
    for path in (tree / "PersonJoints").glob("val_*"):
        path.unlink()
    status, output = check(tree, capsys)
    assert status == 1
    said = f"{tree}/PersonJoints: no .mat of any of the 12 ids; copy them there"
    assert f"error: val: missing folder\n  {said}" in output
    assert counted(output, "id without .mat") == ["0", "12"]
    assert "  and 2 more" in output


def test_joints_outside_of_their_image_are_a_warning(tree, capsys):
    joints, occluded, boxes = read_people(tree / f"{MAT}.mat")
    height, width = load_mask(tree / f"{MASK}.png").shape
    joints[0, 1], joints[1, 4] = (width + 3, 5), (2, -4)
    (tree / f"{MAT}.mat").write_bytes(people_mat(joints, occluded, boxes))
    status, output = check(tree, capsys)
    assert status == 0
    assert warnings(output) == ["val: joints outside of the image"]
    found = f"2 joints, such as neck of person 1 at ({width + 4}, 6) in an image of {width}×{height}"
    assert f"  {tree}/{MAT}.mat: {found}" in output


def test_the_outermost_pixels_are_inside(tree, capsys):
    height, width = load_mask(tree / f"{MASK}.png").shape
    joints, occluded, boxes = read_people(tree / f"{MAT}.mat")
    joints[0, :2] = (0, 0), (width - 1, height - 1)
    (tree / f"{MAT}.mat").write_bytes(people_mat(joints, occluded, boxes))
    assert counted(check(tree, capsys)[1], "joints outside of the image") == ["0", "0"]


COUNTED_FROM_0 = "coordinates seem to count from 0, not 1"
COUNTED_FROM_1 = "coordinates seem to count from 1, not 0"


def one_less(joints, occluded, boxes):
    """Written as if the first pixel were 0."""
    return joints - 1, occluded, boxes - 1


def count_from_0(monkeypatch) -> None:
    for module in (pascal, check_pascal):
        monkeypatch.setattr(module, "FIRST_PIXEL", 0)


def test_a_tree_that_counts_from_0_is_noticed(tree, capsys):
    rewrite(tree, one_less)
    status, output = check(tree, capsys)
    assert status == 0
    assert COUNTED_FROM_0 in warnings(output)
    assert "are 0 and 0 the image's width or height: make FIRST_PIXEL 0 in mula_lib/data/pascal.py" in output


def test_a_tree_that_counts_from_1_is_noticed_where_0_is_assumed(tree, capsys, monkeypatch):
    count_from_0(monkeypatch)
    status, output = check(tree, capsys)
    assert status == 0
    assert COUNTED_FROM_1 in warnings(output)
    assert re.search(r"  0 are 0 and \d\d the image's width or height: make FIRST_PIXEL 1 in mula_lib/", output)


def test_a_tree_that_counts_as_assumed_is_not_warned_of(tree, capsys, monkeypatch):
    rewrite(tree, one_less)
    count_from_0(monkeypatch)
    assert warnings(check(tree, capsys)[1]) == []


@pytest.mark.parametrize(
    ("at_zero", "at_size", "noticed"),
    [(9, 0, False), (10, 0, True), (100, 50, False), (101, 50, True), (0, 500, False)],
)
def test_single_slips_at_the_edge_say_nothing_about_counting(at_zero, at_size, noticed):
    tallies = Counter({check_pascal.AT_ZERO: at_zero, check_pascal.AT_SIZE: at_size})
    assert [check_name for check_name, _ in check_pascal.judge(tallies)] == [COUNTED_FROM_0] * noticed


def test_absent_joints_say_nothing_about_counting(tree, capsys):
    def absent(joints, occluded, boxes):  # which are written as 0
        return np.full_like(joints, np.nan), occluded, boxes

    rewrite(tree, absent)
    assert counted(check(tree, capsys)[1], "coordinates of 0") == ["0", "0"]


FACING = "people with visible forehead and shoulders"
OTHER_SIDE = "joints 2 to 7 seem to be of the left side, not the right"


def of_the_other_side(joints, occluded, boxes):
    return joints[:, SWAPPED], occluded[:, SWAPPED], boxes


def twice(joints, occluded, boxes):
    return tuple(np.concatenate([values] * 2) for values in (joints, occluded, boxes))


def test_joints_of_the_other_side_are_noticed(tree, capsys):
    rewrite(tree, twice)
    rewrite(tree, of_the_other_side)
    status, output = check(tree, capsys)
    assert status == 0
    assert warnings(output) == [OTHER_SIDE]  # once for the whole tree
    assert re.search(r"of \d\d people .*, only \d have the right shoulder left of the left one: make", output)
    assert "make PASCAL_FIRST_SIDE 'left' and PASCAL_OTHER_SIDE 'right' in mula_lib/anatomy.py" in output


def test_joints_of_the_side_that_is_assumed_are_not_warned_of(tree, capsys):
    rewrite(tree, twice)
    output = check(tree, capsys)[1]
    assert sum(map(int, counted(output, FACING))) >= 50
    assert warnings(output) == []


def test_a_tree_where_people_face_both_ways_is_not_warned_of(tree, capsys):
    def half(joints, occluded, boxes):
        other, hidden, _ = of_the_other_side(joints, occluded, boxes)
        return np.concatenate([joints, other]), np.concatenate([occluded, hidden]), np.concatenate([boxes] * 2)

    rewrite(tree, half)
    output = check(tree, capsys)[1]
    facing, right_is_left = counted(output, FACING), counted(output, "… whose right shoulder is further left")
    assert [int(count) for count in facing] == [2 * int(count) for count in right_is_left]
    assert warnings(output) == []


@pytest.mark.parametrize(
    ("facing", "right_is_left", "noticed"), [(49, 0, False), (50, 0, True), (100, 39, True), (100, 40, False)]
)
def test_few_people_say_nothing_about_the_sides(facing, right_is_left, noticed):
    tallies = Counter({check_pascal.FACING: facing, check_pascal.RIGHT_IS_LEFT: right_is_left})
    assert [check_name for check_name, _ in check_pascal.judge(tallies)] == [OTHER_SIDE] * noticed


def test_hidden_shoulders_say_nothing_about_the_sides(tree, capsys):
    def hide(joints, occluded, boxes):
        return joints, np.ones_like(occluded), boxes

    rewrite(tree, hide)
    assert counted(check(tree, capsys)[1], FACING) == ["0", "0"]


def test_only_the_splits_asked_for_are_checked(tree):
    assert [report.split for report in check_tree(tree)] == ["train", "val"]
    assert [report.split for report in check_tree(tree, ["val"])] == ["val"]
    (tree / "train_id.txt").unlink()
    assert [report.split for report in check_tree(tree)] == ["val"]


@pytest.mark.parametrize(
    ("lost", "arguments", "said"),
    [
        ([], ["--split", "test"], "tree: PASCAL-Person-Part has no test split; the papers' test images are its val"),
        (["train_id.txt"], ["--split", "train"], "tree: no train_id.txt here or in pascal_data; copy the lists"),
        (["train_id.txt", "val_id.txt"], [], "tree: no train_id.txt or val_id.txt here or in pascal_data; copy"),
    ],
)
def test_a_split_that_is_not_there_is_refused_in_one_line(tree, monkeypatch, capsys, lost, arguments, said):
    monkeypatch.chdir(tree.parent)
    for name in lost:
        (tree / name).unlink()
    assert main(["tree", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {said}")
    assert captured.err.count("\n") == 1


def test_it_runs_as_a_module(tree):
    (tree / f"{MASK}.png").unlink()
    command = [sys.executable, "-m", "mula_lib.data.check", str(tree), "--split", "val"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 1
    assert "val_000003.png" in done.stdout
    assert done.stderr == ""
