"""The paper's profile: its values, and a rehearsal of it all, interrupted and resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY

from mula_lib.anatomy import LIP
from mula_lib.data import check
from mula_lib.data.augment import Draw, augment_sample
from mula_lib.files import DataError
from mula_lib.models.network import build_model
from mula_lib.models.released import released_config
from workbook.datasets import FIXTURES
from workbook.experiments import EXPERIMENTS, PAPER, find_experiment, find_profile, rehearsal

RELEASED = find_profile("paper-released")


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
    assert (PAPER.width, PAPER.batch_norm, PAPER.for_trunk("vgg").width) == (256, False, 512)
    assert (PAPER.recipe.clip_norm, RELEASED.recipe.clip_norm) == (1.0, 0.0)
    assert (PAPER.augmentation.outside, RELEASED.augmentation.outside) == (255, 0)
    assert len(PAPER.testing.scales) > 1
    assert RELEASED.testing.scales == (1.0,)
    assert not RELEASED.testing.mirror_parts


@pytest.mark.parametrize(
    ("name", "theirs"), [("HG-5s-1u-MuLA", released_config("hourglass", 5)), ("VGG16-FCN-MuLA", released_config("vgg"))]
)
def test_the_released_protocol_trains_the_network_that_checkpoints_are_of(name, theirs):
    assert find_experiment(name).model_config(RELEASED, LIP) == theirs
    assert not find_experiment(name).model_config(PAPER, LIP).released


def test_every_row_is_built_by_both_protocols_in_a_rehearsal():
    for profile in (rehearsal(PAPER), rehearsal(RELEASED)):
        for experiment in EXPERIMENTS:
            build_model(experiment.model_config(profile, LIP), 0)


def test_beyond_the_photo_there_is_nobody_in_the_authors_code():
    picture, joints = np.zeros((8, 4, 3), np.uint8), np.zeros((16, 2), np.float32)
    mask = picture[..., 0] + 3
    for outside in (255, 0):
        _, warped, _ = augment_sample(picture, mask, joints, 8, Draw(), LIP, outside=outside)
        assert set(warped.ravel().tolist()) == {3, outside}


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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a run needs, so that runs and results are its own."""
    root = tmp_path_factory.mktemp("checkout")
    for package in ("mula_lib", "workbook", "rendered_people", "notebooks", "results/demo"):
        shutil.copytree(REPOSITORY / package, root / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(REPOSITORY / "run_all.sh", root)
    return root


def rehearse(checkout, profile, *more, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    data = ["--lip", str(FIXTURES["people"]), "--pascal", str(FIXTURES["crowds"])]
    command = [sys.executable, *launcher, "-m", "workbook.cli", profile, *data, *more]
    own_folders = {"PYTHONPATH": str(checkout), "MULA_RUNS": "", "MULA_RESULTS": ""}
    environment = os.environ | own_folders | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=checkout, env=environment, text=True, **pipes)


def test_a_rehearsal_survives_an_interruption_of_two_processes_and_ends_with_the_tables(checkout):
    rows = ["--no-notebooks", "--only", "HG-2s-1u-MuLA", "VGG16-FCN-MuLA"]  # the first one is of both data sets
    runs = checkout / "runs" / "paper-rehearsal"
    begun = rehearse(checkout, "paper-rehearsal", *rows, processes=2)
    deadline = time.monotonic() + 240
    while not list(runs.rglob("log.jsonl")):  # an epoch of the first row is on disk
        assert begun.poll() is None, begun.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun.send_signal(signal.SIGTERM)  # as a scheduler does at the time limit; torchrun ends its processes at once
    before = begun.communicate(timeout=60)[0]
    assert begun.returncode != 0
    assert len(list(runs.rglob("metrics.json"))) < 3
    assert "3 runs; data: lip, 12 validation images; pascal, 12 validation images" in before
    finished = rehearse(checkout, "paper-rehearsal", *rows, processes=2)
    output = finished.communicate(timeout=400)[0]
    assert finished.returncode == 0, output
    assert "Table 2 (" in output
    assert "Table 6 (" in output
    results = sorted(runs.rglob("metrics.json"))
    assert [path.parent.parent.name for path in results] == ["hg-2s-1u-mula", "vgg16-fcn-mula", "hg-2s-1u-mula"]
    for path in results:
        assert [line["epoch"] for line in json.loads(path.read_text())["log"]] == [1, 2]
    checked = sorted(path.name for path in (checkout / "runs" / "checked").iterdir())
    assert [name.split("-")[0] for name in checked] == ["lip", "pascal"]
    tables = sorted(path.stem for path in (checkout / "results" / "paper-rehearsal").glob("*.csv"))
    assert tables == [f"table{number}" for number in (1, 2, 3, 4, 5, 6)]


def test_a_row_that_fails_is_in_its_tables_note_and_the_next_is_done(checkout):
    """As each task of a scheduler's array does: one row, its tables, what others have done beside. And notebooks."""
    run = checkout / "runs" / "paper-released-rehearsal" / "lip" / "vgg16-fcn" / "seed-0"
    run.mkdir(parents=True)
    (run / "last.ckpt").write_bytes(b"half")
    done = rehearse(checkout, "paper-released-rehearsal", "--only", "VGG16-FCN", "SegNet", "--jobs", "2")
    output = done.communicate(timeout=400)[0]
    assert done.returncode == 2, output
    assert re.search(r"error: VGG16-FCN \(lip\), seed 0, failed: .*last\.ckpt", output)
    table = (checkout / "results" / "paper-released-rehearsal" / "table1.csv").read_text()
    assert re.search(r"VGG16-FCN,PCK,69.1,,.*seed 0: failed: .*last\.ckpt", table)
    other = (checkout / "results" / "paper-released-rehearsal" / "table4.csv").read_text()
    assert re.search(r"SegNet \[1\],mIoU,18.2,\d", other)
    assert "not trained yet: ./run_all.sh paper-released-rehearsal --only" in table
    executed = sorted(path.name[:2] for path in (checkout / "runs" / "notebooks").rglob("*.ipynb"))
    assert executed == ["03", "05", "06"]
