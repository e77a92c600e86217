"""The command line behind run_all.sh: what a user's mistake looks like, and what a failed notebook does."""

import json
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import psutil
import pytest
from conftest import REPOSITORY

from mula_lib.files import ConfigError, MulaError, StorageError
from workbook import cli as workbook
from workbook import jobs
from workbook import notebooks as execution
from workbook.datasets import open_source
from workbook.experiments import find_experiment
from workbook.profiles import SMOKE
from workbook.runs import Run
from workbook.tables import table_experiments


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "workbook.cli", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny"], ["unknown profile 'tiny'", "smoke", "demo"]),
        (["smoke", "--only", "VGG17"], ["unknown experiment 'VGG17'", "VGG16-FCN-MuLA"]),
        (["smoke", "--dataset", "coco"], ["unknown data set 'coco'", "people"]),
        (["smoke", "--dataset", "crowds"], ["unknown data set 'crowds' for these tables", "people"]),
        (["smoke", "--crowd-dataset", "lip"], ["unknown data set 'lip' for these tables", "pascal"]),
        (["smoke", "--crowd-dataset", "pascal"], ["no path given", "MULA_PASCAL"]),
        (["smoke", "--tables", "5", "--only", "VGG16-FCN"], ["none of the rows", "5"]),
        (["smoke", "--data", "/no/such/folder"], ["/no/such/folder", "no such folder"]),
        (["smoke", "--dataset", "lip"], ["no path given", "MULA_LIP"]),
        (["smoke", "--jobs", "0"], ["--jobs"]),
    ],
)
def test_a_users_mistake_is_one_line_and_a_status_that_says_so(arguments, words, monkeypatch):
    for variable in ("MULA_LIP", "MULA_PASCAL"):
        monkeypatch.delenv(variable, raising=False)
    done = command(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


ALL_FOUR = 'profile = ""\ndataset = "fixture"\ndata_path = ""\nseeds = [0]'


def notebook_with(code, tmp_path, parameters=ALL_FOUR):
    import nbformat

    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    folder = tmp_path / "notebooks"
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / "00_tried.ipynb")
    return folder


@pytest.fixture
def execute(monkeypatch, tmp_path, source):
    def run(code, profile=SMOKE, **changes):
        monkeypatch.setattr(execution, "NOTEBOOKS", notebook_with(code, tmp_path, **changes))
        monkeypatch.setattr(execution, "EXECUTED", tmp_path / "executed")
        execution.execute_notebooks(profile, [source], (0, 1))
        return json.loads((tmp_path / "executed" / "smoke" / "00_tried.ipynb").read_text())

    return run


def test_notebooks_are_executed_with_the_profile_the_data_set_and_the_seeds(execute):
    executed = execute("print(profile, dataset, seeds)")
    text = "".join(executed["cells"][-1]["outputs"][0]["text"])
    assert text == "smoke fixture [0, 1]\n"


def test_a_notebook_with_several_people_an_image_is_executed_with_such_data(tmp_path, monkeypatch):
    parameters = ALL_FOUR.replace("fixture", "crowd-fixture")
    monkeypatch.setattr(execution, "NOTEBOOKS", notebook_with("print(dataset)", tmp_path, parameters))
    monkeypatch.setattr(execution, "EXECUTED", tmp_path / "executed")
    execution.execute_notebooks(SMOKE, [open_source("fixture"), open_source("crowd-fixture")], (0,))
    executed = json.loads((tmp_path / "executed" / "smoke" / "00_tried.ipynb").read_text())
    assert "".join(executed["cells"][-1]["outputs"][0]["text"]) == "crowd-fixture\n"


def test_the_tables_asked_for_decide_which_runs_are_wanted():
    options = workbook._parser().parse_args(["smoke", "--tables", "2", "6"])
    single, crowds = workbook._halves(SMOKE, (2, 6), options)
    assert (single.tables, crowds.tables) == ((2,), (6,))
    names = [run.experiment.name for run in workbook._wanted(crowds, (0,), [], False)]
    assert names == [experiment.name for experiment in table_experiments(6)]
    row = [find_experiment("HG-2×1u")]
    (of_one,), (of_several,) = (workbook._wanted(half, (0,), row, False) for half in (single, crowds))
    assert of_one.folder != of_several.folder
    assert of_one.shipped_weights != of_several.shipped_weights
    only_two = workbook._halves(SMOKE, (2,), options)
    assert [half.tables for half in only_two] == [(2,)]


def test_notebooks_announce_themselves_with_an_estimate_from_the_last_time(execute, capsys):
    execute("pass")
    assert "[1/1] 00_tried.ipynb begins; 0 s so far, no estimate yet" in capsys.readouterr().out
    (seconds,) = execution.EXECUTED.rglob("seconds.json")
    seconds.write_text(json.dumps({"00_tried.ipynb": 75.0}))
    execute("pass")
    assert "0 s so far, about 1 min 15 s to go" in capsys.readouterr().out
    assert json.loads(seconds.read_text())["00_tried.ipynb"] < 60
    seconds.write_text("half a file")
    execute("pass")
    assert "no estimate yet" in capsys.readouterr().out


def test_a_notebook_never_seen_counts_as_the_mean_of_the_others(tmp_path):
    took = execution._Durations(tmp_path / "seconds.json")
    assert took.estimate(["a"]) is None
    took.note("a", 10.0)
    took.note("b", 20.0)
    assert execution._Durations(tmp_path / "seconds.json").estimate(["a", "b", "c"]) == 45.0


def test_a_failed_cell_names_the_notebook_the_cell_and_the_error(execute):
    with pytest.raises(MulaError, match=r"00_tried\.ipynb, cell 3: ValueError: seven"):
        execute("raise ValueError('seven')")


def test_a_notebook_without_a_parameter_is_an_error_not_a_warning(execute):
    with pytest.raises(ConfigError, match=r"00_tried\.ipynb: no parameter data_path, dataset, seeds"):
        execute("pass", parameters='profile = "smoke"  # alone')


def test_a_kernel_that_is_killed_is_told_from_a_cell_that_failed(execute):
    with pytest.raises(MulaError, match=r"00_tried\.ipynb: its kernel was killed, perhaps for memory; run again"):
        execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_cell_that_takes_too_long_is_ended(execute):
    with pytest.raises(MulaError, match=r"00_tried\.ipynb: a cell took more than 2 s"):
        execute("import time; time.sleep(60)", profile=replace(SMOKE, cell_timeout=2))


def test_a_users_mistake_in_a_notebook_is_one_line_without_the_way_it_came(execute):
    code = "from workbook.profiles import find_profile\nfind_profile('tiny')"
    with pytest.raises(MulaError, match=r"cell 3: ConfigError: unknown profile 'tiny'; known: smoke"):
        execute(code)
    (executed,) = execution.EXECUTED.rglob("00_tried.ipynb")
    (error,) = json.loads(executed.read_text())["cells"][-1]["outputs"]
    assert len(error["traceback"]) == 1
    assert error["traceback"][0].startswith("ConfigError: unknown profile 'tiny'")


def test_a_notebook_in_work_leaves_the_last_whole_one_in_its_place(execute, tmp_path):
    execute("print('first')")
    look = "from pathlib import Path\nprint(Path('../executed/smoke/00_tried.ipynb').read_text().count('first'))"
    assert "2" in "".join(execute(look)["cells"][-1]["outputs"][0]["text"])  # the source and its output
    files = {path.name for path in (tmp_path / "executed" / "smoke").rglob("*") if path.is_file()}
    assert files == {"00_tried.ipynb", "seconds.json"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such limits")
def test_an_executed_notebook_that_finds_no_room_does_not_take_the_last_ones_place(execute):
    import resource

    before = execute("print('first')")
    (executed,) = execution.EXECUTED.rglob("00_tried.ipynb")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"00_tried\.ipynb cannot be written: File too large"):
            execute("print('x' * 9000)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert json.loads(executed.read_text()) == before


def test_a_damaged_notebook_is_named(tmp_path, monkeypatch, source):
    folder = notebook_with("pass", tmp_path)
    (folder / "00_tried.ipynb").write_text('{"cells": [<<<<<<<')
    monkeypatch.setattr(execution, "NOTEBOOKS", folder)
    with pytest.raises(ConfigError, match=r"00_tried\.ipynb: not a whole notebook \(\w+\); restore it from git"):
        execution.execute_notebooks(SMOKE, [source], (0,))


def test_notebooks_use_the_library_of_their_own_checkout(execute):
    executed = execute("import mula_lib; print(mula_lib.__file__)")
    assert "".join(executed["cells"][-1]["outputs"][0]["text"]).startswith(str(REPOSITORY))


def test_rows_trained_side_by_side_equal_rows_trained_alone(source, tiny_profile, tmp_path):
    runs = [Run(find_experiment(n), tiny_profile, source, 0, tmp_path / "two") for n in ("VGG16-FCN", "HG-0s-1u-MuLA")]
    jobs.train_rows(runs, jobs=2, retrain=False)
    for run in runs:
        alone = replace(run, base=tmp_path / "one")
        jobs.train_rows([alone], jobs=1, retrain=False)
        assert alone.result().scores == run.result().scores


def test_one_bad_row_costs_no_other_row_its_work(source, tiny_profile, tmp_path):
    good, bad = (
        Run(find_experiment(n), tiny_profile, source, 0, tmp_path) for n in ("VGG16-FCN", "HG-0s-1u-MuLA")
    )
    bad.folder.mkdir(parents=True)
    (bad.folder / "last.ckpt").write_bytes(b"half")
    with pytest.raises(MulaError, match=r"last\.ckpt"):
        jobs.train_rows([bad, good], jobs=2, retrain=False)
    assert good.result() is not None


def test_after_a_file_that_cannot_be_written_no_more_rows_are_begun(source, tiny_profile, tmp_path):
    names = ("VGG16-FCN", "VGG16-FCN-Add", "VGG16-FCN-Multi", "VGG16-FCN-Concat", "VGG16-FCN-Self", "VGG16-FCN-MuLA")
    runs = [Run(find_experiment(name), tiny_profile, source, 0, tmp_path / "runs") for name in names]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").write_text("a file in the place of a folder")
    with pytest.raises(StorageError, match=r"cannot be written: .*; a file is in the place of one of its folders"):
        jobs.train_rows(runs, jobs=2, retrain=False)
    assert all(run.result() is None for run in runs)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, os, signal, sys, time
            from concurrent.futures import ProcessPoolExecutor
            sys.path.insert(0, {str(REPOSITORY)!r})
            from mula_lib.files import end_with_parent

            def work(seconds):
                time.sleep(seconds)
                return os.getpid()

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(2, mp_context=context, initializer=end_with_parent)
                print(*{{pool.submit(work, 0.5).result() for _ in range(1)}}, flush=True)
                pool.submit(work, 600)
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    parent = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert parent.returncode == -9
    (worker,) = map(int, parent.stdout.split())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "an orphan goes on"
        time.sleep(0.05)


def test_ctrl_c_while_workers_start_is_felt_and_ends_everything(source, tiny_profile, tmp_path):
    """It reaches the parent while it submits, and workers that are still importing."""
    script = tmp_path / "rows.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys, threading, time
            from pathlib import Path
            sys.path.insert(0, {str(REPOSITORY)!r})
            from workbook.datasets import open_source
            from workbook.jobs import train_rows
            from workbook.profiles import SMOKE
            from workbook.runs import Run
            from workbook.tables import table_experiments

            if __name__ == "__main__":
                os.setpgrp()
                runs = [Run(each, SMOKE, open_source("fixture"), 0, Path({str(tmp_path)!r})) for each in table_experiments(2)]
                threading.Timer(float(sys.argv[1]), os.killpg, (os.getpgrp(), signal.SIGINT)).start()
                try:
                    train_rows(runs, 2, False)
                except KeyboardInterrupt:
                    print("felt", flush=True)
            """  # noqa: E501 - code of another file
        )
    )
    for delay in ("0.001", "0.2", "1.5"):
        ended = subprocess.run([sys.executable, script, delay], capture_output=True, text=True, timeout=60, check=False)
        assert ended.stdout.endswith("felt\n"), delay
        assert "Traceback" not in ended.stderr, ended.stderr
