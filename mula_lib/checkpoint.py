"""Checkpoints to resume from and weights to ship: written atomically, loaded without running anybody's code."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mula_lib.files import CheckpointError, ConfigError, shown, write_bytes
from mula_lib.models.network import ModelConfig, Network, network_of

WORDS = ("experiment", "profile", "dataset", "fingerprint", "trained_on")  # facts that are words, where they are given
# A network of C channels, T stages and u residual units has at least so many times C²Tu weights: half a lone trunk's.
# A file that holds less than what it describes is refused before memory is taken for it.
LEAST_WEIGHTS = 25


def save_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and strings in nested dicts and lists to ``path``, atomically."""
    content = io.BytesIO()  # written by Python: of a full disk PyTorch's own writer says "unexpected pos 576 vs 534"
    torch.save(dict(state), content)
    write_bytes(path, content.getbuffer())


def load_checkpoint(path: Path) -> dict:
    """Read what :func:`save_checkpoint` wrote, on the CPU and with ``weights_only``.

    Raises:
        CheckpointError: the file is damaged or holds anything but tensors and plain values.
    """
    state = load_plain(path, "not a whole checkpoint", mend="delete it and run again: the run starts over")
    if not isinstance(state, dict):
        raise CheckpointError(f"{shown(path)}: not a checkpoint; delete it and run again: the run starts over")
    return state


def load_plain(path: Path, wrong: str, *, mend: str) -> object:
    """Read a file of ``torch.save`` that holds tensors and plain values only; none of its code is run.

    Raises :class:`CheckpointError`, which says ``wrong`` and ``mend``, for any other file and for a damaged one.
    """
    _require_regular(path)
    try:
        if zipfile.is_zipfile(path):  # as all but the oldest; PyTorch does not look at its checksums
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} is not what was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ways to write that are odd and no harm
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its message advises to load the file with less care
        why = "damaged, or more than tensors and plain values in it"
        raise CheckpointError(f"{shown(path)}: {wrong} ({why}); {mend}") from error
    except Exception as error:  # torch raises a different type for nearly every kind of damage
        raise CheckpointError(f"{shown(path)}: {wrong} ({reason(error)}); {mend}") from error


def _require_regular(path: Path) -> None:
    """A pipe or a device, which never ends, is not begun to be read."""
    if not os.path.lexists(path):
        raise CheckpointError(f"{shown(path)}: no such file")
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise CheckpointError(f"{shown(path)}: cannot be opened ({error.strerror})") from error
    if not regular:
        raise CheckpointError(f"{shown(path)}: not a regular file; give the file itself")


def reason(error: Exception, most: int = 120) -> str:
    """What an error says, in a part of a line."""
    line = shown(str(error).strip().split("\n")[0])
    return line[:most] or type(error).__name__


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
    header["sha256"] = _digest(header, tensors)
    write_bytes(path, save(tensors, metadata=header))


def _digest(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Of what a weights file says: safetensors has no checksums, and a flipped bit would be another network."""
    digest = hashlib.sha256()
    for name in ("model", "facts"):
        digest.update(header[name].encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read_facts(path: Path, *keys: str) -> tuple[ModelConfig, dict]:
    """The configuration and facts in a weights file's header.

    Raises :class:`CheckpointError` where it is not one of ours, or has no facts of the names ``keys``.
    """
    _require_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        config, facts = ModelConfig.from_json(json.loads(header["model"])), json.loads(header["facts"])
        if not isinstance(facts, dict) or not all(isinstance(facts.get(name, ""), str) for name in WORDS):
            raise ValueError("its facts are not of the kind that they should be")
        absent = [name for name in keys if name not in facts]
        if absent:
            raise ValueError(f"without {', '.join(absent)}")
    except ConfigError as error:
        raise CheckpointError(f"{shown(path)}: describes a network that cannot be: {error}") from error
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{shown(path)}: not a weights file of this project ({type(error).__name__}: {reason(error)}); "
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
        raise CheckpointError(f"{shown(path)}: weights of another configuration: {fields}")
    misfit = f"{shown(path)}: does not fit the network it describes: "
    try:
        with safe_open(path, framework="pt") as file:
            names, header = list(file.keys()), file.metadata()
            weights = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
            least = LEAST_WEIGHTS * config.width**2 * config.stages * config.units
            if weights < least:
                raise CheckpointError(f"{misfit}it holds {weights:,} weights, which takes {least:,} or more")
            model = network_of(config)
            # fp16 weights are widened here: the network always computes in the type it was built in.
            state = {name: file.get_tensor(name) for name in names}
        if "sha256" in header and header["sha256"] != _digest(header, state):
            raise CheckpointError(f"{shown(path)}: damaged: its content is not what was written; restore it")
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
