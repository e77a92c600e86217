"""The workbook as a reader has it: JupyterLab and the report in a real browser."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY

from workbook.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
STARTS_IN = 90  # seconds that JupyterLab may take
RUNS_IN = 240  # seconds that all cells of a notebook may take

try:
    from playwright.sync_api import Page, sync_playwright
except ImportError:
    sync_playwright = None

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; on Debian: apt-get install chromium"),
    pytest.mark.skipif(sync_playwright is None, reason="no playwright here; pip install -r requirements.lock"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Without its sandbox, because tests may run as root; it sees pages of this machine only.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab on a free loopback port, with a token, that shows copies of the notebooks."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    log = open(root / "lab.log", "w")  # noqa: SIM115 - it stays open as long as the server runs
    server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
            f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
            "--LabApp.news_url=", "--ServerApp.port_retries=0", *(["--allow-root"] if os.geteuid() == 0 else []),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "JUPYTER_CONFIG_DIR": str(root / "config")},
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        for _ in range(STARTS_IN * 2):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=2).close()
                break
            assert server.poll() is None, (root / "lab.log").read_text()
            time.sleep(0.5)
        # "reset": without the tabs that the page before had open
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{{}}?token={token}&reset"
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def run_all_cells(page: Page, address: str) -> list[dict]:
    """Open a notebook, run all its cells, and return its code cells as they are afterwards."""
    page.goto(address, timeout=60_000)
    page.wait_for_function(f"() => {KERNEL}", timeout=60_000)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.set_default_timeout(RUNS_IN * 1000)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    cells = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_a_notebook_runs_from_top_to_bottom_and_its_slider_changes_the_picture(browser, lab):
    page = browser.new_page(viewport={"width": 1200, "height": 14_000})  # tall, so that every cell is on the page
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    cells = run_all_cells(page, lab.format("02_model.ipynb"))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == []
    assert all(cell["execution_count"] for cell in cells)
    handle = page.locator(".jupyter-widgets .noUi-handle").first
    handle.wait_for()
    pictures = page.locator(".widget-image, .jupyter-widgets img")
    label = page.locator(".widget-readout").first

    def seen() -> tuple[str, str]:
        shown = next(each for each in pictures.all() if each.is_visible())
        return label.inner_text(), shown.get_attribute("src")

    first = seen()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("text => document.querySelector('.widget-readout').innerText !== text", arg=first[0])
    second = seen()
    assert (first[0], second[0]) == ("stage 1", "stage 2")
    assert first[1] != second[1]
    assert errors == []
    page.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The demo's results, reported again."""
    folder = tmp_path_factory.mktemp("report") / "demo"
    shutil.copytree(REPOSITORY / "results" / "demo", folder)
    return write_report(folder)


def test_the_report_sorts_its_tables_and_fits_a_phone(browser, report):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heads = page.locator("#table1 thead tr").last.locator("th")
    place = next(n for n, text in enumerate(heads.all_inner_texts()) if text.startswith("ours"))
    read = f"rows => rows.map(row => Number(row.cells[{place}].textContent))"
    before = page.locator("#table1 tbody tr").evaluate_all(read)
    heads.nth(place).locator("button").click()
    falling = page.locator("#table1 tbody tr").evaluate_all(read)
    heads.nth(place).locator("button").click()
    rising = page.locator("#table1 tbody tr").evaluate_all(read)
    assert falling == sorted(before, reverse=True) != before
    assert rising == sorted(before)
    assert all(url.startswith(("file:", "data:")) for url in fetched)
    page.close()
