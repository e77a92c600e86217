"""The report page: everything of a results folder, on one page that needs nothing else."""

import html
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from conftest import REPOSITORY

from mula_lib.files import DataError
from workbook import figures
from workbook.diagnostics import KERNELS
from workbook.report import main, write_report
from workbook.results import COLUMNS


def lines(method, metric, paper, ours, note=""):
    known = {
        "method": method, "metric": metric, "paper": paper, "ours": ours, "seeds": "0 2" if ours else None,
        "delta_vs_baseline": 1.5 if ours else None, "source": "ran" if ours else "quoted", "dataset": "people",
        "profile": "demo", "note": note, "params": 1000 if ours else None,
    }  # fmt: skip
    return {column: known.get(column) for column in COLUMNS}


@pytest.fixture
def folder(tmp_path):
    """A results folder with two tables, one figure of a table and one of the model."""
    one = [lines("VGG16-FCN", "PCK", 69.1, 47.5), lines("VGG16-FCN-MuLA", "PCK", 76.0, 46.9)]
    three = [lines("BUPTMM-POSE", "PCK", 80.2, None, "quoted: <unknown> & unpublished"), lines("HG", "PCK", None, 40.0)]
    for number, table in ((1, one), (3, three)):
        pd.DataFrame(table).to_csv(tmp_path / f"table{number}.csv", index=False)
        facts = {"git_commit": "0123abc", "seeds": [0, 2], "packages": {"torch": "2.13.0"}}
        (tmp_path / f"table{number}.provenance.json").write_text(json.dumps(facts))
    diagnostics = [{"method": "MuLA", "kernels": kernels, "PCK": 40.0, "mIoU": None} for kernels in KERNELS]
    pd.DataFrame(diagnostics).to_csv(tmp_path / "kernel_diagnostics.csv", index=False)
    diagram = figures.system_diagrams(["SegNet"])
    diagram.Description = "The idea of SegNet: “places” <kept>."
    figures.save_figure(diagram, tmp_path / "table3_systems.png")
    figures.save_figure(figures.system_diagrams(["MuLA"]), tmp_path / "kernels.png")
    return tmp_path


class Reader(HTMLParser):
    """Collects cells, images and every address that a page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.images, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.sources += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(folder):
    text = write_report(folder).read_text()
    page = Reader(text)
    assert page.open == []
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert "@import" not in text
    assert "url(" not in text
    targets = {source[1:] for source in page.sources if source.startswith("#")}
    assert targets == {"table1", "table3", "diagnostics", "data-and-model", "provenance"}
    assert targets <= set(re.findall(r'id="([\w-]+)"', text))


def test_paper_and_ours_stand_side_by_side_with_notes(folder):
    text = write_report(folder).read_text()
    assert "<strong>demo profile; data: people; seeds: 0, 2</strong>" in text
    assert "<td>76.0</td><td>46.9</td>" in text
    assert html.escape("quoted: <unknown> & unpublished") in text
    assert "<unknown>" not in text
    assert "0123abc" in text
    assert "another image" in text
    first_table = text[text.index('id="table1"') : text.index('id="table3"')]
    assert "note" not in first_table  # there are none


def test_figures_stand_with_their_tables_and_speak(folder):
    text = write_report(folder).read_text()
    page = Reader(text)
    assert [image["alt"] for image in page.images] == ["The idea of SegNet: “places” <kept>.", "kernels"]
    assert text.index("The idea of SegNet") > text.index('id="table3"')
    assert text.index("data:image") < text.index('id="data-and-model"')


def test_a_captions_figure_carries_it_to_its_file(folder, capsys):
    figure = figures.system_diagrams(["FCN-8s"])
    figures.show(figure, "Said once")
    capsys.readouterr()
    figures.save_figure(figure, folder / "table1_scores.png")
    assert 'alt="Said once"' in write_report(folder).read_text()


def test_the_same_folder_gives_the_same_page(folder):
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_a_folder_without_tables_is_an_error_in_a_line(tmp_path, capsys):
    with pytest.raises(DataError, match="no tables to report"):
        write_report(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


WRITTEN = sorted((REPOSITORY / "results").glob("*/report.html"))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.parent.name)
def test_a_written_report_is_light_enough_to_commit(path):
    assert path.stat().st_size < 4e6
    assert Reader(path.read_text()).open == []
