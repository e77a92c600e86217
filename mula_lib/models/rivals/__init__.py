"""The compared systems of Tables 3 to 6 and others, each in its smallest faithful form on the shared trunks.

What is not reproduced of each is said in ``docs/rivals.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.rivals.adversarial import AdversarialHourglass
from mula_lib.models.rivals.attention import AttentionToScale
from mula_lib.models.rivals.cross_stitch import CrossStitchNetwork
from mula_lib.models.rivals.deeplab import DeepLabV2
from mula_lib.models.rivals.fcn8s import FCN8s
from mula_lib.models.rivals.jppnet import JPPNet
from mula_lib.models.rivals.pad_net import PADNet
from mula_lib.models.rivals.pose_guided import PoseGuidedRefinement
from mula_lib.models.rivals.pose_machine import HybridPoseMachine
from mula_lib.models.rivals.pyramid import PyramidStream
from mula_lib.models.rivals.segnet import SegNet
from mula_lib.models.rivals.structure import SSNAN, AttentionSSL, over_batch_mean, shuffled

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
