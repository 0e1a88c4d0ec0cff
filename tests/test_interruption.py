"""A run that is stopped, however and whenever, loses nothing but the epoch it was in."""

import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from functools import partial

import jupytext
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, SCRIPT, TOY_OPTIONS, newest, run, toy_text
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


def saved_run(path):
    """The planned steps and the history in a checkpoint."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(file["run"].item())[:2]


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
    """It goes on in the script and, from the last kill on, in a notebook, too.

    With --fresh it starts anew.
    """
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
    for name in ["notebook", "fresh"]:
        shutil.copytree(tmp_path / "killed", tmp_path / name)
    run_as_notebook(tmp_path / "notebook", OPTIONS)
    for folder in folders:
        finished = run(*OPTIONS, folder=folder)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert ("\nResuming after epoch " in finished.stdout) == (folder != folders[0])
    finished = run(*OPTIONS, "--fresh", folder=tmp_path / "fresh")
    assert finished.returncode == 0 and "Resuming" not in finished.stdout
    for name in ["killed", "notebook", "fresh"]:
        runs = newest(tmp_path / name)
        assert outcome(runs) == outcome(newest(tmp_path / "whole"))
        assert not [*runs.glob("*checkpoint*"), *runs.glob("unfinished*")]


@posix
def test_ctrl_c_ends_with_130_after_the_last_section_and_can_be_resumed(tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*TOY_OPTIONS, "--epochs", "9999", folder=tmp_path)
    read_until(process, "Epoch 3/")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.count("\n") == 2
    assert "Stopping (once more: at once)" in errors
    assert "Training ended early: Ctrl-C" in output and "test perplexity" in output
    samples = (newest(tmp_path) / "samples.txt").read_text(encoding="utf-8")
    for sample in samples.split("\n\n"):
        title, text, note = sample.strip().split("\n")
        for part in [title + text, title + note]:
            assert "".join(part.split()) in "".join(output.split())
    report = json.loads((newest(tmp_path) / "report.json").read_text())
    assert report["stopped"] == "Ctrl-C"
    *rows, last = csv.DictReader((newest(tmp_path) / "history.csv").open())
    assert float(last["validation_perplexity"]) < 13
    kept = newest(tmp_path) / "checkpoint.npz"
    assert output.splitlines()[-1].startswith(
        f"For that is {kept.relative_to(tmp_path)}, "
    )
    steps, history = saved_run(kept)
    assert steps == 9999 * 59
    assert 0 <= len(history) - len(rows) <= 1  # did it come while one was written?


@posix
@pytest.mark.parametrize("line", [*["Corpus: "] * 4, "Training on", "Planned: "])
def test_ctrl_c_outside_of_training_is_one_clear_line(line, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*TOY_OPTIONS, folder=tmp_path)
    read_until(process, line)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    training = "Training ended early: Ctrl-C" in output  # on a busy machine
    if not training:
        assert errors == "stopped by Ctrl-C\n"  # nothing is there to resume


@posix
def test_ctrl_c_after_the_training_says_that_it_can_be_resumed(tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*TOY_OPTIONS, "--num-words", "99999", folder=tmp_path)
    read_until(process, "--- temperature")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "stopped by Ctrl-C: the same command resumes\n"
    resumed = run(*TOY_OPTIONS, "--num-words", "9", folder=tmp_path)
    assert "Resuming after epoch 2" in resumed.stdout and resumed.returncode == 0
    assert len([*(tmp_path / "runs").iterdir()]) == 1


@posix
def test_ctrl_c_while_a_loaded_generator_writes_promises_nothing(toy_folder):
    process = start("--load", "--num-words", "99999", folder=toy_folder)
    read_until(process, "--- temperature")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "stopped by Ctrl-C\n")


@posix
def test_a_reader_that_leaves_ends_the_writing_without_a_word(toy_folder):
    options = "--load runs --num-samples 900".split()
    process = start(*options, folder=toy_folder)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


# Below, without a process of its own: a toy network, trained by the same class

VOCABULARY = ["[UNK]", *"abcdefghijklmno"]
SETTINGS = program.Settings(
    embedding_size=5,
    hidden_size=7,
    batch_size=3,
    sequence_length=4,
    num_sampled=4,
    epochs=3,
)
IDS = np.random.default_rng(5).integers(1, 16, size=(2, 150)).astype(np.int32)


@pytest.fixture(scope="module", autouse=True)
def keras():
    program.start_tensorflow()


def make_trainer(path, settings=SETTINGS):
    """A Trainer that keeps its epochs in a path, and goes on from those there."""
    share = settings.validation_share
    parts = [IDS[0], IDS[1] if share else IDS[1][:0], IDS[1][:0]]
    parts = [program.Part([VOCABULARY[i] for i in ids], ids) for ids in parts]
    dataset = program.Dataset("words", VOCABULARY, *parts)
    trainer = program.Trainer(dataset, settings, path)
    program.load_checkpoint(trainer)
    return trainer


def without_seconds(history):
    return [row | {"seconds": 0} for row in history]


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
    whole = make_trainer(tmp_path / "whole.npz", settings)
    rows = list(whole.train())
    assert whole.stopped == "early stopping" or len(rows) == settings.epochs
    for number in range(1, len(rows) + 1):
        pieces = make_trainer(tmp_path / "pieces.npz", settings)
        assert len(pieces.history) == number - 1
        next(pieces.train())  # and nothing more, as if it had crashed
    assert without_seconds(pieces.history) == without_seconds(rows)
    other = make_trainer(tmp_path / "pieces.npz", settings)
    assert other.history == pieces.history and other.stopped == whole.stopped
    assert list(other.train()) == []  # it is over
    for array, expected in zip(other.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(array.numpy(), expected.numpy())
    for array, expected in zip(other.best_weights, whole.best_weights, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_planned_steps_are_those_of_the_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path / "kept.npz")
    trainer.steps -= 5  # as --minutes may plan
    next(trainer.train())
    resumed = make_trainer(tmp_path / "kept.npz")
    assert resumed.steps == trainer.steps
    rows = list(resumed.train())
    assert without_seconds(rows) == without_seconds(trainer.train())


def test_the_seconds_are_those_of_each_epoch(tmp_path, monkeypatch):
    ticks = iter(range(0, 10**6, 7))
    monkeypatch.setattr(program.time, "perf_counter", lambda: next(ticks))
    trainer = make_trainer(tmp_path / "kept.npz")
    next(trainer.train())
    list(make_trainer(tmp_path / "kept.npz").train())
    _, history = saved_run(tmp_path / "kept.npz")
    assert [row["seconds"] for row in history] == [7, 7, 7]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@posix
def test_ctrl_c_within_an_epoch_ends_it_and_is_not_saved(tmp_path):
    """The epoch counts, as far as it came; the same command trains it in full."""
    trainer = make_trainer(tmp_path / "kept.npz")
    rows, step, steps = trainer.train(), trainer.run_train_step, []
    next(rows)

    def interrupted(*batch):
        if len(steps) == 2:
            interrupt()
        steps.append(step(*batch))
        return steps[-1]

    trainer.run_train_step = interrupted
    assert [row["epoch"] for row in rows] == [2] and len(steps) == 3
    assert trainer.stopped == "Ctrl-C"
    resumed = make_trainer(tmp_path / "kept.npz")
    assert resumed.history == trainer.history[:1] and resumed.stopped is None
    whole = make_trainer(tmp_path / "whole.npz")
    list(resumed.train())
    assert without_seconds(whole.train()) == without_seconds(resumed.history)


@posix
def test_ctrl_c_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    path, save = tmp_path / "kept.npz", np.savez
    trainer = make_trainer(path)
    rows = trainer.train()
    next(rows)

    def interrupted(*arrays, **named):
        interrupt()
        save(*arrays, **named)

    monkeypatch.setattr(np, "savez", interrupted)
    assert [row["epoch"] for row in rows] == [2] and trainer.stopped == "Ctrl-C"
    assert list(tmp_path.iterdir()) == [path]
    resumed = make_trainer(path)
    assert len(resumed.history) == 2 and resumed.stopped is None


@posix
def test_ctrl_c_between_two_epochs_ends_the_training_only(tmp_path):
    """As while a line is written after an epoch."""
    trainer = make_trainer(tmp_path / "kept.npz")
    rows = trainer.train()
    assert next(rows)["epoch"] == 1 and trainer.stopped is None
    interrupt()
    assert list(rows) == [] and trainer.stopped == "Ctrl-C"
    assert len(make_trainer(tmp_path / "kept.npz").history) == 1


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    """The process kills itself at the worst moment: all is written, nothing renamed."""
    code = (
        "import os, runpy, sys; replace, calls = os.replace, []\n"
        "def crash(source, target):\n"
        "    calls.extend([target] * str(target).endswith('.npz'))\n"
        "    os.kill(os.getpid(), 9) if len(calls) == 3 else replace(source, target)\n"
        f"os.replace = crash; sys.argv[1:] = {OPTIONS}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == -9
    part, kept = sorted(newest(tmp_path).glob("*.npz"), key=lambda p: -len(p.name))
    assert re.fullmatch(rf"{kept.stem}\.\d+\.part\.npz", part.name)
    assert len(saved_run(kept)[1]) == 2 and len(saved_run(part)[1]) == 3


def test_a_full_disk_costs_one_checkpoint_and_is_said(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    path = tmp_path / "kept.npz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = make_trainer(path).train()
    next(rows)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes of a file
    try:
        next(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    warning = capsys.readouterr().out
    assert warning.startswith(f"Warning: cannot write {path} (File too large)")
    assert "make room" in warning and warning.count("\n") == 1
    assert len(saved_run(path)[1]) == 1
    next(rows)
    assert len(saved_run(path)[1]) == 3
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_vanishes_is_made_again(tmp_path, capsys):
    path = tmp_path / "runs" / "kept.npz"
    rows = make_trainer(path, program.replace(SETTINGS, epochs=4, patience=9)).train()
    next(rows)
    shutil.rmtree(path.parent)
    next(rows)
    assert len(saved_run(path)[1]) == 2
    shutil.rmtree(path.parent)
    path.parent.write_text("something else")
    next(rows)
    warning = capsys.readouterr().out
    assert warning.startswith("Warning: cannot write ") and warning.count("\n") == 1
    path.parent.unlink()
    assert [row["epoch"] for row in rows] == [4]
    assert len(saved_run(path)[1]) == 4


def test_a_lack_of_permission_is_said(tmp_path, capsys, monkeypatch):
    rows = make_trainer(tmp_path / "kept.npz").train()

    def refuse(*_):  # in place of a folder's mode, which root may ignore
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(list(rows)) == 3
    warnings = capsys.readouterr().out
    assert warnings.count("(Permission denied): make room,") == 3
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
    next(make_trainer(path).train())
    return path


def assert_starts_anew(path, settings, capsys, *words):
    """That a trainer warns of its checkpoint in one line, and is a new one."""
    before = path.read_bytes()
    trainer = make_trainer(path, settings)
    warning = capsys.readouterr().out
    assert warning.startswith(f"Warning: {path} is damaged (")
    assert warning.endswith("): starting anew\n") and warning.count("\n") == 1
    assert all(word in warning for word in words)
    new = make_trainer(path.with_name("none.npz"), settings)
    assert (trainer.steps, trainer.history, trainer.best_weights) == (
        new.steps,
        [],
        None,
    )
    for array, expected in zip(trainer.variables, new.variables, strict=True):
        np.testing.assert_array_equal(array.numpy(), expected.numpy())
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_left_aside(
    damage, kept, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path, content = tmp_path / "kept.npz", kept.read_bytes()
    assert DAMAGES[damage](content) != content
    path.write_bytes(DAMAGES[damage](content))
    assert_starts_anew(path, SETTINGS, capsys)


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 8}, {"num_layers": 3}, {"embedding_size": 7}]
)
def test_a_checkpoint_of_another_network_is_said_and_left_aside(changes, kept, capsys):
    settings = program.replace(SETTINGS, **changes)
    assert_starts_anew(kept, settings, capsys, "of another network")
    assert len(make_trainer(kept).history) == 1  # the one it is of takes it
    assert capsys.readouterr().out == ""


def test_a_checkpoint_without_a_history_is_damaged(kept, tmp_path, capsys):
    path = tmp_path / "kept.npz"
    with np.load(kept) as file:
        arrays = [file[f"arr_{number}"] for number in range(len(file) - 1)]
    for run in ["[60, []]", "[60, [{}]]", "60", "{"]:
        np.savez(path, *arrays, run=run)
        assert_starts_anew(path, SETTINGS, capsys)


def test_without_a_checkpoint_nothing_is_said(tmp_path, capsys):
    trainer = make_trainer(tmp_path / "none.npz")
    assert not program.load_checkpoint(trainer)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_an_unfinished_run_is_for_the_commands_that_learn_the_same(tmp_path):
    def open_run(text, **changes):
        settings = program.replace(SETTINGS, **{"output_dir": str(tmp_path), **changes})
        return program.open_run(text, settings).path

    corpus = program.Corpus("toy.txt", "text", "0" * 64)
    path = open_run(corpus)
    assert path.parent == tmp_path and path.name.endswith("-toy.txt-standard")
    same = {"prompt": "king", "temperature": 0.1, "corpus": "toy.txt", "preset": "best"}
    for change in (same | {"load": "", "num_words": 9}).items():
        assert open_run(corpus, **dict([change])) == path
    assert open_run(corpus._replace(name="another.txt")) == path
    names = [field.name for field in program.fields(program.Settings)]
    shaping = names[names.index("token_kind") : names.index("patience") + 1]
    assert {"token_kind", "dropout", "batch_size", "minutes"} < set(shaping)
    others = {path, open_run(corpus, fresh=True)}
    for field in [*shaping, "seed"]:
        value = getattr(SETTINGS, field)
        other = "characters" if field == "token_kind" else value + 1 if value else 1
        if isinstance(value, float):
            other = value / 2 if value else 0.5
        others.add(open_run(corpus, **{field: other}))
    others.add(open_run(corpus._replace(sha256="1" * 64)))
    assert len(others) == len(shaping) + 4


def test_names_of_folders_suit_any_system(tmp_path):
    for name in ["http://x.org/a b?c=d", "C:\\texts\\my novel.txt", "..", "ё" * 99, ""]:
        corpus = program.Corpus(name, "text", "0" * 64)
        changed = program.replace(SETTINGS, output_dir=str(tmp_path), fresh=True)
        path = program.open_run(corpus, changed).path
        assert path.parent == tmp_path and not {*path.name} & {*'<>:"/\\|?* '}
        assert len(path.name) < 80


def test_where_no_file_can_be_locked_that_is_said(tmp_path, monkeypatch):
    class Unlockable(sqlite3.Connection):
        def execute(self, *_):
            raise sqlite3.OperationalError("locking protocol")

    connect = partial(sqlite3.connect, factory=Unlockable)
    monkeypatch.setattr(program.sqlite3, "connect", connect)
    settings = program.replace(SETTINGS, output_dir=str(tmp_path))
    message = r"cannot write .* \(no file can be locked there\): change --output-dir"
    with pytest.raises(program.UserError, match=message):
        program.open_run(program.Corpus("toy.txt", "text", "0" * 64), settings)


HOLD = """
import sys, {name} as program
settings = program.Settings(output_dir=sys.argv[1], seed=int(sys.argv[2]))
folder = program.open_run(program.Corpus("toy.txt", "text", "0" * 64), settings)
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_commands_at_once_have_a_folder_each(tmp_path):
    """Half of them the same; once all were killed, the same commands take them over."""

    def begin(count):
        code = HOLD.format(name=program.__name__)
        seeds = [str(number % 2 * number) for number in range(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        for seed in seeds:
            command = [sys.executable, "-c", code, str(tmp_path), seed]
            yield subprocess.Popen(command, cwd=ROOT, text=True, **pipes)

    paths = []
    for _ in range(2):
        processes = [*begin(20)]
        paths.append([process.stdout.readline() for process in processes])
        for process in processes:
            process.kill()
            process.communicate()
        assert len({*paths[-1]}) == 20
    assert {*paths[0]} == {*paths[1]}


def test_a_finished_run_is_left_alone(tmp_path):
    corpus = program.Corpus("toy.txt", "text", "0" * 64)
    settings = program.replace(SETTINGS, output_dir=str(tmp_path))
    first = program.open_run(corpus, settings)
    for _ in range(2):  # as where the last cell of a notebook is run again
        first.end()
    paths = {first.path}
    for _ in range(10):
        folder = program.open_run(corpus, settings)
        paths.add(folder.path)
        folder.end()
    assert len(paths) == 11 and not [*first.path.iterdir()]
