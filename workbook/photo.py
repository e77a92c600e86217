"""Parts and joints of your own photographs: ``python -m workbook.photo PHOTO --out DIR``.

The committed networks have seen rendered people only. The usual one looks for one person, and joints below a confidence
chosen on rendered people count as not found; ``--crowd`` takes one that finds everybody and doubts no joint.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mula_lib.anatomy import Anatomy
from mula_lib.data.images import SUFFIXES, load_image
from mula_lib.files import USER_ERROR, DataError, atomic_path, exit_status, write_bytes, write_json
from mula_lib.inference import Prediction
from workbook.datasets import user_path
from workbook.figures.people import Picture, draw_picture
from workbook.figures.style import in_house_style, png_bytes
from workbook.predictor import LONGEST, Predictor, load_predictor
from workbook.runs import device

CLEAREST = 512  # an overlay's longer edge at least: lines on fewer pixels hide what they are drawn on
DPI = 100
HEIC = (".heic", ".heif", ".hif", ".heics")
WRITTEN = ("_overlay.png", "_parts.png", "_keypoints.json")  # what answers end with; not read as photographs


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """The files of ``paths`` and the photographs in the folders among them, each once; prints what it passes over."""
    found = []
    for path in paths:
        found += [] if path.is_dir() else [path]
        for each in sorted(path.glob("[!.]*")):
            if each.suffix.lower() in SUFFIXES and not each.is_dir() and not each.name.endswith(WRITTEN):
                found.append(each)
            else:
                reason = "HEIC; save it as JPEG" if each.suffix.lower() in HEIC else "not an extension that is read"
                reason = "named like an answer" if each.name.endswith(WRITTEN) else reason
                reason = "a folder; name it too" if each.is_dir() else reason
                print(f"skipped: {each} ({reason})")
    return list(dict.fromkeys(found))


@in_house_style
def overlay(photo: np.ndarray, found: Prediction, anatomy: Anatomy, unsure: np.ndarray) -> plt.Figure:
    """The photo with parts tinted and skeletons drawn, without a margin; enlarged or reduced to be well seen.

    ``unsure`` joints, (N,) or (Q, N) bool, are drawn hollow and without limbs.
    """
    longer = max(photo.shape[:2])
    share = np.clip(longer, CLEAREST, LONGEST) / longer
    size_wh = [max(1, round(side * share)) for side in photo.shape[1::-1]]
    small = cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(found.mask, size_wh, interpolation=cv2.INTER_NEAREST)
    figure = plt.figure(figsize=[side / DPI for side in size_wh])
    axes = figure.add_axes((0, 0, 1, 1))
    draw_picture(axes, Picture(small, mask, (found.joints + 0.5) * share - 0.5, unsure=unsure), anatomy)
    return figure


def coco(photo: Path, size_wh: tuple[int, int], found: Prediction, anatomy: Anatomy, unsure: np.ndarray) -> dict:
    """Keypoints in COCO's form: a list of x, y, v a person, v 2 where a joint was found, all 0 where ``unsure``."""
    people, scores = found.joints.reshape(-1, len(anatomy.joints), 2), found.scores.reshape(-1, len(anatomy.joints))
    sure, annotations = ~unsure.reshape(scores.shape), []
    for number, (joints, heights, seen) in enumerate(zip(people, scores, sure, strict=True), start=1):
        triples = np.where(seen[:, None], np.column_stack([joints.astype(float).round(2), np.full(len(joints), 2)]), 0)
        annotations.append({
            "id": number, "image_id": 1, "category_id": 1, "keypoints": triples.ravel().tolist(),
            "keypoint_scores": heights.astype(float).round(4).tolist(), "num_keypoints": int(seen.sum()),
            "score": round(float(heights[seen].mean()) if seen.any() else 0.0, 4),
        })  # fmt: skip
    skeleton = [[a + 1, b + 1] for a, b in anatomy.limb_indices]  # COCO counts keypoints from 1
    return {
        "images": [{"id": 1, "file_name": photo.name, "width": size_wh[0], "height": size_wh[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(anatomy.joints), "skeleton": skeleton}],
    }


def write_answers(photo: Path, out: Path, name: str, predictor: Predictor) -> tuple[list[Path], str]:
    """Predict one file; write ``<name>_overlay.png``, ``<name>_parts.png`` and ``<name>_keypoints.json`` into ``out``.

    The parts are a palette PNG of part ids, as LIP's masks are. Returns the paths, and in words what was recognized.
    Raises :class:`DataError` for a file that is not an image.
    """
    image = load_image(photo, upright=True)
    found = predictor(image)
    recognized = predictor.confidence.recognized(found)
    unsure = predictor.confidence.unsure(found) | (not recognized)
    paths = [out / f"{name}{kind}" for kind in WRITTEN]
    write_bytes(paths[0], png_bytes(overlay(image, found, predictor.anatomy, unsure), dpi=DPI, whole=True))
    with atomic_path(paths[1]) as temporary:
        mask = Image.fromarray(found.mask, mode="P")
        mask.putpalette([value for colour in predictor.anatomy.palette for value in colour])
        mask.save(temporary, "PNG")
    write_json(paths[2], coco(photo, (image.shape[1], image.shape[0]), found, predictor.anatomy, unsure))
    if not recognized:
        return paths, "nobody recognized; do not trust the overlay" if found.joints.size else "nobody found"
    people = f"{len(found.joints)} people, " if found.joints.ndim == 3 else ""
    return paths, f"{people}{(~unsure).sum()} of {unsure.size} joints"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error (other photos are done), 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.photo", description=__doc__)
    parser.add_argument("photos", nargs="+", type=user_path, metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="folder to write to")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--crowd", action="store_true", help="several people, by the network of Tables 5 and 6")
    network.add_argument("--weights", type=user_path, metavar="FILE", help="another network")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _answer(options), kept=f"files already written to {options.out} are complete")


def _answer(options: argparse.Namespace) -> int:
    if not (photos := find_photos(options.photos)):
        raise DataError(f"{options.photos[0]}: no photographs; folders are searched for {', '.join(SUFFIXES)}")
    predictor = load_predictor(options.weights, crowd=options.crowd)
    predictor.network.to(device())
    print(f"{predictor.name}, {predictor.profile.name} profile: trained on {predictor.trained_on}")
    status, stems = 0, Counter(photo.stem for photo in photos)
    for photo in tqdm(photos, disable=None, unit="photo"):
        name = photo.stem if stems[photo.stem] == 1 else "_".join(photo.absolute().parts[1:])
        try:
            paths, words = write_answers(photo, options.out, name, predictor)
            tqdm.write(f"{photo}: {words}; {', '.join(path.name for path in paths)}")
        except DataError as error:
            status = USER_ERROR
            tqdm.write(f"error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
