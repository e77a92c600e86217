"""The PASCAL-Person-Part reader: people of each image, counted from 0, and bad input says what to fix."""

import itertools
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mula_lib.anatomy import PASCAL
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.pascal import (
    OTHER_LOOKUP,
    OTHER_PARTS,
    is_pascal,
    numbered_differently,
    part_votes,
    read_people,
    read_split,
)
from mula_lib.files import DataError
from rendered_people.crowd_tree import people_mat
from workbook.datasets import FIXTURES, open_source

NAMES = ["2008_000008", "2009_5", "2007_000129"]
TO_OTHER = np.argsort(OTHER_LOOKUP).astype(np.uint8)  # part id -> id of the other release


def rows(first: float = 1.0) -> np.ndarray:
    """A person's (14, 3) as written: joint k at (first + k, first + 2k), absent, visible and occluded in turn."""
    k = np.arange(14)
    return np.column_stack([first + k, first + 2 * k, k % 3])


def cells(values: list) -> np.ndarray:
    """A MATLAB cell array of one row."""
    array = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        array[0, i] = value
    return array


def write_people(path: Path, joints: list, boxes: list | None = None) -> Path:
    boxes = [np.array([[1, 2, 9, 19]])] * len(joints) if boxes is None else boxes
    savemat(path, {"boxes": cells(boxes), "joints": cells(joints)})
    return path


def write_tree(root: Path, split: str = "val", names: list[str] = NAMES) -> dict[str, Path]:
    """Write a tree of tiny images, the i-th with i people; returns where its pieces are."""
    paths = {"images": root / "JPEGImages", "masks": root / "SegmentationPart", "people": root / "PersonJoints"}
    for path in paths.values():
        path.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(paths["images"] / f"{name}.jpg"), np.full((40, 30 + i, 3), 40 * i, np.uint8))
        cv2.imwrite(str(paths["masks"] / f"{name}.png"), np.full((40, 30 + i), i, np.uint8))
        write_people(paths["people"] / f"{name}.mat", [rows(1 + person) for person in range(i)])
    paths["ids"] = root / f"{split}_id.txt"
    paths["ids"].write_text("\n".join(names) + "\n")
    return paths


@pytest.fixture
def mat(tmp_path):
    return tmp_path / "2008_7.mat"


@pytest.mark.parametrize("folder", ["", "pascal_data"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_tree_is_read_with_and_without_its_outer_folder(tmp_path, folder, split):
    write_tree(tmp_path / folder, split)
    assert is_pascal(tmp_path)
    found = read_split(tmp_path, split)
    assert [record.name for record in found.records] == NAMES
    assert found.skipped == ()
    assert found.most_people == 2
    for i, record in enumerate(found.records):
        assert load_image(record.image).shape == (40, 30 + i, 3)
        assert (load_mask(record.mask) == i).all()
        assert record.joints.shape == (i, 14, 2)
        assert record.occluded.shape == (i, 14)
        assert record.boxes.shape == (i, 4)


def test_ids_without_a_mat_are_skipped_and_counted(tmp_path):
    paths = write_tree(tmp_path)
    (paths["people"] / "2009_5.mat").unlink()
    (paths["masks"] / "2009_5.png").unlink()  # nothing of it is needed
    found = read_split(tmp_path, "val")
    assert [record.name for record in found.records] == ["2008_000008", "2007_000129"]
    assert found.skipped == ("2009_5",)
    assert len(found) == 2
    (tmp_path / "train_id.txt").write_text("2008_000008\n2009_5\n")
    said = "1 train and 2 val images (2 ids without annotations skipped)"
    assert said in str(open_source("pascal", path=tmp_path))
    for path in paths["people"].iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"PersonJoints: no \.mat of any of the 3 ids of val_id\.txt; copy them there"):
        read_split(tmp_path, "val")


def test_a_missing_mask_or_one_of_other_ids_is_named(tmp_path):
    mask = write_tree(tmp_path)["masks"] / "2009_5.png"
    cv2.imwrite(str(mask), np.full((40, 31), 7, np.uint8))
    with pytest.raises(DataError, match=r"2009_5\.png: ids 7 in a mask of parts 0 to 6"):
        read_split(tmp_path, "val")
    mask.unlink()
    with pytest.raises(DataError, match=r"2009_5\.png: no such mask; copy the part masks there again"):
        read_split(tmp_path, "val")


def test_states_0_1_and_2_are_absent_visible_and_occluded(mat):
    joints, occluded, boxes = read_people(write_people(mat, [rows(), rows(50.5)]))
    assert (joints.dtype, occluded.dtype, boxes.dtype) == (np.float32, bool, np.float32)
    states = np.arange(14) % 3
    np.testing.assert_array_equal(np.isnan(joints).any(axis=2), [states == 0] * 2)
    np.testing.assert_array_equal(occluded, [states == 2] * 2)


def test_coordinates_are_counted_from_0_although_the_file_counts_from_1(mat):
    joints, _, boxes = read_people(write_people(mat, [rows(1), rows(50.5)]))
    np.testing.assert_array_equal(joints[0, 1], (1, 2))  # written as (2, 3)
    np.testing.assert_array_equal(joints[1, 2], (51.5, 53.5))
    np.testing.assert_array_equal(boxes, [(0, 1, 8, 18)] * 2)


@pytest.mark.parametrize(
    "nobody",
    [np.empty((1, 0), object), np.empty((0, 0), object), np.zeros((0, 0))],
    ids=["1×0 cell", "0×0 cell", "plain []"],
)
def test_an_image_may_hold_nobody(mat, nobody):
    savemat(mat, {"boxes": nobody, "joints": nobody})
    joints, occluded, boxes = read_people(mat)
    assert (joints.shape, occluded.shape, boxes.shape) == ((0, 14, 2), (0, 14), (0, 4))


def test_coordinates_of_an_absent_joint_may_be_anything(mat):
    person = rows()
    person[[0, 3], :2] = np.nan, np.inf
    person[[0, 3], 2] = 0
    joints, occluded, _ = read_people(write_people(mat, [person]))
    assert np.isnan(joints[0, [0, 3]]).all()
    assert not occluded[0, [0, 3]].any()


def changed(row: int, column: int, value: float) -> np.ndarray:
    person = rows()
    person[row, column] = value
    return person


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"boxes": cells([np.arange(4)])}, "holds boxes; 'boxes' and 'joints' should be cell arrays"),
        ({"joints": cells([rows()])}, "holds joints; 'boxes' and 'joints' should"),
        ({"boxes": np.ones((1, 4)), "joints": cells([rows()])}, "holds boxes, joints; 'boxes' and"),
        ({"boxes": cells([np.arange(4)] * 2), "joints": cells([rows()])}, "2 boxes but joints of 1 people; copy the"),
    ],
)
def test_a_mat_of_other_fields_is_named(mat, content, said):
    savemat(mat, content)
    with pytest.raises(DataError, match=rf"2008_7\.mat: {said}"):
        read_people(mat)


BOX = np.array([1, 2, 9, 19])


@pytest.mark.parametrize(
    ("person", "box", "said"),
    [
        (rows()[:13], BOX, r"float64 \(13, 3\) instead of numbers \(14, 3\); copy the file again"),
        (rows()[:, :2], BOX, r"float64 \(14, 2\) instead of"),
        (rows().astype(object), BOX, r"object \(14, 3\) instead of"),
        ("left", BOX, r"<U4 \(1,\) instead of"),
        (changed(1, 0, np.nan), BOX, "a joint's coordinates are none of an image; write state 0 if absent"),
        (changed(2, 1, 1e38), BOX, "a joint's coordinates are none of an image; write state 0 if absent"),
        (changed(2, 2, 3), BOX, r"a joint's state is not 0 \(absent\), 1 \(visible\) or 2"),
        (changed(0, 2, np.nan), BOX, "a joint's state is not 0"),
        (rows(), np.array([1, 2, np.nan, 4]), "a box of numbers that no image has"),
        (rows(), np.array([1, 2, 1e7, 4]), "a box of numbers that no image has"),
        (rows(), np.array([9, 2, 1, 4]), "a box that ends before it begins; write x1, y1, x2, y2"),
        (rows(), np.arange(5), r"int64 \(5,\) instead of numbers \(4,\)"),
    ],
)
def test_joints_and_boxes_that_are_none_are_named_with_the_person(mat, person, box, said):
    write_people(mat, [rows(), person], [BOX, box])
    with pytest.raises(DataError, match=rf"2008_7\.mat, person 2: {said}"):
        read_people(mat)


def test_what_is_no_readable_matlab_file_is_named(mat):
    with pytest.raises(DataError, match=r"2008_7\.mat: No such file or directory; copy it there again"):
        read_people(mat)
    for kept in (0, 60, 200, 400):
        mat.write_bytes(write_people(mat, [rows()]).read_bytes()[:kept])
        with pytest.raises(DataError, match=r"2008_7\.mat: not a MATLAB file \(\w+\); copy it there again"):
            read_people(mat)
    mat.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(DataError, match=r"2008_7\.mat: a MATLAB file of version 7\.3; save it again with -v7"):
        read_people(mat)


@pytest.mark.parametrize("people", [0, 1, 4])
def test_written_people_are_read_as_they_were(mat, people):
    rng = np.random.default_rng(people)
    joints = rng.integers(0, 300, (people, 14, 2)).astype(np.float32)
    joints[rng.random((people, 14)) < 0.3] = np.nan
    occluded = (rng.random((people, 14)) < 0.3) & ~np.isnan(joints[..., 0])
    boxes = np.sort(rng.integers(0, 300, (people, 2, 2)), axis=1).reshape(people, 4).astype(np.float32)
    mat.write_bytes(people_mat(joints, occluded, boxes))
    for found, written in zip(read_people(mat), (joints, occluded, boxes), strict=True):
        np.testing.assert_array_equal(found, written)
        assert found.dtype == written.dtype


def test_the_same_people_are_the_same_bytes_at_any_time(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "asctime", lambda *_: f"day {next(clock)}")
    split = read_split(FIXTURES["crowds"], "val")
    for record in split.records:
        first, second = (people_mat(record.joints, record.occluded, record.boxes) for _ in range(2))
        assert first == second
    assert next(clock) > 0  # scipy did look at it


@pytest.fixture(scope="module")
def fixture_record():
    """The image of the fixture with the most people."""
    return max(read_split(FIXTURES["crowds"], "val").records, key=lambda record: len(record.joints))


def test_limbs_vote_for_the_numbering_of_their_mask(fixture_record):
    mask, joints, occluded = load_mask(fixture_record.mask), fixture_record.joints, fixture_record.occluded
    ours, other = part_votes(mask, joints, occluded)
    assert ours > 3 * other
    assert not numbered_differently(mask, joints, occluded)
    renumbered = cv2.LUT(mask, TO_OTHER)
    assert part_votes(renumbered, joints, occluded)[1] == ours
    assert numbered_differently(renumbered, joints, occluded)


def test_what_is_not_seen_of_people_has_no_vote(fixture_record):
    mask = cv2.LUT(load_mask(fixture_record.mask), TO_OTHER)
    joints, occluded = fixture_record.joints, fixture_record.occluded
    nobody = np.zeros((0, 14, 2), np.float32), np.zeros((0, 14), bool)
    for silent in (
        (joints, np.ones_like(occluded)),
        (np.full_like(joints, np.nan), occluded),
        (joints + 1000, occluded),
        (joints - 1000, occluded),
        nobody,
    ):
        assert part_votes(mask, *silent) == (0, 0)
        assert not numbered_differently(mask, *silent)


def test_masks_of_the_other_part_order_are_refused_with_the_way_to_renumber_them(tmp_path, fixture_record):
    root = shutil.copytree(FIXTURES["crowds"], tmp_path / "tree")
    for path in (root / "SegmentationPart").iterdir():
        cv2.imwrite(str(path), cv2.LUT(load_mask(path), TO_OTHER))
    with pytest.raises(DataError, match=r"val_\d+\.png: its parts are numbered like .* write all masks again as cv2"):
        read_split(root, "val")
    for path in (root / "SegmentationPart").iterdir():
        cv2.imwrite(str(path), cv2.LUT(load_mask(path), OTHER_LOOKUP))
    assert len(read_split(root, "val")) == 12
    found = load_mask(root / "SegmentationPart" / fixture_record.mask.name)
    np.testing.assert_array_equal(found, load_mask(fixture_record.mask))
    assert [PASCAL.parts[OTHER_LOOKUP[part]] for part in range(7)] == list(OTHER_PARTS)
