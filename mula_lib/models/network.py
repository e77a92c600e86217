"""What the joint model and every compared system have in common."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from mula_lib.losses import Truth, supervise
from mula_lib.models.config import ModelConfig
from mula_lib.models.outputs import StageOutput

CLASSIFIER_STD = 0.01


class Network(nn.Module):
    """``network(images)`` takes RGB images of 0..255, uint8 or float, (B, 3, H, W), and returns its stages' outputs.

    The last output is the prediction; all are supervised (Eq. 4) unless a network's idea is another :meth:`loss`. A
    subclass builds its modules and calls :meth:`initialise`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_stages = False  # trade time for memory, where there are stages

    def loss(self, outputs: list[StageOutput], truth: Truth) -> Tensor:
        """What training minimises: by default Eq. 4."""
        return supervise(outputs, truth)

    def initialise(self, classifiers: Iterable[nn.Conv2d]) -> None:
        """Kaiming's weights everywhere, but ``classifiers`` near zero, and modules with a ``reset_start`` as that says.

        Targets are near zero too: from Kaiming's scale the first updates would be spent on shrinking the maps.
        """
        self.apply(_kaiming)
        for module in self.modules():
            if hasattr(module, "reset_start"):
                module.reset_start()
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=CLASSIFIER_STD / classifier.kernel_size[0])

    def parameter_groups(self) -> list[dict]:
        """The parameters for an optimiser, in groups of one ``rate``: how many times the usual learning rate.

        A module whose own parameters are to learn at another rate says so by an attribute ``learning_rate_factor``.
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
