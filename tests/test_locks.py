"""One process at a time: whoever comes second waits in a line or is refused in one, and no lock outlives its holder."""

import multiprocessing
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import REPOSITORY

from mula_lib import locks
from mula_lib.files import BusyError, StorageError


def holder(path, until="input()"):
    """A process that holds the lock ``path``, says so, and lets go when it is told to, or when it ends."""
    script = f"""
        import sys, time
        sys.path.insert(0, {str(REPOSITORY)!r})
        from mula_lib import locks
        with locks.held({str(path)!r}, "the thing"):
            print("held", flush=True)
            {until}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process


def test_a_lock_that_is_held_is_refused_in_a_line_that_names_who_holds_it(tmp_path):
    with holder(tmp_path / "lock") as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=rf"process {process.pid} on .* is at work on the tables; run this again"),
            locks.held(tmp_path / "lock", "the tables", wait=False),
        ):
            pytest.fail("two hold it")
        process.communicate("\n")
    with locks.held(tmp_path / "lock", "the tables", wait=False):
        pass


def test_who_comes_second_says_that_it_waits_once_and_goes_on_when_the_first_has_ended(tmp_path):
    with locks.held(tmp_path / "lock", "the thing"):
        waiting = holder(tmp_path / "lock")
        said = waiting.stderr.readline()
        assert said.endswith("is at work on the thing; waiting for it to end\n")
        assert waiting.poll() is None
    assert waiting.stdout.readline() == "held\n"
    assert waiting.communicate("\n") == ("", "")


def test_a_lock_ends_with_its_holder_however_that_ends_and_a_file_left_behind_means_nothing(tmp_path):
    process = holder(tmp_path / "lock", until="time.sleep(600)")
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "lock").exists()
    with locks.held(tmp_path / "lock", "the thing", wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_waiting(tmp_path):
    with locks.held(tmp_path / "lock", "the thing"):
        waiting = holder(tmp_path / "lock")
        waiting.stderr.readline()
        time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in waiting.communicate(timeout=30)[1]


def count_up(path, times):
    for _ in range(times):
        with locks.held(path.with_name("lock"), "the counter"):
            value = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(value + 1))


def test_of_many_processes_one_at_a_time_is_within(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    processes = [context.Process(target=count_up, args=(counter, 25)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert counter.read_text() == "150"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_an_error_within_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.held(tmp_path / "lock", "the thing"):
        _ = 1 / 0
    with locks.held(tmp_path / "lock", "the thing", wait=False):
        pass


def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", unknown)
    with locks.held(tmp_path / "lock", "the thing"):
        assert "its file system has no locks" in capsys.readouterr().err


def test_a_lock_that_cannot_be_made_names_itself(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"lock cannot be written"), locks.held(tmp_path / "file" / "lock", "it"):
        pytest.fail("there is no such folder")
