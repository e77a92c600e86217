"""Training samples: a split of a data set, augmented, as tensors; the same in every process that asks for them."""

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from mula_lib.anatomy import Anatomy
from mula_lib.data.augment import Augmentation, augment_sample, draw, training_affine, transform_points
from mula_lib.data.images import load_image, load_mask
from mula_lib.data.lip import LipRecord, LipSplit
from mula_lib.data.pascal import PascalRecord, PascalSplit
from mula_lib.data.targets import centroids
from mula_lib.files import DataError

KEPT_BYTES = 2**29  # of decoded pictures: all of the demo's


def load_pair(record: LipRecord | PascalRecord, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a record. Raises :class:`DataError` if one cannot be read or their sizes differ."""
    image, mask = load_image(record.image), load_mask(record.mask, classes=len(anatomy.parts))
    if mask.shape != image.shape[:2]:
        sizes = f"{mask.shape[1]}×{mask.shape[0]} pixels but the image {image.shape[1]}×{image.shape[0]}"
        raise DataError(f"{record.mask}: the mask is {sizes}; unzip both again")
    return image, mask


class TrainingSamples(Dataset):
    """Augmented samples of ``split``, addressed by (epoch, index).

    The augmentation is drawn from a generator seeded by (seed, epoch, index): a sample depends on nothing else, so
    runs repeat whatever the number of workers and wherever they resume. Raises :class:`DataError` at once if a record
    has no mask.
    """

    def __init__(
        self, split: LipSplit | PascalSplit, crop: int, augmentation: Augmentation, anatomy: Anatomy, seed: int
    ) -> None:
        bare = next((record for record in split.records if record.mask is None), None)
        if bare is not None:
            raise DataError(f"{bare.image}: no mask {bare.name}.png to train with; unzip the parsing annotations again")
        self.split, self.crop, self.augmentation, self.anatomy, self.seed = split, crop, augmentation, anatomy, seed
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Load, augment and crop sample ``index`` as it is in ``epoch``.

        Returns image (3, crop, crop) uint8 RGB; mask (crop, crop) uint8, 255 = ignore; joints (N, 2) float32 in crop
        pixels, nan where unannotated; present (N,) bool, True for joints annotated and inside the crop. Where images
        show several people, joints are (P, N, 2) and present (P, N), where P is the most people in any image of
        the split, and there are centres (P, 2) float32, everybody's centroid; rows of nan fill up. Raises
        :class:`DataError` if a file is missing or unreadable, or image and mask differ in size.
        """
        epoch, index = epoch_and_index
        record = self.split[index]
        image, mask = self._decoded(record, index)
        size_wh = image.shape[1::-1]
        drawn = draw(self.augmentation, np.random.default_rng((self.seed, epoch, index)))
        image, mask, joints = augment_sample(
            image, mask, record.joints, self.crop, drawn, self.anatomy, outside=self.augmentation.outside
        )
        planes = np.empty((3, self.crop, self.crop), np.uint8)
        cv2.split(image, list(planes))  # takes channels apart faster than NumPy transposes
        sample = {"image": torch.from_numpy(planes), "mask": torch.from_numpy(mask)}
        if self.anatomy.crowds:
            centres = centroids(record.joints, record.boxes, self.anatomy)
            centres = transform_points(centres, training_affine(size_wh, self.crop, drawn))
            missing = np.full((self.split.most_people - len(joints), *joints.shape[1:]), np.nan, np.float32)
            joints, centres = np.concatenate([joints, missing]), np.concatenate([centres, missing[:, 0]])
            sample["centres"] = torch.from_numpy(centres)
        # a crop covers [-0.5, crop - 0.5): pixel centres are integers; comparisons with nan are False
        inside = (joints >= -0.5) & (joints < self.crop - 0.5) | (self.augmentation.joints_outside & ~np.isnan(joints))
        sample["present"] = torch.from_numpy(inside.all(axis=-1))
        return {**sample, "joints": torch.from_numpy(joints.astype(np.float32))}

    def _decoded(self, record: LipRecord | PascalRecord, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of a record, from memory where there was room for them."""
        if index in self._kept:
            return self._kept[index]
        image, mask = load_pair(record, self.anatomy)
        if image.nbytes + mask.nbytes <= self._room:
            self._kept[index] = image, mask
            self._room -= image.nbytes + mask.nbytes
        return image, mask
