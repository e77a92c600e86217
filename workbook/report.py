"""``results/<profile>/report.html``: every table and figure on one page that needs nothing but itself.

Made from the files of the results folder alone, so that it says what they say: ``python -m workbook.report`` makes it
again. Tables sort by a click; without scripts they are just tables.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

import pandas as pd
from PIL import Image

from mula_lib.files import DataError, exit_status, read_json, write_text
from workbook.comparison import side_by_side, systems_side_by_side
from workbook.datasets import REPOSITORY, VARIABLES
from workbook.figures.output import CAPTION, shown_path
from workbook.results import COLUMNS, read_table
from workbook.tables import BASELINES, COMPARED_TABLES, CONTEXT, TABLES

TITLES = {
    1: "Table 1: what happens between two VGG16 networks",
    2: "Table 2: stages of hourglass networks",
    3: "Table 3: pose, compared systems",
    4: "Table 4: parsing, compared systems",
    5: "Table 5: pose of several people",
    6: "Table 6: parsing of several people",
}
# The order of figures, by what their names end or begin with: of each table, and of the rest.
OF_A_TABLE = ("scores", "stages", "images", "kernels", "embeddings", "systems", "stage_outputs", "curves")
OTHERS = (
    "people", "augmentation", "mirror", "joint_states", "part_frequencies", "targets", "kernels", "stages",
    "first_prediction", "crowd_",
)  # fmt: skip

PAGE = Path(__file__).with_name("report_page.html")  # with places for $label, $warning, $contents and $sections
SMALL = (
    "The paper’s numbers are of full-size networks on LIP and PASCAL-Person-Part. Ours are of the profile and data "
    "named above. Compare rows within a column; never a number of ours with one of the paper’s."
)
FULL_SIZE = (
    "Ours are of full-size networks on the paper’s data sets. The paper’s Table 3 is of LIP’s test images, ours of its "
    "validation images; docs/paper_scale.md names every other difference."
)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a results folder, atomically; DataError for a folder without tables."""
    tables = {number: read_table(folder / f"table{number}.csv", COLUMNS) for number in TABLES}
    tables = {number: table for number, table in tables.items() if table is not None}
    if not tables:
        raise DataError(f"{folder}: no tables to report; ./run_all.sh writes them")
    figures = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    sections = []
    for number, table in tables.items():
        own = sorted((path for path in figures if re.match(rf"table(\d_)?{number}_", path.name)), key=_place)
        shown = systems_side_by_side(table) if number in COMPARED_TABLES else side_by_side(table)
        notes = table.drop_duplicates("method").set_index("method")["note"].astype(object).fillna("")
        caption = f"Percentages; Δ in points to the row {BASELINES[number]}."
        parts = [_table(shown, caption, notes if notes.any() else None)]
        if number == 4:
            parts.append(_context())
        sections.append((f"table{number}", TITLES[number], "".join(parts) + "".join(map(_figure, own))))
        figures = [path for path in figures if path not in own]
    diagnostics = _diagnostics(folder / "kernel_diagnostics.csv")
    if diagnostics:
        sections.append(("diagnostics", "Are the kernels made for the image?", diagnostics))
    others = [path for beginning in OTHERS for path in figures if path.name.startswith(beginning)]
    others += [path for path in figures if path not in others]
    if others:
        sections.append(("data-and-model", "Data and model", "".join(map(_figure, others))))
    sections.append(("provenance", "Where this comes from", _provenance(folder)))
    text = Template(PAGE.read_text(encoding="utf-8")).substitute(
        label=html.escape(_label(tables)),
        warning=_warning(tables),
        contents="\n".join(f'<li><a href="#{name}">{html.escape(title)}</a></li>' for name, title, _ in sections),
        sections="\n".join(
            f'<section id="{name}"><h2>{html.escape(title)}</h2>\n{body}</section>' for name, title, body in sections
        ),
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def _place(path: Path) -> int:
    """Of a table's figure among the others."""
    return next((place for place, end in enumerate(OF_A_TABLE) if path.stem.endswith(end)), len(OF_A_TABLE))


def _warning(tables: dict[int, pd.DataFrame]) -> str:
    lines = pd.concat(tables.values())
    full = set(lines["profile"]) <= {"paper", "paper-released"} and set(lines["dataset"]) <= set(VARIABLES)
    return FULL_SIZE if full else SMALL


def _label(tables: dict[int, pd.DataFrame]) -> str:
    lines = pd.concat(tables.values())
    ran = lines[lines["source"] == "ran"]
    seeds = sorted({seed for text in ran["seeds"] for seed in text.split(" ")}, key=int) or ["none"]
    data = ", ".join(dict.fromkeys(lines["dataset"]))
    return f"{lines['profile'].iloc[0]} profile; data: {data}; seeds: {', '.join(seeds)}"


def _table(shown: pd.DataFrame, caption: str, notes: pd.Series | None = None) -> str:
    """A sortable table; with two levels of columns the upper one spans what belongs to it."""
    levels = shown.columns.nlevels
    rows = []
    if levels == 2:
        spans: list[list] = []
        for upper in shown.columns.get_level_values(0):
            if spans and spans[-1][0] == upper:
                spans[-1][1] += 1
            else:
                spans.append([upper, 1])
        cells = "".join(f'<th colspan="{width}" scope="colgroup">{html.escape(name)}</th>' for name, width in spans)
        rows.append(f"<tr><td></td>{cells}{'<td></td>' if notes is not None else ''}</tr>")
    names = [shown.index.name or "", *(name[-1] if levels == 2 else name for name in shown.columns)]
    names += ["note"] if notes is not None else []
    rows.append(
        "<tr>"
        + "".join(
            f'<th scope="col" data-column="{number}"><button type="button">{html.escape(str(name))}</button></th>'
            for number, name in enumerate(names)
        )
        + "</tr>"
    )
    body = []
    for name, line in zip(shown.index, shown.to_numpy(), strict=True):
        cells = "".join(f"<td>{html.escape(str(value))}</td>" for value in line)
        note = f'<td class="words">{html.escape(notes[name])}</td>' if notes is not None else ""
        body.append(f'<tr><th scope="row">{html.escape(str(name))}</th>{cells}{note}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table class="sortable"><caption><span>{html.escape(caption)}</span></caption>\n'
        f"<thead>{''.join(rows)}</thead>\n"
        f"<tbody>\n{chr(10).join(body)}\n</tbody></table></div>\n"
    )


def _diagnostics(path: Path) -> str:
    table = read_table(path, ("method", "kernels"))
    if table is None:
        return ""
    table.index = pd.Index(table["method"] + ", kernels: " + table["kernels"], name="network")
    columns = [name for name in ("PCK", "PCK Δ", "mIoU", "mIoU Δ") if name in table]
    shown = table[columns].map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")
    return _table(shown, "MuLA with its own kernels, another image’s, their mean, and none; one view of each image.")


def _context() -> str:
    shown = pd.DataFrame({"mIoU on LIP val": [f"{value:.2f}" for value in CONTEXT.values()]})
    shown.index = pd.Index(list(CONTEXT), name="system")
    caption = "As published, with pre-training on ImageNet or more and larger inputs: context, not targets."
    return "<h3>Where the field went since</h3>\n" + _table(shown, caption)


def _figure(path: Path) -> str:
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            caption = str(picture.info.get(CAPTION, path.stem.replace("_", " ")))
            width, height = picture.size
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # of damaged files
        raise DataError(f"{path}: not a whole picture; delete it and run ./run_all.sh again") from error
    encoded = base64.b64encode(content).decode()
    words = html.escape(caption)
    return (
        f'<figure><img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" loading="lazy" '
        f'alt="{words}"><figcaption>{words}</figcaption></figure>\n'
    )


def _provenance(folder: Path) -> str:
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.provenance.json")):
        facts = read_json(path, "a table's provenance", fix="delete it and run ./run_all.sh again")
        found.setdefault(json.dumps(facts, sort_keys=True), []).append(path.name.removesuffix(".provenance.json"))
    parts = []
    for text, names in found.items():
        facts = json.loads(text)
        lines = "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(_words(facts[key]))}</dd>" for key in facts)
        parts.append(f"<h3>{html.escape(', '.join(names))}</h3>\n<dl>{lines}</dl>\n")
    return "".join(parts)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m workbook.report", description=__doc__)
    default = REPOSITORY / "results" / "demo"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="results folder (default: the demo's)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: print(shown_path(write_report(options.folder))), kept="nothing was written")


if __name__ == "__main__":
    sys.exit(main())
