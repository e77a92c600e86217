"""Checkpoints to resume from and weights to ship: written atomically, loaded without running anybody's code."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mula_lib.files import CheckpointError, ConfigError, write_bytes
from mula_lib.models.network import ModelConfig, Network, network_of


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and strings in nested dicts and lists to ``path``, atomically."""
    content = io.BytesIO()  # written by Python: of a full disk PyTorch's own writer says "unexpected pos 576 vs 534"
    torch.save(dict(state), content)
    write_bytes(path, content.getbuffer())


def load_checkpoint(path: Path) -> dict:
    """Read what :func:`save_checkpoint` wrote, on the CPU; :class:`CheckpointError` for any other or damaged file."""
    fix = "delete it and run again: the run starts over"
    state = load_plain(path, "not a whole checkpoint", fix=fix)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint; {fix}")
    return state


def load_plain(path: Path, problem: str, *, fix: str) -> object:
    """Read a file of ``torch.save`` that holds tensors and plain values only; none of its code is run.

    Raises :class:`CheckpointError`, which states ``problem`` and ``fix``, for any other file and for a damaged one.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:  # its message advises to load the file with less care
        why = "damaged, or more than tensors and plain values in it"
        raise CheckpointError(f"{path}: {problem} ({why}); {fix}") from error
    except Exception as error:  # torch raises a different type for nearly every kind of damage
        raise CheckpointError(f"{path}: {problem} ({_first_line(error)}); {fix}") from error


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
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise CheckpointError(
            f"{path}: not a weights file of this project ({why}); restore it from git or train again"
        ) from error
    return config, facts


def load_model(path: Path, expected: ModelConfig | None = None) -> Network:
    """Build the network a weights file describes and load its weights, in evaluation mode.

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
    model = network_of(config)
    try:
        with safe_open(path, framework="pt") as file:
            # fp16 weights are widened as they are loaded: the network computes in the type it was built in.
            fill(model, {name: file.get_tensor(name) for name in file.keys()}, misfit)  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(misfit + _first_line(error)) from error
    return model.eval()


def fill(model: Network, state: Mapping[str, Tensor], misfit: str) -> None:
    """Load the weights ``state`` into ``model``.

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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
