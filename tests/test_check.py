"""The tree checker: a sound tree passes, and every kind of damage is counted and its file named."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mula_lib.data.check import check_tree, main

NESTINGS = {"once": "{archive}", "twice": "{archive}/{archive}", "flat": "."}


def write_tree(root: Path, split: str = "val", nesting: str = "once", count: int = 3) -> dict[str, Path]:
    """Write a sound tree of ``count`` images named 0_0, 1_1, …; returns where its pieces are."""

    def inside(archive: str) -> Path:
        folder = root / NESTINGS[nesting].format(archive=archive)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    paths = {
        "images": inside("TrainVal_images") / f"{split}_images",
        "ids": inside("TrainVal_images") / f"{split}_id.txt",
        "masks": inside("TrainVal_parsing_annotations") / f"{split}_segmentations",
        "csv": inside("TrainVal_pose_annotations") / f"lip_{split}_set.csv",
    }
    paths["images"].mkdir()
    paths["masks"].mkdir()
    names = [f"{i}_{i}" for i in range(count)]
    for name in names:
        cv2.imwrite(str(paths["images"] / f"{name}.jpg"), np.full((8, 6, 3), 90, np.uint8))
        cv2.imwrite(str(paths["masks"] / f"{name}.png"), np.full((8, 6), 19, np.uint8))
    paths["ids"].write_text("\n".join(names) + "\n")
    paths["csv"].write_text("".join(f"{name}.jpg{',3,4,0' * 16}\n" for name in names))
    return paths


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path)


def check(root: Path, capsys) -> tuple[int, str]:
    status = main([str(root), "--jobs", "2"])
    return status, capsys.readouterr().out


def counted(output: str, check_name: str) -> list[str]:
    """The counts in the table's row of that check, one a split."""
    line = next(line for line in output.splitlines() if line.startswith(check_name))
    return line.removeprefix(check_name).split()


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_sound_tree_passes_in_every_nesting(tmp_path, capsys, nesting):
    write_tree(tmp_path, "train", nesting, count=4)
    val = write_tree(tmp_path / "other", "val", nesting)
    for path in (tmp_path / "other").iterdir():  # one tree with both splits
        _merge(path, tmp_path / path.name)
    assert not val["ids"].exists()
    status, output = check(tmp_path, capsys)
    assert status == 0
    assert output.split()[:2] == ["train", "val"]
    assert counted(output, "ids listed") == ["4", "3"]
    assert counted(output, "missing image") == ["0", "0"]
    assert "error" not in output


def _merge(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _merge(path, target / path.name)
    else:
        source.rename(target)


def test_fewer_images_than_the_full_lip_are_a_warning_only(tree, tmp_path, capsys):
    status, output = check(tmp_path, capsys)
    assert status == 0
    assert "warning: val: not the full LIP" in output
    assert "3 ids; the full LIP has 10,000" in output


def shrink_mask(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((7, 6), np.uint8))


def stray_mask(path: Path) -> None:
    cv2.imwrite(str(path), np.full((8, 6), 20, np.uint8))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("damage", "piece", "check_name"),
    [
        (Path.unlink, "images/1_1.jpg", "missing image"),
        (truncate, "images/1_1.jpg", "unreadable image"),
        (Path.unlink, "masks/1_1.png", "missing mask"),
        (truncate, "masks/1_1.png", "unreadable mask"),
        (stray_mask, "masks/1_1.png", "mask ids above 19"),
        (shrink_mask, "masks/1_1.png", "mask and image sizes differ"),
    ],
)
def test_a_damaged_file_is_counted_once_and_named(tree, tmp_path, capsys, damage, piece, check_name):
    folder, name = piece.split("/")
    damage(tree[folder] / name)
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert counted(output, check_name) == ["1"]
    assert f"error: val: {check_name}\n  {tree[folder] / name}" in output
    assert output.count("error: ") == 1


def test_an_id_without_a_row_and_a_row_without_an_id_are_named(tree, tmp_path, capsys):
    tree["csv"].write_text(tree["csv"].read_text().replace("1_1.jpg", "8_8.jpg"))
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert f"error: val: id without CSV row\n  {tree['csv']}: 1_1.jpg" in output
    assert f"error: val: CSV row without id\n  {tree['csv']}: 8_8.jpg" in output


def test_a_person_without_any_joint_is_a_warning(tree, tmp_path, capsys):
    rows = tree["csv"].read_text().splitlines()
    tree["csv"].write_text("\n".join([*rows[:2], "2_2.jpg" + ",nan" * 48]))
    status, output = check(tmp_path, capsys)
    assert status == 0
    assert counted(output, "no joint annotated") == ["1"]
    assert f"warning: val: no joint annotated\n  {tree['csv']}: 2_2.jpg" in output


def test_a_malformed_csv_is_named_by_line_and_the_files_are_still_checked(tree, tmp_path, capsys):
    tree["csv"].write_text("0_0.jpg,1,2\n")
    (tree["images"] / "2_2.jpg").unlink()
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert f"{tree['csv']}, line 1: 3 columns instead of 49" in output
    assert counted(output, "missing image") == ["1"]
    assert counted(output, "id without CSV row") == ["–"]


def test_a_malformed_id_file_is_named(tree, tmp_path, capsys):
    tree["ids"].write_text("0_0\n0_0\n")
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert f"{tree['ids']}, line 2: 0_0 was already listed in line 1" in output


@pytest.mark.parametrize(("piece", "said"), [("images", "images"), ("masks", "segmentations"), ("csv", "pose CSV")])
def test_a_piece_that_was_not_unzipped_is_an_error(tree, tmp_path, capsys, piece, said):
    tree[piece].rename(tmp_path / "elsewhere")
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert f"error: val: missing folder or CSV\n  {tree['ids']}: there are no val {said} beside it" in output


def test_the_test_split_needs_no_annotations(tmp_path, capsys):
    images = tmp_path / "Testing_images" / "testing_images"
    images.mkdir(parents=True)
    cv2.imwrite(str(images / "7_7.jpg"), np.zeros((8, 6, 3), np.uint8))
    (images.parent / "test_id.txt").write_text("7_7\n")
    status, output = check(tmp_path, capsys)
    assert status == 0
    assert counted(output, "ids listed") == ["1"]
    assert counted(output, "missing image") == ["0"]
    assert counted(output, "missing mask") == ["–"]  # not the same as none missing


def test_the_first_ten_offenders_are_named_and_the_rest_counted(tmp_path, capsys):
    paths = write_tree(tmp_path, count=13)
    for mask in paths["masks"].iterdir():
        mask.unlink()
    _, output = check(tmp_path, capsys)
    assert counted(output, "missing mask") == ["13"]
    assert output.count(".png") == 10
    assert "  and 3 more" in output


def test_only_the_splits_asked_for_are_checked(tmp_path, capsys):
    write_tree(tmp_path, "train")
    write_tree(tmp_path / "flat", "val", "flat")
    _merge(tmp_path / "flat", tmp_path)
    assert [report.split for report in check_tree(tmp_path)] == ["train", "val"]
    assert [report.split for report in check_tree(tmp_path, ["val"])] == ["val"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "empty: not a LIP tree"),
        (["tree", "--split", "test"], "tree: no test_id.txt"),
    ],
)
def test_what_is_no_tree_is_refused_in_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    write_tree(Path("tree"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {said}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("piece", ["images/1_1.jpg", "masks/1_1.png"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
    ],
    ids=["a folder", "a link to itself", "a link to nothing", "a pipe", "zeros"],
)
def test_no_file_whatever_stops_the_check(tree, tmp_path, capsys, piece, damage):
    folder, name = piece.split("/")
    (tree[folder] / name).unlink()
    damage(tree[folder] / name)
    status, output = check(tmp_path, capsys)
    assert status == 1
    assert counted(output, f"unreadable {folder[:-1]}") == ["1"]
    assert f"  {tree[folder] / name}: " in output


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_an_impossible_number_of_threads_is_refused(tree, tmp_path, jobs):
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path), f"--jobs={jobs}"])
    assert exit_.value.code == 2


def test_it_runs_as_a_module(tree, tmp_path):
    (tree["masks"] / "0_0.png").unlink()
    command = [sys.executable, "-m", "mula_lib.data.check", str(tmp_path), "--split", "val"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 1
    assert "0_0.png" in done.stdout
    assert done.stderr == ""
