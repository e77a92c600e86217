"""Checkpoints to resume from and weights to ship: written atomically, loaded without running anybody's code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mula_lib.errors import CheckpointError
from mula_lib.files import atomic_path
from mula_lib.models.build import network_of
from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and strings in nested dicts and lists to ``path``, atomically."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(path: Path) -> dict:
    """Read what :func:`save_checkpoint` wrote, on the CPU and with ``weights_only``.

    Raises:
        CheckpointError: the file is damaged or holds anything but tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for nearly every kind of damage
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a whole checkpoint ({reason}); delete it and run again: the run starts over"
        ) from error


def save_weights(path: Path, model: Network, facts: Mapping[str, object], *, half: bool = False) -> None:
    """Write a model's weights as safetensors, with its configuration and ``facts`` (JSON) in the header.

    ``half`` stores kernels as fp16: half the size, and accurate enough to evaluate. Vectors stay as they are, because
    a running variance may leave fp16's range and they weigh nothing.
    """
    tensors = {
        name: (value.half() if half and value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for name, value in model.state_dict().items()
    }
    header = {"model": json.dumps(model.config.to_json()), "facts": json.dumps(dict(facts))}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read_facts(path: Path) -> tuple[ModelConfig, dict]:
    """The configuration and facts in a weights file's header; CheckpointError where it is not one of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        return ModelConfig.from_json(json.loads(header["model"])), json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a weights file of this project ({type(error).__name__}: {error}); "
            "restore it from git or train again"
        ) from error


def load_model(path: Path, expected: ModelConfig | None = None) -> Network:
    """Build the network a weights file describes and fill it, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged, does not fit its own description, or ``expected`` differs from it;
            the message names the file and every field that differs.
    """
    config, _ = read_facts(path)
    if expected is not None and config != expected:
        found, wanted = config.to_json(), expected.to_json()
        differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        fields = "; ".join(f"{key} is {found.get(key)!r}, wanted {wanted.get(key)!r}" for key in differing)
        raise CheckpointError(f"{path}: weights of another configuration: {fields}")
    model = network_of(config)
    try:
        with safe_open(path, framework="pt") as file:
            # fp16 weights are widened here: the network always computes in the type it was built in.
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        model.load_state_dict(state)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: does not fit the network it describes: {error}") from error
    return model.eval()
