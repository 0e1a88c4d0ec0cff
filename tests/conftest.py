"""What the tests share: the program as a module, a toy text, and one finished toy run."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
settings.register_profile(  # a slow machine fails no test
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "shakespeare_text_generator_using_gru.py"
NOTEBOOK = ROOT / "Shakespeare_text_generator_using_GRU.ipynb"
sys.path.insert(0, str(ROOT))

TOY_OPTIONS = (
    "--corpus toy.txt --embedding-size 8 --hidden-size 12 --batch-size 4 "
    "--sequence-length 10 --num-sampled 8 --epochs 2 --learning-rate 0.01 "
    "--num-words 10 --prompt king"
).split()


def toy_text(num_sentences=600):
    """A play in which who does what to whom is drawn, and little else happens."""
    draw = random.Random(7)
    people = ["king", "queen", "fool", "ghost", "duke", "witch"]
    deeds = ["loves", "fears", "calls", "follows", "forgives"]
    lines = [
        f"The {draw.choice(people)} {draw.choice(deeds)} the {draw.choice(people)};"
        for _ in range(num_sentences)
    ]
    return "\n".join(lines)


def run(*options, folder, **environment):
    """What `python script options` gives in a folder: code, output and errors."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "60", "PYTHONIOENCODING": "utf-8"} | environment,
    )


def newest(folder):
    """The newest folder of a run in runs/ in a folder."""
    return max((folder / "runs").iterdir(), key=os.path.getmtime)


def notebook_with(options):
    """A copy of the notebook that runs with other options."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    line = 'options = ["--preset", "quick"] if in_notebook'
    (cell,) = (c for c in notebook.cells if line in c.source)
    cell.source = cell.source.replace(line, f"options = {options} if in_notebook")
    return notebook


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A folder with toy.txt and, in runs/, what two toy runs of the script left."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
    for _ in range(2):
        finished = run(*TOY_OPTIONS, folder=folder)
        assert finished.returncode == 0, finished.stderr
    (folder / "output.txt").write_text(finished.stdout, encoding="utf-8")
    (folder / "errors.txt").write_text(finished.stderr, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, driven by Playwright; without one of them the test skips."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("there is no Chromium: on Debian, apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright")
    with api.sync_playwright() as playwright:
        options = {"executable_path": path, "args": ["--no-sandbox"]}
        with playwright.chromium.launch(**options) as browser:
            yield browser
