"""What a notebook is given: a wrong thing is one line that says what would be right."""

import pytest

from mula_lib.files import ConfigError
from workbook.datasets import open_source
from workbook.parameters import find_seeds, of_crowds, of_one_person
from workbook.profiles import find_profile


@pytest.mark.parametrize("seeds", [[0], [3, 1], (2,)])
def test_seeds_are_a_list_of_different_whole_numbers(seeds):
    assert find_seeds(seeds) == list(seeds)


@pytest.mark.parametrize("seeds", [[], None, 0, "[0, 1]", [0.0], ["0"], [-1], [0, 0], [True], {0}, {0: 1}])
def test_anything_else_is_no_list_of_seeds(seeds):
    with pytest.raises(ConfigError, match=r"seeds=.*: give a list of different whole numbers from 0, such as \[0\]"):
        find_seeds(seeds)


def test_a_notebook_gets_images_of_its_own_kind(source):
    crowds = open_source("crowd-fixture")
    assert of_one_person(source) is source
    assert of_crowds(crowds) is crowds
    with pytest.raises(ConfigError, match=r"dataset='crowd-fixture': .* of one person: fixture, people, lip"):
        of_one_person(crowds)
    with pytest.raises(ConfigError, match=r"dataset='fixture': .* of several people: crowd-fixture, crowds, pascal"):
        of_crowds(source)


@pytest.mark.parametrize("wrong", [None, 5, ["smoke"], {"smoke": 1}, b"smoke"])
def test_a_name_that_is_none_is_unknown_and_not_a_traceback(wrong):
    with pytest.raises(ConfigError, match="unknown profile"):
        find_profile(wrong)
    with pytest.raises(ConfigError, match="unknown data set"):
        open_source(wrong)


@pytest.mark.parametrize("path", [5, ["a"], b"a", "a\0b", "x" * 5000])
def test_a_path_that_can_be_none_says_so(path):
    with pytest.raises(ConfigError, match=r"data_path=.*: give the path of a folder, or None") as caught:
        open_source("fixture", path=path)
    assert len(str(caught.value)) < 250
