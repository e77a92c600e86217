"""Masks of PASCAL-Person-Part's other release, which numbers the parts differently: noticed, refused, converted."""

import cv2
import numpy as np
import pytest

from mula_lib.anatomy import PASCAL
from mula_lib.data import convert_parts
from mula_lib.data.lip import load_mask
from mula_lib.data.pascal import OTHER_LOOKUP, OTHER_PARTS, numbered_differently, part_votes, read_split
from mula_lib.files import DataError
from workbook.datasets import FIXTURES

TO_OTHER = np.argsort(OTHER_LOOKUP).astype(np.uint8)  # part id -> id of the other release


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


def test_two_votes_do_not_condemn_a_mask():
    joints = np.full((2, 14, 2), np.nan, np.float32)
    joints[:, PASCAL.joint("forehead")] = (1, 1), (3, 3)
    mask = np.full((5, 5), OTHER_PARTS.index("head"), np.uint8)
    assert part_votes(mask, joints, np.zeros((2, 14), bool)) == (0, 2)
    assert not numbered_differently(mask, joints, np.zeros((2, 14), bool))


@pytest.fixture
def other_release(tmp_path):
    """The fixture's validation split with masks that number the parts like the other release."""
    root = tmp_path / "tree"
    for name in ("JPEGImages", "PersonJoints", "val_id.txt"):
        root.mkdir(exist_ok=True)
        (root / name).symlink_to(FIXTURES["crowds"] / name)
    (root / "SegmentationPart").mkdir()
    for path in (FIXTURES["crowds"] / "SegmentationPart").glob("val_*.png"):
        mask = cv2.LUT(load_mask(path), TO_OTHER)
        mask[0, 0] = 255
        cv2.imwrite(str(root / "SegmentationPart" / path.name), mask)
    return root


def test_masks_of_the_other_part_order_are_refused_by_name(other_release):
    with pytest.raises(DataError, match=r"val_\d+\.png: its parts are numbered like the other.*data\.convert_parts"):
        read_split(other_release, "val")


def test_converted_masks_are_those_of_this_release(other_release, tmp_path, capsys):
    masks = other_release / "SegmentationPart"
    before = {path.name: path.read_bytes() for path in masks.iterdir()}
    assert convert_parts.main([str(masks), str(tmp_path / "new" / "SegmentationPart")]) == 0
    assert capsys.readouterr().out == f"12 masks written to {tmp_path / 'new' / 'SegmentationPart'}\n"
    assert {path.name: path.read_bytes() for path in masks.iterdir()} == before
    masks.rename(tmp_path / "old")
    (tmp_path / "new" / "SegmentationPart").rename(masks)
    for record in read_split(other_release, "val").records:
        wanted = load_mask(FIXTURES["crowds"] / "SegmentationPart" / record.mask.name)
        wanted[0, 0] = 255
        np.testing.assert_array_equal(load_mask(record.mask), wanted)


def test_every_part_is_renumbered_by_its_name(tmp_path):
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "1.png"), np.array([[*range(7), 255]], np.uint8))
    assert convert_parts.convert(tmp_path / "masks", tmp_path / "out") == 1
    found = load_mask(tmp_path / "out" / "1.png")[0].tolist()
    assert [PASCAL.parts[part] for part in found[:7]] == list(OTHER_PARTS)
    assert found[7] == 255


@pytest.mark.parametrize("out", ["masks", "masks/../masks", "link"])
def test_masks_are_not_converted_in_place(tmp_path, capsys, out):
    masks = tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "link").symlink_to(masks)
    cv2.imwrite(str(masks / "1.png"), np.full((2, 2), 3, np.uint8))
    assert convert_parts.main([str(masks), str(tmp_path / out)]) == 2
    assert f"{tmp_path / out}: the same folder as the masks'" in capsys.readouterr().err
    assert (load_mask(masks / "1.png") == 3).all()


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_masks_is_named(tmp_path, capsys, made):
    if made:
        (tmp_path / "masks").mkdir()
    assert convert_parts.main([str(tmp_path / "masks"), str(tmp_path / "out")]) == 2
    said = f"error: {tmp_path / 'masks'}: no PNG in this folder; give the folder of part masks\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_mask_of_seven_parts_is_not_converted(tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "1.png"), np.full((2, 2), 7, np.uint8))
    assert convert_parts.main([str(tmp_path / "masks"), str(tmp_path / "out")]) == 2
    assert "1.png: ids 7 in a mask of parts 0 to 6" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "1.png"), np.zeros((2, 2), np.uint8))
    (tmp_path / "file").write_text("")
    assert convert_parts.main([str(tmp_path / "masks"), str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
