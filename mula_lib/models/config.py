"""What decides a network's shape: stored with its weights and compared when they are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from mula_lib.errors import ConfigError
from mula_lib.models import hourglass, vgg
from mula_lib.models.convention import ImageConvention
from mula_lib.models.interactions import AdaptationConfig

BACKBONES = ("vgg", "hourglass")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a network's shape; stored with its weights and compared when they are loaded."""

    backbone: str  # "vgg" or "hourglass"
    interactions: tuple[str, ...]  # one name a stage, so T = len(interactions)
    width: int  # channels of R; the paper: 512 (vgg), 256 (hourglass)
    parts: int = 20  # P + 1 with background
    joints: int = 16  # N
    units: int = 1  # residual units in each group of an hourglass
    shared_encoder: bool = False  # MTL: one encoder, two classifiers
    batch_norm: bool = False  # in the VGG trunk
    context: int = 6  # of the VGG trunk's last six convolutions, how many are 3×3 and not 1×1: each sees 16 px more
    residual: bool = False  # F(t) is added to F(t+1), as in stacked hourglasses [15]; Eq. 3 as printed has no such term
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    image: ImageConvention = field(default_factory=ImageConvention)
    offsets: bool = False  # several people: the pose branch also regresses each joint's offset to its centroid
    rival: str | None = None  # a compared system on this trunk instead of the joint model: a name in ``SYSTEMS``
    crop: int | None = None  # of a compared system: side of its crops, to which its authors' cells are scaled
    anatomy: str = "LIP"  # of a compared system: whose joints, parts and limbs (:func:`mula_lib.anatomy.find_anatomy`)
    # The structure of the authors' released code where it differs from the paper: R, not R̄, and F go on to the next
    # stage, the pose branch has a last map of the background, and bilinear enlarging aligns the corners.
    released: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "parts", "joints", "units"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name}={number!r}: a whole number from 1 is needed")
        if self.backbone not in BACKBONES:
            raise ConfigError(f"unknown backbone {self.backbone!r}; known: {', '.join(BACKBONES)}")
        if not self.interactions:
            raise ConfigError("a model needs at least one stage; give interactions=('none',) for independent networks")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width={self.width}: the trunks need a positive multiple of 8")
        if self.backbone == "vgg" and self.stages > 1:
            raise ConfigError("VGG16-FCN encodes images, not features, and so has one stage; stack hourglasses instead")
        if self.shared_encoder and self.interactions != ("none",):
            raise ConfigError("a shared encoder (MTL) has one stage and no interaction: interactions=('none',)")
        if self.released and self.offsets:
            raise ConfigError(
                "the authors released their network for one person only: released=True needs offsets=False"
            )

    @property
    def stages(self) -> int:
        """T."""
        return len(self.interactions)

    @property
    def pose_maps(self) -> int:
        """Maps that the pose branch predicts: N, and in the released structure one of the background."""
        return self.joints + self.released

    @property
    def stride(self) -> int:
        """Image pixels per feature cell."""
        return vgg.STRIDE if self.backbone == "vgg" else hourglass.STRIDE

    def to_json(self) -> dict:
        """Plain lists and numbers, for files and fingerprints."""
        return {**asdict(self), "interactions": list(self.interactions)}

    @classmethod
    def from_json(cls, values: dict) -> ModelConfig:
        """The inverse of :meth:`to_json`."""
        return cls(
            **{
                **values,
                "interactions": tuple(values["interactions"]),
                "adaptation": AdaptationConfig(**values["adaptation"]),
                "image": ImageConvention(**values["image"]),
            }
        )
