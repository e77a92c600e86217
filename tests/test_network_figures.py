"""Figures that are drawn from the network itself, and of what changed from one network to another."""

import numpy as np
import pytest
import torch

from mula_lib.anatomy import LIP
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.hourglass import PAPER_WIDTH
from mula_lib.models.joint import JointModel
from mula_lib.models.network import ModelConfig
from workbook import figures
from workbook.exercises import check
from workbook.figures.corrections import changed_regions


def network(*interactions, backbone="hourglass", width=16, kernel=3):
    return JointModel(ModelConfig(backbone, interactions, width, adaptation=AdaptationConfig(kernel)))


def boxes(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_figure_2_has_a_box_for_every_module_with_the_shape_that_it_gave():
    drawn = boxes(figures.mutual_adaptation(network("adapt", "adapt"), 64))
    assert drawn.count("A: kernels\n16×3×3") == 4
    assert drawn.count("E: Hourglass\nR: 16×16×16") == 4
    assert drawn.count("C: parts\n20×16×16") == drawn.count("C: joints\n16×16×16") == 2
    assert drawn.count("M\nF: 16×16×16") == 2  # between the two stages, of each task
    assert drawn[0] == "image\n3×64×64"


def test_figure_2_is_of_the_network_that_it_is_given():
    one_way = boxes(figures.mutual_adaptation(network("adapt_to_pose", backbone="vgg"), 64))
    assert sum(text.startswith("A: kernels") for text in one_way) == 1
    assert not any(text.startswith(("stem", "M\n")) for text in one_way)
    assert "E: VGG16\nR: 16×8×8" in one_way
    plain = boxes(figures.mutual_adaptation(network("none"), 64))
    assert not any("kernels" in text for text in plain)


def test_figure_3b_has_the_papers_layers_at_the_papers_size():
    with torch.device("meta"):
        model = network("adapt", width=PAPER_WIDTH, kernel=7)
    drawn = boxes(figures.parameter_adapter(model, 256))
    assert drawn == [
        "R of the\nother task\n256×64×64", "conv 3×3, stride 2\n256×31×31", "max pool\n256×15×15",
        "conv 3×3\n256×15×15", "max pool\n256×7×7", "conv 3×3\n256×7×7", "+ learned base\n256×7×7",
        "each channel\nto length 1", "ψ̃: a kernel\na channel\n256×7×7",
    ]  # fmt: skip


def test_figure_3a_goes_down_and_up_again():
    drawn = boxes(figures.encoder_layers(network("none"), 64))
    assert drawn == [
        "image\n3×64×64", "stem\n16×16×16", "down 1\n16×16×16", "down 2\n16×8×8", "down 3\n16×4×4", "down 4\n16×2×2",
        "bottom\n16×1×1", "up 1\n16×2×2", "up 2\n16×4×4", "up 3\n16×8×8", "up 4\n16×16×16",
        "1×1, BN, ReLU: R\n16×16×16",
    ]  # fmt: skip
    vgg = boxes(figures.encoder_layers(network("none", backbone="vgg"), 64))
    assert vgg[-1] == "blocks 4 and 5: R\n16×8×8"


def test_regions_are_those_where_only_one_prediction_is_right():
    truth = np.array([[1, 1, 2, 2, 255]])
    before, after = np.array([[1, 0, 2, 0, 1]]), np.array([[1, 1, 0, 0, 2]])
    corrected, lost = changed_regions(truth, before, after)
    assert corrected.tolist() == [[False, True, False, False, False]]
    assert lost.tolist() == [[False, False, True, False, False]]


def test_corrected_and_lost_parts_and_joints_are_marked_in_two_ways():
    image, truth = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    truth[5:20, 5:20] = LIP.part("coat")
    truth[25:35, 25:35] = LIP.part("face")
    before, after = truth.copy(), truth.copy()
    before[5:20, 5:20] = 0
    after[25:35, 25:35] = 0
    joints = np.full((16, 2), 10.0, np.float32)
    corrected, lost = np.zeros((2, 16), bool)
    corrected[:2] = lost[5] = True
    change = figures.Change(
        figures.Picture(image, truth, joints), figures.Picture(image, before, joints),
        figures.Picture(image, after, joints), corrected, lost,
    )  # fmt: skip
    figure = figures.corrections([change], LIP, column_titles=list("abcd"), row_titles=["one"])
    marked = figure.axes[3]
    circles = [patch.get_linestyle() for patch in marked.patches]
    assert len(circles) == 3
    assert len(set(map(str, circles))) == 2
    outlines = [line for line in marked.lines if len(line.get_xdata()) > 8]
    assert len(outlines) == 2
    assert outlines[0].get_linestyle() != outlines[1].get_linestyle()
    assert outlines[0].get_xdata().min() == 5  # the coat, which is corrected
    assert outlines[1].get_xdata().min() == 25


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda: None, "Right!"),
        (lambda: (_ for _ in ()).throw(NotImplementedError), "Not done yet"),
        (lambda: 1 / 0, "Not right yet: ZeroDivisionError: division by zero"),
    ],
)
def test_an_exercise_answers_in_a_line(attempt, said, capsys):
    def tried():
        result = attempt()
        if hasattr(result, "__next__"):
            next(result)

    check(tried)
    out = capsys.readouterr().out
    assert out.startswith(said)
    assert out.count("\n") == 1
