"""The notebook, alone in an empty folder, in an environment of its own with known versions.

    python benchmarks/colab.py [colab|tpu|oldest|newest] [--corpus-file FILE]

Installs the versions that Colab has (tpu: without TensorFlow, as on its TPU runtimes), or
the oldest or newest that requirements.txt allows, runs all cells as they are, and prints
one line. The Python is the one that runs this file: name Colab's, 3.13, where it is at
hand. FILE is a copy of the plays, for a place without internet: it is put where the
notebook would keep what it downloads.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "Shakespeare_text_generator_using_GRU.ipynb"
REQUIREMENTS = (ROOT / "requirements.txt").read_text().split()
TPU = (  # read in August 2026; ipykernel and nbclient stand for Colab's own machinery
    "keras==3.13.2 numpy==2.1.3 matplotlib==3.10.0 requests==2.32.4 ipywidgets==7.7.1 "
    "ipython==7.34 h5py ipykernel nbclient"
).split()
PACKAGES = {
    "colab": ["tensorflow==2.20.0", *TPU],
    "tpu": TPU,
    "oldest": [re.sub(r">=([^,]*).*", r"==\1", line) for line in REQUIREMENTS],
    "newest": REQUIREMENTS,
}
SHOWN = "tensorflow keras numpy matplotlib requests ipywidgets ipython".split()


def make_environment(folder, packages):
    """The folder of the programs of a new environment that has the packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    install = [programs / "python", "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(install, check=True)
    return programs


def list_versions(programs):
    """The versions, as a text, of Python and of what matters in an environment."""
    command = [programs / "python", "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    versions = {package["name"]: package["version"] for package in json.loads(listed)}
    python = ".".join(map(str, sys.version_info[:3]))
    shown = [f"{name} {versions[name]}" for name in SHOWN if name in versions]
    return ", ".join([f"Python {python}", *shown])


def run_notebook(programs, folder, corpus_file):
    """What became of a copy of the notebook, run in an empty folder, as a text."""
    path = shutil.copy(ROOT / NOTEBOOK, folder)
    if corpus_file:
        (folder / "data").mkdir()
        shutil.copy(corpus_file, folder / "data" / "plays.txt")
    # With --allow-errors it keeps what was run when a cell fails.
    command = [programs / "jupyter-execute", "--inplace", "--allow-errors", path]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)  # of it and of what it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    minutes = (time.perf_counter() - start) / 60

    notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    errors = [output for output in outputs if output["output_type"] == "error"]
    ran = sum(cell["execution_count"] is not None for cell in cells)
    result = f"{ran} of {len(cells)} cells ran, {len(errors)} errors, {minutes:.1f} min"
    if errors:
        return f"{result}; the first: {errors[0]['ename']}: {errors[0]['evalue']}"
    report = json.loads(next(folder.glob("runs/*/report.json")).read_text())
    memory, score = usage.ru_maxrss / 2**10, report["test_perplexity"]  # kB on Linux
    return f"{result}, peak memory {memory:,.0f} MB, test perplexity {score:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("versions", nargs="?", choices=PACKAGES, default="colab")
    parser.add_argument("--corpus-file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        programs = make_environment(Path(temporary) / "env", PACKAGES[given.versions])
        folder = Path(temporary) / "notebook"
        folder.mkdir()
        result = run_notebook(programs, folder, given.corpus_file)
        print(f"{given.versions}: {list_versions(programs)}: {result}")
