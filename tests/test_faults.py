"""What goes wrong around a run, such as its streams, its disk, its clock or a stranger's file."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, SCRIPT, TOY_OPTIONS, newest, run, toy_text
from test_interruption import outcome, posix, read_until, start
from test_mistakes import rewrite

SHORT = [*TOY_OPTIONS, "--epochs", "1"]


def shell(command, folder, **environment):
    """What a shell's command line gives; $RUN in it is the script."""
    run_script = f'"{sys.executable}" "{SCRIPT}"'
    return subprocess.run(
        command.replace("$RUN", run_script),
        shell=True,
        cwd=folder,
        capture_output=True,
        timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
    )


# Streams


@posix
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(streams, toy_folder):
    finished = shell(f"$RUN --load --interactive {streams}", toy_folder)
    assert finished.returncode == 0
    assert b"Traceback" not in finished.stderr


@posix
@pytest.mark.parametrize("streams", [">&-", "2>&-"])
def test_a_training_needs_no_streams(streams, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    finished = shell(f"$RUN {' '.join(SHORT)} {streams}", tmp_path)
    assert finished.returncode == 0 and b"Traceback" not in finished.stderr
    assert (newest(tmp_path) / "generator.keras").exists()


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@needs_full
def test_output_that_cannot_be_written_is_one_line_and_an_exit_code(toy_folder):
    finished = shell("$RUN --load > /dev/full", toy_folder)
    assert finished.returncode == 1
    assert finished.stderr.startswith(b"error: nothing can be printed (No space left")
    assert finished.stderr.count(b"\n") == 1


@needs_full
def test_a_mistake_keeps_its_exit_code_where_it_cannot_be_printed(tmp_path):
    assert shell("$RUN --epochs 0 2> /dev/full", tmp_path).returncode == 2


def test_bytes_that_are_no_letters_are_a_prompt_like_any_other(toy_folder):
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), "--load", "--interactive"],
        cwd=toy_folder,
        input=b"caf\xe9 king\n",
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert finished.returncode == 0 and finished.stderr == b""
    assert "caf\ufffd king".encode() in finished.stdout


def test_run_as_a_magic_of_ipython(toy_folder):
    code = f"%run {SCRIPT} --load --num-words 5"
    command = [sys.executable, "-m", "IPython", "-c", code]
    finished = subprocess.run(command, cwd=toy_folder, capture_output=True, text=True)
    assert "--- temperature" in finished.stdout and "Error" not in finished.stderr

    class NotebookStream(io.StringIO):  # has no reconfigure, as in a notebook
        pass

    stream, streams = NotebookStream(), (sys.stdin, sys.stdout, sys.stderr)
    try:
        sys.stdout = stream
        program.open_streams()
        assert sys.stdout is stream
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams


ATTACKS = ["\x1b]0;pwned\x07", "\u202eevil", "\x9b31m"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_command_a_terminal_is_never_printed(attack, toy_folder, tmp_path):
    (tmp_path / "toy.txt").write_text(attack + " king queen\n" * 3, encoding="utf-8")
    kept = newest(toy_folder) / "generator.keras"
    with zipfile.ZipFile(kept) as file:
        vocabulary = json.loads(file.read("vocabulary.json"))
    words = json.dumps(
        vocabulary[:1] + [f"{attack}{n}" for n in range(len(vocabulary) - 1)]
    )
    rewrite(kept, tmp_path / "evil.keras", vocabulary_json=words)
    for options in [
        ["--load", "evil.keras", "--prompt", attack, "--corpus", "toy.txt"],
        ["--load", "evil.keras", "--score", "toy.txt"],
        ["--load", attack],
        ["--corpus", attack],
        ["--corpus", "toy.txt", attack],
    ]:
        finished = run(*options, folder=tmp_path)
        printed = finished.stdout + finished.stderr
        assert finished.returncode in [0, 2] and printed
        assert not {*attack} & {*printed} & {*"\x1b\x07\u202e\x9b"}


def test_cleaning_leaves_ordinary_text_alone():
    for text in ["Ay,\n\tsir! — Ёлка 東京 👍🏽 👩\u200d👧 می\u200cخواهم", ""]:
        assert program.clean(text) == text
    assert program.clean("a\x1b[0m\0b") == "a\ufffd[0m\ufffdb"


# Signals


@posix
@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGHUP", 129)])
def test_what_ends_a_process_on_a_cluster_leaves_a_run_to_resume(name, code, tmp_path):
    options = [*TOY_OPTIONS, "--epochs", "5", "--patience", "9"]
    for folder in ["whole", "ended"]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
    process = start(*options, folder=tmp_path / "ended")
    read_until(process, "epoch: 2")
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in errors
    assert "test perplexity" not in output
    for folder in ["whole", "ended"]:
        finished = run(*options, folder=tmp_path / folder)
        assert finished.returncode == 0, finished.stderr
    assert "Resuming after epoch " in finished.stdout
    assert outcome(newest(tmp_path / "whole")) == outcome(newest(tmp_path / "ended"))


def in_a_process(code, *signals):
    """Run code in a process, send it signals once it prints; its exit code and errors."""
    code = f"import time, {program.__name__} as p\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    return process.wait(timeout=60), process.stderr.read()


@posix
def test_a_second_ctrl_c_ends_at_once_what_holds_the_first_one_back():
    hold = "with p.holding_interrupts():\n    print(flush=True)\n    time.sleep({})"
    code, errors = in_a_process(hold.format(50), signal.SIGINT, signal.SIGINT)
    assert code == 130 and "Stopping (once more: at once)" in errors
    code, errors = in_a_process(hold.format(2), signal.SIGTERM)
    assert code == 143


@posix
def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with program.holding_interrupts() as held:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not held.any()
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_ctrl_c_during_the_forecast_acts_at_once(tmp_path):
    """The steps that were to be timed are not done any more."""
    text = " ".join(toy_text(200).split())
    settings = program.Settings(
        embedding_size=8, hidden_size=12, batch_size=4, sequence_length=10
    )
    dataset = program.make_dataset(program.tokenize(text, "words"), settings)
    program.start_tensorflow()
    trainer = program.Trainer(dataset, settings)
    step, steps = trainer.run_train_step, []

    def interrupted(*batch):
        steps.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return step(*batch)

    trainer.run_train_step = interrupted
    with pytest.raises(KeyboardInterrupt):
        program.plan_training(trainer)
    assert len(steps) == 1


# The machine


def test_a_clock_of_another_century_keeps_the_run(tmp_path):
    """Zip files know no year before 1980 and none after 2107."""
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    code = (
        "import runpy, sys, time; real = time.localtime\n"
        "time.localtime = lambda *a: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0))\n"
        f"sys.argv[1:] = {SHORT}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    with zipfile.ZipFile(newest(tmp_path) / "generator.keras") as file:
        assert {member.date_time[0] for member in file.infolist()} == {1980}


def test_settings_of_keras_in_the_home_folder_change_nothing(tmp_path, toy_folder):
    (tmp_path / ".keras").mkdir()
    for kind in ["float64", "float16"]:
        (tmp_path / ".keras" / "keras.json").write_text(f'{{"floatx": "{kind}"}}')
        finished = run(
            *TOY_OPTIONS,
            "--output-dir",
            kind,
            folder=toy_folder,
            KERAS_HOME=str(tmp_path / ".keras"),
        )
        assert finished.returncode == 0, finished.stderr
        (other,) = (toy_folder / kind).iterdir()
        assert outcome(other)[0] == outcome(newest(toy_folder))[0]


@posix
def test_a_library_that_aborts_while_it_is_imported_is_heard(tmp_path):
    """Its own words are shut out, as those of every import are; Python's are not."""
    (tmp_path / "toy.txt").write_text(toy_text(200), encoding="utf-8")
    (tmp_path / "keras.py").write_text("import os; os.abort()")
    finished = run(*SHORT, folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert finished.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in finished.stderr


def test_too_little_memory_is_said_before_and_after(tmp_path, capsys):
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    sizes = "--hidden-size 8192 --embedding-size 8192 --num-layers 8".split()
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 77e9:
        finished = run(*TOY_OPTIONS, *sizes, folder=tmp_path)
        assert finished.returncode == 2 and "GB of memory" in finished.stderr
        assert not (tmp_path / "runs").exists()
    for kind in [MemoryError, type("ResourceExhaustedError", (Exception,), {})]:
        with pytest.raises(SystemExit) as leaving:
            program.report_error(kind, kind("much text\n"), None)
        assert leaving.value.code == 1
        assert capsys.readouterr().err.startswith("error: too little memory: try ")


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("sync"))
    monkeypatch.setattr(os, "replace", lambda part, path: calls.append(str(part)))
    with program.replacing(tmp_path / "a.txt") as part:
        part.write_text("a")
    assert calls == ["sync", str(part), "sync"]  # the last one of the folder
    assert str(os.getpid()) in part.name  # two processes do not share it


def test_processes_that_write_the_same_file_do_not_damage_it(tmp_path):
    code = (
        f"import sys, pathlib, {program.__name__} as p\n"
        "for _ in range(40):\n"
        "    with p.replacing(pathlib.Path(sys.argv[1])) as part:\n"
        "        part.write_text(sys.argv[2] * 99_999)\n"
    )
    path = tmp_path / "a.txt"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), letter], cwd=ROOT)
        for letter in "ab"
    ]
    seen = set()
    while any(process.poll() is None for process in processes):
        if path.exists():
            seen.add(path.read_text())
    assert all(process.returncode == 0 for process in processes)
    assert seen <= {"a" * 99_999, "b" * 99_999} and list(tmp_path.iterdir()) == [path]


# Texts


def test_long_rows_of_marks_and_of_notices_take_no_time():
    marks = "a" + "\u0301" * 40_000 + "\u0323" * 40_000
    assert len(program.decode_text(marks.encode())) == len(marks)
    notices = "<<THIS ELECTRONIC VERSION\n" * 40_000
    assert program.cut_notices(notices) == notices


class Endless(BaseHTTPRequestHandler):
    """A server whose answers have no end."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"king " * 9999)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def test_a_download_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        for name, limit in [("MOST_BYTES", 10**6), ("MOST_SECONDS", 0.2)]:
            with monkeypatch.context() as patch:
                patch.setattr(program, name, limit)
                with pytest.raises(program.UserError, match="too large or too slow"):
                    program.load_corpus(url)
        server.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "0" * 10**6)
    monkeypatch.setattr(program, "MOST_BYTES", 10**5)
    with pytest.raises(program.DownloadError, match="damaged zip"):
        program.unzip(file.getvalue(), "txt$")


def test_nobody_learns_from_the_samples_of_a_run(toy_folder, tmp_path):
    sample = newest(toy_folder) / "samples.txt"
    with pytest.raises(program.UserError, match="no text there"):
        program.read_files(str(sample))
    names = [path.name for path, _ in program.read_files(str(toy_folder))]
    assert "toy.txt" in names and "samples.txt" not in names
    (tmp_path / "samples.txt").write_text("my own")  # no run left this one
    assert program.read_files(str(tmp_path))[0][1] == b"my own"


def test_score_reads_a_whole_folder(toy_folder, tmp_path):
    for name in ["a.txt", "b.txt"]:
        (tmp_path / name).write_text("the king loves the queen")
    finished = run("--load", "--score", str(tmp_path), folder=toy_folder)
    assert "\ntokens: 10\n" in finished.stdout


def test_another_text_is_not_called_the_one_it_learnt_from(toy_folder, tmp_path):
    (tmp_path / "other.txt").write_text("the king " * 99)
    other = str(tmp_path / "other.txt")
    finished = run("--load", "--corpus", other, folder=toy_folder)
    assert "is not the text that it was trained on" in finished.stdout
    finished = run("--load", "--corpus", "toy.txt", folder=toy_folder)
    assert "is not the text" not in finished.stdout


# Files of strangers


@posix
@pytest.mark.parametrize("damage", ["broken", "virtual", "empty"])
def test_a_model_with_broken_weights_is_one_line_and_no_crash(
    damage, toy_folder, tmp_path
):
    kept = newest(toy_folder) / "generator.keras"
    with zipfile.ZipFile(kept) as file:
        weights = file.read("model.weights.h5")
    if damage == "broken":
        weights = weights[:3000] + bytes(len(weights) - 3000)
    elif damage == "empty":
        weights = weights[:100]
    else:
        content = io.BytesIO(weights)
        with h5py.File(content, "a") as file:
            old = file["layers/embedding/vars/0"]
            shape = old.shape
            del file["layers/embedding/vars/0"]
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape)
            file.create_virtual_dataset("layers/embedding/vars/0", layout)
        weights = content.getvalue()
    rewrite(kept, tmp_path / "bad.keras", model_weights_h5=weights)
    finished = run("--load", "bad.keras", folder=tmp_path)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert "bad.keras is damaged or no generator" in finished.stderr


STRANGE = {
    "an empty word": (
        "vocabulary",
        lambda words: [*words[:-1], ""],
        "no list of words",
    ),
    "half a token": ("report", lambda r: set_in(r, max_tokens=2.5), "not int"),
    "a text for a number": ("report", lambda r: set_in(r, dropout="x"), "not float"),
    "a newer version": ("report", lambda r: set_in(r, bigger=1), "argument 'bigger'"),
    "a fraction": (
        "check",
        lambda c: c | {"token_ids": [1.5, 2.5]},
        "no self-check",
    ),
    "much text": ("report", lambda r: r | {"x": "0" * 21_000_000}, "far too much"),
}


def set_in(report, **changes):
    return report | {"settings": report["settings"] | changes}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_member_is_refused_by_name(name, toy_folder, tmp_path):
    member, change, words = STRANGE[name]
    kept = newest(toy_folder) / "generator.keras"
    with zipfile.ZipFile(kept) as file:
        value = json.loads(file.read(f"{member}.json"))
    rewrite(kept, tmp_path / "a.keras", **{f"{member}_json": json.dumps(change(value))})
    with pytest.raises(program.UserError, match=words):
        program.load_generator(tmp_path / "a.keras")


def test_a_setting_of_another_type_is_a_mistake():
    assert program.Settings(dropout=0).dropout == 0  # a whole number is a number
    for changes in [{"epochs": 2.0}, {"epochs": True}, {"prompt": 3}, {"fresh": 1}]:
        with pytest.raises(program.UserError, match="not (int|str|bool)"):
            program.Settings(**changes)


def test_lists_that_are_printed_are_of_a_readable_length():
    tokens = ["a" * 10**6, "b"]
    generator = program.Generator(
        np.zeros((2, 3), np.float32),
        [],
        (np.zeros((3, 2)), np.zeros(2)),
        ["[UNK]", "b"],
        "words",
    )
    lines = "".join(
        program.describe_surprise(generator, tokens, np.array([np.nan, 9.0]))
    )
    assert len(lines) < 300
    assert len(program.name_unknown(tokens[0], generator)) < 100
    assert not re.search("a{99}", lines)
