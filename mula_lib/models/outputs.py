"""What networks say: the maps of one stage."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class StageOutput(NamedTuple):
    """Predictions of one stage, at the trunk's stride; None of a task that the network does not have."""

    parsing: Tensor | None  # S(t): (B, parts, h, w) logits
    # J(t): (B, joints, h, w) confidence maps; of the released structure one more, of the background
    pose: Tensor | None
    # (B, 2 · joints, h, w), of several people only: x of every joint, then y, in units of half a crop
    offsets: Tensor | None = None
