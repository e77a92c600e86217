"""What all networks share: configuration, outputs, initialization and construction."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mula_lib.files import ConfigError
from mula_lib.models import hourglass, vgg
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.losses import Targets, supervise


@dataclass(frozen=True)
class ImageConvention:
    """Channel order, mean and standard deviation of a network's input, in units of 0..1."""

    order: str = "RGB"  # or "BGR", as in the released checkpoints
    mean: float = 0.5
    std: float = 0.25  # the released checkpoints: 1

    def __call__(self, images: Tensor) -> Tensor:
        """RGB (B, 3, H, W), uint8 or float in 0..255 -> float32 in this convention, memory format kept."""
        if images.dtype == torch.uint8:
            images = images.float()
        if self.order == "BGR":
            images = images.flip(1)
        return images / (255 * self.std) - self.mean / self.std


RELEASED = ImageConvention(order="BGR", mean=0.5, std=1.0)  # of the authors' code
BACKBONES = ("vgg", "hourglass")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a network's shape; stored with its weights and compared when they are loaded."""

    backbone: str  # "vgg" or "hourglass"
    interactions: tuple[str, ...]  # one name for each stage, so T = len(interactions)
    width: int  # channels of R; the paper: 512 (vgg), 256 (hourglass)
    parts: int = 20  # P + 1 with background
    joints: int = 16  # N
    units: int = 1  # residual units in each group of an hourglass
    shared_encoder: bool = False  # MTL: one encoder, two classifiers
    batch_norm: bool = False  # in the VGG trunk
    context: int = 6  # how many of the VGG trunk's last six convolutions are 3×3 and not 1×1: each sees 16 px more
    residual: bool = False  # F(t) is added to F(t+1), as in stacked hourglasses [15]; Eq. 3 as printed has no such term
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    image: ImageConvention = field(default_factory=ImageConvention)
    offsets: bool = False  # several people: the pose branch also regresses each joint's offset to its centroid
    rival: str | None = None  # a compared system on this trunk instead of the joint model: a name in ``SYSTEMS``
    crop: int | None = None  # for a compared system: side of its crops, to which its authors' cells are scaled
    anatomy: str = "LIP"  # for a compared system: whose joints, parts and limbs (of ``ANATOMIES``)
    # The structure of the authors' released code where it differs from the paper: R, not R̄, and F go on to the next
    # stage, the pose branch has a last map for the background, and bilinear upsampling aligns the corners.
    released: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"unknown backbone {self.backbone!r}; known: {', '.join(BACKBONES)}")
        if not self.interactions:
            raise ConfigError("a model needs at least one stage; give interactions=('none',) for independent networks")
        if self.width < 1 or self.width % 8:
            raise ConfigError(f"width={self.width}: the trunks need a positive multiple of 8")
        if self.backbone == "vgg" and self.stages > 1:
            raise ConfigError("VGG16-FCN encodes images, not features, so it has one stage; stack hourglasses instead")
        if self.shared_encoder and self.interactions != ("none",):
            raise ConfigError("a shared encoder (MTL) has one stage and no interaction: interactions=('none',)")
        if self.released and self.offsets:
            raise ConfigError("the authors' released network is for one person: released=True needs offsets=False")

    @property
    def stages(self) -> int:
        """T."""
        return len(self.interactions)

    @property
    def pose_maps(self) -> int:
        """Maps that the pose branch predicts: N, and one for the background in the released structure."""
        return self.joints + self.released

    @property
    def stride(self) -> int:
        """Image pixels per feature cell."""
        return vgg.STRIDE if self.backbone == "vgg" else hourglass.STRIDE

    def to_json(self) -> dict:
        """Plain lists and numbers, for files and fingerprints."""
        return {**asdict(self), "interactions": list(self.interactions)}

    @classmethod
    def from_json(cls, values: dict) -> "ModelConfig":
        """The inverse of :meth:`to_json`."""
        adaptation, image = AdaptationConfig(**values["adaptation"]), ImageConvention(**values["image"])
        return cls(**values | {"interactions": tuple(values["interactions"]), "adaptation": adaptation, "image": image})


class StageOutput(NamedTuple):
    """Predictions of one stage, at the trunk's stride; None for a task that the network does not have."""

    parsing: Tensor | None  # S(t): (B, parts, h, w) logits
    pose: Tensor | None  # J(t): (B, joints, h, w) confidence maps; if released, one more for the background
    # (B, 2 · joints, h, w), with several people only: x of every joint, then y, in units of half a crop
    offsets: Tensor | None = None


CLASSIFIER_STD = 0.01


class Network(nn.Module):
    """``network(images)`` takes RGB images in 0..255, uint8 or float, (B, 3, H, W), and returns its stages' outputs.

    The last output is the prediction. All are supervised (Eq. 4), unless a subclass has a :meth:`loss` of its own. A
    subclass builds its modules and calls :meth:`initialize`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_stages = False  # trade time for memory in networks with stages

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """What training minimizes: by default Eq. 4."""
        return supervise(outputs, truth)

    def initialize(self, classifiers: Iterable[nn.Conv2d]) -> None:
        """Kaiming weights everywhere, except ``classifiers`` near zero, and modules that have a ``reset_start``.

        Targets are near zero too: from Kaiming's scale, the first updates would only shrink the maps.
        """
        self.apply(_kaiming)
        for module in self.modules():
            if hasattr(module, "reset_start"):
                module.reset_start()
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=CLASSIFIER_STD / classifier.kernel_size[0])

    def parameter_groups(self) -> list[dict]:
        """Parameter groups for an optimizer, each with a ``rate``: a factor on the learning rate.

        A module sets the factor of its own parameters by an attribute ``learning_rate_factor``.
        """
        groups: dict[float, list[nn.Parameter]] = {}
        for module in self.modules():
            rate = getattr(module, "learning_rate_factor", 1.0)
            groups.setdefault(rate, []).extend(module.parameters(recurse=False))
        return [{"params": parameters, "rate": rate} for rate, parameters in groups.items() if parameters]


def _kaiming(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def network_of(config: ModelConfig) -> Network:
    """The network that ``config`` describes; a ConfigError lists the known systems."""
    from mula_lib.models.joint import JointModel  # late, because they import this module
    from mula_lib.models.rivals import SYSTEMS

    if config.rival is None:
        return JointModel(config)
    if config.rival not in SYSTEMS:
        raise ConfigError(f"unknown system {config.rival!r}; known: {', '.join(SYSTEMS)}")
    return SYSTEMS[config.rival](config)


def build_model(config: ModelConfig, seed: int) -> Network:
    """A freshly initialized network; its weights depend on ``seed`` only, and global random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_of(config)


def parameter_count(model: Network) -> int:
    """Learned numbers of the network."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def forward_gflops(model: Network, crop: int) -> float:
    """10⁹ floating point operations of one forward pass of one image, in evaluation mode; a multiply-add counts as two.

    Convolutions and matrix products are counted; what is left is far below one percent.
    """
    image = torch.zeros(1, 3, crop, crop, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        model.eval()(image)
    return round(counter.get_total_flops() / 1e9, 4)


def hooked(pairs: Iterable[tuple[nn.Module, Callable[[nn.Module, tuple, object], object]]]) -> ExitStack:
    """A context in which each module's forward pass goes through its hook, as in ``register_forward_hook``."""
    hooks = ExitStack()
    for module, hook in pairs:
        hooks.enter_context(module.register_forward_hook(hook))
    return hooks
