"""``results/<profile>/report.html``: claims, tables and figures of that folder on one self-contained page."""

import base64
import re
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

from mula_lib.files import write_text
from workbook.datasets import VARIABLES
from workbook.figures.style import CAPTION
from workbook.results import read_table, side_by_side, table_label
from workbook.tables import CONTEXT, TABLES, table_rows

TITLES = ("what happens between two VGG16 networks", "stages of hourglass networks", "pose, compared systems",
          "parsing, compared systems", "pose of several people", "parsing of several people")  # fmt: skip
# The order of a table's figures, by how their names end; a figure of two tables goes to the first.
ENDINGS = ("scores", "stages", "images", "kernels", "embeddings", "stage_outputs", "curves")


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a results folder that has tables, atomically."""
    tables = {number: read_table(path) for number in TABLES if (path := folder / f"table{number}.csv").is_file()}
    figures = sorted(folder.glob("[!.]*.png"))
    sections = []

    def add(id_: str, title: str, frames: dict[str, pd.DataFrame], pattern: str) -> None:
        own = [path for path in figures if re.match(pattern, path.name)]
        own.sort(key=lambda path: [not path.stem.endswith(end) for end in ENDINGS])
        figures[:] = [path for path in figures if path not in own]
        pictures = []
        for path in own:
            with Image.open(path) as picture:
                caption = picture.info.get(CAPTION, path.stem.replace("_", " "))
                png = base64.b64encode(path.read_bytes()).decode()
                pictures.append({"caption": caption, "size": picture.size, "png": png})
        with pd.option_context("display.max_colwidth", None):
            html = {of: frame.rename_axis(index=None).to_html(border=0, na_rep="–") for of, frame in frames.items()}
            html = {of: re.sub(r"\n *", "", table) for of, table in html.items()}  # not a line for each cell
        sections.append({"id": id_, "title": title, "tables": html, "figures": pictures})

    if (judged := folder / "claims.csv").is_file():
        caption = "Points and 95 % intervals, by a paired bootstrap over seeds and pictures (C17: times; C18, C19: %)."
        add("claims", "Claims", {caption: read_table(judged).set_index("id")}, "claims")
    for number, table in tables.items():
        view = side_by_side(number, table)
        notes = table.drop_duplicates("method").set_index("method")["note"].astype(object).fillna("")
        if any(notes):
            view["", "note"] = notes
        frames = {f"Percentages; Δ in points to the row {table_rows(number)[0].baseline}.": view}
        if number == 4:
            context = pd.Series(CONTEXT, name="mIoU on LIP val").to_frame()
            frames["As published, with pre-training and larger inputs: context, not targets."] = context
            if (kernels := folder / "kernel_diagnostics.csv").is_file():
                title = "Are the kernels made for the image? One view of each."
                frames[title] = read_table(kernels).set_index("method")
        add(f"table{number}", f"Table {number}: {TITLES[number - 1]}", frames, rf"table(\d_)?{number}_")
    add("data-and-model", "Data and model", {}, "")
    lines = pd.concat(tables.values())
    full = set(lines["profile"]) <= {"paper", "paper-released"} and set(lines["dataset"]) <= set(VARIABLES)
    origins: dict[str, list[str]] = {}  # the facts of every provenance file, and the tables that share them
    for path in sorted(folder.glob("*.provenance.json")):
        origins.setdefault(path.read_text(encoding="utf-8"), []).append(path.name.removesuffix(".provenance.json"))
    page = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(page)
    text = template.render(label=table_label(lines), full_size=full, sections=sections, origins=origins)
    write_text(folder / "report.html", text)
    return folder / "report.html"
