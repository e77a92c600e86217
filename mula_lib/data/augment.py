"""Geometry of training and testing crops: one affine a sample, composed first, then applied once.

Pixel convention, everywhere in this project: the *centre* of the pixel in column x and row y has the coordinates
(x, y), so that an image w pixels wide covers [-0.5, w - 0.5] and its centre is at (w - 1) / 2. Scaling by s keeps
pixel areas aligned, as ``cv2.resize`` does: x' = s (x + 0.5) - 0.5. Mirroring is x' = crop - 1 - x, and cell g of a
heatmap with a given stride has its centre at (stride - 1) / 2 + stride g.

Matrices are (2, 3) float64 and map (column, row) of the image to those of the crop.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mula_lib.anatomy import IGNORE, Anatomy


@dataclass(frozen=True)
class Augmentation:
    """The paper's augmentation (Sec. 4.1): ranges from which every training sample draws."""

    scale: tuple[float, float] = (0.8, 1.5)
    rotation: float = 40.0  # degrees, to either side
    shift: float = 40 / 256  # fraction of the crop, to either side, in x and in y
    mirror: float = 0.5  # probability
    outside: int = IGNORE  # part id beyond the photo; released: background
    joints_outside: bool = False  # a joint beyond the crop draws what reaches into it, as released


@dataclass(frozen=True)
class Draw:
    """One sample's augmentation; the default changes nothing and so gives the testing transform."""

    scale: float = 1.0
    rotation: float = 0.0  # degrees; positive turns the picture anticlockwise as seen
    shift: tuple[float, float] = (0.0, 0.0)  # fractions of the crop, right and down
    mirror: bool = False


PAD_VALUE = 128  # every channel of an image outside its borders


def draw(augmentation: Augmentation, rng: np.random.Generator) -> Draw:
    """Draw one sample's augmentation, uniformly in each range."""
    return Draw(
        scale=float(rng.uniform(*augmentation.scale)),
        rotation=float(rng.uniform(-augmentation.rotation, augmentation.rotation)),
        shift=tuple(rng.uniform(-augmentation.shift, augmentation.shift, size=2).tolist()),
        mirror=bool(rng.random() < augmentation.mirror),
    )


def fit_affine(size_wh: tuple[int, int], crop: int, *, scale: float = 1.0) -> np.ndarray:
    """(2, 3) testing transform: the long edge fills the crop, the image's centre is the crop's, then ``scale``.

    ``size_wh`` is the image's (width, height) in pixels, ``crop`` the side of the square crop.
    """
    width, height = size_wh
    zoom = scale * crop / max(width, height)
    middle = (crop - 1) / 2
    return np.array(
        [[zoom, 0.0, middle - zoom * (width - 1) / 2], [0.0, zoom, middle - zoom * (height - 1) / 2]], dtype=np.float64
    )


def training_affine(size_wh: tuple[int, int], crop: int, draw: Draw) -> np.ndarray:
    """(2, 3) training transform: fit and scale, turn about the image's centre, mirror, shift, in this order.

    LIP's images are crops of one person, so the image's centre is the person's.
    """
    middle = (crop - 1) / 2
    angle = np.deg2rad(draw.rotation)
    cosine, sine = np.cos(angle), np.sin(angle)
    # rows grow downwards, so this matrix turns anticlockwise as seen
    linear = np.array([[cosine, sine], [-sine, cosine]])
    if draw.mirror:
        linear[0] = -linear[0]  # about the crop's middle: x' = crop - 1 - x
    fit = fit_affine(size_wh, crop, scale=draw.scale)
    offset = linear @ (fit[:, 2] - middle) + middle + crop * np.asarray(draw.shift)
    return np.column_stack([linear @ fit[:, :2], offset])


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move ``points`` (..., 2), (column, row), by ``matrix`` (2, 3); nan stays nan. Keeps a floating dtype."""
    points = np.asarray(points)
    moved = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(points.dtype if points.dtype.kind == "f" else np.float64)


def warp_image(image: np.ndarray, matrix: np.ndarray, crop: int) -> np.ndarray:
    """Warp ``image`` (H, W, 3) uint8 into a (crop, crop, 3) uint8 crop: linear, padded with 128.

    A picture that shrinks strongly is smoothed first, because linear interpolation looks at four pixels only and
    would let fine texture alias.
    """
    shrink = 1.0 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink > 1.5:
        image = cv2.GaussianBlur(image, (0, 0), sigmaX=(shrink - 1) / 2, borderType=cv2.BORDER_REPLICATE)
    # OpenCV warps four channels twice as fast as three, to the same values; there and back is the smaller cost.
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, matrix, (crop, crop), flags=cv2.INTER_LINEAR, borderValue=(PAD_VALUE,) * 4)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)


def warp_mask(mask: np.ndarray, matrix: np.ndarray, crop: int, *, outside: int = IGNORE) -> np.ndarray:
    """Warp ``mask`` (H, W) uint8 into a (crop, crop) uint8 crop: nearest pixel, padded with ``outside``.

    The authors' released code pads with background, 0, which teaches that beyond the photo there is nobody.
    """
    return cv2.warpAffine(mask, matrix, (crop, crop), flags=cv2.INTER_NEAREST, borderValue=outside)


def augment_sample(
    image: np.ndarray, mask: np.ndarray, joints: np.ndarray, crop: int, draw: Draw, anatomy: Anatomy,
    *, outside: int = IGNORE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Warp one image once by ``draw``: image (H, W, 3), mask (H, W) and joints (N, 2) or (M, N, 2) into a crop.

    Returns the (crop, crop, 3) image, the (crop, crop) mask and the joints in crop pixels. A mirrored person's
    left is their right: joints and part ids change sides with the pixels. Beyond the photo the mask is ``outside``.
    """
    matrix = training_affine(image.shape[1::-1], crop, draw)
    image, mask = warp_image(image, matrix, crop), warp_mask(mask, matrix, crop, outside=outside)
    joints = transform_points(joints, matrix)
    if draw.mirror:
        mask, joints = cv2.LUT(mask, anatomy.mirror_lookup), joints[..., anatomy.joint_mirror, :]
    return image, mask, joints
