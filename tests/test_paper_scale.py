"""The paper's profile: its values, the plan before it is begun, its parts for a cluster, and a rehearsal of it all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data import check
from mula_lib.data.augment import Draw, augment_sample
from mula_lib.files import ConfigError, DataError, MulaError
from mula_lib.models.network import build_model
from mula_lib.models.released import released_config
from workbook import cli as workbook
from workbook import costs, plan
from workbook.costs import network_cost
from workbook.datasets import FIXTURES
from workbook.experiments import EXPERIMENTS, find_experiment
from workbook.plan import describe, fitting, plan_table, planned, shard
from workbook.profiles import PAPER, PROFILES, SMOKE, find_profile, rehearsal
from workbook.runs import Run, do_run

RELEASED = find_profile("paper-released")


# Values


def rates(profile, name="HG-5s-1u-MuLA"):
    recipe = find_experiment(name).recipe(profile)
    return [recipe.learning_rate_at(epoch * 10, 10) for epoch in range(250)]


def test_the_papers_schedule_halves_the_rate_four_times():
    found = rates(PAPER)
    expected = [0.0025 * 0.5 ** sum(epoch >= drop for drop in (150, 170, 200, 230)) for epoch in range(250)]
    assert found == pytest.approx(expected)
    assert rates(PAPER, "VGG16-FCN-MuLA") == pytest.approx(expected)


def test_the_authors_code_drops_an_epoch_earlier_and_to_other_shares():
    share = [1.0 if e < 149 else 0.5 if e < 169 else 0.25 if e < 199 else 0.1 if e < 229 else 0.05 for e in range(250)]
    assert rates(RELEASED) == pytest.approx([0.0015 * each for each in share])
    assert rates(RELEASED, "VGG16-FCN-MuLA") == pytest.approx([0.0001 * each for each in share])


def test_the_two_protocols_differ_where_paper_and_code_do():
    assert (PAPER.crop, PAPER.recipe.batch, PAPER.recipe.epochs, PAPER.recipe.pose_weight) == (256, 24, 250, 100)
    assert (PAPER.vgg_width, PAPER.hourglass_width, PAPER.vgg_batch_norm) == (512, 256, False)
    assert (PAPER.recipe.clip_norm, RELEASED.recipe.clip_norm) == (1.0, 0.0)
    assert (PAPER.augmentation.outside, RELEASED.augmentation.outside) == (255, 0)
    assert len(PAPER.testing.scales) > 1
    assert RELEASED.testing.scales == (1.0,)
    assert not RELEASED.testing.mirror_parts


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("HG-5s-1u-MuLA", released_config("hourglass", 5)), ("VGG16-FCN-MuLA", released_config("vgg"))],
)
def test_the_released_protocol_trains_the_network_that_checkpoints_are_of(name, theirs):
    assert find_experiment(name).model_config(RELEASED, LIP) == theirs
    assert not find_experiment(name).model_config(PAPER, LIP).released


def test_every_row_is_built_by_both_protocols_in_a_rehearsal():
    for profile in (rehearsal(PAPER), rehearsal(RELEASED)):
        for experiment in EXPERIMENTS:
            build_model(experiment.model_config(profile, LIP), 0)


def test_beyond_the_photo_there_is_nobody_in_the_authors_code():
    picture = torch.zeros(8, 4, 3).byte().numpy()
    mask, joints = picture[..., 0] + 3, torch.zeros(16, 2).numpy()
    for outside in (255, 0):
        _, warped, _ = augment_sample(picture, mask, joints, 8, Draw(), LIP, outside=outside)
        assert set(warped.ravel().tolist()) == {3, outside}


# Costs


@pytest.mark.parametrize("name", ["VGG16-FCN-MuLA", "HG-2s-1u-MuLA", "Attention", "JPPNet", "Pose-guided refinement"])
def test_what_is_counted_without_computing_is_what_is_kept_when_computing(name):
    config = find_experiment(name).model_config(SMOKE, LIP)
    counted, computed = network_cost(config, 64), costs._count(config, 64, "cpu")
    assert counted == computed
    model = build_model(config, 0)
    assert counted.parameters == sum(each.numel() for each in model.parameters())
    assert counted.kept_bytes > 0


def test_a_convolutions_arithmetic_and_memory_are_as_by_hand(monkeypatch):
    from mula_lib.models.network import Network, StageOutput

    class One(Network):
        def __init__(self, config):
            super().__init__(config)
            self.convolution = torch.nn.Conv2d(3, 20, 3, padding=1, bias=False)

        def forward(self, images):
            return [StageOutput(self.convolution(images).relu(), None)]

    monkeypatch.setattr(costs, "network_of", One)
    cost = costs._count(find_experiment("VGG16-FCN").model_config(SMOKE, LIP), 32, "meta")
    assert cost.gflops == pytest.approx(2 * 3 * 20 * 9 * 32**2 / 1e9, abs=1e-4)
    assert cost.kept_bytes == 4 * (3 + 20) * 32**2  # the convolution's input, and ReLU's output
    assert cost.loss_bytes == 3 * 4 * 20 * 32**2
    assert cost.training_bytes(5) == 3 * 4 * 540 + 5 * (cost.kept_bytes + cost.loss_bytes)


def test_keeping_a_stage_at_a_time_divides_the_features():
    cost = network_cost(find_experiment("HG-5s-1u-MuLA").model_config(SMOKE, LIP), 64)
    whole, saved = (cost.training_bytes(8, save_memory=save) for save in (False, True))
    assert whole - saved == 8 * (cost.kept_bytes - cost.kept_bytes // 5)


# The plan


@pytest.fixture
def tiny(source, tmp_path):
    recipe = replace(SMOKE.recipe, epochs=3)
    profile = replace(SMOKE, crop=32, vgg_width=8, hourglass_width=8, recipe=recipe, watch=0)
    names = ("VGG16-FCN", "VGG16-FCN-MuLA", "HG-0s-1u-MuLA", "HG-2×1u", "HG-2s-1u-MuLA", "SegNet")
    return [Run(find_experiment(name), profile, source, seed, tmp_path) for name in names for seed in (0, 1)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 15), st.randoms(use_true_random=False))
def test_parts_are_all_of_the_runs_and_disjoint_in_any_order(source, of, random):
    runs = [Run(experiment, SMOKE, source, seed) for experiment in EXPERIMENTS[:5] for seed in (0, 1)]
    parts = [shard(runs, number, of) for number in range(1, of + 1)]
    assert sorted(run.folder for part in parts for run in part) == sorted(run.folder for run in runs)
    work = [sum(plan.cost_of(run.model_config, run.profile.crop).gflops for run in part) for part in parts]
    largest = max(plan.cost_of(run.model_config, run.profile.crop).gflops for run in runs)
    assert max(work) - min(work) <= largest + 1e-9


@pytest.mark.parametrize("number", [0, 4])
def test_a_part_that_is_none_is_refused(tiny, number):
    with pytest.raises(ConfigError, match=f"--shard {number}/3"):
        shard(tiny, number, 3)


def test_the_plan_counts_what_is_left_and_its_time(tiny, tmp_path):
    do_run(tiny[0])
    half_done = tiny[2].folder
    half_done.mkdir(parents=True)
    (half_done / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    table = plan_table(tiny).set_index(["row", "seed"])
    assert table["epochs left"].tolist() == [0, 3, 1, *[3] * 9]
    assert table.loc[("VGG16-FCN", 0), "disk MiB"] == 0
    assert planned(tiny[0]).training_tflops == 0
    assert planned(tiny[2]).training_tflops == pytest.approx(planned(tiny[3]).training_tflops / 3)
    text = describe(table.reset_index(), tmp_path)
    assert "11 of 12 runs to train: about" in text


def test_a_full_disk_is_told_before_anything_is_begun(tiny, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage(100, 99, 2**20))
    with pytest.raises(MulaError, match=r"0\.\d GiB are needed and 0\.0 GiB are free; make room"):
        describe(plan_table(tiny[:2]), tmp_path)


def test_what_does_not_fit_the_memory_is_left_out_by_name(tiny, monkeypatch):
    needed = [planned(run).cost.training_bytes(run.recipe.batch) for run in tiny]
    largest = tiny[needed.index(max(needed))]
    monkeypatch.setattr(plan, "device_memory", lambda: int((max(needed) - 1) / plan.ROOM))
    fit, too_large = fitting(tiny)
    assert {run.experiment.name for run in tiny} - {run.experiment.name for run in fit} == set(too_large)
    assert "try --save-memory, or more GPUs" in too_large[largest.experiment.name]
    monkeypatch.setattr(plan, "device_memory", lambda: 2**40)
    assert fitting(tiny) == (tiny, {})


# The command line


def asked(*arguments):
    options = workbook._parser().parse_args(list(arguments))
    return options, workbook._profile(options)


def test_protocol_rehearsal_and_size_name_a_profile():
    assert asked("paper")[1] is PROFILES["paper"]
    assert asked("paper", "--protocol", "released")[1] is RELEASED
    both = asked("paper", "--protocol", "released", "--rehearse")[1]
    assert (both.name, both.crop, both.recipe.clip_norm) == ("paper-released-rehearsal", 64, 0.0)
    assert asked("paper", "--bf16")[1].recipe.bf16
    for wrong in (["demo", "--rehearse"], ["smoke", "--protocol", "released"]):
        with pytest.raises(ConfigError, match="of the profile paper only"):
            asked(*wrong)


def test_rows_are_asked_for_by_name_or_by_the_table():
    tables, rows = workbook._rows_asked_for(asked("paper", "--only", "table2")[0])
    assert tables == (2,)
    assert len(rows) == 9
    tables, rows = workbook._rows_asked_for(asked("paper", "--only", "table1", "HG-2×1u")[0])
    assert tables == (1, 2, 3, 4, 5, 6)
    assert len(rows) == 10
    with pytest.raises(ConfigError, match="unknown experiment 'table7'"):
        workbook._rows_asked_for(asked("paper", "--only", "table7")[0])


@pytest.mark.parametrize("text", ["3", "a/b", "1/2/3", "1.5/2"])
def test_a_malformed_shard_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        asked("paper", "--shard", text)
    assert "write 3/8 for the third of eight parts" in capsys.readouterr().err


def test_a_half_without_its_data_is_left_out_and_named(capsys, monkeypatch):
    monkeypatch.delenv("MULA_PASCAL", raising=False)
    options, profile = asked("paper", "--lip", str(FIXTURES["people"]))
    (half,) = workbook._halves(profile, (1, 2, 3, 4, 5, 6), options)
    assert half.source.anatomy is LIP
    assert "Tables 5 and 6 left out: no path to pascal; give --pascal PATH" in capsys.readouterr().out
    options, profile = asked("paper", "--pascal", str(FIXTURES["crowds"]), "--protocol", "released")
    monkeypatch.delenv("MULA_LIP", raising=False)
    with pytest.raises(ConfigError, match="no data to work with"):
        workbook._halves(profile, (1, 2, 3, 4, 5, 6), options)
    options, profile = asked("paper", "--pascal", str(FIXTURES["crowds"]))
    (half,) = workbook._halves(profile, (1, 2, 3, 4, 5, 6), options)
    assert half.source.anatomy is PASCAL
    assert half.profile.recipe == PAPER.crowds.recipe


def test_a_broken_tree_stops_everything_with_its_report(tmp_path):
    tree = shutil.copytree(FIXTURES["people"], tmp_path / "tree")
    stamp = tmp_path / "checked" / "lip.txt"
    check.require_sound(tree, stamp)
    assert stamp.is_file()
    mask = next(tree.rglob("val_segmentations/*.png"))
    mask.write_bytes(b"broken")
    check.require_sound(tree, stamp)  # was checked
    stamp.unlink()
    with pytest.raises(DataError, match=re.escape(mask.name)):
        check.require_sound(tree, stamp)
    assert not stamp.exists()


# The rehearsal: the whole way with two processes, interrupted and resumed


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a run needs, so that runs and results are its own."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "mula_lib", root / "mula_lib", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def rehearse(checkout, *more, processes=1):
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [
        sys.executable, *launcher, "-m", "workbook.cli", "paper", "--rehearse", "--no-notebooks",
        "--lip", str(FIXTURES["people"]), "--pascal", str(FIXTURES["crowds"]), *more,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_a_rehearsal_survives_an_interruption_of_two_processes_and_ends_with_the_tables(checkout):
    rows = ["--only", "HG-2s-1u-MuLA", "VGG16-FCN-MuLA"]  # the first one is of both data sets
    runs = checkout / "runs" / "paper-rehearsal"
    begun = rehearse(checkout, *rows, processes=2)
    deadline = time.monotonic() + 240
    while not list(runs.rglob("log.jsonl")):  # an epoch of the first row is on disk
        assert begun.poll() is None, begun.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun.send_signal(signal.SIGTERM)  # as a scheduler does at the time limit; torchrun ends its processes at once
    before = begun.communicate(timeout=60)[0]
    assert begun.returncode != 0
    assert len(list(runs.rglob("metrics.json"))) < 3
    assert "3 of 3 runs to train" in before
    assert "lip, 24 train and 12 val images; pascal, 24 train and 12 val images" in before
    finished = rehearse(checkout, *rows, processes=2)
    output = finished.communicate(timeout=400)[0]
    assert finished.returncode == 0, output
    assert "Table 2 (" in output
    assert "Table 6 (" in output
    results = sorted(runs.rglob("metrics.json"))
    assert [path.parent.parent.name for path in results] == ["hg-2s-1u-mula", "vgg16-fcn-mula", "hg-2s-1u-mula"]
    for path in results:
        metrics = json.loads(path.read_text())
        assert [line["epoch"] for line in metrics["log"]] == [1, 2]
    checked = sorted(path.name for path in (checkout / "runs" / "checked").iterdir())
    assert [name.split("-")[0] for name in checked] == ["lip", "pascal"]


def test_a_rehearsal_in_parts_does_each_row_once(checkout):
    runs = checkout / "runs" / "paper-released-rehearsal"
    for part in ("1/2", "2/2"):
        rows = ("VGG16-FCN", "VGG16-FCN-MTL", "VGG16-FCN-MuLA")
        done = rehearse(checkout, "--protocol", "released", "--tables", "1", "--only", *rows, "--shard", part)
        output = done.communicate(timeout=400)[0]
        assert done.returncode == 0, output
        assert "the same command without --shard makes the tables" in output
        if part == "1/2":
            first = len(list(runs.rglob("metrics.json")))
    assert 0 < first < 3
    assert len(list(runs.rglob("metrics.json"))) == 3
