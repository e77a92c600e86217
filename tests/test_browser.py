"""The workbook as a reader has it: JupyterLab and the report in a real browser."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import REPOSITORY

from workbook.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install -r requirements.lock")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; on Debian: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=60_000)  # what a slow machine shows late is no fault
    with playwright.sync_playwright() as started:
        # Without its sandbox, because tests may run as root; it sees pages of this machine only.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a free loopback port that shows copies of the notebooks."""
    root, token = tmp_path_factory.mktemp("lab"), os.urandom(16).hex()
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=", "--ServerApp.port_retries=0",
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JUPYTER_CONFIG_DIR": str(root / "config")}
    with open(root / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        try:
            for _ in range(180):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=2).close()
                    break
                assert server.poll() is None, (root / "lab.log").read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{{}}?token={token}&reset"
        finally:
            server.terminate()
            server.wait(timeout=30)


def test_a_notebook_runs_from_top_to_bottom_and_its_slider_changes_the_picture(browser, lab):
    page = browser.new_page(viewport={"width": 1200, "height": 14_000})  # tall, so that every cell is on the page
    page.goto(lab.format("02_model.ipynb"), timeout=60_000)
    page.wait_for_function(f"() => {KERNEL}", timeout=60_000)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.set_default_timeout(240_000)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    cells = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")

    readout = page.locator(".widget-readout").first
    picture = page.locator(".widget-image:visible").first
    handle = page.locator(".jupyter-widgets .noUi-handle").first
    handle.wait_for()
    playwright.expect(readout).to_have_text("stage 1")
    first = picture.get_attribute("src")
    handle.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(readout).to_have_text("stage 2")
    playwright.expect(picture).not_to_have_attribute("src", first)


def test_the_report_sorts_its_tables_and_fits_a_phone(browser, tmp_path):
    half_written = shutil.ignore_patterns(".*")  # by notebooks that are tested side by side
    report = write_report(shutil.copytree(REPOSITORY / "results" / "demo", tmp_path / "demo", ignore=half_written))
    page, fetched = browser.new_page(viewport={"width": 390, "height": 800}), []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    heads = page.locator("#table1 thead tr").last.locator("th")
    place = next(n for n, text in enumerate(heads.all_inner_texts()) if text.startswith("ours"))
    read = f"rows => rows.map(row => Number(row.cells[{place}].textContent))"
    columns = [page.locator("#table1 tbody tr").evaluate_all(read)]
    for _ in range(2):
        heads.nth(place).locator("button").click()
        columns.append(page.locator("#table1 tbody tr").evaluate_all(read))
    before, falling, rising = columns
    assert falling == sorted(before, reverse=True) != before
    assert rising == sorted(before)
    assert all(url.startswith(("file:", "data:")) for url in fetched)
