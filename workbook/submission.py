"""LIP's submission format: ``python -m workbook.submission WEIGHTS --lip PATH --split test --out DIR``.

Into DIR go ``pred_keypoints.csv``, without header, a row an image: ``stem.jpg`` and sixteen times ``x,y`` in pixels of
the image (33 columns, LIP's joints in LIP's order); and ``parts/stem.png``, a grey PNG of part ids at the image's size.
``python -m workbook.scoring`` scores such files, whoever made them.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP
from mula_lib.data.images import load_image
from mula_lib.data.lip import SPLITS, read_split
from mula_lib.files import DataError, exit_status, write_bytes, write_text
from mula_lib.inference import predict
from workbook.datasets import user_path
from workbook.predictor import load_predictor
from workbook.runs import device

KEYPOINTS, PARTS = "pred_keypoints.csv", "parts"


def write_predictions(path: Path, predicted: Mapping[str, np.ndarray]) -> None:
    """Write ``{stem: (16, 2) joints}`` as the challenge's CSV, atomically: whole pixels, as in its own files."""
    table = pd.DataFrame([[f"{name}.jpg", *joints.ravel()] for name, joints in predicted.items()])
    write_text(path, table.to_csv(header=False, index=False, float_format="%.0f", na_rep="nan"))


def make_submission(weights: Path, root: Path, split: str, out: Path) -> None:
    """Predict a split of the LIP tree at ``root`` and write what the challenge takes into ``out``; the CSV comes last.

    Raises :class:`CheckpointError` for a file that is not a network's, :class:`DataError` for a network of crowds.
    """
    records = read_split(root, split).records
    predictor = load_predictor(weights)
    if predictor.anatomy is not LIP:
        raise DataError(f"{weights}: a network for several people; LIP shows one person an image")
    network, profile = predictor.network.to(device()), predictor.profile
    batch, joints = profile.testing.batch, {}
    for start in tqdm(range(0, len(records), batch), unit="batch", disable=None):
        some = records[start : start + batch]
        images = [load_image(each.image) for each in some]
        for record, found in zip(some, predict(network, images, profile.crop, profile.testing, LIP), strict=True):
            content = cv2.imencode(".png", found.mask)[1].tobytes()
            write_bytes(out / PARTS / f"{record.name}.png", content, durable=False)
            # Within the image, because the authors' script counts a negative coordinate as pixel 1.
            joints[record.name] = found.joints.clip(0, np.array(found.mask.shape[::-1]) - 1)
    write_predictions(out / KEYPOINTS, joints)
    print(f"{out / KEYPOINTS} and {out / PARTS}/: what LIP's challenge takes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.submission", description=__doc__)
    parser.add_argument("weights", type=user_path, metavar="WEIGHTS", help="a trained network, .safetensors")
    parser.add_argument("--lip", type=user_path, required=True, metavar="PATH", help="the LIP tree")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="folder to write to")
    options = parser.parse_args(arguments)
    made = partial(make_submission, options.weights, options.lip, options.split, options.out)
    return exit_status(made, kept=f"{options.out} is incomplete; run the same command again")


if __name__ == "__main__":
    sys.exit(main())
