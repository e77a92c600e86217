"""Decoding pictures of several people at the paper's crop: candidates, embeddings and partition, by number of people.

python -m benchmarks.crowds
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.timing import compare, publish
from mula_lib.anatomy import PASCAL
from mula_lib.grouping import partition
from mula_lib.inference import CropMaps, decode
from mula_lib.models.hourglass import STRIDE
from workbook.figures import Picture
from workbook.inspection import perfect_candidates, perfect_maps

CROP = 256
COUNTS = (10, 1, 3, 5)  # the goal is 50 ms for ten


def people(count: int) -> np.ndarray:
    """(count, 14, 2) joints of people in two overlapping rows."""
    rng = np.random.default_rng(0)
    places = [(25 + 45 * (index % 5), 80 + 70 * (index // 5)) for index in range(count)]
    return np.array([place + rng.uniform(-1, 1, (len(PASCAL.joints), 2)) * (14, 55) for place in places])


def main() -> None:
    """Measure and publish."""
    torch.set_num_threads(1)
    blank = np.zeros((CROP, CROP, 3), np.uint8)
    whole, shared = {}, {}
    for count in COUNTS:
        picture = Picture(blank, None, people(count))
        maps = CropMaps(torch.zeros(1, 7, CROP, CROP), *(each[None] for each in perfect_maps(picture, STRIDE, PASCAL)))
        candidates = perfect_candidates(picture, STRIDE, PASCAL)
        whole[f"{count} people"] = lambda maps=maps: decode(maps, [(CROP, CROP)], PASCAL)
        shared[f"{count} people, {len(candidates)} candidates"] = lambda found=candidates: partition(found, PASCAL)
    publish(compare("crowds", "decoding a picture, parts included", whole, plain=next(iter(whole)), items=1, runs=21))
    publish(compare("crowds", "sharing candidates out to people", shared, plain=next(iter(shared)), items=1, runs=21))


if __name__ == "__main__":
    main()
