"""Files are whole or absent and loaded without trust, locks end with their holders, user errors end in one line."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file

from mula_lib.checkpoint import load_checkpoint, load_model, read_facts, save_checkpoint, save_weights
from mula_lib.files import (
    PARTIAL,
    BusyError,
    CheckpointError,
    DataError,
    StorageError,
    exit_status,
    locked,
    read_json,
    remove_partials,
    require_writable,
    write_json,
    write_text,
)
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.network import ImageConvention, ModelConfig


@pytest.mark.parametrize("write", [write_json, save_checkpoint])
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_whatever_operation_fails_the_old_file_stays_and_nothing_is_left_over(write, operation, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.txt"
    path.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(os, operation, full)
        with pytest.raises(StorageError) as caught:
            write(path, {"new": 1})
    assert str(caught.value).startswith(f"{path} cannot be written: No space left on device; free disk space or")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file.txt", "old")]
    write(path, {"new": 1})
    assert path.read_bytes() != b"old"


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o002)
    try:
        write_text(tmp_path / "file.txt", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o664


def python(code: str, **options) -> subprocess.Popen:
    """A process that runs ``code`` with this checkout's packages."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, **pipes, text=True, cwd=REPOSITORY, **options)


def test_a_process_killed_while_it_writes_leaves_the_old_file_and_a_partial_one_that_is_cleared_away(tmp_path):
    (tmp_path / "picture.png").write_text("old")
    with python(f"""
        import os, signal
        from mula_lib.files import atomic_path
        with atomic_path({str(tmp_path / "picture.png")!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """) as killed:
        assert killed.wait() == -signal.SIGKILL
    (partial,) = (path for path in tmp_path.iterdir() if path.name != "picture.png")
    assert partial.name.startswith(".picture.png.")
    assert partial.name.endswith(PARTIAL)
    remove_partials(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("picture.png", "old")]


def test_a_folder_is_tried_before_it_is_needed(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/folder/\.probe cannot be written: Not a directory"):
        require_writable(tmp_path / "file" / "folder")


@pytest.mark.parametrize("content", [b"", b'"\xe4"', b"7", b'{"b": 1}', None])
def test_json_that_is_not_what_it_should_be_is_named_with_the_fix(content, tmp_path):
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"facts\.json: not a fact \(.+\); delete it"):
        read_json(path, "a fact", ("a",), fix="delete it")


def holder(path) -> subprocess.Popen:
    """A process that holds the lock ``path``, says so, and lets go when it reads a line or ends."""
    return python(f"""
        from mula_lib.files import locked
        with locked({str(path)!r}, "the thing"):
            print("locked", flush=True)
            input()
    """)


def test_a_lock_that_is_held_is_refused_in_a_line_or_waited_for_after_one(tmp_path):
    with locked(tmp_path / "new" / "lock", "the thing"):
        waiting = holder(tmp_path / "new" / "lock")
        assert waiting.stderr.readline() == "another process is working on the thing; waiting for it to end\n"
        assert waiting.poll() is None
    assert waiting.stdout.readline() == "locked\n"
    with (
        pytest.raises(BusyError, match="another process is working on the tables; run this again"),
        locked(tmp_path / "new" / "lock", "the tables", wait=False),
    ):
        pytest.fail("two hold it")
    assert waiting.communicate("\n") == ("", "")


def test_a_lock_ends_with_its_holder_however_that_ends(tmp_path):
    with holder(tmp_path / "lock") as process:
        assert process.stdout.readline() == "locked\n"
        process.kill()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock", "the thing", wait=False):
        _ = 1 / 0
    with locked(tmp_path / "lock", "the thing", wait=False):
        pass


SHM = "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("a.jpg: no such file"), 2, "error: a.jpg: no such file\n"),
        (FileNotFoundError(2, "No such file", "a"), 2, "error: a cannot be used: No such file\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted: all is kept\n"),
        (RuntimeError(f"Caught RuntimeError in DataLoader worker 0.\n{SHM}"), 2, "error: /dev/shm is too small"),
    ],
)
def test_a_command_ends_in_one_line_and_a_status(error, status, said, capsys, monkeypatch):
    assert exit_status(Mock(side_effect=error), kept="all is kept") == status
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert printed.strip().count("\n") == 0
    monkeypatch.setattr(sys, "stdout", None)  # as little a usual one as a notebook's
    assert (exit_status(lambda: None, kept=""), exit_status(lambda: 1, kept="")) == (0, 1)


def test_windows_is_named_as_what_this_does_not_run_on():
    with python("import sys, json; sys.platform = 'win32'; import mula_lib.files") as done:
        assert done.communicate() == ("", "error: this needs Linux or macOS; on Windows, run it in WSL\n")


# Checkpoints and weights: self-describing, and loaded without trust

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
