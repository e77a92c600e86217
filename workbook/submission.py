"""LIP's submission format: ``python -m workbook.submission WEIGHTS --lip PATH --split test --out DIR``.

Into DIR go ``pred_keypoints.csv``, without header, a row an image: ``stem.jpg`` and sixteen times ``x,y`` in pixels of
the image (33 columns, LIP's joints in LIP's order); and ``parts/stem.png``, a grey PNG of part ids at the image's size.
``python -m workbook.scoring`` scores such files, whoever made them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP
from mula_lib.data.lip import JOINTS, SPLITS, LipRecord, load_image, read_rows, read_split
from mula_lib.files import LOCK, DataError, exit_status, locked, read_json, write_bytes, write_json, write_text
from mula_lib.inference import Prediction, predict
from workbook.photo import Predictor, load_predictor

COLUMNS = 1 + 2 * JOINTS
KEYPOINTS, PARTS = "pred_keypoints.csv", "parts"
BEGUN, MADE_WITH = "pred_keypoints.begun.csv", "submission.json"


def read_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """Read predicted joints into ``{stem: (16, 2) float64}``, image pixels; ``nan`` is a joint that was not found.

    Raises :class:`DataError`, naming file and line, for a file that cannot be read, a row without 33 columns, a cell
    that is no number, or a second row for one image.
    """
    return {
        name: row.reshape(JOINTS, 2)
        for name, row in read_rows(path, COLUMNS, f"image, then x,y of {JOINTS} joints").items()
    }


def prediction_row(name: str, joints: np.ndarray) -> str:
    """One line of the CSV: ``joints`` (16, 2) as whole pixels, which is what the challenge's own files hold."""
    cells = ["nan" if np.isnan(value) else str(round(float(value))) for value in joints.ravel()]
    return ",".join([f"{name}.jpg", *cells]) + "\n"


def write_predictions(path: Path, predicted: Mapping[str, np.ndarray]) -> None:
    """Write ``{stem: (16, 2) joints}`` as the challenge's CSV, atomically."""
    write_text(path, "".join(prediction_row(name, joints) for name, joints in predicted.items()))


def make_submission(
    weights: Path, root: Path, split: str, out: Path, *, limit: int | None = None, progress: bool = True
) -> None:
    """Predict a split of the LIP tree at ``root`` and write what the challenge takes into ``out``.

    What an earlier call with the same network and images left behind is kept, and it goes on from there. Raises
    :class:`DataError` if ``out`` holds the beginning of another submission, :class:`CheckpointError` for a file that
    is not a network's.
    """
    records = read_split(root, split, limit=limit).records
    predictor = load_predictor(weights)
    if predictor.anatomy is not LIP:
        raise DataError(f"{weights}: a network for several people; LIP shows one person an image")
    made_with = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "split": split, "images": len(records)}
    with locked(out / LOCK, f"the submission in {out}"):
        _claim(out / MADE_WITH, made_with)
        _predict(predictor, records, out, progress)


def _predict(predictor: Predictor, records: Sequence[LipRecord], out: Path, progress: bool) -> None:
    """Go on from what ``out`` holds already; nobody else writes there."""
    begun = out / BEGUN
    done = read_predictions(begun) if begun.is_file() else {}
    left = [each for each in records if each.name not in done or not (out / PARTS / f"{each.name}.png").is_file()]
    batch, profile = predictor.profile.testing.batch, predictor.profile
    with tqdm(total=len(records), initial=len(records) - len(left), unit="image", disable=not progress) as bar:
        for start in range(0, len(left), batch):
            some = left[start : start + batch]
            images = [load_image(each.image) for each in some]
            found = predict(predictor.network, images, profile.crop, profile.testing, predictor.anatomy)
            done |= _write_batch(out, begun, some, found)
            bar.update(len(some))
    write_predictions(out / KEYPOINTS, {each.name: done[each.name] for each in records})
    begun.unlink(missing_ok=True)


def _write_batch(
    out: Path, begun: Path, records: Sequence[LipRecord], found: Sequence[Prediction]
) -> dict[str, np.ndarray]:
    """Write the masks, then add the rows: a row in the file means that its mask is there."""
    joints = {}
    for record, each in zip(records, found, strict=True):
        write_bytes(out / PARTS / f"{record.name}.png", cv2.imencode(".png", each.mask)[1].tobytes(), durable=False)
        joints[record.name] = each.joints
    lines = begun.read_text(encoding="utf-8") if begun.is_file() else ""
    write_text(begun, lines + "".join(prediction_row(name, each) for name, each in joints.items()))
    return joints


def _claim(path: Path, made_with: dict) -> None:
    if path.is_file() and read_json(path, "a submission's", fix=f"delete {path.parent} to begin anew") != made_with:
        raise DataError(f"{path.parent}: holds a submission of another network or split; give another folder")
    write_json(path, made_with)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.submission", description=__doc__)
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a trained network, .safetensors")
    parser.add_argument("--lip", type=Path, required=True, metavar="PATH", help="the LIP tree")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    options = parser.parse_args(arguments)

    def command() -> None:
        make_submission(options.weights, options.lip, options.split, options.out, limit=options.limit)
        print(f"{options.out / KEYPOINTS} and {options.out / PARTS}/: what LIP's challenge takes")

    return exit_status(command, kept=f"{options.out} keeps what is done; run the same command to go on")


if __name__ == "__main__":
    sys.exit(main())
