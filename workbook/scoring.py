"""Scores files in LIP's submission format, whoever made them: ``python -m workbook.scoring --gt PATH --pred PATH``.

Each PATH is a CSV of joints, a folder of part PNGs, or a folder that holds both: a LIP tree for the truth, and what
``python -m workbook.submission`` writes for the predictions. What both sides have is scored, joints by PCKh, parts by
mIoU. Images are matched by name. A joint that was not found (nan) is a miss, and a negative coordinate is taken as it
stands; the authors' script counts both as pixel 1.
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP
from mula_lib.data.images import load_mask
from mula_lib.data.lip import JOINTS, SPLITS, find_layout, read_ids, read_pose_csv, read_rows
from mula_lib.files import DataError, exit_status, write_text
from mula_lib.metrics.parsing import class_iou, confusion_matrix, parsing_scores
from mula_lib.metrics.pose import pckh, pckh_hits
from workbook.datasets import user_path
from workbook.submission import KEYPOINTS, PARTS


def find_side(paths: Sequence[Path], split: str) -> dict[str, Path | Sequence[str]]:
    """What ``paths`` hold together: ``joints`` and ``masks``, their paths, and ``names`` where an id file lists them.

    Raises :class:`DataError` for a path that is neither a CSV nor a folder with part PNGs or both.
    """
    found = {}
    for path in paths:
        if path.is_file():
            given = {"joints": path}
        elif not path.is_dir():
            raise DataError(f"{path}: no such file or folder")
        elif layout := find_layout(path, split):
            given = {"joints": layout.poses, "masks": layout.masks, "names": read_ids(layout.ids)}
        else:
            masks = path / PARTS if (path / PARTS).is_dir() else path
            given = {"joints": path / KEYPOINTS} if (path / KEYPOINTS).is_file() else {}
            given |= {"masks": masks} if _masks_in(masks) else {}
            if not given:
                raise DataError(f"{path}: no {split}_id.txt of LIP, no {KEYPOINTS} and no PNGs, in {PARTS} or in it")
        found |= {what: each for what, each in given.items() if each}
    return found


def _masks_in(folder: Path) -> tuple[str, ...]:
    """The stems of the masks in a folder, without the colored ``<stem>_vis.png`` that some tools write beside them."""
    stems = {path.stem for path in folder.glob("[!.]*.png")}
    return tuple(sorted(stem for stem in stems if stem.removesuffix("_vis") == stem or stem[:-4] not in stems))


def score_joints(truth: Path, predicted: Path, names: Sequence[str] | None = None) -> pd.Series:
    """The columns of the paper's pose tables, %, in its order; PCK is its "Avg."."""
    true = read_pose_csv(truth)
    found = read_rows(predicted, 1 + 2 * JOINTS, f"image, then x,y of {JOINTS} joints")
    names = names or tuple(true)
    _require_same("row", names, found, predicted)
    _require_same("row", names, [name for name in names if name in true], truth)
    said = np.stack([found[name].reshape(JOINTS, 2) for name in names])
    hits = pckh_hits(said, np.stack([true[name][:, :2] for name in names]), LIP)
    return pd.Series(pckh(hits, LIP))[[*(column for column, _ in LIP.columns), "U.Body", "PCK"]]


def score_parts(truth: Path, predicted: Path, names: Sequence[str] | None = None) -> tuple[pd.Series, pd.Series]:
    """Pixel accuracy, mean accuracy and mIoU, %, and the IoU of every part."""
    names, classes = names or _masks_in(truth), len(LIP.parts)
    _require_same("mask", names, _masks_in(predicted), predicted)
    confusion = np.zeros((classes, classes), np.int64)
    for name in tqdm(names, desc="comparing masks", unit="mask", leave=False, disable=None):
        file = predicted / f"{name}.png"
        true, found = load_mask(truth / file.name), load_mask(file)
        if true.shape != found.shape:
            sizes = "{1}×{0} pixels, but the truth has {3}×{2}".format(*found.shape, *true.shape)
            raise DataError(f"{file}: {sizes}; predict at the image's own size")
        if found.max() >= classes:
            raise DataError(f"{file}: {found.max()} in a prediction; parts are 0 to {classes - 1}")
        confusion += confusion_matrix(found, true, classes)
    return pd.Series(parsing_scores(confusion)), pd.Series(class_iou(confusion), index=LIP.parts)


def _require_same(what: str, wanted: Collection[str], found: Collection[str], where: Path) -> None:
    if missing := sorted(set(wanted) - set(found)):
        raise DataError(f"{where}: no {what} for {len(missing)} images of the truth, {missing[0]} the first")
    if extra := sorted(set(found) - set(wanted)):
        raise DataError(f"{where}: a {what} for {len(extra)} images that the truth lacks, {extra[0]} the first")


def _score(options: argparse.Namespace) -> None:
    truth, predicted = find_side(options.gt, options.split), find_side(options.pred, options.split)
    tables = {}
    both, names = truth.keys() & predicted.keys(), truth.get("names")
    if "joints" in both:
        tables["PCKh@0.5, %"] = score_joints(truth["joints"], predicted["joints"], names)
    if "masks" in both:
        tables["parsing, %"], tables["IoU, %"] = score_parts(truth["masks"], predicted["masks"], names)
    if not tables:
        raise DataError("nothing to score: give joints on both sides, or part masks on both")
    for title, scores in tables.items():
        print(f"{title}\n{scores.round(2).to_string()}\n")
    if options.csv:
        write_text(options.csv, pd.concat(tables.values()).rename("percent").to_csv(index_label="metric"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.scoring", description=__doc__)
    for side, what in (("--gt", "the truth"), ("--pred", "the predictions")):
        parser.add_argument(side, type=user_path, nargs="+", required=True, metavar="PATH", help=what)
    parser.add_argument("--split", choices=SPLITS, default="val", help="of a LIP tree; default: val")
    parser.add_argument("--csv", type=user_path, metavar="FILE", help="write the scores there, too")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _score(options), kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
