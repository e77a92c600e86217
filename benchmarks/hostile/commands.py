"""Hostile photographs and predictions, given to the command lines that take them."""

from __future__ import annotations

import csv
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.hostile import damage, png
from benchmarks.hostile.harness import REFUSED, RIGHT, Ended, Trial, kind, run_command
from benchmarks.hostile.masks import by_pillow
from mula_lib.files import shown
from workbook import photo, scoring
from workbook.datasets import FIXTURES

PICTURE = FIXTURES["people"] / "TrainVal_images" / "val_images" / "val_000000.jpg"
CSV = FIXTURES["people"] / "TrainVal_pose_annotations" / "lip_val_set.csv"
MASKS = FIXTURES["people"] / "TrainVal_parsing_annotations" / "val_segmentations"


def _picture() -> Image.Image:
    return Image.open(PICTURE).convert("RGB")


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return by_pillow(_picture().transpose(Image.Transpose.ROTATE_90), exif=exif)


# The same pixels in other files: what is seen in them must be the same.
_SAME: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: by_pillow(_picture()),
    "BMP": lambda: by_pillow(_picture(), "BMP"),
    "TIFF": lambda: by_pillow(_picture(), "TIFF"),
    "16 bit PNG": lambda: png.write(np.asarray(_picture()).astype(np.uint16) * 257, depth=16, colours=png.RGB),
    "lying, with a note to turn it": _turned,
    "as it is": PICTURE.read_bytes,
}
_WRONG: dict[str, Callable[[np.random.Generator], bytes]] = {
    "zero bytes": lambda rng: b"",
    "cut": lambda rng: damage.cut(PICTURE.read_bytes(), rng),
    "noise": lambda rng: rng.bytes(500),
    "a GIF": lambda rng: by_pillow(_picture(), "GIF"),
    "claims 60,000×60,000": lambda rng: png.SIGNATURE + png.header(60_000, 60_000) + png.chunk(b"IEND", b""),
}


@functools.cache
def _parts() -> np.ndarray:
    """What the shipped network sees in the picture."""
    found = photo.load_predictor()(np.array(_picture()))
    return found.mask


@kind("photograph", share=0.25)
def photograph(folder: Path, rng: np.random.Generator) -> Trial:
    """``python -m workbook.photo`` with a strange photograph, alone or beside a good one."""
    inside, out = folder / "photos", folder / "out"
    inside.mkdir()
    path, expected = inside / "a.png", None
    group = rng.choice(["same", "wrong", "place", "beside", "name", "tiny"], p=[0.3, 0.2, 0.1, 0.15, 0.15, 0.1])
    if group in ("same", "name"):
        what, write = damage.pick(rng, _SAME)
        path.write_bytes(write())
        expected = _parts()
        if group == "name":
            what, path = "a strange name", damage.renamed(path, rng)
    elif group == "tiny":
        what = "of one pixel"
        path.write_bytes(by_pillow(Image.new("RGB", (1, 1), tuple(rng.integers(0, 256, 3).tolist()))))
        expected = np.zeros((1, 1))
    else:
        what, write = damage.pick(rng, _WRONG)
        path.write_bytes(write(rng))
        if group == "place":
            what, put = damage.pick(rng, damage.PLACES)
            put(path)
    given = [path]
    if group == "beside":
        what += ", beside a good one"
        shutil.copy(PICTURE, inside / "good.jpg")
        (inside / ".good.jpg.x7.jpg").write_bytes(b"left over")
        given = [inside]

    def after() -> None:
        left = [each.name for each in out.glob(".*")]
        assert not left, f"left over: {left}"
        if group == "beside":
            assert (np.array(Image.open(out / "good_parts.png")) == _parts()).all()

    def judge(_: Ended) -> None:
        (answer,) = out.glob("*_parts.png")
        (keypoints,) = out.glob("*_keypoints.json")
        parts = np.array(Image.open(answer))
        assert parts.shape == expected.shape, f"parts of {parts.shape}"
        assert parts.size == 1 or (parts == expected).all(), "other parts"
        said = json.loads(keypoints.read_text(encoding="utf-8"))["images"][0]
        assert (said["height"], said["width"]) == expected.shape
        assert said["file_name"] == shown(path.name)

    arguments = ["--out", str(out), "--", *map(str, given)]
    must = RIGHT if expected is not None else REFUSED
    return Trial(what, lambda: run_command(photo.main, arguments), (shown(path.name),), judge, must, after)


def _truth() -> dict[str, list[str]]:
    """The joints' x and y of the fixture, as they are written."""
    with open(CSV, newline="") as file:
        return {row[0]: [cell for i in range(1, 49, 3) for cell in row[i : i + 2]] for row in csv.reader(file)}


def _write(path: Path, rows: dict[str, list[str]]) -> None:
    path.write_text("".join(f"{name},{','.join(cells)}\n" for name, cells in rows.items()))


def _score(path: Path, metric: str) -> float:
    with open(path, newline="") as file:
        return next(float(row["percent"]) for row in csv.DictReader(file) if row["metric"] == metric)


def _moved(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [cell if cell == "nan" else str(int(cell) + 9999) for cell in cells] for name, cells in rows.items()}


_PERFECT = {
    "the truth": lambda rows, rng: rows,
    "the truth in another order": lambda rows, rng: {name: rows[name] for name in rng.permutation(list(rows))},
    "the truth with decimals": lambda rows, rng: {
        name: [f"{float(cell):.3f}" for cell in row] for name, row in rows.items()
    },
}
_ZERO = {
    "nothing found": lambda rows, rng: {name: ["nan"] * 32 for name in rows},
    "all far away": lambda rows, rng: _moved(rows),
}
_NOT_SCORED = {
    "a row away": lambda rows, rng: dict(list(rows.items())[1:]),
    "a row too many": lambda rows, rng: rows | {"nobody.jpg": ["1"] * 32},
    "columns of the truth": lambda rows, rng: {name: [*row, *["0"] * 16] for name, row in rows.items()},
    "no rows": lambda rows, rng: {},
    "a number written 1_0": lambda rows, rng: rows | {"val_000003.jpg": ["1_0"] * 32},
    "a number written 1e9": lambda rows, rng: rows | {"val_000003.jpg": ["1e9"] * 32},
    "a name that leads elsewhere": lambda rows, rng: rows | {"../x.jpg": ["1"] * 32},
}


@kind("predicted joints", share=1)
def predicted_joints(folder: Path, rng: np.random.Generator) -> Trial:
    """``python -m workbook.scoring`` with a CSV of predictions."""
    path, scores, percent, must = folder / "pred.csv", folder / "scores.csv", None, REFUSED
    group = rng.choice(["perfect", "zero", "wrong", "broken", "place"], p=[0.25, 0.15, 0.3, 0.2, 0.1])
    _write(path, _truth())
    if group == "place":
        what, put = damage.pick(rng, damage.PLACES)
        put(path)
    elif group == "broken":
        what, change = damage.pick(rng, {"cut": damage.cut, "noise": damage.noise, "a web page": damage.web_page})
        whole = path.read_bytes()[:-1]  # without the last line end, which nobody misses
        path.write_bytes(change(whole, rng))
        # cut within the last number, the rest of it is a number again
        must = REFUSED if what != "cut" or path.stat().st_size < len(whole) - 3 else None
    else:
        what, change = damage.pick(rng, {"perfect": _PERFECT, "zero": _ZERO, "wrong": _NOT_SCORED}[group])
        _write(path, change(_truth(), rng))
        percent = {"perfect": 100.0, "zero": 0.0}.get(group)
        must = REFUSED if percent is None else RIGHT

    def judge(_: Ended) -> None:
        found = _score(scores, "PCK")
        assert percent is None or found == percent, f"PCK {found}, not {percent}"

    arguments = ["--gt", CSV, "--pred", path, "--csv", scores]
    return Trial(what, lambda: run_command(scoring.main, arguments), (path.name, CSV.name), judge, must)


def _ignored(path: Path) -> None:
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    stored[0, 0] = 255
    cv2.imwrite(str(path), stored)


def _smaller(path: Path) -> None:
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[1:])


_WRONG_MASKS: dict[str, Callable[[Path], object]] = {
    **damage.PLACES,
    "a pixel without a part": _ignored,
    "another size": _smaller,
    "one too many": lambda path: shutil.copy(path, path.with_name("nobody.png")),
    "an unknown part": lambda path: cv2.imwrite(str(path), np.full((99, 60), 20, np.uint8)),
}
_RIGHT_MASKS: dict[str, Callable[[Path], object]] = {
    "the truth": lambda path: None,
    "a link to it": lambda path: (path.rename(path.parent.parent / "moved.png"), path.symlink_to("../moved.png")),
    "a leftover beside it": lambda path: path.with_name(f".{path.name}.x7.png").write_bytes(b""),
    "a note beside it": lambda path: path.with_name("notes.txt").write_text("mine"),
}


@kind("predicted masks", share=1)
def predicted_masks(folder: Path, rng: np.random.Generator) -> Trial:
    """``python -m workbook.scoring`` with a folder of part masks."""
    parts, scores = folder / "parts", folder / "scores.csv"
    shutil.copytree(MASKS, parts)
    path, right = parts / f"val_{rng.integers(12):06d}.png", rng.random() < 0.4
    what, change = damage.pick(rng, _RIGHT_MASKS if right else _WRONG_MASKS)
    change(path)

    def judge(_: Ended) -> None:
        found = _score(scores, "PixelAcc")
        assert found == 100.0, f"pixel accuracy {found}"

    arguments = ["--gt", MASKS, "--pred", parts, "--csv", scores]
    names = (path.name, path.stem, "nobody")
    must = RIGHT if right else REFUSED
    return Trial(what, lambda: run_command(scoring.main, arguments), names, judge, must)
