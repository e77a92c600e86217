"""The report page: everything of a results folder, on one page that needs nothing else."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest

from mula_lib.anatomy import LIP
from mula_lib.files import DataError
from workbook import claims, figures
from workbook.report import write_report
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
    """A results folder with two tables, claims, one figure of a table and one of the model."""
    one = [lines("VGG16-FCN", "PCK", 69.1, 47.5), lines("VGG16-FCN-MuLA", "PCK", 76.0, 46.9)]
    long_note = "quoted: <unknown> & unpublished, in more than the fifty characters that a cell is cut to"
    three = [lines("BUPTMM-POSE", "PCK", 80.2, None, long_note), lines("HG", "PCK", None, 40.0)]
    for number, table in ((1, one), (3, three)):
        pd.DataFrame(table).to_csv(tmp_path / f"table{number}.csv", index=False)
        (tmp_path / f"table{number}.provenance.json").write_text(json.dumps({"git_commit": "0123abc", "seeds": [0, 2]}))
    judged = claims.judge(claims.measure(lambda name, seed: None), {})
    figures.save_all(tmp_path, {"claims.csv": judged.drop(columns="meaning")})
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
    assert "<strong>demo profile; data: people; seeds: [0, 2]</strong>" in text
    assert re.search(r"<td>76.0</td>\s*<td>46.9</td>", text)
    assert html.escape("<unknown> & unpublished, in more than the fifty characters that a cell is cut to") in text
    assert "0123abc" in text
    assert "note" not in text[text.index('id="table1"') : text.index('id="table3"')]  # there are none


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(DataError, match="no tables to report"):
        write_report(tmp_path)
