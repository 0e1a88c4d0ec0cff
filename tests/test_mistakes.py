"""Whatever is wrong with an option, a text or a model is said in one line, and no more.

Almost all of the command lines run in this process, from the script's first line on, and
end in its own hook for errors; a few run in one of their own, to see that this is the same.
"""

import io
import json
import os
import runpy
import shlex
import shutil
import sys
import zipfile
from dataclasses import fields

import h5py
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import SCRIPT, TOY_OPTIONS, newest, run, toy_text
from hypothesis import given
from hypothesis import strategies as st

OPTION_MISTAKES = {
    "--unknown 3": "--unknown 3; --help lists",
    "--epoch 3": "did you mean --epochs?",
    "-e 3": "-e 3",
    "toy.txt": "for a text of yours: --corpus toy.txt",
    "--tempratur=3": "did you mean --temperature?",
    "--hiden_size 3 --seed 1": "did you mean --hidden-size?",
    "--fresh yes": "arguments: yes",
    "--epochs": "--epochs: expected one argument",
    "--epochs three": "--epochs: invalid int value: 'three'",
    "--epochs 1.5": "--epochs",
    "--epochs ''": "--epochs",
    "--epochs 0": "--epochs 0: give 1 to 10,000",
    "--epochs -1": "--epochs -1: give 1 to 10,000",
    "--epochs 99999999999999999999": "give 1 to 10,000",
    f"--epochs {'9' * 5000}": "--epochs",
    "--embedding-size 0": "--embedding-size 0: give 1 to 8,192",
    "--embedding-size 8193": "--embedding-size 8193: give 1 to 8,192",
    "--hidden-size 0": "--hidden-size 0: give 1 to 8,192",
    "--hidden-size 1000000": "--hidden-size",
    "--hidden-size 1e3": "--hidden-size",
    "--num-layers 0": "--num-layers",
    "--num-layers 9": "--num-layers",
    "--batch-size 0": "--batch-size",
    "--sequence-length 0": "--sequence-length",
    "--min-count 0": "--min-count",
    "--max-tokens -1": "--max-tokens",
    "--num-sampled -1": "--num-sampled",
    "--dropout 1": "--dropout 1.0: give 0 to 0.9",
    "--dropout -0.1": "--dropout",
    "--dropout nan": "--dropout nan",
    "--input-dropout inf": "--input-dropout inf",
    "--hide-words 2": "--hide-words",
    "--learning-rate 0": "--learning-rate",
    "--learning-rate nan": "--learning-rate nan",
    "--learning-rate 1e400": "--learning-rate inf",
    "--minutes -1": "--minutes -1.0: give 0 to 10,000",
    "--minutes nan": "--minutes nan",
    "--patience 0": "--patience",
    "--preset fast": "--preset fast: give quick or standard or best",
    "--preset 'two\nlines'": "--preset two lines: give",
    "--preset ''": "--preset",
    "--preset characters": "--preset characters: give quick or standard or best",
    "--token-kind best": "--token-kind best: give words or verse or characters",
    "--token-kind letters": "give words or",
    "--validation-share -0.1": "--validation-share",
    "--test-share 1": "--test-share 1.0: give 0 to 0.9",
    "--test-share nan": "--test-share nan",
    "--test-share 0.5 --validation-share 0.5": "together at most 0.9",
    "--num-words 0": "--num-words",
    "--num-samples 1001": "--num-samples",
    "--temperature -1": "--temperature -1.0: give 0 to 100",
    "--temperature inf": "--temperature inf",
    "--temperature nan": "--temperature nan",
    "--temperature warm": "--temperature",
    "--top-k -1": "--top-k",
    "--top-p 0": "--top-p 0.0: give 0.001 to 1",
    "--top-p 1.01": "--top-p",
    "--top-p nan": "--top-p nan",
    "--seed -1": "--seed",
    "--seed 2147483648": "--seed",
    "--seed pi": "--seed",
    "--corpus ''": "--corpus is empty: name what you mean",
    "--output-dir ''": "--output-dir is empty: name what you mean",
    "--load ''": "--load is empty: name what you mean",
    "--score ''": "--score is empty: name what you mean",
    "--interactive 3": "arguments: 3",
    "--repetition-penalty 0": "--repetition-penalty 0.0: give 1 to 10",
    "--repetition-penalty nan": "--repetition-penalty nan",
    "--load runs --epochs 3": "--epochs is for training",
    "--load runs --fresh": "--fresh is for training",
    "--load runs --preset quick": "--preset is for training",
    "--load runs --output-dir x": "--output-dir is for training",
}

CORPUS_MISTAKES = {
    "--corpus missing.txt": "cannot read missing.txt",
    "--corpus missing/": "cannot read missing",
    "--corpus toy.txt/toy.txt": "cannot read toy.txt/toy.txt",
    f"--corpus {'long' * 2000}": "give --corpus a text file",
    "--corpus toy.txt --score nothing": "cannot read nothing",
    "--corpus toy.txt --score missing.txt": "give --score a text file",
    "--corpus toy.txt --score binary.txt": "binary.txt is not UTF-8: it is a binary",
    "--corpus nothing": "cannot read nothing",
    "--corpus folders": "cannot read folders",
    "--corpus /dev/zero": "cannot read /dev/zero",
    "--corpus /dev/null": "cannot read /dev/null",
    "--corpus pipe": "cannot read pipe",
    "--corpus loop.txt": "cannot read loop.txt",
    "--corpus empty.txt": "0 training tokens",
    "--corpus spaces.txt": "0 training tokens",
    "--corpus short.txt": "give a longer text, --token-kind characters",
    "--corpus punctuation.txt": "0 training tokens",
    "--corpus digits.txt": "0 training tokens",
    "--corpus spaceless.txt": "--token-kind characters",
    "--corpus notice.txt": "0 training tokens",
    "--corpus binary.txt": "binary.txt is not UTF-8: it is a binary file",
    "--corpus undefined.txt": "undefined.txt is not UTF-8: perhaps",
    "--corpus truncated.keras": "it is a binary file: give a text",
    "--corpus unique.txt --batch-size 2": "smaller --min-count",
    "--corpus toy.txt --min-count 1000000": "smaller --min-count",
    "--corpus toy.txt --max-tokens 40": "give a longer text",
    "--corpus toy.txt --batch-size 10000": "smaller --batch-size",
    "--corpus toy.txt --sequence-length 10000": "smaller --batch-size",
    "--corpus toy.txt --encoding klingon": "(unknown encoding: klingon): correct --encoding",
    "--corpus toy.txt --batch-size 9 --validation-share 0.001": "smaller --batch-size",
    "--corpus toy.txt --output-dir toy.txt": "change --output-dir",
    "--corpus toy.txt --output-dir toy.txt/runs": "change --output-dir",
    "--corpus toy.txt --output-dir /proc/runs": "change --output-dir",
    f"--corpus toy.txt --output-dir {'long' * 2000}": "change --output-dir",
}

MODEL_MISTAKES = {
    "--load missing.keras": "there is no file missing.keras",
    "--load nothing": "there is no file nothing",
    "--load pipe": "there is no file pipe",
    "--load toy.txt": "damaged or no generator",
    "--load empty.txt": "damaged or no generator",
    "--load /dev/null": "there is no file /dev/null",
    "--load truncated.keras": "damaged or no generator",
    "--load foreign.keras": "damaged or no generator",
    "--load reshaped.keras": "damaged or no generator",
    "--load unnamed.keras": "damaged or no generator",
    "--load wordless.keras": "damaged or no generator",
    "--load unbounded.keras": "damaged or no generator",
    "--load unreported.keras": "damaged or no generator",
    "--load unchecked.keras": "damaged or no generator",
    "--load runs --corpus missing.txt": "give --corpus a text file",
    "--load runs --score missing.txt": "give --score a text file",
}

MISTAKES = OPTION_MISTAKES | CORPUS_MISTAKES | MODEL_MISTAKES
POSIX_ONLY = ["/dev", "/proc", "pipe", "loop.txt"]


def rewrite(source, target, **members):
    """A copy of a saved model with other members (a name's dot is an underscore here)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = members.get(name.replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)


@pytest.fixture(scope="module")
def bad_folder(toy_folder, tmp_path_factory):
    """A copy of the toy folder with texts and models that no run should accept."""
    folder = tmp_path_factory.mktemp("bad") / "toy"
    shutil.copytree(toy_folder, folder)
    (folder / "nothing").mkdir()
    (folder / "folders" / "play.txt").mkdir(parents=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        (folder / "loop.txt").symlink_to("loop.txt")
    letters = [a + b + c for a in "abcdefgh" for b in "abcdefgh" for c in "abcdefgh"]
    texts = {
        "empty": b"",
        "spaces": b" \n\t\r\n" * 5000,
        "short": b"to be or not to be",
        "punctuation": b"?! ... -- ;\n" * 5000,
        "digits": b"1609 1616\n" * 5000,
        "spaceless": b"tobeornottobe" * 800_000,
        "notice": b"*** START OF THE PROJECT GUTENBERG EBOOK ***\n*** END OF THE P",
        "binary": b"king\0queen " * 5000,
        "undefined": b"f\x81e " * 5000,
        "unique": " ".join(letters).encode(),
    }
    for name, content in texts.items():
        (folder / f"{name}.txt").write_bytes(content)

    whole = newest(folder) / "generator.keras"
    content = whole.read_bytes()
    (folder / "truncated.keras").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(folder / "foreign.keras", "w") as file:
        file.writestr("vocabulary.json", "[]")
    arrays = io.BytesIO()
    with h5py.File(arrays, "w") as file:
        file["layers/embedding/vars/0"] = np.zeros((3, 3), np.float32)
    with zipfile.ZipFile(whole) as file:
        vocabulary = json.loads(file.read("vocabulary.json"))
        empty = io.BytesIO(file.read("model.weights.h5"))
    with h5py.File(empty, "a") as file:  # the arrays that fit a vocabulary of nothing
        layers = file["layers"]
        shapes = {"embedding/vars/0": (0, 8), "dense/vars/0": (12, 0)}
        for name, shape in (shapes | {"dense/vars/1": (0,)}).items():
            del layers[name]
            layers[name] = np.zeros(shape, np.float32)
    settings = {"settings": {"hidden_size": 10**30}}
    changes = {
        "reshaped": {"model_weights_h5": arrays.getvalue()},
        "unnamed": {"vocabulary_json": json.dumps(dict.fromkeys(vocabulary, 1))},
        "wordless": {"vocabulary_json": "[]", "model_weights_h5": empty.getvalue()},
        "unbounded": {"report_json": json.dumps(settings)},
        "unreported": {"report_json": None},
        "unchecked": {"check_json": None},
    }
    for name, members in changes.items():
        rewrite(whole, folder / f"{name}.keras", **members)
    return folder


def snapshot(folder):
    """All paths of a folder, with what tells whether one has changed."""
    paths = sorted(folder.rglob("*"))
    return [(path, path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths]


@pytest.fixture
def main(monkeypatch, capsys):
    """The script from top to bottom in this process: its exit code, output and errors."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def main(options, folder):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except Exception as error:
            with pytest.raises(SystemExit) as leaving:
                sys.excepthook(type(error), error, error.__traceback__)
            code = leaving.value.code
        return code, *capsys.readouterr()

    return main


@pytest.mark.parametrize("options", MISTAKES, ids=lambda options: options[:60])
def test_a_mistake_is_answered_in_one_line(options, bad_folder, main, monkeypatch):
    if sys.platform == "win32" and any(name in options for name in POSIX_ONLY):
        pytest.skip("there is no such thing on Windows")
    for name in ["keras", "tensorflow"]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it is another error
    before = snapshot(bad_folder)
    code, _, errors = main(shlex.split(options), bad_folder)
    assert code == 2
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert MISTAKES[options] in errors
    assert snapshot(bad_folder) == before


@pytest.mark.parametrize(
    "options",
    [
        "--top-p 0",
        "--corpus punctuation.txt",
        "--corpus toy.txt --output-dir toy.txt",
        "--load truncated.keras",
    ],
)
def test_it_is_so_in_a_process_of_its_own(options, bad_folder):
    before = snapshot(bad_folder)
    finished = run(*options.split(), folder=bad_folder)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert MISTAKES[options] in finished.stderr
    assert snapshot(bad_folder) == before


NAMES = [program.option(field.name) for field in fields(program.Settings)]
WORDS = ["0", "1", "-1", "nan", "1e9", "0.5", "words", "best", "--", "-h=", "=", "\0"]
VALUES = st.sampled_from([*NAMES, *WORDS]) | st.text(max_size=6)


@given(st.lists(VALUES | st.builds("{}={}".format, st.sampled_from(NAMES), VALUES)))
def test_any_options_are_settings_or_a_mistake(options):
    try:
        settings = program.choose_settings(program.read_options(options))
    except program.UserError as error:
        assert "--" in str(error)
    else:
        assert isinstance(settings, program.Settings)


TEXTS = {
    "one word": "king " * 500,
    "two words, one of them once": "king " * 400 + "queen " + "king " * 99,
    "one letter without a space": "a" * 500,
    "many scripts": "Король и шут، ملك ومهرج 王様と道化 🤴🏽 a\u0301 " * 60,
    "line ends of all kinds": "king\rqueen\r\nfool\n\n\u2028duke\x85witch\x0c" * 60,
    "ends in strangers": "king queen " * 200 + " ".join(f"q{x}x" for x in "abcdefghij"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_passes_yields_a_finished_run(name, main, tmp_path):
    (tmp_path / "toy.txt").write_bytes(TEXTS[name].encode())
    options = [
        *TOY_OPTIONS,
        "--num-sampled",
        "1",
        "--epochs",
        "1",
        "--prompt",
        "\udcff",
    ]
    if name.startswith("one letter"):
        options += ["--token-kind", "characters"]
    code, output, errors = main(options, tmp_path)
    assert (code, errors) == (0, "")
    assert "--- temperature 0.8, seed 1" in output
    report = json.loads((newest(tmp_path) / "report.json").read_text())
    assert report["test_perplexity"] >= 1


WRITING = {  # what goes together, and what is printed then
    "--score toy.txt": ["perplexity "],
    "--score toy.txt --corpus toy.txt": ["perplexity "],
    "--interactive": ["--- temperature 0.8, seed 5"],
    "--interactive --corpus toy.txt": ["--- temperature 0.8, seed 5", "longest run"],
    "--interactive --score toy.txt": ["--- temperature 0.8, seed 5", "perplexity "],
}


@pytest.mark.parametrize("options", WRITING)
@pytest.mark.parametrize("training", [False, True])
def test_ways_to_write_go_together(
    training, options, toy_folder, main, monkeypatch, tmp_path
):
    monkeypatch.setattr("sys.stdin", io.StringIO("king\n\n"))
    if training:
        folder, others = tmp_path, [*TOY_OPTIONS, "--epochs", "1"]
        (tmp_path / "toy.txt").write_text(toy_text(100), encoding="utf-8")
    else:
        folder, others = toy_folder, ["--load", "runs"]
    code, output, errors = main([*others, *options.split(), "--seed", "5"], folder)
    assert (code, errors) == (0, "")
    assert all(line in output for line in WRITING[options])
    if training:
        assert (newest(tmp_path) / "samples.txt").exists()
