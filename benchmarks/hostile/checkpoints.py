"""Checkpoints and weights: damaged, of another network, larger than any machine, and with code that would run."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from benchmarks.hostile import damage
from benchmarks.hostile.harness import REFUSED, RIGHT, Trial, kind, nothing
from mula_lib.checkpoint import load_checkpoint, load_model, save_checkpoint, save_weights
from mula_lib.files import shown
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.network import ModelConfig, Network, build_model
from mula_lib.models.released import load_official
from workbook.photo import Predictor, load_predictor

DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "cut": damage.cut,
    "a flipped bit": damage.flipped,
    "flipped bits": functools.partial(damage.flipped, bits=20),
    "zeros at its end": damage.emptied,
    "a piece missing": damage.without_a_piece,
    "noise": damage.noise,
    "a web page": damage.web_page,
}


class Bomb:
    """Pickles into a call that would leave a file behind if anybody made it."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple:
        return self.call


def _bombs(mark: Path) -> dict[str, Bomb]:
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Bomb(os.system, f"touch '{mark}'"),
        "exec": Bomb(exec, code),
        "eval": Bomb(eval, f"[open({str(mark)!r}, 'w')]"),
        "getattr": Bomb(getattr, Bomb(__import__, "os"), "system"),
        "os.mkdir": Bomb(os.mkdir, str(mark)),
        "a partial": Bomb(functools.partial, os.mkdir, str(mark)),
    }


def _armed(path: Path, rng: np.random.Generator, part: object) -> tuple[str, Callable[[], None]]:
    """Write a pickle bomb in one of PyTorch's formats to ``path``; returns its name, and what finds it gone off."""
    mark = path.parent / "went off"
    name, bomb = damage.pick(rng, _bombs(mark))
    protocol = int(rng.integers(2, 5))
    form = int(rng.integers(3))
    content = bomb if rng.integers(2) else {"model": part, "bomb": bomb}
    if form == 0:
        path.write_bytes(pickle.dumps(bomb, protocol=protocol))
    elif form == 1:
        torch.save(content, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    else:
        torch.save(content, path, pickle_protocol=protocol)

    def has_not_gone_off() -> None:
        assert not mark.exists(), "its code was run"

    return f"pickle bomb: {name}", has_not_gone_off


def _same(found: object, wanted: object) -> bool:
    if isinstance(wanted, Tensor):
        return isinstance(found, Tensor) and found.dtype == wanted.dtype and torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return isinstance(found, dict) and found.keys() == wanted.keys() and all(
            _same(found[name], value) for name, value in wanted.items()
        )  # fmt: skip
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_same, found, wanted))
    return type(found) is type(wanted) and found == wanted


def _state(rng: np.random.Generator) -> dict:
    return {
        "fingerprint": "0123456789abcdef",
        "model": {f"layer {i}": torch.from_numpy(rng.normal(size=(3, 4)).astype(np.float32)) for i in range(3)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "log": [{"epoch": 1, "loss": 2.5}],
        "seconds": 1.5,
    }


def _file(
    path: Path, rng: np.random.Generator, reader: Callable, judge: Callable[[object], None], part: object
) -> Trial:
    """A sound file at ``path``, after one thing was done to it; ``part`` of its content may go along with a bomb."""
    choice = rng.random()
    after, must = nothing, None
    if choice < 0.55:
        what, spoil = damage.pick(rng, DAMAGES)
        content = path.read_bytes()
        damaged = spoil(content, rng)
        if damaged == content:
            must = RIGHT
        path.write_bytes(damaged)
    elif choice < 0.7:
        what, place = damage.pick(rng, damage.PLACES)
        place(path)
        must = REFUSED
    elif choice < 0.85:
        what, after = _armed(path, rng, part)
        must = REFUSED
    elif choice < 0.9:
        what, must = "another kind of file", REFUSED
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps([1, 2]))
    elif choice < 0.95:
        what, path = "a strange name", damage.renamed(path, rng)
        must = RIGHT if path.name.isprintable() or path.name.isascii() else None  # safetensors wants UTF-8
    else:
        what, must = "as it was written, behind a link", RIGHT
        damage.linked(path)
    return Trial(what, lambda: reader(path), (shown(path.name),), judge, must, after)


@kind("checkpoint to resume from", share=10)
def checkpoint(folder: Path, rng: np.random.Generator) -> Trial:
    """What ``save_checkpoint`` wrote, damaged."""
    state, path = _state(rng), folder / "last.ckpt"
    save_checkpoint(path, state)

    def judge(found: object) -> None:
        assert _same(found, state), "another state than was saved"

    return _file(path, rng, load_checkpoint, judge, state["model"])


@kind("the authors' checkpoint", share=6)
def official(folder: Path, rng: np.random.Generator) -> Trial:
    """A file like the authors', with NumPy's numbers beside the weights."""
    weights = _state(rng)["model"]
    content = {"epoch": 250, "state_dict": weights, "best_pck": np.float64(85.4)}
    path = folder / "official.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=bool(rng.integers(2)))

    def judge(found: object) -> None:
        assert _same(found, weights), "other weights than were saved"

    # The older format has no checksums: what a flipped bit makes of a number cannot be noticed there.
    def loosely(found: object) -> None:
        assert isinstance(found, dict)
        assert all(isinstance(value, Tensor) for value in found.values())

    old = path.read_bytes()[:2] != b"PK"
    trial = _file(path, rng, load_official, loosely if old else judge, weights)
    return trial


CONFIG = ModelConfig("vgg", ("adapt",), 8, parts=4, joints=3, adaptation=AdaptationConfig(3))
FACTS = {"experiment": "VGG16-FCN-MuLA", "profile": "smoke", "fingerprint": "x", "log": []}


@functools.cache
def _network() -> Network:
    return build_model(CONFIG, 0)


def _with_header(rng: np.random.Generator, header: dict) -> str:
    """Change one thing of a configuration; returns what."""
    strange = {
        "a vast width": 2**40, "width 0": 0, "a negative width": -8, "a fraction": 8.5, "a word": "wide", "null": None,
        "a list": [8], "not a number": float("nan"), "an object": {}, "true": True,
    }  # fmt: skip
    name = ("width", "units", "parts", "joints", "backbone", "interactions", "adaptation", "image", "rival")[
        rng.integers(9)
    ]
    what, value = list(strange.items())[rng.integers(len(strange))]
    if name == "interactions" and rng.integers(2):
        header[name] = ["adapt"] * int(rng.choice([0, 2, 100_000])) + ["unheard of"] * int(rng.integers(2))
        return f"{len(header[name])} interactions"
    if rng.integers(8) == 0:
        header.pop(name, None)
        return f"without {name}"
    header[name] = value
    return f"{name}: {what}"


def _other_tensors(rng: np.random.Generator, tensors: dict[str, Tensor]) -> str:
    """Change one tensor; returns how."""
    names = [name for name, value in tensors.items() if value.ndim > 1]
    name = names[rng.integers(len(names))]
    value = tensors[name]
    how = int(rng.integers(6))
    if how == 0:
        del tensors[name]
        return "a tensor missing"
    if how == 1:
        tensors["one.too.many"] = value.clone()
        return "a tensor too many"
    if how == 2:
        tensors[name] = value.flatten().clone()
        return "a tensor flattened"
    if how == 3:
        tensors[name] = value.repeat_interleave(2, dim=0).contiguous()
        return "a tensor twice as large"
    if how == 4:
        tensors[name] = torch.zeros(0)
        return "an empty tensor"
    tensors[f"{name}.renamed"] = tensors.pop(name)
    return "a tensor renamed"


@kind("weights", share=14)
def weights(folder: Path, rng: np.random.Generator) -> Trial:
    """What ``save_weights`` wrote, damaged or with another description than its tensors have."""
    path, network = folder / "weights.safetensors", _network()
    save_weights(path, network, FACTS)

    def judge(found: object) -> None:
        assert isinstance(found, Network)
        assert found.config == CONFIG
        assert _same(dict(found.state_dict()), dict(network.state_dict())), "other weights than were saved"

    if rng.random() < 0.5:
        return _file(path, rng, load_model, judge, dict(network.state_dict()))
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    must: str | None = REFUSED
    if rng.random() < 0.6:
        model = copy.deepcopy(json.loads(header["model"]))
        what, header["model"] = _with_header(rng, model), json.dumps(model)
        must = None  # some changes, such as a missing value that has a default, are none
    elif rng.random() < 0.7:
        what = _other_tensors(rng, tensors)
    else:
        name = ("model", "facts")[rng.integers(2)]
        what, header[name] = f"{name} is no JSON", "{" * int(rng.choice([1, 100_000]))
    header.pop("sha256", None)  # as somebody would who makes such a file by hand
    path.write_bytes(save(tensors, metadata=header))
    return Trial(what, lambda: load_model(path), (path.name,), judge, must)


SMALL = ModelConfig("vgg", ("adapt",), 8, adaptation=AdaptationConfig(3))


@functools.cache
def _small() -> Network:
    return build_model(SMALL, 0)


@kind("network for photographs", share=1)
def for_photographs(folder: Path, rng: np.random.Generator) -> Trial:
    """Weights that a user gives with ``--weights``, with something strange in their header."""
    path = folder / "mine.safetensors"
    facts = {"experiment": "mine", "profile": "smoke", "fingerprint": "x", "dataset": "people"}
    what = "as it was written"
    values = ("paper", "no such profile", 5, None, [], {}, "x" * 1000, "line\nend", True)
    choice = int(rng.integers(4))
    name = list(facts)[rng.integers(len(facts))]
    if choice == 0:
        del facts[name]
        what = f"without {name}"
    elif choice == 1:
        facts[name] = values[rng.integers(len(values))]
        what = f"{name} of another kind"
    save_weights(path, _small(), facts)
    if choice == 2:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata())
            tensors = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 - not a dict
        model = json.loads(header["model"])
        what, header["model"] = _with_header(rng, model), json.dumps(model)
        del header["sha256"]
        path.write_bytes(save(tensors, metadata=header))

    def judge(found: object) -> None:
        assert isinstance(found, Predictor)
        assert found.name == str(facts["experiment"])
        assert found.profile.name == facts["profile"]
        assert _same(dict(found.network.state_dict()), dict(_small().state_dict()))

    return Trial(what, lambda: load_predictor(path), (path.name,), judge, RIGHT if choice == 3 else None)
