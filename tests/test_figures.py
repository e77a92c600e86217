"""Every figure function draws the numbers it is given, diagrams show the networks that run, the report is one page."""

import html
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from mula_lib.anatomy import IGNORE, LIP
from mula_lib.models.network import network_of
from workbook import claims, figures
from workbook.experiments import PAPER, find_experiment
from workbook.figures.people import MASK_STRENGTH, blend, changed_regions
from workbook.inspection import output_shapes
from workbook.report import write_report
from workbook.results import COLUMNS

RNG = np.random.default_rng(0)
PARTS, JOINTS = len(LIP.parts), len(LIP.joints)


def picture(**changes):
    mask = np.zeros((40, 24), np.uint8)
    mask[5:20, 5:15] = LIP.part("coat")
    joints = RNG.uniform(2, 22, (JOINTS, 2)).astype(np.float32)
    photo = RNG.integers(0, 256, (40, 24, 3), np.uint8)
    return figures.Picture(photo, mask, joints, np.zeros(JOINTS, bool))._replace(**changes)


def table(ours):
    lines = []
    for number, (method, mine) in enumerate(zip(("base", "better", "best"), ours, strict=True)):
        gain = None if mine is None else mine - ours[0]
        line = {"method": method, "paper": 50.0 + number, "ours": mine, "std": None, "delta_vs_baseline": gain}
        lines += [line | {"metric": metric, "paper_delta_vs_baseline": float(number)} for metric in ("PCK", "mIoU")]
    return pd.DataFrame(lines)


def bar_lengths(axes):
    return [patch.get_width() for patch in axes.patches]


def test_a_part_is_tinted_in_its_color_and_the_background_is_left_alone():
    image, mask = np.full((1, 3, 3), 100, np.uint8), np.array([[0, LIP.part("coat"), IGNORE]], np.uint8)
    blended = blend(image, mask, LIP)
    coat = (1 - MASK_STRENGTH) * 100 + MASK_STRENGTH * np.array(LIP.palette[LIP.part("coat")])
    assert blended[0, 0].tolist() == [100, 100, 100] != blended[0, 2].tolist()
    assert np.abs(blended[0, 1] - coat).max() <= 1


def test_a_grid_has_a_panel_for_every_picture_and_a_legend_of_the_parts_in_it():
    rows = [[picture(title="one"), picture()], [picture(), picture(mask=None)]]
    figure = figures.picture_grid(rows, LIP, row_titles=["a", "b"], column_titles=["left", "right"])
    assert [axes.get_title() for axes in figure.axes] == ["left\none", "right", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["a", "b"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["coat"]


def test_joints_are_drawn_where_they_are_by_side_and_hollow_if_occluded():
    hidden = np.zeros(JOINTS, bool)
    hidden[LIP.joint("left_wrist")] = True
    shown = picture(occluded=hidden)
    marks = figures.picture_grid([[shown]], LIP).axes[0].lines[len(LIP.limbs) :]
    np.testing.assert_allclose([[mark.get_xdata()[0], mark.get_ydata()[0]] for mark in marks], shown.joints)
    assert [LIP.joints[i] for i, mark in enumerate(marks) if mark.get_markerfacecolor() == "none"] == ["left_wrist"]
    looks = {(name.split("_")[0], mark.get_marker()) for name, mark in zip(LIP.joints, marks, strict=True)}
    assert {("left", "o"), ("right", "s")} <= looks
    crowd = picture(joints=RNG.uniform(2, 22, (3, JOINTS, 2)), occluded=None)
    limbs = [line for line in figures.picture_grid([[crowd]], LIP).axes[0].lines if len(line.get_xdata()) == 2]
    assert len({limb.get_color() for limb in limbs}) == 3  # one a person


def test_bars_of_the_data_are_as_long_as_the_shares():
    in_images, of_pixels = RNG.uniform(1, 100, PARTS), RNG.uniform(1, 100, PARTS)
    left, right = figures.part_frequencies(in_images, of_pixels, LIP).axes
    assert bar_lengths(left) == pytest.approx(in_images)
    assert bar_lengths(right) == pytest.approx(of_pixels)
    visible, occluded = np.full(JOINTS, 60.0), np.full(JOINTS, 30.0)
    patches = figures.joint_states(visible, occluded, 100 - visible - occluded, LIP).axes[0].patches[::JOINTS]
    assert [(bar.get_x(), bar.get_width()) for bar in patches] == [(0, 60), (60, 30), (90, 10)]
    assert len({bar.get_hatch() for bar in patches}) == 3


def test_maps_share_one_scale_and_stages_of_a_network_that_diverged_can_be_drawn(recwarn):
    maps = [[RNG.random((6, 6)) for _ in range(3)] for _ in range(2)]
    figure = figures.map_grid(maps, row_titles=["a", "b"], column_titles=["x", "y", "z"], backdrop=picture().image)
    for axes, values in zip(figure.axes, (each for row in maps for each in row), strict=False):
        np.testing.assert_array_equal(axes.images[-1].get_array(), values)
        assert axes.images[-1].get_clim() == (0, 1)
    truth = picture(mask=np.zeros((40, 24), np.uint8))
    wild = np.array([[np.nan, np.inf], [-np.inf, 1e37]], np.float32)
    said = [(truth.mask + 2, wild), (truth.mask, wild)]
    stages = figures.stage_outputs(truth, said, np.ones((2, 2)), "head_top", LIP)
    figures.png_bytes(stages)
    assert [axes.get_title() for axes in stages.axes[:3]] == ["truth", "stage 1", "stage 2"]
    assert [text.get_text() for text in stages.legends[0].get_texts()] == ["hair"]
    assert [str(warning.message) for warning in recwarn] == []


def test_kernels_are_drawn_row_by_row_and_differences_on_a_scale_of_their_own():
    mean, kernels = RNG.normal(size=(6, 5, 5)), RNG.normal(size=(2, 6, 5, 5))
    rows = [("mean", mean), *((picture(mask=None), each - mean) for each in kernels)]
    panels = np.array(figures.kernel_rows(rows, [4, 1], LIP, split=1).axes[:9], object).reshape(3, 3)[:, 1:]
    for line, (_, values) in zip(panels, rows, strict=True):
        np.testing.assert_allclose([axes.images[0].get_array() for axes in line], values[[4, 1]])
    assert panels[0, 0].images[0].get_clim() != panels[1, 0].images[0].get_clim() == panels[2, 1].images[0].get_clim()


def test_training_curves_draw_every_run_in_every_panel_it_has():
    watched = [{"epoch": 1, "loss": 3.0, "PCK": 1.0, "mIoU": 2.0}, {"epoch": 2, "loss": 2.0, "PCK": 5.0, "mIoU": None}]
    figure = figures.training_curves({"one": watched, "two": watched}, "smoke")
    loss, pck, miou = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines if len(line.get_ydata())] == [[3.0, 2.0]] * 2
    assert list(pck.lines[0].get_ydata()) == [1.0, 5.0]
    assert [y for y in miou.lines[0].get_ydata() if not np.isnan(y)] == [2.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert len(figures.training_curves({"one": [{"epoch": 1, "loss": 3.0}]}, "smoke").axes) == 1
    nine = figures.training_curves({str(number): watched for number in range(9)}, "smoke").axes[0].lines
    assert len({str(line._dash_pattern) for line in nine if len(line.get_ydata())}) == 9  # apart without color


def test_bars_are_the_papers_and_our_numbers_and_a_row_that_was_not_run_says_so():
    figure = figures.paper_beside_ours(table([10.0, None, 15.0]), "smoke")
    assert len(figure.axes) == 4
    scores, gains = figure.axes[:2]
    assert bar_lengths(scores) == pytest.approx([50, 51, 52, 10, 0, 15])
    assert bar_lengths(gains) == pytest.approx([0, 1, 2, 0, 0, 5])
    assert [text.get_text() for text in scores.texts] == ["not run"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["paper: full size, LIP val", "ours: smoke"]
    with_spread = figures.paper_beside_ours(table([10.0, 12.0, 15.0]).assign(std=1.5), "smoke").axes
    assert [len(axes.containers) for axes in with_spread[:2]] == [3, 2]


def test_stage_lines_are_the_numbers_given():
    figure = figures.scores_by_stages(table([10.0, None, 12.0]), {"base": 0, "better": 1, "best": 1}, "best", "smoke")
    paper, paper_control, ours, control = figure.axes[0].lines
    assert paper.get_ydata().tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(ours.get_ydata(), [0.0, np.nan])
    assert [line.get_ydata().tolist() for line in (paper_control, control)] == [[2.0], [2.0]]


def test_intervals_of_claims_stand_beside_the_papers_differences():
    effects = pd.DataFrame([
        {"id": "C01", "effect": claims.Effect("PCK", {"a": 1, "b": -1}), "metric": "PCK", "paper": 6.9,
         "ours": 1.0, "low": 0.5, "high": 1.5, "by_seed": [0.8, 1.2]},
        {"id": "C12", "effect": claims.Effect("PCK", {"a": 1, "b": -1}, limit=1.0, below=True), "metric": "PCK",
         "paper": None, "ours": 0.0, "low": 0.0, "high": 0.0, "by_seed": []},
    ])  # fmt: skip
    table = pd.DataFrame({"id": ["C01", "C12"], "claim": ["one", "two"], "verdict": ["supported", "undecided"]})
    pose, parsing = figures.claim_intervals(effects, table, "smoke").axes
    assert [list(line.get_xdata()) for line in pose.lines] == [[6.9], [0.5, 1.5], [1.0], [0.8, 1.2], [0, 0]]
    assert len(parsing.lines) == 1
    assert [text.get_text() for text in pose.get_yticklabels()] == ["C01  one"]


def test_regions_and_joints_that_change_are_marked_in_two_ways():
    truth = np.zeros((40, 40), np.uint8)
    truth[5:20, 5:20], truth[25:35, 25:35] = LIP.part("coat"), LIP.part("face")
    before, after = truth.copy(), truth.copy()
    before[5:20, 5:20] = after[25:35, 25:35] = 0
    corrected, lost = changed_regions(np.where(truth == 0, IGNORE, truth), before, after)
    assert corrected.sum() == 225 == corrected[5:20, 5:20].sum()
    assert lost.sum() == 100 == lost[25:35, 25:35].sum()
    joints, image = np.full((JOINTS, 2), 10.0), np.zeros((40, 40, 3), np.uint8)
    number = np.arange(JOINTS)
    row = [figures.Picture(image), *(figures.Picture(image, mask, joints) for mask in (truth, before, after))]
    changed = [(number < 2, number == 5)]
    marked = figures.corrections([row], changed, LIP, column_titles=list("abcd"), row_titles=["one"]).axes[3]
    assert [str(circle.get_linestyle()) == "-" for circle in marked.patches] == [True, True, False]
    outlines = [line for line in marked.lines if len(line.get_xdata()) > 8]
    assert [(line.get_xdata().min(), line.get_linestyle()) for line in outlines] == [(5, "-"), (25, "--")]


def test_drawing_changes_no_global_setting_and_a_saved_figure_is_a_small_png(tmp_path):
    before = dict(plt.rcParams)
    figure = figures.picture_grid([[picture() for _ in range(4)]] * 2, LIP)
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == []
    path = tmp_path / "deep" / "people.png"
    figures.save_all(path.parent, {path.name: figure})
    assert [each.name for each in path.parent.iterdir()] == ["people.png"]  # no temporary file is left
    assert path.stat().st_size < 200_000
    assert Image.open(path).width > 300


def drawn_texts(name):
    """The lines of text of a committed diagram."""
    svg = (REPOSITORY / "notebooks" / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    return re.findall(r"<text[^>]*>(.*?)</text>", svg)


def test_the_diagrams_of_figures_2_and_3_have_the_shapes_of_the_papers_network():
    with torch.device("meta"):
        model = network_of(find_experiment("HG-2s-1u-MuLA").model_config(PAPER, LIP))
        images = torch.zeros(1, 3, PAPER.crop, PAPER.crop, dtype=torch.uint8)
    branch, direction = model.parsing, model.interaction[0].to_parsing
    glass = branch.encoder[0].layers[0]
    watched = {
        "figure2": {"F: ": branch.stem, "R: ": branch.encoder[1], "": direction.adapter, "R̄: ": direction.dynamic},
        "figure3a": {f"{n}": part for n, part in enumerate((branch.stem, *glass.down, glass.bottom, *glass.up))},
        "figure3b": {f"{n}": getattr(direction.adapter, f"conv{n}") for n in (1, 2, 3)},
    }
    for name, modules in watched.items():
        texts = drawn_texts(name)
        for shape in output_shapes(model, images, modules).iloc[:, 0]:
            assert any(text.endswith(shape.removeprefix("1×")) for text in texts), (name, shape)
    assert drawn_texts("figure2").count("A: kernels") == 2 * model.config.stages


def lines(method, metric, paper, ours, note=""):
    known = {
        "method": method, "metric": metric, "paper": paper, "ours": ours, "seeds": "0 2" if ours else None,
        "delta_vs_baseline": 1.5 if ours else None, "source": "ran" if ours else "quoted", "dataset": "people",
        "profile": "demo", "note": note, "params": 1000 if ours else None,
    }  # fmt: skip
    return {column: known.get(column) for column in COLUMNS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder with two tables, claims, one figure of a table and one of the model."""
    tmp_path = tmp_path_factory.mktemp("results")
    one = [lines("VGG16-FCN", "PCK", 69.1, 47.5), lines("VGG16-FCN-MuLA", "PCK", 76.0, 46.9)]
    long_note = "quoted: <unknown> & unpublished, in more than the fifty characters that a cell is cut to"
    three = [lines("BUPTMM-POSE", "PCK", 80.2, None, long_note), lines("HG", "PCK", None, 40.0) | {"seeds": "0"}]
    for number, table in ((1, one), (3, three)):
        pd.DataFrame(table).to_csv(tmp_path / f"table{number}.csv", index=False)
        (tmp_path / f"table{number}.provenance.json").write_text(json.dumps({"git_commit": "0123abc", "seeds": [0, 2]}))
    table = claims.verdicts(claims.measure(lambda name, seed: None), {})
    figures.save_all(tmp_path, {"claims.csv": table.drop(columns="meaning")})
    for name, caption in (("table3_scores", "Scores: “places” <kept>."), ("claims", "All intervals."), ("parts", "")):
        figure = figures.part_frequencies(*np.ones((2, 20)), LIP)
        figures.show(figure, caption)
        figures.save_all(tmp_path, {f"{name}.png": figure})
    return tmp_path


def test_the_page_fetches_nothing_and_begins_with_the_claims(folder):
    text = write_report(folder).read_text()
    sources = re.findall(r'(?:src|href)="(.*?)"', text)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    targets = [source[1:] for source in sources if source.startswith("#")]
    assert targets == re.findall(r'<section id="(.*?)"', text)
    assert targets == ["claims", "table1", "table3", "data-and-model", "provenance"]
    assert re.findall(r'alt="(.*?)"', text) == ["All intervals.", "Scores: “places” &lt;kept&gt;.", "parts"]
    assert text == write_report(folder).read_text()


def test_paper_and_ours_stand_side_by_side_with_whole_notes(folder):
    text = write_report(folder).read_text()
    assert "<strong>demo profile, people data, seeds 0, 2 (not all in every row)</strong>" in text
    assert re.search(r"<td>76.0</td>\s*<td>46.9</td>", text)
    assert html.escape("<unknown> & unpublished, in more than the fifty characters that a cell is cut to") in text
    assert "0123abc" in text
    assert "note" not in text[text.index('id="table1"') : text.index('id="table3"')]  # there are none
