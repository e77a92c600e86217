"""Parts and joints of your own photographs: ``python -m workbook.photo PHOTO --out DIR``.

The networks that are shipped have seen rendered people only, one that fills the picture or, with ``--crowd``, several.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP, PASCAL, Anatomy
from mula_lib.checkpoint import load_model, read_facts
from mula_lib.data.images import load_image
from mula_lib.files import (
    USER_ERROR,
    CheckpointError,
    ConfigError,
    DataError,
    atomic_path,
    exit_status,
    shown,
    visible_names,
    write_bytes,
    write_json,
)
from mula_lib.inference import Prediction, predict
from mula_lib.models.network import Network
from workbook.datasets import VARIABLES
from workbook.experiments import find_experiment
from workbook.figures.output import png_bytes
from workbook.figures.people import Picture, draw_picture
from workbook.figures.style import in_house_style
from workbook.profiles import Profile, find_profile
from workbook.runs import weights_file

SHIPPED = {False: "VGG16-FCN-MuLA", True: "HG-2s-1u-MuLA"}  # which networks are asked; by: several people?
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LONGEST = 1024  # pixels of a photo's longer edge beyond which the answers are enlarged instead: the networks see less
CLEAREST = 512  # an overlay's longer edge at least: lines on fewer pixels hide what they are drawn on
DPI = 100
LONGEST_NAME = 150  # bytes of a photo's name that its answers bear: file systems take 255, and they add to it


@dataclass(frozen=True)
class Predictor:
    """A trained network and what it takes to ask it: its crop and testing protocol, and whose joints and parts."""

    network: Network
    profile: Profile
    anatomy: Anatomy
    name: str
    trained_on: str = "rendered people, not on photographs"

    def __call__(self, photo: np.ndarray) -> Prediction:
        """Parts and joints of one (H, W, 3) uint8 RGB photo, at its own size."""
        height, width = photo.shape[:2]
        share = min(1.0, LONGEST / max(height, width))
        size_wh = max(1, round(width * share)), max(1, round(height * share))
        small = photo if share == 1 else cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA)
        (found,) = predict(self.network, [small], self.profile.crop, self.profile.testing, self.anatomy)
        if share == 1:
            return found
        factor = np.array([width, height]) / size_wh
        joints = (found.joints + 0.5) * factor - 0.5  # pixel centres are integers
        mask = cv2.resize(found.mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return Prediction(mask, joints.astype(np.float32), found.scores)


def shipped_weights(name: str, *, crowd: bool = False) -> Path:
    """The file with the demo's network called ``name``, seed 0: of one person, or of several."""
    return weights_file(find_experiment(name), "demo", crowds=crowd)


def load_predictor(weights: Path | None = None, *, crowd: bool = False) -> Predictor:
    """A trained joint network, by default a shipped one of the demo profile: for one person, or for several.

    Raises :class:`CheckpointError` for a file that is not a network of this project, :class:`DataError` for one that
    lacks a task.
    """
    path = weights or shipped_weights(SHIPPED[crowd], crowd=crowd)
    config, facts = read_facts(path, "profile", "experiment")
    try:
        profile = find_profile(facts["profile"])
    except ConfigError as error:
        raise CheckpointError(f"{shown(path)}: of a profile that is not there: {error}") from error
    size = config.joints, config.parts
    anatomy = next((each for each in (LIP, PASCAL) if (len(each.joints), len(each.parts)) == size), None)
    if anatomy is None:
        found = f"{config.joints} joints and {config.parts} parts"
        raise CheckpointError(f"{shown(path)}: a network for {found}, unlike those of LIP and PASCAL")
    network = load_model(path)
    if config.offsets:
        profile = profile.for_crowds()
    trained_on = {"trained_on": facts["dataset"]} if facts.get("dataset") in VARIABLES else {}
    predictor = Predictor(network, profile, anatomy, str(facts["experiment"]), **trained_on)
    try:
        blank = predictor(np.full((8, 8, 3), 128, np.uint8))
    except (RuntimeError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise CheckpointError(f"{shown(path)}: a network that cannot be asked ({type(error).__name__})") from error
    if blank.mask is None or blank.joints is None:
        raise DataError(
            f"{shown(path)}: {shown(facts['experiment'])} has one of the two tasks only; take a joint network's weights"
        )
    return predictor


def photos_of(paths: Sequence[Path]) -> list[Path]:
    """The photographs among files and folders (not folders within), in order; DataError where there is none.

    Hidden files in a folder, such as an interrupted writer leaves behind, are none.
    """
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            inside = [path / name for name in visible_names(path)]
            inside = [each for each in inside if each.suffix.lower() in SUFFIXES and not os.path.isdir(each)]
            if not inside:
                raise DataError(
                    f"{shown(path)}: no photographs in this folder; it is searched for {', '.join(SUFFIXES)}"
                )
            found += inside
        elif os.path.lexists(path):
            found.append(path)
        else:
            raise DataError(f"{shown(path)}: no such file or folder")
    return list(dict.fromkeys(found))


@in_house_style
def overlay(photo: np.ndarray, found: Prediction, anatomy: Anatomy) -> plt.Figure:
    """The photo with parts tinted and skeletons drawn, without a margin; enlarged or reduced to be well seen."""
    longer = max(photo.shape[:2])
    share = np.clip(longer, CLEAREST, LONGEST) / longer
    size_wh = [max(1, round(side * share)) for side in photo.shape[1::-1]]
    small = cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(found.mask, size_wh, interpolation=cv2.INTER_NEAREST)
    figure = plt.figure(figsize=[max(side, 40) / DPI for side in size_wh])
    axes = figure.add_axes((0, 0, 1, 1))
    draw_picture(axes, Picture(small, mask, (found.joints + 0.5) * share - 0.5), anatomy)
    return figure


def coco(photo: Path, size_wh: tuple[int, int], found: Prediction, anatomy: Anatomy) -> dict:
    """Keypoints in COCO's form: a list of x, y, v a person, v 2 where a joint was found and 0 where not."""
    people = found.joints if found.joints.ndim == 3 else found.joints[None]
    scores = found.scores if found.scores.ndim == 2 else found.scores[None]
    annotations = []
    for number, (joints, heights) in enumerate(zip(people, scores, strict=True), start=1):
        there = ~np.isnan(joints).any(axis=1)
        triples = [
            [round(float(x), 2), round(float(y), 2), 2] if seen else [0, 0, 0]
            for (x, y), seen in zip(joints, there, strict=True)
        ]
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "keypoints": [value for triple in triples for value in triple],
                "keypoint_scores": [round(float(height), 4) for height in heights],
                "num_keypoints": int(there.sum()),
                "score": round(float(heights[there].mean()) if there.any() else 0.0, 4),
            }
        )
    skeleton = [[a + 1, b + 1] for a, b in anatomy.limb_indices]  # COCO counts keypoints from 1
    return {
        "images": [{"id": 1, "file_name": shown(photo.name), "width": size_wh[0], "height": size_wh[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(anatomy.joints), "skeleton": skeleton}],
    }


def write_answers(photo: Path, out: Path, name: str, predictor: Predictor) -> list[Path]:
    """Predict one file; write ``<name>_overlay.png``, ``<name>_parts.png`` and ``<name>_keypoints.json`` into ``out``.

    The parts are a palette PNG of part ids, as LIP's masks are. Returns the paths. Raises :class:`DataError` for a file
    that is no image.
    """
    image = load_image(photo, upright=True)
    found = predictor(image)
    paths = [out / f"{name}_{kind}" for kind in ("overlay.png", "parts.png", "keypoints.json")]
    write_bytes(paths[0], png_bytes(overlay(image, found, predictor.anatomy), dpi=DPI, whole=True))
    with atomic_path(paths[1]) as temporary:
        mask = Image.fromarray(found.mask, mode="P")
        mask.putpalette([value for colour in predictor.anatomy.palette for value in colour])
        mask.save(temporary, "PNG")
    write_json(paths[2], coco(photo, (image.shape[1], image.shape[0]), found, predictor.anatomy))
    return paths


def _names(photos: Sequence[Path]) -> list[str]:
    """A name for each photo's answers: its stem, with suffix and a number where others have the same."""
    stems = [os.fsdecode(os.fsencode(photo.stem)[:LONGEST_NAME]) for photo in photos]
    often = Counter(stems)
    names: list[str] = []
    for photo, stem in zip(photos, stems, strict=True):
        name = stem if often[stem] == 1 else f"{stem}_{photo.suffix[1:]}"
        taken = sum(each == name or each.startswith(f"{name}_#") for each in names)
        names.append(f"{name}_#{taken + 1}" if taken else name)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend (other photos are done), 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.photo", description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--crowd", action="store_true", help="look for several people")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="another trained network than the shipped one")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _answer(options), kept=f"what was written to {options.out} is whole")


def _answer(options: argparse.Namespace) -> int:
    photos: list[Path] = []
    failed = 0

    def complain(error: DataError) -> None:
        nonlocal failed
        failed += 1
        tqdm.write(f"error: {error}", file=sys.stderr)

    for path in options.photos:
        try:
            photos += photos_of([path])
        except DataError as error:
            complain(error)
    photos = list(dict.fromkeys(photos))
    if photos:  # or there is nothing to load a network for
        predictor = load_predictor(options.weights, crowd=options.crowd)
        print(f"{predictor.name}, {predictor.profile.name} profile: trained on {predictor.trained_on}")
    watched = None if len(photos) > 1 else True  # None: no bar where nobody watches
    for photo, name in zip(tqdm(photos, disable=watched, unit="photo"), _names(photos), strict=True):
        try:
            paths = write_answers(photo, options.out, name, predictor)
            tqdm.write(f"{shown(photo)}: {shown(', '.join(path.name for path in paths))}")
        except DataError as error:
            complain(error)
    return USER_ERROR if failed else 0
