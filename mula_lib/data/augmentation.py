"""What an augmentation may do and what it did to one sample, as data: :mod:`mula_lib.data.augment` does it."""

from __future__ import annotations

from dataclasses import dataclass

from mula_lib.anatomy import IGNORE


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
