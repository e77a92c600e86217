"""The same seed gives the same network and scores with any number of loading processes and threads, to the last bit."""

from dataclasses import replace

import pytest
import torch

from workbook.experiments import SMOKE, find_experiment
from workbook.runs import Run

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores: on purpose


@pytest.fixture
def done(tmp_path):
    """A row trained and tested with a number of loading processes and threads."""
    before = torch.get_num_threads()

    def do(row, source, workers, threads):
        profile = replace(SMOKE, name="same", vgg_width=8, hourglass_width=8, watch=2)
        profile = profile.for_crowds() if source.anatomy.crowds else profile
        torch.set_num_threads(threads)
        return Run(find_experiment(row), profile, source, 0, base=tmp_path / f"{workers}").do(workers=workers)

    yield do
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("row", "data", "metrics"),
    [
        ("HG-2s-1u-MuLA", "source", {"PCK", "mIoU"}),
        ("Attention+SSL", "source", {"mIoU"}),  # with dropout
        ("HG-2s-1u-MuLA", "crowds", {"mAP", "mIoU"}),
    ],
)
def test_scores_and_weights_do_not_depend_on_loading_processes_or_threads(row, data, metrics, done, request):
    source = request.getfixturevalue(data)
    usual, other = done(row, source, 0, 1), done(row, source, 3, 2)
    assert other.scores == pytest.approx(usual.scores, abs=0, nan_ok=True)
    assert [line["loss"] for line in other.log()] == [line["loss"] for line in usual.log()]
    weights = other.model().state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in usual.model().state_dict().items())
    assert metrics <= usual.scores.keys() & usual.log()[0].keys()
    assert usual.evaluation().scores(source.anatomy) == pytest.approx(usual.scores, abs=1e-3, nan_ok=True)
