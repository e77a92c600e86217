"""A configuration's network: the joint model, or one of the systems that it is compared with."""

from __future__ import annotations

import torch

from mula_lib.errors import ConfigError
from mula_lib.models.config import ModelConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.network import Network
from mula_lib.models.rivals import SYSTEMS


def network_of(config: ModelConfig) -> Network:
    """The network that ``config`` describes; ConfigError lists the known systems."""
    if config.rival is None:
        return JointModel(config)
    if config.rival not in SYSTEMS:
        raise ConfigError(f"unknown system {config.rival!r}; known: {', '.join(SYSTEMS)}")
    return SYSTEMS[config.rival](config)


def build_model(config: ModelConfig, seed: int) -> Network:
    """A freshly initialised network; the weights depend on ``seed`` only and no generator outside is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_of(config)
