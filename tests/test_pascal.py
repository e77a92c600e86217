"""The PASCAL-Person-Part reader: people of each image, counted from 0, and bad input says what to fix."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mula_lib.data.images import load_image, load_mask
from mula_lib.data.pascal import is_pascal, read_people, read_split
from mula_lib.files import DataError
from rendered_people.crowd_tree import people_mat

NAMES = ["2008_000008", "2009_5", "2007_000129"]


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
    for path in paths["people"].iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"PersonJoints: no \.mat of any of the 3 ids of val_id\.txt; copy them there"):
        read_split(tmp_path, "val")


def test_states_0_1_and_2_are_absent_visible_and_occluded_and_coordinates_are_counted_from_0(mat):
    first, states = rows(1.0).astype(float), np.arange(14) % 3
    first[[0, 3], :2] = np.nan, np.inf  # coordinates of an absent joint may be anything
    joints, occluded, boxes = read_people(write_people(mat, [first, rows(50.5)]))
    np.testing.assert_array_equal(np.isnan(joints).any(axis=2), [states == 0] * 2)
    np.testing.assert_array_equal(occluded, [states == 2] * 2)
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


BOX = np.array([1, 2, 9, 19])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"joints": cells([rows()])}, "not cell arrays 'boxes' and 'joints' of everybody's 4 and 14 × 3 numbers"),
        ({"boxes": cells([BOX] * 2), "joints": cells([rows()])}, "2 boxes and 1 people's joints"),
        ({"boxes": cells([BOX]), "joints": cells([rows() + 1])}, r"states should be 0 \(absent\), 1 \(visible\) or 2"),
        ({"boxes": cells([BOX] * 2), "joints": cells([rows(), rows()[:13]])}, "not cell arrays"),
        ({"boxes": cells([np.arange(5)]), "joints": cells([rows()])}, "not cell arrays"),
        (b"half a file", "not cell arrays"),
        (None, r".*No such file or directory.*; copy the file again"),
    ],
)
def test_a_mat_of_something_else_is_named(mat, content, said):
    if isinstance(content, bytes):
        mat.write_bytes(content)
    elif content is not None:
        savemat(mat, content)
    with pytest.raises(DataError, match=rf"2008_7\.mat: .*{said}"):
        read_people(mat)


@pytest.mark.parametrize("people", [0, 1, 4])
def test_written_people_are_read_as_they_were_and_are_the_same_bytes_at_any_time(mat, people, monkeypatch):
    rng = np.random.default_rng(people)
    joints = rng.integers(0, 300, (people, 14, 2)).astype(np.float32)
    joints[rng.random((people, 14)) < 0.3] = np.nan
    occluded = (rng.random((people, 14)) < 0.3) & ~np.isnan(joints[..., 0])
    boxes = np.sort(rng.integers(0, 300, (people, 2, 2)), axis=1).reshape(people, 4).astype(np.float32)
    mat.write_bytes(people_mat(joints, occluded, boxes))
    monkeypatch.setattr(time, "asctime", lambda *_: "another day")
    assert people_mat(joints, occluded, boxes) == mat.read_bytes()
    for found, written in zip(read_people(mat), (joints, occluded, boxes), strict=True):
        np.testing.assert_array_equal(found, written)
        assert found.dtype == written.dtype
