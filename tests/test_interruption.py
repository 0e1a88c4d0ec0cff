"""A run that is stopped, however and whenever, loses nothing but the epoch it was in."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import jupytext
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import SCRIPT, TOY_OPTIONS, run, toy_text
from nbclient import NotebookClient

OPTIONS = [*TOY_OPTIONS, "--epochs", "6", "--patience", "9"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def start(*options, folder):
    """A process of the script whose lines are read as they are printed."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def read_until(process, beginning):
    """Read what a process prints, up to a line that begins so."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(process.stderr.read())


def outcome(runs):
    """What a run came to: the weights' bytes, the scores, and the history less seconds."""
    with zipfile.ZipFile(runs / "generator.keras") as file:
        weights = file.read("model.weights.h5")
    report = json.loads((runs / "report.json").read_text())
    scores = {name: report[name] for name in report if "perplexity" in name}
    rows = list(csv.DictReader((runs / "history.csv").open()))
    return weights, scores, [row | {"seconds": ""} for row in rows]


def run_as_notebook(folder, options):
    """Run the script's cells as a notebook in a folder."""
    notebook = jupytext.read(SCRIPT)
    (cell,) = (c for c in notebook.cells if "options = [" in c.source)
    cell.source = cell.source.replace('["--preset", "quick"]', str(options))
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()


@posix
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(tmp_path):
    """It goes on in the script and, from the last kill on, in a notebook, too."""
    draw, folders = random.Random(11), [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
        (folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
    for _ in range(3):
        process = start(*OPTIONS, folder=folders[1])
        read_until(process, "epoch: ")
        time.sleep(0.2 * draw.random())
        process.kill()
        process.communicate()
    shutil.copytree(tmp_path / "killed", tmp_path / "notebook")
    run_as_notebook(tmp_path / "notebook", OPTIONS)
    for folder in folders:
        finished = run(*OPTIONS, folder=folder)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert ("\nResuming after epoch " in finished.stdout) == (folder != folders[0])
    for name in ["killed", "notebook"]:
        runs = tmp_path / name / "runs"
        assert outcome(runs) == outcome(tmp_path / "whole" / "runs")
        assert not list(runs.glob("*checkpoint*"))


@posix
def test_ctrl_c_ends_with_130_after_the_last_section_and_can_be_resumed(tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*TOY_OPTIONS, "--epochs", "9999", folder=tmp_path)
    read_until(process, "Epoch 3/")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == ""
    assert "stopped: by Ctrl-C" in output and "test perplexity" in output
    samples = (tmp_path / "runs" / "samples.txt").read_text(encoding="utf-8")
    assert "".join(samples.split()) in "".join(output.split())
    *rows, last = csv.DictReader((tmp_path / "runs" / "history.csv").open())
    assert last["stopped"] == "by Ctrl-C" and float(last["validation_perplexity"]) < 13
    (kept,) = (tmp_path / "runs").glob("checkpoint-*")
    steps, history, _ = program.read_checkpoint(kept, fresh=False)
    assert steps == 9999 * 59 and {row["stopped"] for row in history} == {None}
    assert 0 <= len(history) - len(rows) <= 1  # did it come while one was written?


@posix
@pytest.mark.parametrize("line", [*["Corpus: "] * 4, "Training on", "steps: "])
def test_ctrl_c_outside_of_training_is_one_clear_line(line, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*TOY_OPTIONS, folder=tmp_path)
    read_until(process, line)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    if "stopped: by Ctrl-C" not in output:  # on a busy machine training may be on
        assert errors.startswith("stopped by Ctrl-C") and errors.count("\n") == 1


@posix
def test_a_reader_that_leaves_ends_the_writing_without_a_word(toy_folder):
    options = "--load runs/generator.keras --num-samples 900".split()
    process = start(*options, folder=toy_folder)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


# Below, without a process of its own: a toy model, trained by the same function

VOCABULARY = ["[UNK]", *"abcdefghijklmno"]
SETTINGS = program.Settings(
    embedding_size=5,
    hidden_size=7,
    batch_size=3,
    sequence_length=4,
    num_sampled=4,
    epochs=3,
)
IDS = np.random.default_rng(5).integers(1, 16, size=(2, 150))


@pytest.fixture(scope="module", autouse=True)
def keras():
    program.start_tensorflow()


def train(path, settings=SETTINGS, train_ids=IDS[0], validation_ids=IDS[1]):
    """The model of a run that keeps its epochs in a path, and its rows as they come."""
    steps, rows, arrays = program.read_checkpoint(path, fresh=False)
    steps = steps or settings.epochs * program.count_steps(train_ids, settings)
    model = program.build_model(len(VOCABULARY), settings)
    parts = train_ids, validation_ids, settings, steps, 0
    return model, program.train(model, VOCABULARY, *parts, (path, rows, arrays))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 99, "learning_rate": 0.1, "patience": 2},
        {"validation_share": 0, "num_sampled": 0, "embedding_size": 7, "num_layers": 2},
    ],
)
def test_each_epoch_can_be_the_last_before_a_crash(changes, tmp_path):
    """Weights, schedule, patience and best weights are those of a run in one piece."""
    settings = program.replace(SETTINGS, **changes)
    validation_ids = IDS[1] if settings.validation_share else IDS[1][:0]
    start = partial(train, settings=settings, validation_ids=validation_ids)
    model, rows = start(tmp_path / "whole.npz")
    rows = list(rows)
    assert rows[-1]["stopped"] == "no progress" or len(rows) == settings.epochs
    for number, _ in enumerate(rows, start=1):
        other, some = start(tmp_path / "pieces.npz")
        for _ in range(number):
            row = next(some)
        some.close()  # as a crash would, but after all of number epochs
        assert row["epoch"] == number
    other, again = start(tmp_path / "pieces.npz")
    again = list(again)
    seconds = [row["seconds"] for row in again]
    assert seconds == sorted(seconds)  # they are counted on
    assert [r | {"seconds": 0} for r in again] == [r | {"seconds": 0} for r in rows]
    for array, expected in zip(other.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(array, expected)


def test_ctrl_c_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    path, save = tmp_path / "kept.npz", np.savez
    model, rows = train(path)
    next(rows)
    before = path.read_bytes()

    def interrupt(*arrays, **named):
        os.kill(os.getpid(), signal.SIGINT)
        save(*arrays, **named)

    monkeypatch.setattr(np, "savez", interrupt)
    last = list(rows)
    assert [row["stopped"] for row in last] == ["by Ctrl-C"]
    assert path.read_bytes() != before and list(tmp_path.iterdir()) == [path]
    _, history, _ = program.read_checkpoint(path, fresh=False)
    assert [row["stopped"] for row in history] == [None, None]


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    """The process kills itself at the worst moment: all is written, nothing renamed."""
    code = (
        "import os, runpy, sys; replace, calls = os.replace, []\n"
        "def crash(source, target):\n"
        "    calls.append(target)\n"
        "    os.kill(os.getpid(), 9) if len(calls) == 3 else replace(source, target)\n"
        f"os.replace = crash; sys.argv[1:] = {OPTIONS}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == -9
    part, kept = sorted((tmp_path / "runs").iterdir(), key=lambda path: -len(path.name))
    assert part.name == f"{kept.stem}.part.npz"
    assert len(program.read_checkpoint(kept, fresh=False)[1]) == 2
    assert len(program.read_checkpoint(part, fresh=False)[1]) == 3


def test_a_full_disk_costs_one_checkpoint_and_is_said(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    path = tmp_path / "kept.npz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    _, rows = train(path)
    next(rows)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes of a file
    try:
        next(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    warning = capsys.readouterr().out
    assert warning.startswith(f"Warning: cannot write {path} (File too large)")
    assert "make room" in warning and warning.count("\n") == 1
    assert len(program.read_checkpoint(path, fresh=False)[1]) == 1
    next(rows)
    assert len(program.read_checkpoint(path, fresh=False)[1]) == 3
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_vanishes_is_made_again(tmp_path, capsys):
    path = tmp_path / "runs" / "kept.npz"
    _, rows = train(path, program.replace(SETTINGS, epochs=4))
    next(rows)
    shutil.rmtree(path.parent)
    next(rows)
    assert len(program.read_checkpoint(path, fresh=False)[1]) == 2
    shutil.rmtree(path.parent)
    path.parent.write_text("something else")
    next(rows)
    warning = capsys.readouterr().out
    assert warning.startswith("Warning: cannot write ") and warning.count("\n") == 1
    path.parent.unlink()
    assert [row["epoch"] for row in rows] == [4]
    assert len(program.read_checkpoint(path, fresh=False)[1]) == 4


def test_a_lack_of_permission_is_said(tmp_path, capsys, monkeypatch):
    _, rows = train(tmp_path / "kept.npz")

    def refuse(*_):  # in place of a folder's mode, which root may ignore
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(list(rows)) == 3
    warnings = capsys.readouterr().out
    assert warnings.count("(Permission denied): make room there;") == 3
    assert not list(tmp_path.iterdir())


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "a wrong byte": lambda content: content[:5000] + b"\1" + content[5001:],
    "zeros": lambda content: bytes(len(content)),
    "a text": lambda content: b"to be or not to be",
    "a pickle": lambda content: b"\x80\x04cposix\nsystem\n(S'touch pickled'\ntR.",
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkpoint of one epoch."""
    path = tmp_path_factory.mktemp("kept") / "kept.npz"
    next(train(path)[1])
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_left_aside(
    damage, kept, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path, content = tmp_path / "kept.npz", kept.read_bytes()
    assert DAMAGES[damage](content) != content
    path.write_bytes(DAMAGES[damage](content))
    assert program.read_checkpoint(path, fresh=False) == (0, [], [])
    warning = capsys.readouterr().out
    assert (
        warning.startswith(f"Warning: {path} is damaged") and warning.count("\n") == 1
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_network_is_refused_with_a_remedy(kept):
    _, rows = train(kept, program.replace(SETTINGS, hidden_size=8))
    with pytest.raises(program.UserError, match="--fresh"):
        next(rows)


def test_fresh_takes_no_notice_of_a_checkpoint(kept):
    assert program.read_checkpoint(kept, fresh=False)[0] > 0
    assert program.read_checkpoint(kept, fresh=True) == (0, [], [])
    assert program.read_settings(["--fresh"]).fresh and not program.Settings().fresh


def test_a_checkpoint_is_for_the_runs_that_learn_the_same():
    corpus = program.Corpus("toy.txt", "text", 4, "0" * 64)
    name = program.name_checkpoint(corpus, SETTINGS)
    same = {"prompt": "king", "output_dir": "x", "temperature": 0.1, "fresh": True}
    same |= {"corpus": "toy.txt", "preset": "best", "load": "", "num_words": 9}
    for change in same.items():
        changed = program.replace(SETTINGS, **dict([change]))
        assert program.name_checkpoint(corpus, changed) == name
    names = [field.name for field in program.fields(program.Settings)]
    shaping = names[names.index("token_kind") : names.index("patience") + 1]
    assert {"token_kind", "dropout", "batch_size", "minutes"} < set(shaping)
    others = {name}
    for field in [*shaping, "seed"]:
        value = getattr(SETTINGS, field)
        other = "characters" if field == "token_kind" else value + 1 if value else 1
        if isinstance(value, float):
            other = value / 2 if value else 0.5
        changed = program.replace(SETTINGS, **{field: other})
        others.add(program.name_checkpoint(corpus, changed))
    assert len(others) == len(shaping) + 2
    other = program.replace(corpus, sha256="1" * 64)
    assert program.name_checkpoint(other, SETTINGS) not in others
