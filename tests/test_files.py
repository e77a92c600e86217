"""Files are whole or absent: whatever operation fails, and however the writing process ends."""

import errno
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from mula_lib.checkpoint import save_checkpoint
from mula_lib.evaluation import Evaluation
from mula_lib.files import (
    PARTIAL,
    DataError,
    StorageError,
    read_arrays,
    read_json,
    remove_partials,
    require_writable,
    write_json,
    write_text,
)

OPERATIONS = ("open", "close", "fsync", "chmod", "replace")  # of os, in whatever order they are called


class FailsAt:
    """Lets ``calls`` calls of os pass and makes the next one fail as if the disk were full."""

    def __init__(self, monkeypatch, calls, folder):
        self.left = calls
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name), folder))

    def wrapped(self, operation, folder):
        def call(path, *rest, **named):
            here = isinstance(path, int) or str(path).startswith(str(folder))
            if here:
                self.left -= 1
                if self.left == -1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return operation(path, *rest, **named)

        return call


WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "JSON": lambda path: write_json(path, {"new": 1}),
    "checkpoint": lambda path: save_checkpoint(path, {"new": torch.zeros(3)}),
    "counts": lambda path: Evaluation(("a",), np.zeros((1, 2, 2), int), np.zeros((1, 3))).save(path),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("calls", range(8))
def test_whatever_operation_fails_the_old_file_stays_and_nothing_is_left_over(kind, calls, tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")
    failed = None
    with monkeypatch.context() as patched:
        failing = FailsAt(patched, calls, tmp_path)
        try:
            WRITERS[kind](path)
        except StorageError as error:
            failed = str(error)
    assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]
    assert (failed is None) == (failing.left >= 0)
    if failed is None:
        assert path.read_bytes() != b"old"
    else:
        assert failed.startswith(f"{path} cannot be written: No space left on device; make room")
        # the last operation asks the disk to keep the new name: the new file is whole by then
        assert path.read_text(errors="replace") == "old" or failing.left == -1


@pytest.fixture
def quota(tmp_path):
    """Runs code with a quota of so many bytes a file; gives the error it ended with."""

    def run(code, limit=20_000):
        script = f"""
            import sys, resource
            sys.path.insert(0, {str(REPOSITORY)!r})
            from pathlib import Path
            from mula_lib.files import MulaError
            path = Path({str(tmp_path / "file")!r})
            import torch
            from mula_lib.checkpoint import save_checkpoint, save_weights
            from mula_lib.models.network import build_model
            from mula_lib.models.network import ModelConfig
            config = ModelConfig("vgg", ("none",), 16)
            model = build_model(config, 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
            try:
                {code}
            except MulaError as error:
                print(error)
        """
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=120
        ).stdout.strip()

    return run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count otherwise")
@pytest.mark.parametrize(
    "code", ["save_checkpoint(path, {'x': torch.zeros(100_000)})", "save_weights(path, model, {})"]
)
def test_a_network_that_finds_no_room_is_an_error_in_a_line_and_not_half_a_file(code, quota, tmp_path):
    (tmp_path / "file").write_text("old")
    assert quota(code).startswith(f"{tmp_path / 'file'} cannot be written: File too large")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_process_killed_while_it_writes_leaves_the_old_file_and_a_partial_one_that_is_cleared_away(tmp_path):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from mula_lib.files import atomic_path
        with atomic_path({str(tmp_path / "picture.png")!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "picture.png").write_text("old")
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -9
    (partial,) = (path for path in tmp_path.iterdir() if path.name != "picture.png")
    assert partial.name.startswith(".picture.png.")
    assert partial.name.endswith(PARTIAL)
    assert [path.name for path in tmp_path.glob("*.png")] == ["picture.png"]
    remove_partials(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("picture.png", "old")]


def test_a_folder_is_tried_before_it_is_needed(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/folder cannot be written: Not a directory; a file is in the place"):
        require_writable(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "JSONDecodeError"),
        (b'{"a": 1', "JSONDecodeError"),
        (b'"\xe4"', "UnicodeDecodeError"),
        (b"[" * 100_000, "RecursionError"),
        (b"[1]", "no JSON object"),
        (b'{"b": 1}', "without a"),
    ],
)
def test_json_that_is_not_what_it_should_be_is_one_line(content, said, tmp_path):
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"facts\.json: not a fact \({said}\); delete it") as caught:
        read_json(path, "a fact", ("a",), mend="delete it")
    assert "\n" not in str(caught.value)


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "facts.json", {"a": [1, "×"]})
    assert read_json(tmp_path / "facts.json", "a fact", ("a",), mend="") == {"a": [1, "×"]}
    assert json.loads((tmp_path / "facts.json").read_text(encoding="utf-8")) == {"a": [1, "×"]}


@pytest.mark.parametrize("cut", [0, 1, 40, 200, -1, -30])
def test_arrays_cut_short_are_one_line(cut, tmp_path):
    path = tmp_path / "counts.npz"
    np.savez_compressed(path, a=np.arange(300))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"counts\.npz: not counts \(\w+\); run again"):
        read_arrays(path, "counts", mend="run again")


def test_pickled_objects_in_arrays_are_never_unpacked(tmp_path):
    path = tmp_path / "counts.npz"
    np.savez(path, a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(DataError, match=r"counts\.npz: not counts \(ValueError\)"):
        read_arrays(path, "counts", mend="run again")
