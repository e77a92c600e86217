"""The LIP reader: trees as people have them are read, rows meet images by name, and bad input says what to fix."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import read_ids, read_pose_csv, read_split
from mula_lib.files import DataError

AS_UNZIPPED_ONCE = {
    "images": "TrainVal_images/{split}_images",
    "ids": "TrainVal_images/{split}_id.txt",
    "masks": "TrainVal_parsing_annotations/{split}_segmentations",
    "csv": "TrainVal_pose_annotations/lip_{split}_set.csv",
}
LAYOUTS = {
    "unzipped once": AS_UNZIPPED_ONCE,
    "unzipped twice": {piece: f"{path.split('/')[0]}/{path}" for piece, path in AS_UNZIPPED_ONCE.items()},
    "flat": {piece: path.split("/")[1] for piece, path in AS_UNZIPPED_ONCE.items()},
    "flat with annotation folders": {
        "ids": "images/{split}_id.txt", "images": "images/{split}_images",
        "masks": "parsing_annotations/{split}_segmentations", "csv": "pose_annotations/lip_{split}_set.csv",
    },
    "JPPNet's": {"images": "images", "ids": "list/{split}_id.txt", "masks": "labels", "csv": "lip_{split}_set.csv"},
}  # fmt: skip
NAMES = ["10_1", "v1.2 人_像", "9_7"]


def row(name: str, first: float = 0.0) -> str:
    """A CSV row whose joint k is at (first + k, first + 2k), occluded if k is odd; joint 15 is missing."""
    cells = [f"{int(first + k)},{int(first + 2 * k)},{k % 2}" for k in range(15)] + ["nan,nan,nan"]
    return f"{name}.jpg,{','.join(cells)}"


def write_tree(root: Path, layout=AS_UNZIPPED_ONCE, split="val", rows=None) -> dict[str, Path]:
    """Write a tree of tiny images whose i-th person's joints begin at 100 i; returns where its pieces are."""
    paths = {piece: root / path.format(split=split) for piece, path in layout.items()}
    for piece, path in paths.items():
        (path if piece in ("images", "masks") else path.parent).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(NAMES):
        cv2.imwrite(str(paths["images"] / f"{name}.jpg"), np.full((6 + i, 5, 3), 40 * i, np.uint8))
        cv2.imwrite(str(paths["masks"] / f"{name}.png"), np.full((6 + i, 5), i, np.uint8))
    rows = [row("else", 900), *(row(name, 100 * i) for i, name in enumerate(NAMES))][::-1] if rows is None else rows
    paths["csv"].write_text("\n".join(rows) + "\n", encoding="utf-8")
    paths["ids"].write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return paths


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "lip_val_set.csv"

    def write(*rows: str) -> Path:
        path.write_text("\n".join(rows) + "\n")
        return path

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_layout_of_the_tree_is_read_alike(tmp_path, layout, split):
    write_tree(tmp_path, LAYOUTS[layout], split)
    found = read_split(tmp_path, split)
    assert [record.name for record in found.records] == NAMES
    for i, record in enumerate(found.records):
        assert load_image(record.image).shape == (6 + i, 5, 3)
        assert (load_mask(record.mask) == i).all()
        assert record.joints.dtype == np.float32
        np.testing.assert_array_equal(record.joints[:15], [(100 * i + k, 100 * i + 2 * k) for k in range(15)])
        assert np.isnan(record.joints[15]).all()
        assert record.occluded.tolist() == [k % 2 == 1 for k in range(15)] + [False]


@pytest.mark.parametrize("nesting", ["Testing_images", "Testing_images/Testing_images", "."])
def test_the_test_split_is_read_without_its_annotations(tmp_path, nesting):
    (tmp_path / nesting / "testing_images").mkdir(parents=True)
    (tmp_path / nesting / "test_id.txt").write_text("7_7\n")
    record = read_split(tmp_path, "test")[0]
    assert record.image == tmp_path / nesting / "testing_images" / "7_7.jpg"
    assert (record.mask, record.joints.shape) == (None, (16, 2))
    assert np.isnan(record.joints).all()
    assert not record.occluded.any()


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png"])
def test_images_may_have_another_suffix_and_a_missing_mask_is_none(tmp_path, suffix):
    for path in list(write_tree(tmp_path)["images"].iterdir()):
        path.rename(path.with_suffix(suffix))
    (tmp_path / AS_UNZIPPED_ONCE["masks"].format(split="val") / "v1.2 人_像.png").unlink()
    records = read_split(tmp_path, "val").records
    assert [load_image(record.image).shape[0] for record in records] == [6, 7, 8]
    assert [record.mask is None for record in records] == [False, True, False]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_are_read_however_an_editor_or_shell_wrote_them(tmp_path, encoding, end):
    paths = write_tree(tmp_path)
    byte_order = "\ufeff" if encoding == "utf-16-le" else ""
    paths["ids"].write_bytes((byte_order + end.join(["10_1.jpg", "", "9_7.JPG ", ""])).encode(encoding))
    paths["csv"].write_bytes((byte_order + end.join([row("10_1"), "", row("9_7")])).encode(encoding))
    assert [record.name for record in read_split(tmp_path, "val").records] == ["10_1", "9_7"]


CHANGES = {  # of a row, a pattern and what takes its place
    "empty cells": ("nan", ""), "blank cells": ("nan", " "), "R's NA": ("nan", "NA"), "NaN": ("nan", "NaN"),
    "quoted": ("[^,]+", r'"\g<0>"'), "tabs": (",", "\t"), "semicolons": (",", "; "), "decimals": (",0", ",0.0"),
    "a header": ("^", f"image{',x' * 48}\n"), "the header of pandas": ("^", f"{','.join(map(str, range(49)))}\n"),
    "without .jpg": (r"\.jpg", ""), ".PNG": (r"\.jpg", ".PNG"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_pose_csv_that_went_through_other_programs_is_read_alike(csv_file, change):
    wanted = read_pose_csv(csv_file(row("1_2", 5)))
    np.testing.assert_equal(read_pose_csv(csv_file(re.sub(*change, row("1_2", 5)))), wanted)
    np.testing.assert_array_equal(wanted["1_2"][3], [8, 11, 1])
    assert np.isnan(wanted["1_2"][15]).all()


def test_joints_outside_the_image_are_kept_and_half_a_joint_is_a_missing_joint(csv_file):
    poses = read_pose_csv(csv_file(row("1_2").replace("3,6,1", "3,nan,1"), "3_4.jpg" + ",-12,900,1" * 16))
    assert np.isnan(poses["1_2"][3]).all()
    np.testing.assert_array_equal(poses["3_4"][0], [-12, 900, 1])


@pytest.mark.parametrize(
    ("bad_row", "said"),
    [
        (row("3_4") + ",1", "line 2: 50 columns instead of 49"),
        (row("3_4").rsplit(",", 1)[0], "line 2: 48 columns instead of 49"),
        (row("3_4").replace(",3,6,1", ",3,six,1"), "line 2: could not convert string to float: 'six'; write nan"),
        (row("1_2", 50), "line 2: 1_2 already has a row"),
        (row("3_4").replace(",3,6,1", ',"3,6,1') + "\n" + row("5_6"), "line 2: 11 columns instead of 49"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(csv_file, bad_row, said):
    path = csv_file(row("1_2"), bad_row)
    with pytest.raises(DataError) as caught:
        read_pose_csv(path)
    assert str(caught.value).startswith(f"{path}, {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"10_1\n\n10_2\n10_1\n", "10_1 is listed twice; unzip or copy it again"),
        (b"\n", "no ids; unzip or copy it again"),
        (b"\x89PNG\xff\xfe", r"cannot be read as UTF-8 \(.* invalid start byte\)"),
        (None, r"cannot be read as UTF-8 \(.*No such file or directory"),
    ],
)
def test_an_id_file_that_is_none_is_named(tmp_path, content, said):
    path = tmp_path / "val_id.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: {said}"):
        read_ids(path)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda root: write_tree(root / "a/b"), "here, but {root}/a/b/TrainVal_images/val_id.txt; give {root}/a/b"),
        (lambda root: (root / "TrainVal_images.zip").touch(), "no val_id.txt here; unzip TrainVal_images.zip first"),
        (lambda root: (root / "lip" / "jsons").mkdir(parents=True), "/lip: the layout of the MuLA authors' code; copy"),
        (lambda root: root.rmdir(), "no such folder, or a broken link"),
        (lambda root: None, "no val_id.txt here or in the unzipped folders; is this a LIP tree?"),
    ],
    ids=["one folder too high", "zips", "the authors' layout", "no folder", "nothing"],
)
def test_what_is_no_tree_says_what_to_do(tmp_path, prepare, said):
    root = tmp_path / "here"
    root.mkdir()
    prepare(root)
    with pytest.raises(DataError, match=f"^{root}.*{re.escape(said.format(root=root))}"):
        read_split(root, "val")


@pytest.mark.parametrize(
    ("piece", "said"), [("images", "images"), ("masks", "parsing_annotations"), ("csv", "pose_annotations")]
)
def test_a_piece_that_was_not_unzipped_or_is_a_link_to_nowhere_is_named(tmp_path, piece, said):
    path = write_tree(tmp_path)[piece]
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{tmp_path}: no {said} of val; unzip their archive there"):
        read_split(tmp_path, "val")
    for link in (path, path.parent):
        if link.exists():
            link.rename(tmp_path.with_name(f"{piece} moved"))
        link.symlink_to("nowhere")
        with pytest.raises(DataError, match=f"{link}: .*a broken link"):
            read_split(tmp_path, "val")
