"""The script and the notebook are one text, and importing it does nothing."""

import ast
import subprocess
import symtable
import sys

import jupytext
import nbformat
import pytest
from conftest import NOTEBOOK, ROOT, SCRIPT, TOY_OPTIONS, notebook_with, run, toy_text
from nbclient import NotebookClient


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_notebook_mirrors_the_script_cell_by_cell():
    assert cells(nbformat.read(NOTEBOOK, as_version=4)) == cells(jupytext.read(SCRIPT))


def test_notebook_shows_the_outputs_of_one_run_from_top_to_bottom():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert not any(o.output_type == "error" for o in outputs)
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert "widgets" not in notebook.metadata
    assert NOTEBOOK.stat().st_size < 1_500_000


def test_importing_the_script_does_nothing(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.dont_write_bytecode = True\n"
        f"import {SCRIPT.stem}\n"
        "assert not {'keras', 'tensorflow', 'matplotlib', 'requests'} & set(sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def names_set_while_running(source):
    """What run cells assign: in `if training:` and the like, or beside `running =`."""
    definitions = ast.FunctionDef, ast.ClassDef
    cells = [s for s in ast.parse(source).body if not isinstance(s, definitions)]
    names = [n for s in cells for n in ast.walk(s) if isinstance(n, ast.Name)]
    return {n.id for n in names if isinstance(n.ctx, ast.Store) and not n.id.isupper()}


def globals_read(table):
    """Pairs of a function and a global name that it, or what is in it, reads."""
    for symbol in table.get_symbols():
        if symbol.is_global():
            yield table.get_name(), symbol.get_name()
    for child in table.get_children():
        yield from globals_read(child)


def leaks(source):
    """What the functions and classes of a source read of its run cells' variables."""
    names = names_set_while_running(source)
    tables = symtable.symtable(source, "script", "exec").get_children()
    defined = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    pairs = [p for t in tables if t.get_name() in defined for p in globals_read(t)]
    return [pair for pair in pairs if pair[1] in names]


def test_no_function_reads_a_variable_of_a_run_cell():
    assert leaks(SCRIPT.read_text(encoding="utf-8")) == []


def test_a_function_that_does_read_one_is_found():
    source = "if running:\n    ids = [1]\ndef f():\n    return ids\n"
    assert leaks(source) == [("f", "ids")]


def run_notebook(folder, options):
    """A copy of the notebook, run in a folder with other options."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook_with(options), timeout=300, resources=resources)
    return client.execute()


def test_notebook_alone_in_a_folder_runs_from_top_to_bottom(tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    notebook = run_notebook(tmp_path, TOY_OPTIONS)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "test perplexity" in printed and "king" in printed
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 2
    assert (tmp_path / "runs" / "generator.keras").exists()


def test_a_mistake_in_a_notebook_is_an_exception_with_the_same_words(tmp_path):
    with pytest.raises(Exception, match="--epochs 0: give 1 to 10,000"):
        run_notebook(tmp_path, ["--epochs", "0"])


def test_readme_shows_the_help_as_it_is(tmp_path):
    finished = run("--help", folder=tmp_path, COLUMNS="80")
    assert finished.stdout in (ROOT / "README.md").read_text(encoding="utf-8")
