"""The compared systems of Tables 3 to 6 and others, each in its smallest faithful form on the shared trunks.

``docs/rivals.md`` lists what is not reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mula_lib.models.network import ModelConfig, Network
from mula_lib.models.rivals.joint import CrossStitchNetwork, JPPNet, PADNet, PoseGuidedRefinement
from mula_lib.models.rivals.parsing import (
    SSNAN,
    AttentionSSL,
    AttentionToScale,
    DeepLabV2,
    FCN8s,
    SegNet,
    over_batch_mean,
    shuffled,
)
from mula_lib.models.rivals.pose import AdversarialHourglass, HybridPoseMachine, PyramidStream

SYSTEMS: dict[str, Callable[[ModelConfig], Network]] = {
    "fcn8s": FCN8s,
    "segnet": SegNet,
    "deeplab": DeepLabV2,
    "attention": AttentionToScale,
    "attention_ssl": AttentionSSL,
    "attention_ssl_mean": partial(AttentionSSL, weighting=over_batch_mean),
    "attention_ssl_shuffled": partial(AttentionSSL, weighting=shuffled),
    "ss_nan": SSNAN,
    "adversarial": AdversarialHourglass,
    "pyramid": PyramidStream,
    "pose_machine": HybridPoseMachine,
    "jppnet": JPPNet,
    "cross_stitch": CrossStitchNetwork,
    "pad_net": PADNet,
    "pose_guided": PoseGuidedRefinement,
}
