"""``run_all.sh`` killed, interrupted, without a disk and twice at once: nothing is lost, and nothing is mixed up.

A small part of ``python -m benchmarks.faults``: one notebook and the nine rows of Table 1.
"""

import csv

import pytest
from conftest import REPOSITORY

from benchmarks.disturbances import FAULTS
from benchmarks.disturbed import Checkout
from benchmarks.faults import Moment, stop_and_go
from benchmarks.left_behind import damaged_files, tables

WORK = ("smoke", "--tables", "1")
PATIENCE = 300
MOMENTS = {  # the runs are nine
    "SIGKILL": Moment(runs=1, delay=0.2),
    "Ctrl-C": Moment(runs=3, delay=0.1),
    "full disk": Moment(runs=5, delay=0.3),
    "SIGTERM": Moment(runs=7),
    "read-only results": Moment(notebooks=1, delay=0.5),
    "SIGKILL of all": Moment(notebooks=1, delay=3.0),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("faults") / "a checkout", notebooks="03_*")


@pytest.fixture(scope="module")
def expected(checkout):
    """The tables of two undisturbed runs that were started at once."""
    beside = checkout.another()
    for each in (checkout, beside):
        each.begin(*WORK)
    statuses = [each.wait(PATIENCE) for each in (checkout, beside)]
    assert statuses == [0, 0], checkout.said() + beside.said()
    waited = [each.said().count("is at work on profile smoke; waiting for it to end") for each in (checkout, beside)]
    assert sorted(waited) == [0, 1]
    found = tables(checkout.root)
    assert "table1.csv" in found
    return found


def test_two_at_once_wait_for_each_other_and_leave_whole_files(checkout, expected):
    assert damaged_files(checkout.root) == []
    assert [path.name for path in (checkout.root / "runs").rglob("*.lock")] == []


def test_a_run_stopped_in_every_way_ends_with_the_tables_of_an_undisturbed_one(checkout, expected):
    assert set(MOMENTS) == set(FAULTS)
    checkout.forget()
    for fault, _, stopped, damaged in stop_and_go(checkout, list(MOMENTS.items()), WORK):
        assert stopped.well, f"{fault}: {stopped.status}\n{stopped.said[-3000:]}"
        assert stopped.left == 0, fault
        assert damaged == [], fault
    assert tables(checkout.root) == expected
    assert damaged_files(checkout.root) == []


def test_the_page_has_the_twenty_moments_that_are_published_and_nothing_was_lost_at_any():
    page = (REPOSITORY / "docs" / "robustness.md").read_text(encoding="utf-8")
    with open(REPOSITORY / "benchmarks" / "faults.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 20
    assert {row["fault"] for row in rows} == set(FAULTS)
    for number, row in enumerate(rows, start=1):
        assert (row["as it should"], row["left running"], row["damaged files"]) == ("yes", "0", "0")
        assert f"\n| {number} | {row['fault']} | {row['moment']} | {row['status']} | 0 | 0 |\n" in page
