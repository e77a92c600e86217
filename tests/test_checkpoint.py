"""Files that outlive a run: atomic, self-describing, and loaded without trust."""

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mula_lib.checkpoint import load_checkpoint, load_model, read_facts, save_checkpoint, save_weights
from mula_lib.files import CheckpointError, atomic_path, write_text
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.network import ImageConvention, ModelConfig, build_model

CONFIG = ModelConfig("hourglass", ("adapt",), 8, adaptation=AdaptationConfig(kernel_size=3))


@pytest.fixture
def model():
    return JointModel(CONFIG).eval()


def test_weights_come_back_with_their_configuration_and_facts(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, {"seed": 3})
    config, facts = read_facts(path)
    assert (config, facts) == (CONFIG, {"seed": 3})
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(load_model(path, CONFIG)(images), model(images))


def test_half_precision_weights_are_smaller_and_predict_nearly_the_same(tmp_path):
    model = JointModel(replace(CONFIG, width=48)).eval()  # wide enough for the header not to count
    save_weights(tmp_path / "full", model, {})
    save_weights(tmp_path / "half", model, {}, half=True)
    assert os.path.getsize(tmp_path / "half") < 0.7 * os.path.getsize(tmp_path / "full")
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    full, half = model(images)[-1], load_model(tmp_path / "half")(images)[-1]
    assert half.parsing.dtype == torch.float32
    torch.testing.assert_close(half.parsing, full.parsing, rtol=0.02, atol=0.02 * full.parsing.abs().max().item())


def test_weights_of_another_configuration_name_the_file_and_the_field(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, {})
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .*width is 8, wanted 16"):
        load_model(path, replace(CONFIG, width=16))


def test_a_network_trained_on_bgr_is_not_taken_for_one_trained_on_rgb(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, JointModel(replace(CONFIG, image=ImageConvention(order="BGR"))), {})
    with pytest.raises(CheckpointError, match=r"image is .*BGR.*, wanted .*RGB"):
        load_model(path, CONFIG)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not weights" * 9])
def test_damaged_weights_are_named(model, tmp_path, damage):
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a weights file"):
        load_model(path)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        load_model(tmp_path / "absent.safetensors")


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    state = {"model": {"w": torch.randn(3)}, "log": [{"epoch": 1, "loss": 0.5, "PCK": None}], "seconds": 1.5}
    save_checkpoint(tmp_path / "last.ckpt", state)
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["log"] == state["log"]


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("bomb-went-off",))


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: not a whole checkpoint"):
        load_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "bomb-went-off").exists()
    with open(tmp_path / "last.ckpt", "rb") as file, pytest.raises(pickle.UnpicklingError):
        pickle.load(file)  # (a zip archive: plain pickle never even starts)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"model": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="delete it and run again"):
        load_checkpoint(path)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_atomic_write_makes_the_folders_it_needs(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_a_flipped_bit_in_weights_is_noticed_wherever_it_is(tmp_path, make_run):
    path = tmp_path / "weights.safetensors"
    save_weights(path, build_model(make_run().model_config, 0), {"fingerprint": "x"})
    content = path.read_bytes()
    for place in (8, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: "):
            load_model(path)
    path.write_bytes(content)
    load_model(path)


def test_weights_of_the_time_before_there_were_digests_are_read(tmp_path, make_run):
    path = tmp_path / "weights.safetensors"
    model = build_model(make_run().model_config, 0)
    save_weights(path, model, {"fingerprint": "x"})
    with safe_open(path, framework="pt") as file:
        header = {name: text for name, text in file.metadata().items() if name != "sha256"}
    save_file(dict(model.state_dict()), path, metadata=header)
    assert_same(load_model(path), model)


def assert_same(first, second):
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


def test_a_file_that_describes_more_than_it_holds_is_refused_before_memory_is_taken(tmp_path, make_run):
    path = tmp_path / "weights.safetensors"
    config = make_run().model_config.to_json()
    header = {"model": json.dumps({**config, "width": 8_000_000}), "facts": "{}"}
    save_file({"a": torch.zeros(3)}, path, metadata=header)
    with pytest.raises(CheckpointError, match=r"it holds 3 weights, which takes 1,600,000,000,000,000 or more"):
        load_model(path)


def test_tensors_that_do_not_fit_are_named_with_both_shapes_in_one_line(tmp_path, make_run):
    path = tmp_path / "weights.safetensors"
    model = build_model(make_run("VGG16-FCN").model_config, 0)
    save_weights(path, model, {"fingerprint": "x"})
    with safe_open(path, framework="pt") as file:
        header = {name: text for name, text in file.metadata().items() if name != "sha256"}
    name = "pose.classifier.0.weight"
    state = dict(model.state_dict())
    save_file({**state, name: torch.zeros(3, 8, 1, 1)}, path, metadata=header)
    with pytest.raises(CheckpointError, match=rf"{name} is 3×8×1×1, wanted 16×8×1×1") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    save_file({each: value for each, value in state.items() if each != name}, path, metadata=header)
    with pytest.raises(CheckpointError, match=rf"does not fit the network it describes: without {name}"):
        load_model(path)
