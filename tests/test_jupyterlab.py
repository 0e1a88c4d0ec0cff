"""A real JupyterLab in a real browser runs the notebook from top to bottom.

The browser is Debian's Chromium, driven by Playwright; where one of them is missing the test
skips. What it saw is left in tests/screenshots, which git ignores: jupyterlab.png has the
curves in its middle, 01.png, 02.png, ... are the notebook, one screen after the other, and
dark-01.png, dark-02.png, ... are the same in JupyterLab's dark theme.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import TOY_OPTIONS, notebook_with, toy_text

PICTURES = Path(__file__).with_name("screenshots")
PATIENCE = 300  # seconds, for a slow machine; all takes about half a minute

CURVES = 'folder.draw("curves.png"'
IDLE = (  # at first the page has no application yet
    "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    " === 'idle'"
)
RUN_ALL = """() => {
    window.allRan = null
    jupyterapp.commands.execute('notebook:run-all-cells').then(x => window.allRan = x)
}"""
THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
IS_DARK = "document.body.dataset.jpThemeLight === 'false'"
SCROLL = """top => {
    document.querySelector('.jp-WindowedPanel-outer').scrollTop = top
    const last = [...document.querySelectorAll('.jp-Notebook .jp-Cell')].at(-1)
    return last.getBoundingClientRect().bottom > window.innerHeight
}"""


@pytest.fixture
def page(browser):
    """A page that ends with the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(PATIENCE * 1000)
    yield page
    page.close()


@pytest.fixture
def lab(tmp_path):
    """A folder, and the address and token of a JupyterLab there that ends with the test."""
    folder, own = (
        tmp_path / "work",
        tmp_path / "own",
    )  # own: its settings, not the user's
    folder.mkdir()
    (own / "labconfig").mkdir(parents=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
    (own / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(quiet))
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--expose-app-in-browser", "--ip=127.0.0.1", "--port=0"]
    command += [f"--IdentityProvider.token={token}"]
    places = {f"JUPYTER_{name}_DIR": str(own) for name in ["CONFIG", "DATA", "RUNTIME"]}
    with (own / "log.txt").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | places, stdout=log, stderr=log
        )
        try:
            yield folder, wait_for_address(server, own), token
        finally:
            server.terminate()  # it ends its kernels first
            try:
                server.wait(30)
            finally:
                server.kill()


def wait_for_address(server, folder):
    """The address that a JupyterLab writes down, with its port, once it listens."""
    note, end = folder / f"jpserver-{server.pid}.json", time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        if note.exists() and (text := note.read_text()):
            return json.loads(text)["url"]
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start: {(folder / 'log.txt').read_text()}")


def take_pictures(page, number_of_curves):
    """Leave pictures in PICTURES: of the cell with the curves, then of all the screens.

    All the screens are taken twice, in the light and in the dark theme.
    """
    shutil.rmtree(PICTURES, ignore_errors=True)
    cell = page.locator(".jp-Notebook .jp-Cell").nth(number_of_curves)
    cell.locator("img").scroll_into_view_if_needed()
    page.screenshot(path=PICTURES / "jupyterlab.png")
    take_screens(page, "")
    page.evaluate(THEME, "JupyterLab Dark")
    page.wait_for_function(IS_DARK)
    take_screens(page, "dark-")


def take_screens(page, start):
    """Leave pictures of the notebook, one screen after the other, whose names start so."""
    more, number = True, 0
    while more:
        more = page.evaluate(SCROLL, number * 1200)
        number += 1
        page.screenshot(path=PICTURES / f"{start}{number:02}.png")


def test_jupyterlab_runs_all_cells_and_saves_what_they_show(page, lab):
    folder, address, token = lab
    notebook, path = notebook_with(TOY_OPTIONS), folder / "notebook.ipynb"
    (curves,) = (n for n, cell in enumerate(notebook.cells) if CURVES in cell.source)
    (folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
    nbformat.write(notebook, path)

    page.goto(f"{address}lab/tree/{path.name}?reset&token={token}")
    page.wait_for_function(IDLE)
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.allRan !== null")
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")

    saved = nbformat.read(path, as_version=4).cells
    code = [cell for cell in saved if cell.cell_type == "code"]
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert errors == [] and page.evaluate("window.allRan")
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert any("image/png" in o.get("data", {}) for o in saved[curves].outputs)
    take_pictures(page, curves)
    light, dark = (len([*PICTURES.glob(f"{s}[0-9]*.png")]) for s in ["", "dark-"])
    assert light == dark > 1
