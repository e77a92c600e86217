"""Files that outlive a run: self-describing, and loaded without trust. (Atomic writes are tested with the files.)"""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from mula_lib.checkpoint import load_checkpoint, load_model, read_facts, save_checkpoint, save_weights
from mula_lib.files import CheckpointError
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.network import ImageConvention, ModelConfig

CONFIG = ModelConfig("hourglass", ("adapt",), 8, adaptation=AdaptationConfig(kernel_size=3))


@pytest.fixture
def model():
    return JointModel(CONFIG).eval()


@pytest.fixture
def path(model, tmp_path):
    save_weights(tmp_path / "weights.safetensors", model, {"seed": 3})
    return tmp_path / "weights.safetensors"


def images():
    return torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)


def test_weights_come_back_with_their_configuration_and_facts(model, path):
    assert read_facts(path, "seed") == (CONFIG, {"seed": 3})
    loaded, photos = load_model(path, CONFIG), images()
    assert not loaded.training
    torch.testing.assert_close(loaded(photos), model(photos), rtol=0, atol=0)


def test_half_precision_weights_are_smaller_and_predict_nearly_the_same(tmp_path):
    model = JointModel(replace(CONFIG, width=48)).eval()  # wide enough for the header not to count
    save_weights(tmp_path / "full", model, {})
    save_weights(tmp_path / "half", model, {}, half=True)
    assert os.path.getsize(tmp_path / "half") < 0.7 * os.path.getsize(tmp_path / "full")
    photos = images()
    full, half = model(photos)[-1], load_model(tmp_path / "half")(photos)[-1]
    assert half.parsing.dtype == torch.float32
    torch.testing.assert_close(half.parsing, full.parsing, rtol=0.02, atol=0.02 * full.parsing.abs().max().item())


def test_weights_of_another_configuration_name_the_file_and_the_fields(path):
    other = replace(CONFIG, width=16, image=ImageConvention(order="BGR"))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .*width is 8, wanted 16; image is .*RGB"):
        load_model(path, other)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b.replace(b"8", b"0")])
def test_damaged_weights_are_named(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: not a weights file"):
        load_model(path)


def test_missing_files_and_facts_are_named(path, tmp_path):
    for load in (load_model, load_checkpoint):
        with pytest.raises(CheckpointError, match="absent: no such file"):
            load(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="without fingerprint"):
        read_facts(path, "seed", "fingerprint")
    save_file(load_file(path), path)  # of somebody else: without a header of ours
    with pytest.raises(CheckpointError, match="not a weights file of this project"):
        load_model(path)


def test_tensors_that_do_not_fit_are_named_with_both_shapes_in_one_line(model, path):
    name, state = "pose.classifier.0.weight", load_file(path)
    header = {"model": json.dumps(CONFIG.to_json()), "facts": "{}"}
    save_file({**state, name: torch.zeros(3, 8, 1, 1)}, path, metadata=header)
    with pytest.raises(CheckpointError, match=rf"does not fit .* {name}.*\[3, 8.*\[16, 8") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    state = {"model": {"w": torch.randn(3)}, "log": [{"epoch": 1, "loss": 0.5, "PCK": None}], "seconds": 1.5}
    save_checkpoint(tmp_path / "last.ckpt", state)
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["log"] == state["log"]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"model": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="delete it and run again"):
        load_checkpoint(path)
