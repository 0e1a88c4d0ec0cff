"""The script from end to end: what a run leaves, and what mistakes are answered with."""

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from hashlib import sha256

import h5py
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import TOY_OPTIONS, run, toy_text


def test_a_run_leaves_what_it_says(toy_folder):
    kept = {path.name for path in (toy_folder / "runs").iterdir()}
    assert kept == {
        "generator.keras",
        "generator.previous.keras",
        "history.csv",
        "curves.png",
        "samples.txt",
        "report.json",
    }
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    assert all(name in output for name in kept - {"samples.txt"})
    assert (toy_folder / "errors.txt").read_text(encoding="utf-8") == ""


def test_history_has_a_row_an_epoch(toy_folder):
    rows = list(csv.DictReader((toy_folder / "runs" / "history.csv").open()))
    assert list(rows[0]) == [
        "epoch",
        "train_perplexity",
        "validation_perplexity",
        "validation_loss",
        "seconds",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        loss = float(row["validation_loss"])
        assert float(row["validation_perplexity"]) == pytest.approx(np.exp(loss))


def test_report_says_what_was_run_and_how_good_it_was(toy_folder):
    report = json.loads((toy_folder / "runs" / "report.json").read_text())
    text = (toy_folder / "toy.txt").read_bytes()
    assert report["corpus"] == "toy.txt" and report["corpus_bytes"] == len(text)
    assert report["corpus_sha256"] == sha256(text).hexdigest()
    assert report["settings"]["hidden_size"] == 12
    assert set(report["versions"]) == {"python", "tensorflow", "keras", "numpy"}
    assert report["train_tokens"] == 8 * report["test_tokens"] == 8 * 300
    assert report["unknown_share"] == 0
    assert report["vocabulary_size"] == 13  # [UNK], the, six people and five deeds
    assert 1 < report["test_perplexity"] < report["unigram_perplexity"] < 13
    assert 1 < report["validation_perplexity"] < 13
    assert report["bits_per_character"] > 0
    assert report["train_seconds"] > 0 and report["peak_memory_mb"] > 50
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    assert f"test perplexity: {round(report['test_perplexity'], 3)}\n" in output


def test_samples_at_two_temperatures_are_printed_and_kept(toy_folder):
    samples = (toy_folder / "runs" / "samples.txt").read_text(encoding="utf-8")
    assert re.findall(r"temperature (\S+), seed (\d)", samples) == [
        ("0.5", "0"),
        ("0.5", "1"),
        ("0.8", "0"),
        ("0.8", "1"),
    ]
    assert samples in (toy_folder / "output.txt").read_text(encoding="utf-8")
    assert samples.count("\nking ") == 4


def weights(path):
    with zipfile.ZipFile(path) as file:
        return file.read("model.weights.h5")


def test_same_seed_same_run(toy_folder):
    """The first of the two toy runs was kept as the previous one."""
    runs = toy_folder / "runs"
    first, second = runs / "generator.previous.keras", runs / "generator.keras"
    assert weights(first) == weights(second)


def test_another_seed_is_another_run(toy_folder):
    options = [*TOY_OPTIONS, "--seed", "1", "--output-dir", "other"]
    assert run(*options, folder=toy_folder).returncode == 0
    other = toy_folder / "other" / "generator.keras"
    assert weights(other) != weights(toy_folder / "runs" / "generator.keras")


def test_generator_loads_as_a_plain_keras_model(toy_folder):
    """In a process that never saw the script, with the scores of our own loader."""
    code = (
        "import keras, numpy; model = keras.saving.load_model('runs/generator.keras');"
        "print([type(layer).__name__ for layer in model.layers]);"
        "numpy.save('logits.npy', model(numpy.array([[1, 2, 3]]))[0])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=toy_folder, capture_output=True, text=True
    )
    assert "['Embedding', 'GRU', 'Dense']" in finished.stdout, finished.stderr
    generator = program.load_generator(toy_folder / "runs" / "generator.keras")
    state, (kernel, bias) = program.zero_state(generator), generator.dense
    for token_id, logits in zip([1, 2, 3], np.load(toy_folder / "logits.npy")):
        state = program.read_token(generator, token_id, state)
        np.testing.assert_allclose(state[-1] @ kernel + bias, logits, atol=1e-5)


def test_load_writes_without_training_corpus_or_tensorflow(toy_folder, tmp_path):
    (tmp_path / "generator.keras").write_bytes(
        (toy_folder / "runs" / "generator.keras").read_bytes()
    )
    options = "--load generator.keras --prompt king --num-words 10 --seed 1".split()
    finished = run(*options, "--temperature", "0.8", folder=tmp_path)
    samples = (toy_folder / "runs" / "samples.txt").read_text(encoding="utf-8")
    same = samples[samples.index("--- temperature 0.8, seed 1") :]
    assert finished.stdout.startswith(same) and finished.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["generator.keras"]

    code = (
        f"import runpy, sys; sys.argv = ['', *{options}]; sys.path.insert(0, '');"
        f"runpy.run_path({program.__file__!r}, run_name='__main__');"
        "assert not {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_load_draws_a_seed_and_prints_it(toy_folder):
    outputs = {
        run("--load", "runs/generator.keras", folder=toy_folder).stdout
        for _ in range(3)
    }
    assert len(outputs) == 3
    assert all(re.search(r"temperature 0.8, seed \d+\n", text) for text in outputs)


@pytest.mark.parametrize(
    "options",
    [
        "--token-kind characters --sequence-length 20",
        "--validation-share 0 --test-share 0",
        "--num-layers 2 --hidden-size 5 --dropout 0 --num-sampled 0",
        "--max-tokens 700 --min-count 1",
    ],
)
def test_other_settings_finish_too(options, toy_folder, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(200), encoding="utf-8")
    finished = run(*TOY_OPTIONS, *options.split(), folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "runs" / "report.json").read_text())
    scored = "--test-share" not in options
    assert (report["test_perplexity"] is not None) == scored
    assert (report["validation_perplexity"] is not None) == scored
    again = run("--load", "runs/generator.keras", folder=tmp_path)
    assert again.returncode == 0 and again.stderr == ""


def test_help_is_grouped_and_names_every_setting(tmp_path):
    finished = run("--help", folder=tmp_path)
    assert finished.returncode == 0 and finished.stderr == ""
    for field in program.fields(program.Settings):
        assert program.option(field) in finished.stdout
    assert all(title in finished.stdout for title in program.GROUPS.values())
    assert max(map(len, finished.stdout.splitlines())) <= 80


MISTAKES = {
    "--corpus missing.txt": "cannot read missing.txt",
    "--corpus nothing": "cannot read nothing",
    "--corpus /dev/zero": "cannot read /dev/zero",
    "--corpus empty.txt": "0 tokens are too few",
    "--corpus short.txt": "a longer text",
    "--corpus binary.txt": "binary file",
    "--corpus undefined.txt": "binary file",
    "--corpus unique.txt --batch-size 2": "smaller --min-count",
    "--corpus toy.txt --max-tokens 50": "a longer text",
    "--corpus toy.txt --output-dir toy.txt": "give another folder",
    "--unknown 3": "--unknown",
    "--epoch 3": "--epoch",
    "--epochs": "--epochs",
    "--epochs 0": "--epochs 0: give 1 to 10,000",
    "--epochs -1": "--epochs -1: give 1 to 10,000",
    "--epochs three": "--epochs",
    "--hidden-size 0": "--hidden-size",
    "--hidden-size 1000000": "--hidden-size",
    "--dropout 1": "--dropout",
    "--learning-rate nan": "--learning-rate nan",
    "--temperature -1": "--temperature",
    "--temperature inf": "--temperature inf",
    "--top-p 0": "--top-p",
    "--seed -1": "--seed",
    "--token-kind letters": "give words or characters",
    "--test-share 1": "--test-share",
    "--test-share 0.5 --validation-share 0.5": "together at most 0.9",
    "--load missing.keras": "there is no file missing.keras",
    "--load toy.txt": "not a whole generator.keras",
    "--load truncated.keras": "not a whole generator.keras",
    "--load foreign.keras": "not a whole generator.keras",
    "--load reshaped.keras": "not a whole generator.keras",
    "--load runs/generator.keras --epochs 3": "--epochs is for training",
    "--load runs/generator.keras --seed 1 --corpus toy.txt": "--corpus is for training",
}


@pytest.fixture(scope="module")
def bad_folder(toy_folder):
    """The toy folder with the texts and models that no run should accept."""
    whole = (toy_folder / "runs" / "generator.keras").read_bytes()
    (toy_folder / "nothing").mkdir()
    (toy_folder / "empty.txt").write_text("")
    (toy_folder / "short.txt").write_text("to be or not to be")
    (toy_folder / "binary.txt").write_bytes(b"king\0queen " * 5000)
    (toy_folder / "undefined.txt").write_bytes(b"f\x81e " * 5000)
    letters = [a + b + c for a in "abcdefgh" for b in "abcdefgh" for c in "abcdefgh"]
    (toy_folder / "unique.txt").write_text(" ".join(letters))
    (toy_folder / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(toy_folder / "foreign.keras", "w") as file:
        file.writestr("vocabulary.json", "[]")
    arrays = io.BytesIO()
    with h5py.File(arrays, "w") as file:
        file["layers/embedding/vars/0"] = np.zeros((3, 3), np.float32)
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    members["model.weights.h5"] = arrays.getvalue()
    with zipfile.ZipFile(toy_folder / "reshaped.keras", "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return toy_folder


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_answered_in_one_line(options, bad_folder):
    before = sorted(bad_folder.rglob("*"))
    finished = run(*options.split(), folder=bad_folder)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert MISTAKES[options] in finished.stderr
    assert sorted(bad_folder.rglob("*")) == before


def test_a_bug_of_ours_keeps_its_traceback(capsys):
    try:
        raise RuntimeError("a bug")
    except RuntimeError as error:
        program.report_error(RuntimeError, error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    program.write_file(path, "old")
    with pytest.raises(RuntimeError), program.replacing(path) as part:
        part.write_text("half")
        raise RuntimeError("interrupted")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_error(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(program.UserError, match="No space left on device.*make room"):
        with program.replacing(path):
            raise OSError(28, "No space left on device")
