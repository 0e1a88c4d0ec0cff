"""The script and the notebook are one text, short and in a good order to read."""

import ast
import io
import subprocess
import symtable
import sys
import tokenize

import jupytext
import nbformat
import pytest
from conftest import (
    NOTEBOOK,
    ROOT,
    SCRIPT,
    TOY_OPTIONS,
    newest,
    notebook_with,
    run,
    toy_text,
)
from nbclient import NotebookClient


def cells(notebook):
    """Of each cell its type, its source, and what folds it in JupyterLab and in Colab."""
    return [
        (c.cell_type, c.source, c.metadata.get("jupyter"), c.metadata.get("cellView"))
        for c in notebook.cells
    ]


def test_notebook_mirrors_the_script_cell_by_cell():
    assert cells(nbformat.read(NOTEBOOK, as_version=4)) == cells(jupytext.read(SCRIPT))


def is_folded(cell):
    """Whether JupyterLab hides a cell's source."""
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


@pytest.fixture(scope="module")
def code():
    """The code cells of the script."""
    return [c for c in jupytext.read(SCRIPT).cells if c.cell_type == "code"]


@pytest.fixture(scope="module")
def lesson(code):
    """Those that are not folded: what a reader meets."""
    return [cell for cell in code if not is_folded(cell)]


def test_folded_cells_and_no_others_have_a_title(code):
    """Colab shows the title of a folded cell, and JupyterLab folds it, too."""
    folded = [cell for cell in code if is_folded(cell)]
    assert folded == [c for c in code if c.metadata.get("cellView") == "form"]
    assert folded == [c for c in code if c.source.startswith("# @title ")]
    assert 0 < len(folded) and sum("# @title" in c.source for c in code) == len(folded)


def count_lines(source):
    """The lines of code of a source, without blanks, comments and docstrings."""
    nothing = tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT
    nothing += tokenize.DEDENT, tokenize.ENDMARKER
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_lines_of_code_are_counted_without_blanks_comments_and_docstrings():
    source = "\n".join(
        [
            '"""A module',
            'that says something."""',
            "",
            "# a comment",
            "def f(x):  # here is code",
            '    """A docstring."""',
            "    text = '''two",
            "    lines'''",
            "    return (",
            "        # between",
            "        text",
            "    )",
        ]
    )
    assert count_lines(source) == 6


def test_the_program_has_at_most_1662_lines_of_code():
    assert count_lines(SCRIPT.read_text(encoding="utf-8")) <= 1662


def test_the_untrained_network_writes_within_the_first_third(lesson):
    sources = [cell.source for cell in lesson]
    (place,) = (n for n, s in enumerate(sources) if "untrained" in names_of_run(s))
    assert "write" in calls_while_running(sources[place])
    lines = [count_lines(source) for source in sources]
    assert sum(lines[: place + 1]) <= sum(lines) / 3


def test_trained_text_is_what_runs_next_after_the_training(lesson):
    sources = [cell.source for cell in lesson]
    (place,) = (n for n, s in enumerate(sources) if "generator" in names_of_run(s))
    after = next(s for s in sources[place + 1 :] if is_run(s))
    assert "print_samples" in calls_while_running(after)


def test_at_most_two_cells_in_a_row_define_without_running():
    """A text between them, or a cell that runs, is a rest; a folded one is not read."""
    in_a_row, longest = 0, 0
    for cell in jupytext.read(SCRIPT).cells:
        if cell.cell_type == "code" and is_folded(cell):
            continue
        defines = cell.cell_type == "code" and not is_run(cell.source)
        in_a_row = in_a_row + 1 if defines else 0
        longest = max(longest, in_a_row)
    assert longest <= 2


def test_the_last_cell_is_the_one_to_play_with(code):
    forms = [n for n, cell in enumerate(code) if "# @param" in cell.source]
    assert forms == [len(code) - 1]


def excludes_notebooks(test):
    """Whether a condition holds in no notebook."""
    every = isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)
    return "not in_notebook" in map(ast.unparse, test.values if every else [test])


def exits(tree, guarded=False):
    """For each exit in what runs at once: whether no notebook comes to it."""
    for node in ast.iter_child_nodes(tree):
        if ast.unparse(node) in ["sys.exit", "exit", "quit", "SystemExit", "os._exit"]:
            yield guarded
        if not isinstance(node, DEFINITIONS):
            safe = isinstance(tree, ast.If) and node in tree.body
            yield from exits(node, guarded or safe and excludes_notebooks(tree.test))


def test_no_cell_of_a_notebook_ends_its_kernel(code):
    source = "\n".join(cell.source for cell in code)
    assert {*exits(ast.parse(source))} == {True}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("if running:\n    sys.exit(1)", [False]),
        ("if not in_notebook or running:\n    sys.exit()", [False]),
        ("if not in_notebook:\n    pass\nelse:\n    sys.exit()", [False]),
        ("if a:\n    if b and not in_notebook:\n        sys.exit()", [True]),
        ("def f():\n    sys.exit()", []),
    ],
)
def test_an_exit_that_a_notebook_would_come_to_is_found(source, expected):
    assert [*exits(ast.parse(source))] == expected


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


DEFINITIONS = ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom


def run_nodes(source):
    """The syntax of a source that runs at once: all but what is in definitions."""
    statements = [s for s in ast.parse(source).body if not isinstance(s, DEFINITIONS)]
    return [node for statement in statements for node in ast.walk(statement)]


def names_of_run(source):
    """What run cells assign: in `if training:` and the like, or beside `running =`."""
    names = [node for node in run_nodes(source) if isinstance(node, ast.Name)]
    names = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {name for name in names if not name[0].isupper()}  # no class, no constant


def calls_while_running(source):
    """The names of the functions that a source calls at once."""
    calls = [node for node in run_nodes(source) if isinstance(node, ast.Call)]
    return {ast.unparse(call.func) for call in calls}


def is_run(source):
    """Whether a cell does more than to import and to define."""
    decides = any(isinstance(node, ast.If) for node in run_nodes(source))
    return decides or names_of_run(source) != set()


def globals_read(table):
    """Pairs of a function and a global name that it, or what is in it, reads."""
    for symbol in table.get_symbols():
        if symbol.is_global():
            yield table.get_name(), symbol.get_name()
    for child in table.get_children():
        yield from globals_read(child)


def leaks(source):
    """What the functions and classes of a source read of its run cells' variables."""
    names = names_of_run(source)
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
    written = "".join(o.text for o in notebook.cells[-1].outputs)  # of the play cell
    assert written.startswith("what is love ")
    assert (newest(tmp_path) / "generator.keras").exists()


def test_a_mistake_in_a_notebook_is_an_exception_with_the_same_words(tmp_path):
    with pytest.raises(Exception, match="--epochs 0: give 1 to 10,000"):
        run_notebook(tmp_path, ["--epochs", "0"])


def test_readme_shows_the_help_as_it_is(tmp_path):
    finished = run("--help", folder=tmp_path, COLUMNS="80")
    assert finished.stdout in (ROOT / "README.md").read_text(encoding="utf-8")
