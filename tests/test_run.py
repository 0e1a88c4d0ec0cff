"""The script from end to end: what a run leaves, and what it writes with --load."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import TOY_OPTIONS, newest, run, toy_text


def test_a_run_leaves_what_it_says(toy_folder):
    kept = {path.name for path in newest(toy_folder).iterdir()}
    assert kept == {
        "generator.keras",
        "generator.html",
        "history.csv",
        "curves.png",
        "samples.txt",
        "reading.png",
        "report.json",
        "settings.json",
    }
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    place = newest(toy_folder).relative_to(toy_folder)
    assert f"\nSaved in {place}: {', '.join(sorted(kept))}\n" in output
    assert "For capitals, punctuation and line breaks: --token-kind verse\n" in output
    assert (toy_folder / "errors.txt").read_text(encoding="utf-8") == ""


def test_history_has_the_row_that_was_printed_after_each_epoch(toy_folder):
    rows = list(csv.DictReader((newest(toy_folder) / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    for row in rows:
        assert {"train_perplexity", "validation_perplexity", "seconds"} < set(row)
        numbers = {name: float(row[name]) for name in row} | {
            "epoch": int(row["epoch"])
        }
        assert f"\n{', '.join(program.describe(numbers))}\n" in output


def test_rows_are_saved_so_that_csv_reads_them(tmp_path):
    rows = [{"a": 1, "b": 0.1 + 0.2}, {"a": 2, "b": None}]
    program.RunFolder(tmp_path).write_rows("rows.csv", rows)
    first, second = csv.DictReader((tmp_path / "rows.csv").open())
    assert {"a": int(first["a"]), "b": float(first["b"])} == rows[0]
    assert second == {"a": "2", "b": ""}


def test_report_says_what_was_run_and_how_good_it_was(toy_folder):
    report = json.loads((newest(toy_folder) / "report.json").read_text())
    text = (toy_folder / "toy.txt").read_bytes()
    assert report["corpus"] == "toy.txt" and report["stopped"] is None
    assert report["corpus_sha256"] == sha256(text).hexdigest()
    assert report["settings"]["hidden_size"] == 12
    settings = json.loads((newest(toy_folder) / "settings.json").read_text())
    assert settings == report["settings"]
    assert set(report["versions"]) == {"python", "tensorflow", "keras", "numpy"}
    assert report["train_tokens"] == 8 * report["test_tokens"] == 8 * 300
    assert report["unknown_share"] == 0
    assert report["vocabulary_size"] == 13  # [UNK], the, six people and five deeds
    assert 1 < report["test_perplexity"] < report["unigram_perplexity"] < 13
    assert 1 < report["validation_perplexity"] < 13
    assert report["bits_per_character"] > 0
    rows = csv.DictReader((newest(toy_folder) / "history.csv").open())
    seconds = sum(float(row["seconds"]) for row in rows)
    assert 0 < report["train_seconds"] == pytest.approx(seconds, abs=0.06)
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    (line,) = program.describe({"test_perplexity": report["test_perplexity"]})
    assert f"\n{line}\n" in output


def words_of(text):
    """A text with one space between words: how its lines are wrapped does not matter."""
    return " ".join(text.split())


def test_samples_at_three_temperatures_are_printed_and_saved(toy_folder):
    samples = (newest(toy_folder) / "samples.txt").read_text(encoding="utf-8")
    pairs = [(t, n) for t in ["0.3", "0.8", "1.2"] for n in "01"]
    assert re.findall(r"temperature (\S+), seed (\d)", samples) == pairs
    output = words_of((toy_folder / "output.txt").read_text(encoding="utf-8"))
    for sample in samples.split("\n\n"):
        title, text, note = sample.strip().split("\n")
        assert text.startswith("king ") and len(text.split()) == 1 + 10
        assert note.startswith("(longest run of the training text: ")
        assert f"{title} {text} ---" in output or f"{title} {text} vocabulary" in output
        assert f"{title} {note} " in output


def test_it_writes_before_while_and_after_it_learns(toy_folder):
    """What it writes after the last epoch is the beginning of a sample."""
    text = "(king(?: [a-z]+){12})"
    stages = f"all weights [0-9,]+ {text}.* Planned: .* Epoch 1/2 .* seconds: [0-9.]+ "
    stages += f"{text} Epoch 2/2 .* seconds: [0-9.]+ {text} --- "
    output = words_of((toy_folder / "output.txt").read_text(encoding="utf-8"))
    untrained, first, last = re.search(stages, output).groups()
    assert len({untrained, first, last}) == 3
    samples = (newest(toy_folder) / "samples.txt").read_text(encoding="utf-8")
    (sample,) = re.findall("temperature 0.8, seed 0\n(king .*)\n", samples)
    assert last.startswith(f"{sample} ")


def weights(path):
    with zipfile.ZipFile(path) as file:
        return file.read("model.weights.h5")


def test_same_seed_same_run_in_a_folder_of_its_own(toy_folder):
    runs = [*(toy_folder / "runs").iterdir()]
    assert len(runs) == 2
    assert len({weights(folder / "generator.keras") for folder in runs}) == 1


def test_another_seed_is_another_run(toy_folder):
    options = [*TOY_OPTIONS, "--seed", "1", "--output-dir", "other"]
    assert run(*options, folder=toy_folder).returncode == 0
    (other,) = (toy_folder / "other").iterdir()
    assert weights(other / "generator.keras") != weights(
        newest(toy_folder) / "generator.keras"
    )


def test_generator_loads_as_a_plain_keras_model(toy_folder):
    """In a process that never saw the script, with the scores of our own loader."""
    code = (
        "import keras, numpy, sys; model = keras.saving.load_model(sys.argv[1]);"
        "print([type(layer).__name__ for layer in model.layers]);"
        "numpy.save('logits.npy', model(numpy.array([[1, 2, 3]]))[0])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, newest(toy_folder) / "generator.keras"],
        cwd=toy_folder,
        capture_output=True,
        text=True,
    )
    assert "['Embedding', 'GRU', 'Dense']" in finished.stdout, finished.stderr
    generator, _ = program.load_generator(newest(toy_folder) / "generator.keras")
    outputs = program.read(generator, [1, 2, 3], program.begin(generator))
    kernel, bias = generator.dense
    expected = np.load(toy_folder / "logits.npy")
    assert len(expected) == 3
    for (output, _), logits in zip(outputs, expected):
        np.testing.assert_allclose(output @ kernel + bias, logits, atol=1e-5)


LOAD = "--load generator.keras --prompt king --num-words 10 --seed 1".split()


@pytest.fixture
def folder_with_generator(toy_folder, tmp_path):
    """A folder with nothing but what the toy run saved."""
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(newest(toy_folder) / "generator.keras", folder)
    return folder


def test_load_writes_without_training_corpus_or_tensorflow(
    toy_folder, folder_with_generator
):
    finished = run(*LOAD, folder=folder_with_generator, COLUMNS="500")
    samples = (newest(toy_folder) / "samples.txt").read_text(encoding="utf-8")
    (same,) = re.findall("--- temperature 0.8, seed 1\nking .*\n", samples)
    assert same in finished.stdout and finished.stderr == ""
    assert "longest run" not in finished.stdout
    assert os.listdir(folder_with_generator) == ["generator.keras"]

    code = (
        f"import runpy, sys; sys.argv = ['', *{LOAD}]; sys.path.insert(0, '');"
        f"runpy.run_path({program.__file__!r}, run_name='__main__');"
        "assert not {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    finished = subprocess.run(
        command, cwd=folder_with_generator, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_load_writes_where_only_numpy_and_h5py_are(folder_with_generator, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    python /= "python"
    install = "-m pip install --quiet --retries 1 numpy h5py".split()
    installed = subprocess.run([python, *install], capture_output=True, text=True)
    if "from versions: none" in installed.stderr:
        pytest.skip("pip reaches no index, so numpy and h5py cannot be installed")
    assert installed.returncode == 0, installed.stderr
    finished = subprocess.run(
        [python, program.__file__, *LOAD],
        cwd=folder_with_generator,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    generator, _ = program.load_generator(folder_with_generator / "generator.keras")
    reading, title, text = finished.stdout.split("\n", 2)
    assert reading == "Reading generator.keras"
    text = text.split("---")[0].split()
    assert title == "--- temperature 0.8, seed 1"
    assert len(text) == 1 + 10 and {*text} <= {*generator.vocabulary}


def test_load_with_the_corpus_tells_what_is_copied_as_training_did(toy_folder):
    options = "--load runs --corpus toy.txt --prompt king --num-words 10"
    finished = run(*options.split(), "--seed", "0", folder=toy_folder, COLUMNS="500")
    samples = (newest(toy_folder) / "samples.txt").read_text(encoding="utf-8")
    notes = re.findall("(--- temperature 0.8.*\n).*\n(.*longest run.*\n)", samples)
    assert len(notes) == 2
    assert all(title + note in finished.stdout for title, note in notes)


def test_load_scores_a_text_as_the_test_part_was_scored(toy_folder, tmp_path):
    words = (toy_folder / "toy.txt").read_text(encoding="utf-8").split()
    test_part = words[-len(words) // 10 :]
    (tmp_path / "test.txt").write_text(" ".join(test_part), encoding="utf-8")
    options = "--load", "runs", "--score", str(tmp_path / "test.txt")
    finished = run(*options, folder=toy_folder)
    report = json.loads((newest(toy_folder) / "report.json").read_text())
    lines = finished.stdout.splitlines()
    (line,) = program.describe(
        {"perplexity_with_unknown_words_spelled": report["test_perplexity"]}
    )
    assert line in lines
    assert len(test_part) == report["test_tokens"] == sum(l[8:9] == "'" for l in lines)
    assert "---" not in finished.stdout


def test_load_answers_what_comes_through_a_pipe(toy_folder):
    finished = subprocess.run(
        [sys.executable, program.__file__, "--load", "runs"]
        + ["--interactive", "--seed", "5"],
        cwd=toy_folder,
        input="king\n/num-words 5\n\n",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert finished.returncode == 0 and finished.stderr == ""
    assert re.findall("seed (\\d)", finished.stdout) == ["5", "6"]


def test_load_draws_a_seed_and_prints_it(toy_folder):
    outputs = {run("--load", "runs", folder=toy_folder).stdout for _ in range(3)}
    assert len(outputs) == 3
    assert all(re.search(r"temperature 0.8, seed \d+\n", text) for text in outputs)


@pytest.mark.parametrize(
    "options",
    [
        "--token-kind characters --sequence-length 20",
        "--token-kind verse --score toy.txt",
        "--validation-share 0 --test-share 0",
        "--num-layers 2 --hidden-size 5 --dropout 0 --num-sampled 0",
        "--max-tokens 700 --min-count 1",
    ],
)
def test_other_settings_finish_too(options, toy_folder, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(200), encoding="utf-8")
    finished = run(*TOY_OPTIONS, *options.split(), folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((newest(tmp_path) / "report.json").read_text())
    scored = "--test-share" not in options
    assert (report["test_perplexity"] is not None) == scored
    assert (report["validation_perplexity"] is not None) == scored
    again = run("--load", "runs", folder=tmp_path)
    assert again.returncode == 0 and again.stderr == ""


def test_a_preset_is_a_start_that_options_change():
    quick, best = (program.choose_settings({"preset": p}) for p in ["quick", "best"])
    assert program.choose_settings({}) == program.Settings()
    assert quick.epochs < program.Settings().epochs < best.epochs
    options = ["--preset", "best", "--epochs", "3"]
    given = program.read_options(options)
    assert program.choose_settings(given) == program.replace(best, epochs=3)


def test_characters_have_settings_of_their_own():
    given = {"token_kind": "characters"}
    settings = program.choose_settings(given)
    assert settings.min_count == 1 and settings.sequence_length > 35
    assert program.choose_settings(given | {"min_count": 3}).min_count == 3


def test_settings_suit_the_text_unless_they_are_given():
    """Those of the plays at their size; smaller and more careful below, shorter above."""
    plays = program.choose_settings({}, 903_000)
    assert plays == program.Settings()
    sizes = [program.choose_settings({}, n) for n in [10**4, 10**5, 903_000]]
    for smaller, larger in zip(sizes, sizes[1:]):
        for name in ["embedding_size", "hidden_size", "batch_size", "learning_rate"]:
            assert getattr(smaller, name) < getattr(larger, name)
        assert smaller.dropout > larger.dropout and smaller.epochs > larger.epochs
        assert smaller.num_layers <= larger.num_layers
    assert sizes[0].num_layers == 1
    large = program.choose_settings({}, 4 * 903_000)
    assert large == program.replace(plays, epochs=plays.epochs // 4)
    given = {"hidden_size": 100, "epochs": 3, "dropout": 0.0}
    chosen = program.asdict(program.choose_settings(given, 10**4))
    assert chosen | given == chosen


@pytest.mark.parametrize("preset", ["quick", "standard", "best"])
@pytest.mark.parametrize("token_kind", ["words", "characters"])
@pytest.mark.parametrize("num_tokens", [1, 1000, 10**9])
def test_settings_for_any_text_are_allowed(preset, token_kind, num_tokens):
    given = {"preset": preset, "token_kind": token_kind, "dropout": 0.9}
    assert program.choose_settings(given, num_tokens).dropout == 0.9


def test_a_budget_fixes_the_steps_and_leaves_time_for_the_scores():
    """Steps of 0.1 s and scores of 3 s each 100 steps: an epoch takes 13 s."""
    settings = program.Settings(epochs=5)
    steps, seconds = program.plan_steps(0.1, 3, 100, settings)
    assert (steps, seconds) == (500, pytest.approx(65))
    for minutes in [0.5, 1, 7, 60]:
        changed = program.replace(settings, minutes=minutes)
        steps, seconds = program.plan_steps(0.1, 3, 100, changed)
        scores = -(-steps // 100)
        assert 0.1 * steps + 3 * scores <= 0.95 * 60 * minutes
        assert 0.1 * (steps + 1) + 3 * (steps + 1) / 100 + 3 > 0.95 * 60 * minutes
    changed = program.replace(settings, minutes=0.001)
    assert program.plan_steps(0.1, 3, 100, changed)[0] == 1


def test_a_run_with_a_budget_says_what_it_will_take(toy_folder, tmp_path):
    (tmp_path / "toy.txt").write_text(toy_text(200), encoding="utf-8")
    finished = run(*TOY_OPTIONS, "--minutes", "0.00001", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert re.search(
        r"^Planned: 1 steps, about \d+\.\d minutes$", finished.stdout, re.M
    )
    assert len(list(csv.DictReader((newest(tmp_path) / "history.csv").open()))) == 1


def test_a_run_without_a_budget_plans_all_its_epochs(toy_folder):
    """2,400 training tokens in 4 streams and windows of 10 are 59 steps an epoch."""
    output = (toy_folder / "output.txt").read_text(encoding="utf-8")
    steps = 2 * ((2400 - 1) // (4 * 10))
    assert f"\nPlanned: {steps} steps, about 0." in output


def test_help_is_grouped_and_names_every_setting(tmp_path):
    finished = run("--help", folder=tmp_path)
    assert finished.returncode == 0 and finished.stderr == ""
    for field in program.fields(program.Settings):
        assert program.option(field.name) in finished.stdout
    groups = {field.metadata["about"][0] for field in program.fields(program.Settings)}
    assert groups == set(re.findall("^([a-z].*):$", finished.stdout, re.M)) - {
        "options"
    }
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_a_bug_of_ours_keeps_its_traceback(capsys):
    try:
        raise RuntimeError("a bug")
    except RuntimeError as error:
        program.report_error(RuntimeError, error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    program.RunFolder(tmp_path).write(path.name, "old")
    with pytest.raises(RuntimeError), program.replacing(path) as part:
        part.write_text("half")
        raise RuntimeError("interrupted")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_error(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(program.UserError, match="No space left on device.*make room"):
        with program.replacing(path):
            raise OSError(28, "No space left on device")
