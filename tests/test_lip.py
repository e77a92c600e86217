"""The LIP reader: every nesting is found, rows meet images by name, and bad input says which file to mend."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mula_lib.data.lip import read_ids, read_pose_csv, read_split
from mula_lib.data.pictures import decode_mask, load_image, load_mask, stray_ids
from mula_lib.files import DataError, shown

AS_UNZIPPED_TWICE = {
    "images": "TrainVal_images/TrainVal_images/{split}_images",
    "ids": "TrainVal_images/TrainVal_images/{split}_id.txt",
    "masks": "TrainVal_parsing_annotations/TrainVal_parsing_annotations/{split}_segmentations",
    "csv": "TrainVal_pose_annotations/TrainVal_pose_annotations/lip_{split}_set.csv",
}
AS_UNZIPPED_ONCE = {
    "images": "TrainVal_images/{split}_images",
    "ids": "TrainVal_images/{split}_id.txt",
    "masks": "TrainVal_parsing_annotations/{split}_segmentations",
    "csv": "TrainVal_pose_annotations/lip_{split}_set.csv",
}
FLAT = {
    "images": "{split}_images",
    "ids": "{split}_id.txt",
    "masks": "{split}_segmentations",
    "csv": "lip_{split}_set.csv",
}
FLAT_WITH_ANNOTATION_FOLDERS = FLAT | {
    "ids": "images/{split}_id.txt",
    "images": "images/{split}_images",
    "masks": "parsing_annotations/{split}_segmentations",
    "csv": "pose_annotations/lip_{split}_set.csv",
}
LAYOUTS = [AS_UNZIPPED_TWICE, AS_UNZIPPED_ONCE, FLAT, FLAT_WITH_ANNOTATION_FOLDERS]
NAMES = ["10_1", "10_2", "9_7"]


def row(name: str, first: float = 0.0) -> str:
    """A CSV row whose joint k is at (first + k, first + 2k), occluded if k is odd; joint 15 is missing."""
    cells = [f"{int(first + k)},{int(first + 2 * k)},{k % 2}" for k in range(15)] + ["nan,nan,nan"]
    return f"{name}.jpg,{','.join(cells)}"


def write_tree(root: Path, layout=AS_UNZIPPED_ONCE, split="val", names=NAMES, rows=None) -> dict[str, Path]:
    """Write a tree of tiny images whose i-th person's joints begin at 100 i; returns where its pieces are."""
    paths = {piece: root / path.format(split=split) for piece, path in layout.items()}
    for piece, path in paths.items():
        (path if piece in ("images", "masks") else path.parent).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(paths["images"] / f"{name}.jpg"), np.full((6 + i, 5, 3), 40 * i, np.uint8))
        cv2.imwrite(str(paths["masks"] / f"{name}.png"), np.full((6 + i, 5), i, np.uint8))
    rows = [row(name, 100 * i) for i, name in enumerate(names)] if rows is None else rows
    paths["csv"].write_text("\n".join(rows) + "\n")
    paths["ids"].write_text("\n".join(names) + "\n")
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
def test_every_nesting_of_the_tree_is_read_alike(tmp_path, layout, split):
    write_tree(tmp_path, layout, split)
    found = read_split(tmp_path, split)
    assert [record.name for record in found.records] == NAMES
    assert len(found) == 3
    for i, record in enumerate(found.records):
        assert load_image(record.image).shape == (6 + i, 5, 3)
        assert (load_mask(record.mask) == i).all()
        assert record.joints.dtype == np.float32
        np.testing.assert_array_equal(record.joints[:15], [(100 * i + k, 100 * i + 2 * k) for k in range(15)])
        assert np.isnan(record.joints[15]).all()
        assert record.occluded.tolist() == [k % 2 == 1 for k in range(15)] + [False]


def test_rows_belong_to_images_by_name_whatever_their_order(tmp_path):
    rows = [row("9_7", 200), row("someone_else", 900), row("10_1", 0), row("10_2", 100)]
    write_tree(tmp_path, rows=rows)
    assert [record.joints[0, 0] for record in read_split(tmp_path, "val").records] == [0, 100, 200]


def test_a_limit_keeps_the_first_ids(tmp_path):
    write_tree(tmp_path)
    assert [record.name for record in read_split(tmp_path, "val", limit=2).records] == NAMES[:2]
    with pytest.raises(ValueError, match="limit is 0"):
        read_split(tmp_path, "val", limit=0)


@pytest.mark.parametrize("nesting", ["Testing_images", "Testing_images/Testing_images", "."])
def test_the_test_split_is_read_without_its_annotations(tmp_path, nesting):
    (tmp_path / nesting / "testing_images").mkdir(parents=True)
    (tmp_path / nesting / "test_id.txt").write_text("7_7\n")
    record = read_split(tmp_path, "test")[0]
    assert record.image == tmp_path / nesting / "testing_images" / "7_7.jpg"
    assert record.mask is None
    assert record.joints.shape == (16, 2)
    assert np.isnan(record.joints).all()
    assert not record.occluded.any()


def test_a_test_split_that_has_annotations_keeps_them(tmp_path):
    write_tree(tmp_path, FLAT, "test")
    record = read_split(tmp_path, "test")[1]
    assert (load_mask(record.mask) == 1).all()
    assert record.joints[0, 0] == 100


def test_a_missing_mask_is_none_in_its_record(tmp_path):
    paths = write_tree(tmp_path)
    (paths["masks"] / "10_2.png").unlink()
    assert [record.mask is None for record in read_split(tmp_path, "val").records] == [False, True, False]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        read_split(tmp_path / "nowhere", "val")


def test_a_folder_without_ids_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}: no train_id.txt"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("piece", "said"),
    [("images", "no folder of val images"), ("masks", "val_segmentations"), ("csv", "lip_val_set.csv")],
)
def test_a_piece_that_was_not_unzipped_is_named(tmp_path, piece, said):
    paths = write_tree(tmp_path)
    paths[piece].rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{tmp_path}: .*{said}.*unzip"):
        read_split(tmp_path, "val")


def test_an_id_without_a_row_is_named_with_both_files(tmp_path):
    write_tree(tmp_path, rows=[row("10_1"), row("9_7")])
    with pytest.raises(DataError, match=r"lip_val_set\.csv: no row for 10_2\.jpg, which .*val_id\.txt lists"):
        read_split(tmp_path, "val")


def test_an_id_listed_twice_is_named_with_both_lines(tmp_path):
    write_tree(tmp_path)["ids"].write_text("10_1\n\n10_2\n10_1\n")
    with pytest.raises(DataError, match=r"val_id\.txt, line 4: 10_1 was already listed in line 1"):
        read_split(tmp_path, "val")


def test_an_empty_id_file_is_named(tmp_path):
    write_tree(tmp_path)["ids"].write_text("\n")
    with pytest.raises(DataError, match=r"val_id\.txt: the file lists no ids"):
        read_split(tmp_path, "val")


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'trainval'"):
        read_split(tmp_path, "trainval")


def test_the_pose_csv_is_read_into_one_array_a_stem(csv_file):
    poses = read_pose_csv(csv_file(row("1_2", 5), row("3_4", 7)))
    assert list(poses) == ["1_2", "3_4"]
    np.testing.assert_array_equal(poses["3_4"][3], [10, 13, 1])
    assert np.isnan(poses["3_4"][15]).all()


def test_the_pose_csv_may_have_windows_line_ends_a_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "lip_val_set.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{row('1_2')}\r\n\r\n{row('3_4')}\r\n".encode())
    assert list(read_pose_csv(path)) == ["1_2", "3_4"]


def test_joints_outside_the_image_are_kept(csv_file):
    cells = ["-12", "900", "1"] * 16
    np.testing.assert_array_equal(read_pose_csv(csv_file(",".join(["1_2.jpg", *cells])))["1_2"][0], [-12, 900, 1])


def test_half_a_joint_is_a_missing_joint(csv_file):
    poses = read_pose_csv(csv_file(row("1_2").replace("3,6,1", "3,nan,1")))
    assert np.isnan(poses["1_2"][3]).all()


@pytest.mark.parametrize(
    ("bad_row", "said"),
    [
        (row("3_4") + ",1", "line 2: 50 columns instead of 49"),
        (row("3_4").rsplit(",", 1)[0], "line 2: 48 columns instead of 49"),
        (row("3_4").replace(",3,6,1", ",3,six,1"), "line 2, column 12: 'six' is not a number"),
        (row("3_4").replace(",3,6,1", ",3,,1"), "line 2, column 12: '' is not a number"),
        (row("3_4").replace(",3,6,1", ",3,inf,1"), "line 2: an infinite number"),
        (row("1_2", 50), "line 2: 1_2 already has a row in line 1"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(csv_file, bad_row, said):
    path = csv_file(row("1_2"), bad_row)
    with pytest.raises(DataError) as caught:
        read_pose_csv(path)
    assert str(caught.value).startswith(f"{path}, {said}")
    assert "\n" not in str(caught.value)


def test_a_pose_csv_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "lip_val_set.csv"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match=r"lip_val_set\.csv: cannot be read as text"):
        read_pose_csv(path)
    with pytest.raises(DataError, match=r"other\.csv: no such file"):
        read_pose_csv(tmp_path / "other.csv")


def test_images_are_rgb(tmp_path):
    Image.new("RGB", (4, 3), (250, 20, 90)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image.shape == (3, 4, 3)
    assert image[0, 0].tolist() == [250, 20, 90]


@pytest.mark.parametrize(
    ("pixels", "seen"),
    [
        (np.full((3, 4), 77, np.uint8), [77, 77, 77]),
        (np.full((3, 4, 4), (250, 20, 90, 128), np.uint8), [250, 20, 90]),
        (np.full((3, 4), 77 * 257, np.uint16), [77, 77, 77]),
    ],
    ids=["grey", "transparent", "16 bit"],
)
def test_images_of_other_kinds_become_8_bit_rgb(tmp_path, pixels, seen):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert image[1, 1].tolist() == seen


def test_an_exif_orientation_does_not_turn_the_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to show
    Image.new("RGB", (8, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (3, 8, 3)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_unreadable_image_or_mask_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: the image cannot be decoded"):
        load_image(path)
    with pytest.raises(DataError, match=r"a\.png: the mask cannot be decoded"):
        load_mask(path)


def test_half_a_file_is_unreadable(tmp_path):
    noise = np.random.default_rng(0).integers(0, 20, (64, 64), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"a\.png: the mask cannot be decoded"):
        load_mask(path)


def test_a_missing_image_or_mask_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: the image cannot be opened \(No such file"):
        load_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.png: no such mask"):
        load_mask(tmp_path / "a.png")


IDS = np.array([[0, 5, 19], [255, 14, 15]], np.uint8)


def test_a_palette_mask_gives_its_stored_indices_not_its_colours(tmp_path):
    picture = Image.fromarray(IDS)
    picture.putpalette([value for i in range(256) for value in (255 - i, 7 * i % 256, 90)])
    picture.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(load_mask(tmp_path / "a.png"), IDS)


@pytest.mark.parametrize(
    "stored",
    [IDS, np.stack([IDS] * 3, axis=2), IDS.astype(np.uint16)],
    ids=["grey", "three equal channels", "16 bit"],
)
def test_a_mask_of_ids_is_read_as_it_is(tmp_path, stored):
    Image.fromarray(stored).save(tmp_path / "a.png")
    mask = load_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, IDS)


def test_a_mask_painted_in_colours_is_refused(tmp_path):
    Image.new("RGB", (4, 3), (10, 2, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: a picture in colours"):
        load_mask(tmp_path / "a.png")


@pytest.mark.parametrize("stray", [20, 254, 256, 1044])  # 1044 % 256 = 20: must not wrap into a legal id either
def test_ids_that_are_no_parts_are_named_with_the_file(tmp_path, stray):
    stored = IDS.astype(np.uint16)
    stored[0, 0] = stray
    Image.fromarray(stored if stray > 255 else stored.astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: ids {stray} in a mask of parts 0 to 19"):
        load_mask(tmp_path / "a.png")


def test_the_number_of_classes_bounds_the_ids(tmp_path):
    Image.fromarray(np.array([[6, 7, 255]], np.uint8)).save(tmp_path / "a.png")
    assert load_mask(tmp_path / "a.png", classes=8).tolist() == [[6, 7, 255]]
    with pytest.raises(DataError, match=r"a\.png: ids 7 in a mask of parts 0 to 6"):
        load_mask(tmp_path / "a.png", classes=7)
    assert stray_ids(decode_mask(tmp_path / "a.png"), 6) == [6, 7]


def test_a_damaged_grey_mask_is_refused_whatever_the_damage(tmp_path):
    """Grey masks are decoded by another library than those with a palette; it must not be the more trusting one."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 20, (40, 30)).astype(np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(mask).save(path)
    whole = path.read_bytes()
    assert (load_mask(path) == mask).all()
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(8, len(whole) - 12)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = decode_mask(path)
        except DataError:
            refused += 1
        else:
            assert (found == mask).all()  # the damage was where nothing is stored
    assert refused >= 55
    for length in (0, 7, 60, len(whole) - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"mask\.png: "):
            load_mask(path)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/passwd", "..", ".hidden", "a\\b", "nul\0byte", "bell\a", "line\u2028end", "x" * 300]
)
def test_a_name_that_is_none_of_a_file_in_the_folder_is_refused(tmp_path, csv_file, name):
    ids = tmp_path / "val_id.txt"
    ids.write_text(f"10_1\n{name}\n")
    with pytest.raises(DataError) as caught:
        read_ids(ids)
    assert str(caught.value).startswith(f"{ids}, line 2: '")
    path = csv_file(row("10_1"), row(name))
    with pytest.raises(DataError) as refused:
        read_pose_csv(path)
    assert str(refused.value).startswith(f"{path}, line 2: '")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < len(str(path)) + 200


def test_unusual_names_are_read_as_they_are(tmp_path, csv_file):
    names = ["with spaces", "grüße", "人_像", "-rf", "v1.2", "100%"]
    (tmp_path / "val_id.txt").write_text("\n".join(names))
    assert read_ids(tmp_path / "val_id.txt") == names
    assert list(read_pose_csv(csv_file(*map(row, names)))) == names
    assert list(read_pose_csv(csv_file(row("v1.2").replace(".jpg", ".JPEG"), row("v1.3").replace(".jpg", "")))) == [
        "v1.2", "v1.3",
    ]  # fmt: skip


@pytest.mark.parametrize("written", ["1_000", "１２", "٣", "1\u00a0", "0x10", "six", "1 2", '"3"'])
def test_a_number_is_written_in_plain_decimal_digits(csv_file, written):
    path = csv_file(row("1_2"), row("3_4").replace(",3,6,1", f",{written},6,1"))
    with pytest.raises(DataError) as caught:
        read_pose_csv(path)
    assert str(caught.value).startswith(f"{path}, line 2, column 11: '{shown(written.strip())}' is not a number")


@pytest.mark.parametrize("written", ["1e6", "-1000000", "1e300"])
def test_a_coordinate_that_no_picture_has_is_refused(csv_file, written):
    with pytest.raises(DataError, match="line 1: a coordinate that no picture has; write nan if it is missing"):
        read_pose_csv(csv_file(row("1_2").replace(",3,6,1", f",{written},6,1")))


@pytest.mark.parametrize("written", ["7", "2", "-1", "0.5"])
def test_a_visibility_that_is_neither_0_nor_1_is_refused(csv_file, written):
    with pytest.raises(DataError, match=r"1_2: v of \w+ is [\d.-]+; write 0 \(visible\), 1 \(occluded\) or nan"):
        read_pose_csv(csv_file(row("1_2").replace(",3,6,1", f",3,6,{written}")))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e5, 1e5) | st.just(np.nan), min_size=32, max_size=32), st.sampled_from(["{}", "{:.3e}"]))
def test_every_decimal_number_is_read_as_python_reads_it(tmp_path_factory, values, form):
    pairs = zip(values[::2], values[1::2], strict=True)
    cells = [cell for x, y in pairs for cell in (form.format(x), form.format(y), "0")]
    path = tmp_path_factory.mktemp("csv") / "lip_val_set.csv"
    path.write_text(",".join(["1_2.jpg", *cells]))
    wanted = np.array([float(cell) for cell in cells]).reshape(16, 3)
    wanted[np.isnan(wanted).any(axis=1)] = np.nan
    np.testing.assert_array_equal(read_pose_csv(path)["1_2"], wanted)


def test_a_tree_whose_folder_has_a_strange_name_is_read_and_named_in_one_line(tmp_path):
    root = tmp_path / "line\nend"
    paths = write_tree(root)
    assert len(read_split(root, "val")) == 3
    paths["csv"].write_text("")
    with pytest.raises(DataError) as caught:
        read_split(root, "val")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("piece", ["ids", "csv"])
def test_a_list_that_is_a_link_to_itself_is_named(tmp_path, piece):
    path = write_tree(tmp_path)[piece]
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(DataError, match=rf"{path.name}: cannot be read as text \(Too many levels of symbolic links\)"):
        read_split(tmp_path, "val")
