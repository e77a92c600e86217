"""Checkpoints to resume from and weights to ship: written atomically, loaded without running anybody's code."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mula_lib.errors import CheckpointError, ConfigError
from mula_lib.files import atomic_path, write_bytes
from mula_lib.models.build import network_of
from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network

# A network of C channels, T stages and u residual units has at least so many times C²Tu weights: half a lone trunk's.
# A file that holds less than what it describes is refused before memory is taken for it.
LEAST_WEIGHTS = 25


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and strings in nested dicts and lists to ``path``, atomically."""
    content = io.BytesIO()  # written by Python: of a full disk PyTorch's own writer says "unexpected pos 576 vs 534"
    torch.save(dict(state), content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> dict:
    """Read what :func:`save_checkpoint` wrote, on the CPU and with ``weights_only``.

    Raises:
        CheckpointError: the file is damaged or holds anything but tensors and plain values.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for nearly every kind of damage
        raise CheckpointError(
            f"{path}: not a whole checkpoint ({reason(error)}); delete it and run again: the run starts over"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint of this project; delete it and run again: the run starts over")
    return state


def reason(error: Exception, most: int = 120) -> str:
    """What an error says, in a part of a line."""
    lines = str(error).split("\n")
    return (lines[0].strip() or type(error).__name__)[:most]


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
    write_bytes(path, save(tensors, metadata=header))


def read_facts(path: Path, *keys: str) -> tuple[ModelConfig, dict]:
    """The configuration and facts in a weights file's header.

    Raises :class:`CheckpointError` where it is not one of ours, or has no facts of the names ``keys``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        config, facts = ModelConfig.from_json(json.loads(header["model"])), json.loads(header["facts"])
        absent = [name for name in keys if name not in facts]
        if absent or not isinstance(facts, dict):
            raise ValueError(f"without {', '.join(absent) or 'facts'}")
    except ConfigError as error:
        raise CheckpointError(f"{path}: describes a network that cannot be: {error}") from error
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a weights file of this project ({type(error).__name__}: {reason(error)}); "
            "restore it from git or train again"
        ) from error
    return config, facts


def load_model(path: Path, expected: ModelConfig | None = None) -> Network:
    """Build the network a weights file describes and fill it, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged, does not fit its own description, or ``expected`` differs from it;
            the message names the file and every field that differs, or the first tensors.
    """
    config, _ = read_facts(path)
    if expected is not None and config != expected:
        found, wanted = config.to_json(), expected.to_json()
        differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        fields = "; ".join(f"{key} is {found.get(key)!r}, wanted {wanted.get(key)!r}" for key in differing)
        raise CheckpointError(f"{path}: weights of another configuration: {fields}")
    misfit = f"{path}: does not fit the network it describes: "
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            weights = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
            least = LEAST_WEIGHTS * config.width**2 * config.stages * config.units
            if weights < least:
                raise CheckpointError(f"{misfit}it holds {weights:,} weights, which takes {least:,} or more")
            model = network_of(config)
            # fp16 weights are widened here: the network always computes in the type it was built in.
            state = {name: file.get_tensor(name) for name in names}
    except (ConfigError, SafetensorError, OSError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(misfit + reason(error)) from error
    fill(model, state, misfit)
    return model.eval()


def fill(model: Network, state: Mapping[str, Tensor], misfit: str) -> None:
    """Give ``model`` the weights ``state``.

    Raises :class:`CheckpointError`, which begins with ``misfit`` and names the tensors that do not fit.
    """
    own = model.state_dict()
    for what, names in (("without", own.keys() - state.keys()), ("unknown", state.keys() - own.keys())):
        if names:
            raise CheckpointError(f"{misfit}{what} {_some(names)}")
    shapes = [
        f"{name} is {'×'.join(map(str, state[name].shape))}, wanted {'×'.join(map(str, value.shape))}"
        for name, value in own.items()
        if state[name].shape != value.shape
    ]
    if shapes:
        raise CheckpointError(misfit + _some(shapes, separator="; "))
    model.load_state_dict(state)


def _some(names: Iterable[str], most: int = 3, separator: str = ", ") -> str:
    names = sorted(names)
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
