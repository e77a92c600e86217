"""Checkpoints to resume from and weights to ship: written atomically, loaded without running code from the file."""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from mula_lib.files import CheckpointError, ConfigError, write_bytes
from mula_lib.models.network import ModelConfig, Network, network_of


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and strings in nested dicts and lists to ``path``, atomically."""
    content = io.BytesIO()  # Python writes it: on a full disk PyTorch's own writer says "unexpected pos 576 vs 534"
    torch.save(dict(state), content)
    write_bytes(path, content.getbuffer())


def load_checkpoint(path: Path, *, fix: str = "delete it and run again: the run starts over") -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values only, on the CPU; none of its code is run.

    Raises :class:`CheckpointError`, which states ``fix``, for any other file and for a damaged one.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # torch raises a different type for nearly every kind of damage
        unsafe = isinstance(error, pickle.UnpicklingError)  # its message suggests loading the file unsafely
        why = "damaged, or holds more than tensors and plain values" if unsafe else _one_line(error)
        raise CheckpointError(f"{path}: cannot be read safely ({why}); {fix}") from error


def save_weights(path: Path, model: Network, facts: Mapping[str, object], *, half: bool = False) -> None:
    """Write a model's weights as safetensors, with its configuration and ``facts`` (JSON) in the header.

    ``half`` stores kernels as fp16: half the size, and accurate enough to evaluate. Vectors stay as they are, because
    a running variance may leave fp16's range and they weigh nothing.
    """
    tensors = {
        name: (value.half() if half and value.is_floating_point() and value.ndim > 1 else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    header = {"model": json.dumps(model.config.to_json()), "facts": json.dumps(dict(facts))}
    write_bytes(path, save(tensors, metadata=header))


def read_facts(path: Path, *keys: str) -> tuple[ModelConfig, dict]:
    """The configuration and facts in a weights file's header.

    Raises :class:`CheckpointError` for any other file, and if one of the facts ``keys`` is missing.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        config, facts = ModelConfig.from_json(json.loads(header["model"])), json.loads(header["facts"])
        missing = [name for name in keys if name not in facts]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (ConfigError, SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"not a weights file of this project ({type(error).__name__}: {_one_line(error)})"
        raise CheckpointError(f"{path}: {why}; restore it from git or train again") from error
    return config, facts


def load_model(path: Path, expected: ModelConfig | None = None) -> Network:
    """Build the network a weights file describes and load its weights, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged, does not fit its own description, or ``expected`` differs from it;
            the message names the file and every field or tensor that differs.
    """
    config, _ = read_facts(path)
    if expected is not None and config != expected:
        found, wanted = config.to_json(), expected.to_json()
        differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        fields = "; ".join(f"{key} is {found.get(key)!r}, wanted {wanted.get(key)!r}" for key in differing)
        raise CheckpointError(f"{path}: weights of another configuration: {fields}")
    model = network_of(config)
    try:
        model.load_state_dict(load_file(path))  # fp16 is widened: the network computes in the type it was built in
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit the network it describes: {_one_line(error)}") from error
    return model.eval()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
