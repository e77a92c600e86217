"""What a notebook is given: a wrong thing is one line that says what would be right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mula_lib.files import ConfigError, DataError
from workbook import datasets
from workbook.datasets import open_source
from workbook.results import find_seeds


@pytest.mark.parametrize("seeds", [[], None, 0, "[0, 1]", [0.0], ["0"], [-1], [0, 0], [True], {0}])
def test_seeds_are_a_list_of_different_whole_numbers(seeds):
    with pytest.raises(ConfigError, match=r"seeds=.*: give a list of different whole numbers from 0, such as \[0\]"):
        find_seeds(seeds)
    assert (find_seeds([3, 1]), find_seeds((2,))) == ([3, 1], [2])


def test_a_notebook_gets_images_of_its_own_kind(source, crowds):
    assert open_source("fixture", crowds=False).fingerprint == source.fingerprint
    assert open_source("crowd-fixture", crowds=True).fingerprint == crowds.fingerprint
    with pytest.raises(ConfigError, match=r"dataset='crowd-fixture': .* of one person: fixture, people, "):
        open_source("crowd-fixture", crowds=False)
    with pytest.raises(ConfigError, match=r"dataset='fixture': .* of several people: crowd-fixture, crowds, "):
        open_source("fixture", crowds=True)


def test_the_training_split_is_rendered_when_it_is_asked_for_and_not_before(monkeypatch, source, tmp_path):
    tree = shutil.copytree(source.root, tmp_path / "people")
    asked = []

    def ensure(config, base, splits):
        asked.append((config, splits))
        return tree

    monkeypatch.setattr(datasets, "ensure_people", ensure)
    people = open_source("people")
    assert len(people.val) == 12
    assert people.fingerprint == source.fingerprint
    assert asked == [(datasets.RENDERED["people"], ("val",))]
    assert len(people.train) == len(people.train) == 24
    assert [splits for _, splits in asked] == [("val",), ("train",)]


def test_a_library_that_is_installed_elsewhere_says_what_it_lacks_and_how_to_name_it(tmp_path):
    for package in ("mula_lib", "workbook", "rendered_people"):
        shutil.copytree(REPOSITORY / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__"))
    script = """
from mula_lib.files import MulaError
from workbook import load_predictor, open_source
for attempt in (lambda: len(open_source("fixture").val), lambda: load_predictor().name):
    try:
        print(attempt())
    except MulaError as error:
        print(error)
"""
    answers = []
    for home in ({}, {"MULA_HOME": str(REPOSITORY)}):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), **home}
        said = subprocess.check_output([sys.executable, "-c", script], cwd=tmp_path, env=environment, text=True)
        answers.append(said.splitlines())
    for line, what in zip(answers[0], ("tests/fixture/people: no such folder", "no such weights"), strict=True):
        assert what in line
        assert "MULA_HOME" in line
    assert answers[1] == ["12", "HG-1s-1u-MuLA"]


def test_a_real_data_set_is_named_by_a_path_or_its_variable(monkeypatch, source):
    monkeypatch.delenv("MULA_LIP", raising=False)
    with pytest.raises(DataError, match="no path given; pass one, or set MULA_LIP"):
        open_source("lip")
    with pytest.raises(DataError, match="/no/such/folder: no such folder"):
        open_source("lip", path=Path("/no/such/folder"))
    monkeypatch.setenv("HOME", str(source.root.parent))
    monkeypatch.setenv("MULA_LIP", f"~/{source.root.name}")
    assert open_source("lip").root == source.root


def test_a_tree_with_other_masks_or_joints_is_another_data_set(source, tmp_path):
    tree = shutil.copytree(source.root, tmp_path / "LIP")
    (tree / "people.json").unlink()
    before = open_source("lip", path=tree)
    assert open_source("lip", path=tree).fingerprint == before.fingerprint
    shutil.copy(before.val.records[0].mask, before.val.records[1].mask)
    assert open_source("lip", path=tree).fingerprint != before.fingerprint
