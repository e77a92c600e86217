"""The same seed gives the same network and scores with any number of loading processes and threads, to the last bit."""

from dataclasses import replace

import pytest
import torch

from workbook.datasets import open_source
from workbook.experiments import SMOKE, find_experiment
from workbook.runs import Run

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores: on purpose


def found(base, row, *, crowds, workers, threads):
    """Scores, losses and weights of a row trained and tested with these settings."""
    profile = replace(SMOKE, name="same", width=8)
    source = open_source("crowd-fixture" if crowds else "fixture")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = Run(find_experiment(row), profile.for_crowds() if crowds else profile, source, 0, base=base)
        result = run.do(workers=workers)
    finally:
        torch.set_num_threads(before)
    return result.scores, [line["loss"] for line in result.log()], result.model().state_dict()


@pytest.mark.parametrize(
    ("row", "crowds"),
    [("HG-2s-1u-MuLA", False), ("Attention+SSL", False), ("HG-2s-1u-MuLA", True)],
    ids=["stacked", "with dropout", "crowds"],
)
def test_scores_and_weights_do_not_depend_on_loading_processes_or_threads(row, crowds, tmp_path):
    scores, losses, weights = found(tmp_path / "usual", row, crowds=crowds, workers=0, threads=1)
    others = found(tmp_path / "other", row, crowds=crowds, workers=3, threads=2)
    assert others[0] == pytest.approx(scores, abs=0, nan_ok=True)
    assert others[1] == losses
    assert all(torch.equal(value, others[2][name]) for name, value in weights.items())
