"""The command line behind run_all.sh: what is chosen, what a user's mistake looks like, what a failed notebook does."""

import contextlib
import subprocess
import sys

import nbformat
import papermill
import pytest
import torch
from conftest import REPOSITORY

import workbook.runs as runs_module
from mula_lib.anatomy import LIP
from mula_lib.files import ConfigError, MulaError, usable_cores
from workbook import cli
from workbook import jobs as notebooks
from workbook.datasets import FIXTURES
from workbook.experiments import DEMO, EXPERIMENTS, GPU, SMOKE, find_experiment, find_profile
from workbook.jobs import do_all, in_processes
from workbook.results import table_runs
from workbook.tables import OF_CLAIMS, table_experiments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny"], ["unknown profile 'tiny'", "smoke", "demo"]),
        (["smoke", "--jobs", "-1"], ["--seeds and --jobs take whole numbers from 1"]),
        (["smoke", "--only", "VGG17"], ["unknown experiment 'VGG17'", "VGG16-FCN-MuLA"]),
        (["smoke", "--tables", "5", "--only", "VGG16-FCN"], ["none of the requested rows", "5"]),
        (["smoke", "--lip", "/no/such/folder"], ["/no/such/folder", "no such folder"]),
        (["paper-released", "--tables", "5"], ["paper-released: it has no network for several people"]),
        (["photo", "--tables", "5"], ["photo: it has no network for several people"]),
        (["paper", "--cpu"], ["no data to work with: give --lip PATH"]),
        (["paper", "--cpu", "--tables", "5"], ["no path to pascal; give --pascal PATH"]),
    ],
)
def test_a_users_mistake_is_one_line_and_a_status_that_says_so(arguments, words, monkeypatch, complaint):
    for variable in ("MULA_LIP", "MULA_PASCAL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = complaint(cli.main(arguments))
    assert all(word in said for word in words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
@pytest.mark.parametrize("profile", ["paper", "gpu", "paper-bf16"])
def test_a_profile_for_gpus_refuses_to_run_without_one(profile, complaint):
    said = complaint(cli.main([profile, "--lip", str(FIXTURES["people"])]))
    assert f"profile {profile} needs a GPU, and none was found; --cpu" in said


def chosen(*arguments):
    """(halves, runs) of a command line."""
    options = cli._parser().parse_args(arguments)
    profile = find_profile(options.profile)
    only, tables = cli._asked(options, profile)
    halves = cli._halves(profile, tables, (0,), options)
    return halves, cli._chosen(halves, (0,), only, options.retrain)


def test_the_tables_asked_for_decide_what_is_run():
    (single, crowds), runs = chosen("smoke", "--tables", "2", "6")
    assert (list(single[2]), list(crowds[2])) == ([2], [6])
    assert [run.experiment.name for run in runs if run.source is crowds[1]] == [
        experiment.name for experiment in table_experiments(6)
    ]
    of_one, of_several = (run for run in runs if run.experiment.name == "HG-2×1u")
    assert of_one.folder != of_several.folder
    assert of_one.shipped_weights != of_several.shipped_weights
    assert len({run.folder for run in runs}) == len(runs)


def test_rows_are_asked_for_by_name_or_by_the_table():
    def asked(*names):
        halves, runs = chosen("smoke", "--only", *names)
        return [tuple(tables) for _, _, tables in halves], {run.experiment.name for run in runs}

    assert asked("table2") == ([(2,)], {experiment.name for experiment in table_experiments(2)})
    assert asked("VGG16-FCN-Self") == ([(1,)], {"VGG16-FCN-Self"})
    assert asked("SegNet [1]") == asked("SegNet") == ([(4,)], {"SegNet"})
    assert asked("HG-2×1u", "segnet") == ([(2, 4), (5, 6)], {"HG-2×1u", "SegNet"})
    assert asked("HG-6s-1u-MuLA") == ([(OF_CLAIMS,)], {"HG-6s-1u-MuLA"})
    with pytest.raises(ConfigError, match="unknown experiment 'table7'"):
        asked("table7")


def test_the_list_names_every_training_once(capsys):
    assert cli.main(["paper", "--list"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert len(names) == len(set(names)) == len(EXPERIMENTS)
    assert all(find_experiment(name) for name in names)
    assert cli.main(["paper", "--list", "--tables", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == ["HG-5×1u", "HG-5s-1u-MuLA", "HG-2×1u", "HG-2s-1u-MuLA"]
    assert cli.main(["gpu", "--list"]) == 0
    assert set(capsys.readouterr().out.splitlines()) == {*GPU.core, *GPU.for_crowds().core}  # what it would train


def test_the_demo_trains_nothing_where_weights_are_committed(monkeypatch, tmp_path, source):
    """Rows without weights are left out; with --retrain all are trained, and without any weights the core rows."""
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path)
    monkeypatch.setattr(runs_module, "RUNS", tmp_path)
    monkeypatch.setattr(runs_module.Run.__init__, "__defaults__", (0, tmp_path))

    def names(*how, seeds=(0,)):
        half = DEMO, source, {1: table_runs(1, DEMO, source, seeds)}
        return [run.experiment.name for run in cli._chosen([half], seeds, *how)]

    assert names([], False) == ["VGG16-FCN", "VGG16-FCN-MuLA"]
    assert len(names([], True)) == 9
    only_this = property(lambda run: run.experiment.name == "VGG16-FCN" and run.seed == 0)
    monkeypatch.setattr(runs_module.Run, "shipped", only_this)
    assert names([], False) == ["VGG16-FCN"]
    assert names([], False, seeds=(0, 7)) == ["VGG16-FCN", "VGG16-FCN", "VGG16-FCN-MuLA"]  # two of them of seed 7
    assert names([find_experiment("VGG16-FCN-MTL")], False) == ["VGG16-FCN-MTL"]
    monkeypatch.setattr(runs_module.Run, "trained", True)
    assert len(names([], False)) == 9
    monkeypatch.setattr(runs_module.Run, "metrics", {})  # committed with their counts
    assert names([], False) == ["VGG16-FCN", "VGG16-FCN-MuLA"]


def test_a_core_row_that_other_tables_call_by_another_name_is_trained(monkeypatch, tmp_path, source):
    monkeypatch.setattr(runs_module.Run.__init__, "__defaults__", (0, tmp_path))
    half = GPU, source, {table: table_runs(table, GPU, source) for table in (1, 2, 3, 4)}
    assert {run.experiment.name for run in cli._chosen([half], (0,), [], False)} == set(GPU.core)


def test_nothing_to_do_is_no_error():
    assert do_all([], jobs=2) == []


def test_a_half_without_its_data_is_left_out_and_named(capsys, monkeypatch):
    for variable in ("MULA_LIP", "MULA_PASCAL"):
        monkeypatch.delenv(variable, raising=False)
    ((_, opened, _),), _ = chosen("paper-rehearsal", "--lip", str(FIXTURES["people"]))
    assert opened.anatomy is LIP
    assert "Tables 5 and 6 left out: no path to pascal; give --pascal PATH" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no data to work with"):
        chosen("paper-released-rehearsal", "--pascal", str(FIXTURES["crowds"]))


PARAMETERS = 'profile = ""\ndataset = ""\ndata_path = ""\nseeds = [0]\ntrain = True\ncrowds = None'


@pytest.fixture
def execute(monkeypatch, tmp_path, source):
    def run(code, sources=(), tables=(), name="00_tried"):
        cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
        monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
        monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "executed")
        # in this process, which has the paths above
        monkeypatch.setattr(notebooks, "in_processes", lambda do, jobs, _: enumerate(do(*each) for each in jobs))
        notebooks.execute_notebooks(SMOKE, sources or [source], (0, 1), tables)
        executed = tmp_path / "executed" / "smoke" / f"{name}.ipynb"
        return nbformat.read(executed, 4).cells[-1].outputs[0].text if executed.is_file() else None

    return run


def test_notebooks_get_profile_data_set_and_seeds_and_train_nothing(execute):
    assert execute("print(profile, dataset, seeds, train)") == "smoke fixture [0, 1] False\n"


def test_a_notebook_with_several_people_an_image_gets_such_data(execute, source, crowds):
    both = [source, crowds]
    assert execute("print(dataset)", name="07_tables5_6", sources=both) == "crowd-fixture\n"
    assert execute("print(crowds)", sources=both) == "['crowd-fixture', None]\n"
    assert execute("print(dataset)", name="07_table6") is None


def test_the_claims_are_judged_after_all_else(execute, tmp_path):
    for name in ("10_your_photo", "09_claims"):
        execute(f"print(1); open({str(tmp_path / 'order')!r}, 'a').write('{name} ')", name=name)
    assert (tmp_path / "order").read_text() == "10_your_photo 10_your_photo 09_claims "


def test_only_notebooks_of_the_asked_tables_are_executed(execute):
    assert execute("print(1)", name="03_table1_vgg", tables=(1, 6)) == "1\n"
    assert execute("print(1)", name="04_table2_hourglass", tables=(1, 6)) is None
    assert execute("print(1)", name="04_table2_hourglass", tables=(2,)) == "1\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('seven')", r"00_tried\.ipynb, cell 3: ValueError: seven \(executed copy: "),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its kernel was killed, perhaps out of memory"),
        ("import workbook; workbook.find_profile('tiny')", "cell 3: ConfigError: unknown profile 'tiny'"),
    ],
)
def test_a_failing_notebook_is_named_with_its_cell(execute, code, said):
    with pytest.raises(MulaError, match=said):
        execute(code)


def test_a_cell_that_takes_too_long_is_ended(execute, monkeypatch):
    monkeypatch.setattr(notebooks, "TIMEOUT", 2)
    with pytest.raises(MulaError, match=r"00_tried\.ipynb: a cell took more than 2 s"):
        execute("import time; time.sleep(60)")


@pytest.mark.parametrize(("failures", "said"), [(2, None), (3, r"00_tried\.ipynb: Kernel died")])
def test_a_kernel_that_does_not_start_is_started_again(execute, monkeypatch, failures, said):
    real, left = papermill.execute_notebook, [RuntimeError("Kernel died before replying")] * failures

    def start(*given, **how):
        if left:
            raise left.pop()
        return real(*given, **how)

    monkeypatch.setattr(papermill, "execute_notebook", start)
    with pytest.raises(MulaError, match=said) if said else contextlib.nullcontext():
        assert execute("print(1)") == "1\n"


def test_each_worker_has_one_of_the_gpus_and_one_thread(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    pause = "__import__('time').sleep(0.5)"  # so that both workers get a job
    gpu, threads = "__import__('os').environ['CUDA_VISIBLE_DEVICES']", "__import__('torch').get_num_threads()"
    kernels = "int(__import__('os').environ['OMP_NUM_THREADS'])"  # a notebook's kernel has its share of the cores
    found = {result for _, result in in_processes(eval, [(f"{pause}, {gpu}, {threads}, {kernels}",)] * 4, 2)}
    share = max(1, usable_cores() // 2)
    assert found == {(None, "4", 1, share), (None, "7", 1, share)}


def test_workers_end_when_their_parent_is_killed():
    script = """
import os, signal, time
from workbook.jobs import in_processes
for _ in in_processes(time.sleep, [(0.1,), (600,)], 1):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    # which returns when the last worker has let go of the pipes
    parent = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, timeout=60)
    assert parent.returncode == -9
