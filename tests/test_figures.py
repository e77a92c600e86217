"""Every figure function draws the numbers it is given."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mula_lib.anatomy import IGNORE, LIP
from workbook import figures
from workbook.experiments import find_experiment
from workbook.figures.output import png_bytes
from workbook.figures.people import MASK_STRENGTH, blend
from workbook.figures.systems import DIAGRAMS

RNG = np.random.default_rng(0)
PARTS, JOINTS = len(LIP.parts), len(LIP.joints)


def photo(height: int = 40, width: int = 24) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(**changes: object) -> figures.Picture:
    mask = np.zeros((40, 24), dtype=np.uint8)
    mask[5:20, 5:15] = LIP.part("coat")
    joints = RNG.uniform(2, 22, (JOINTS, 2)).astype(np.float32)
    return figures.Picture(photo(), mask, joints, np.zeros(JOINTS, bool))._replace(**changes)


def table(ours: list[float | None]) -> pd.DataFrame:
    lines = []
    for number, (method, mine) in enumerate(zip(("base", "better", "best"), ours, strict=True)):
        for metric in ("PCK", "mIoU"):
            mine_delta = None if mine is None else mine - ours[0]
            lines.append(
                {
                    "method": method, "metric": metric, "paper": 50.0 + number, "ours": mine, "std": None,
                    "delta_vs_baseline": mine_delta, "paper_delta_vs_baseline": float(number),
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def bar_lengths(axes: plt.Axes) -> list[float]:
    return [patch.get_width() for patch in axes.patches]


def test_a_part_is_tinted_in_its_colour_and_the_background_is_left_alone() -> None:
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    mask = np.array([[0, LIP.part("coat"), IGNORE]], dtype=np.uint8)
    blended = blend(image, mask, LIP)
    coat = (1 - MASK_STRENGTH) * 100 + MASK_STRENGTH * np.array(LIP.palette[LIP.part("coat")])
    assert blended[0, 0].tolist() == [100, 100, 100]
    assert np.abs(blended[0, 1] - coat).max() <= 1
    assert blended[0, 2].tolist() != [100, 100, 100]


def test_a_grid_has_a_panel_for_every_picture_and_a_legend_of_the_parts_in_it() -> None:
    rows = [[picture(title="one"), picture()], [picture(), picture(mask=None)]]
    figure = figures.picture_grid(rows, LIP, row_titles=["a", "b"], column_titles=["left", "right"])
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4
    assert figure.axes[0].get_title() == "left\none"
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["a", "b"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["coat"]


def test_a_photo_without_annotations_gets_neither_legend_nor_joints() -> None:
    figure = figures.picture_grid([[figures.Picture(photo())]], LIP)
    assert figure.legends == []
    assert len(figure.axes[0].lines) == 0


def test_joints_are_drawn_where_they_are_and_occluded_ones_hollow() -> None:
    hidden = np.zeros(JOINTS, bool)
    hidden[LIP.joint("left_wrist")] = True
    shown = picture(occluded=hidden)
    figure = figures.picture_grid([[shown]], LIP)
    marks = figure.axes[0].lines[len(LIP.limbs) :]
    assert len(marks) == JOINTS
    for mark, point in zip(marks, shown.joints, strict=True):
        assert [mark.get_xdata()[0], mark.get_ydata()[0]] == pytest.approx(point.tolist())
    hollow = [LIP.joints[i] for i, mark in enumerate(marks) if mark.get_markerfacecolor() == "none"]
    assert hollow == ["left_wrist"]


def test_left_right_and_middle_have_different_marks() -> None:
    figure = figures.picture_grid([[picture()]], LIP)
    marks = figure.axes[0].lines[len(LIP.limbs) :]
    looks = {
        (name.split("_")[0], mark.get_marker(), mark.get_markerfacecolor())
        for name, mark in zip(LIP.joints, marks, strict=True)
    }
    by_side = {side: {look[1:] for look in looks if look[0] == side} for side in ("left", "right")}
    assert len(by_side["left"]) == len(by_side["right"]) == 1
    assert by_side["left"] != by_side["right"]


def test_part_bars_are_as_long_as_the_frequencies() -> None:
    in_images, of_pixels = RNG.uniform(1, 100, PARTS), RNG.uniform(1, 100, PARTS)
    left, right = figures.part_frequencies(in_images, of_pixels, LIP).axes
    assert bar_lengths(left) == pytest.approx(in_images.tolist())
    assert bar_lengths(right) == pytest.approx(of_pixels.tolist())
    assert right.get_xscale() == "log"


def test_joint_states_are_stacked_in_the_order_of_the_legend() -> None:
    visible, occluded = np.full(JOINTS, 60.0), np.full(JOINTS, 30.0)
    figure = figures.joint_states(visible, occluded, 100 - visible - occluded, LIP)
    patches = figure.axes[0].patches
    assert [patches[i * JOINTS].get_width() for i in range(3)] == pytest.approx([60, 30, 10])
    assert [patches[i * JOINTS].get_x() for i in range(3)] == pytest.approx([0, 60, 90])
    assert len({patches[i * JOINTS].get_hatch() for i in range(3)}) == 3


def test_map_grid_shows_every_map_on_one_scale() -> None:
    maps = [[RNG.random((6, 6)) for _ in range(3)] for _ in range(2)]
    figure = figures.map_grid(maps, row_titles=["a", "b"], column_titles=["x", "y", "z"], backdrop=photo())
    assert len(figure.axes) == 6 + 1  # and the colour bar
    for axes, values in zip(figure.axes, (each for row in maps for each in row), strict=False):
        np.testing.assert_array_equal(axes.images[-1].get_array(), values)
        assert axes.images[-1].get_clim() == (0, 1)


def test_heatmap_profiles_draw_the_two_factors() -> None:
    row, column = RNG.random(5), RNG.random(4)
    top, _, centre, side = figures.heatmap_profiles(row, column, np.outer(column, row)).axes
    assert top.lines[0].get_ydata() == pytest.approx(row)
    assert side.lines[0].get_xdata() == pytest.approx(column)
    np.testing.assert_allclose(centre.images[0].get_array(), np.outer(column, row))


def test_kernel_grid_ends_with_the_difference() -> None:
    first, second = RNG.normal(size=(2, 8, 3, 3))
    figure = figures.kernel_grid([photo(), photo()], [first, second], [1, 4, 6])
    grid = np.array(figure.axes[: 3 * 4], dtype=object).reshape(3, 4)
    for column, channel in enumerate((1, 4, 6), start=1):
        drawn = [grid[row, column].images[0].get_array() for row in range(3)]
        np.testing.assert_allclose(drawn, [first[channel], second[channel], first[channel] - second[channel]])


def test_equal_kernels_can_be_drawn() -> None:
    same = np.zeros((2, 3, 3))
    assert isinstance(figures.kernel_grid([photo(), photo()], [same, same], [0, 1]), Figure)


@pytest.mark.parametrize("stages", [1, 3])
def test_stage_outputs_have_a_column_for_the_truth_and_one_for_each_stage(stages: int) -> None:
    truth = picture(image=photo(32, 32), mask=np.full((32, 32), 2, dtype=np.uint8), joints=None)
    parts = [np.full((32, 32), 5 + t) for t in range(stages)]
    maps = [np.full((8, 8), 0.1 * (t + 1)) for t in range(stages)]
    figure = figures.stage_outputs(truth, parts, maps, np.zeros((8, 8)), "left_wrist", LIP)
    above, below = figure.axes[: stages + 1], figure.axes[stages + 1 : 2 * stages + 2]
    assert [axes.get_title() for axes in above] == ["truth", *(f"stage {t + 1}" for t in range(stages))]
    assert [axes.get_title() for axes in below] == ["peak 0", *(f"peak {0.1 * (t + 1):.2g}" for t in range(stages))]
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"hair", "upper clothes"} <= names


def test_a_diverged_network_can_be_drawn(recwarn: pytest.WarningsRecorder) -> None:
    truth = picture(image=photo(32, 32), mask=np.zeros((32, 32), dtype=np.uint8), joints=None)
    wild = np.array([[np.nan, np.inf], [-np.inf, 1e37]], dtype=np.float32)
    figure = figures.stage_outputs(truth, [truth.mask], [wild], np.zeros((2, 2)), "left_wrist", LIP)
    png_bytes(figure)
    assert [str(warning.message) for warning in recwarn] == []


def test_training_curves_draw_every_run_in_every_panel_it_has() -> None:
    watched = [{"epoch": 1, "loss": 3.0, "PCK": 1.0, "mIoU": 2.0}, {"epoch": 2, "loss": 2.0, "PCK": 5.0, "mIoU": None}]
    figure = figures.training_curves({"one": watched, "two": watched}, "smoke")
    loss, pck, miou = figure.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[3.0, 2.0]] * 2
    assert pck.lines[0].get_ydata().tolist() == [1.0, 5.0]
    assert np.isnan(miou.lines[0].get_ydata()[1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    looks = {(line.get_color(), line.get_marker()) for line in loss.lines}
    assert len(looks) == 2


def test_curves_without_watched_scores_have_the_loss_panel_only() -> None:
    assert len(figures.training_curves({"one": [{"epoch": 1, "loss": 3.0}]}, "smoke").axes) == 1


def test_bars_are_the_papers_and_our_numbers() -> None:
    figure = figures.paper_beside_ours(table([10.0, 20.0, 15.0]), "smoke")
    scores, gains = figure.axes[:2]
    assert bar_lengths(scores) == pytest.approx([50, 51, 52, 10, 20, 15])
    assert bar_lengths(gains) == pytest.approx([0, 1, 2, 0, 10, 5])
    assert len(figure.axes) == 4
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "paper" in labels[0]
    assert labels[1] == "ours: smoke"
    assert scores.patches[0].get_hatch() != scores.patches[3].get_hatch()


def test_a_row_that_was_not_run_is_empty_and_says_so() -> None:
    figure = figures.paper_beside_ours(table([10.0, None, 15.0]), "smoke")
    for axes in figure.axes:
        assert bar_lengths(axes)[4] == 0
        assert [text.get_text() for text in axes.texts] == ["not run"]


def test_spread_over_seeds_is_drawn_where_there_is_one() -> None:
    lines = table([10.0, 20.0, 15.0])
    assert not figures.paper_beside_ours(lines, "smoke").axes[0].containers[2:]
    lines["std"] = 1.5
    assert len(figures.paper_beside_ours(lines, "smoke").axes[0].containers) == 3


def test_stage_lines_are_the_numbers_given() -> None:
    paper, ours = {"PCK": [80.0, 82.0, 84.0]}, {"PCK": [10.0, np.nan, 12.0]}
    control = ("HG-2×1u", 2, {"PCK": 81.0}, {"PCK": 11.0})
    (axes,) = figures.scores_by_stages([0, 1, 2], paper, ours, "smoke", control=control).axes
    drawn = [np.atleast_1d(line.get_ydata()).tolist() for line in axes.lines]
    assert drawn[0] == paper["PCK"]
    np.testing.assert_array_equal(drawn[1], ours["PCK"])
    assert drawn[2:] == [[81.0], [11.0]]


def test_drawing_changes_no_global_setting_and_leaves_no_figure_open() -> None:
    before = dict(plt.rcParams)
    figures.training_curves({"one": [{"epoch": 1, "loss": 3.0}]}, "smoke")
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == []


def test_a_saved_figure_is_a_small_png(tmp_path) -> None:
    figure = figures.picture_grid([[picture() for _ in range(4)]] * 2, LIP)
    path = figures.save_figure(figure, tmp_path / "deep" / "people.png")
    assert [each.name for each in path.parent.iterdir()] == ["people.png"]  # no temporary file is left
    assert path.stat().st_size < 200_000
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width > 300


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_arrows_of_a_diagram_join_its_boxes_and_none_is_left_alone(name: str) -> None:
    boxes, arrows = DIAGRAMS[name]
    joined = {end for arrow in arrows for end in (arrow.start, arrow.end)}
    assert joined == set(boxes)
    assert len({(box.column, box.row) for box in boxes.values()}) == len(boxes)


def test_every_system_with_a_diagram_is_an_experiment_and_is_drawn_with_its_name() -> None:
    names = [name for name in DIAGRAMS if name != "MuLA"]
    assert all(find_experiment(name) for name in names)
    figure = figures.system_diagrams(names[:3])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [*names[:3], ""]


def test_kernels_are_drawn_as_their_mean_and_in_what_each_persons_differ() -> None:
    kernels = RNG.normal(size=(3, 6, 5, 5))
    mean = kernels.mean(axis=0)
    people = [picture(mask=None) for _ in range(3)]
    figure = figures.kernels_by_pose(people, kernels, mean, [4, 1], LIP)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2]
    expected = [mean[4], mean[1], *(kernels[k, c] - mean[c] for k in range(3) for c in (4, 1))]
    assert len(drawn) == len(expected)
    for found, wanted in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(found, wanted)
