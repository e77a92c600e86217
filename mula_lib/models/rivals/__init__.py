"""The compared systems, each in its smallest faithful form on the shared trunks; see ``docs/rivals.md``."""

from collections.abc import Callable
from functools import partial

from mula_lib.models.network import ModelConfig, Network
from mula_lib.models.rivals import joint, parsing, pose

SYSTEMS: dict[str, Callable[[ModelConfig], Network]] = {
    "fcn8s": parsing.FCN8s,
    "segnet": parsing.SegNet,
    "deeplab": parsing.DeepLabV2,
    "attention": parsing.AttentionToScale,
    "attention_ssl": parsing.AttentionSSL,
    "attention_ssl_mean": partial(parsing.AttentionSSL, weighting=parsing.over_batch_mean),
    "attention_ssl_shuffled": partial(parsing.AttentionSSL, weighting=parsing.shuffled),
    "ss_nan": parsing.SSNAN,
    "adversarial": pose.AdversarialHourglass,
    "pyramid": pose.PyramidStream,
    "pose_machine": pose.HybridPoseMachine,
    "jppnet": joint.JPPNet,
    "cross_stitch": joint.CrossStitchNetwork,
    "pad_net": joint.PADNet,
    "pose_guided": joint.PoseGuidedRefinement,
}
