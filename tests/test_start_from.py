"""Training on from what a saved generator knows, on another text."""

import json
import os
from hashlib import sha256

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import TOY_OPTIONS, newest, run, toy_text
from test_interruption import outcome, posix, read_until, start

OLD = ["[UNK]", "king", "loving", "queen", "moving", "fool"]
SIZES = {"embedding_size": 5, "num_layers": 2, "batch_size": 2, "sequence_length": 4}


@pytest.fixture(scope="module", autouse=True)
def keras():
    program.start_tensorflow()


def make_network(tokens, known=(), **changes):
    """An untrained network, and the dataset that it is for."""
    settings = program.Settings(**{"min_count": 1, **SIZES, **changes})
    dataset = program.make_dataset(tokens, settings, known)
    return program.Network(dataset, settings), dataset


@pytest.mark.parametrize("hidden_size", [5, 7])
def test_a_token_keeps_what_is_known_of_it_wherever_it_stands(hidden_size):
    """The new text has other frequencies, so that every known token gets another id."""
    network, dataset = make_network(OLD[1:] * 20, hidden_size=hidden_size, seed=1)
    network.bias.assign(np.arange(6.0))
    generator = network.export(dataset)
    tokens = ["zyx"] * 3 + ["fool"] * 30 + ["queen", "roving"] * 20 + ["king"] * 9
    other, joined = make_network(tokens, generator.vocabulary, hidden_size=hidden_size)
    assert set(joined.vocabulary) == {*OLD, "roving", "zyx"}
    assert joined.vocabulary[:2] == ["[UNK]", "fool"] != generator.vocabulary[:2]
    program.adopt(other, generator, joined)
    adopted, line = other.export(joined), "queen fool king fool loving moving".split()
    for tokens in [line, line[::-1]]:
        old_ids, new_ids = (
            program.encode(tokens, vocabulary)
            for vocabulary in [generator.vocabulary, joined.vocabulary]
        )
        assert list(old_ids) != list(new_ids)
        outputs = program.read(generator, old_ids, program.begin(generator))
        others = program.read(adopted, new_ids, program.begin(adopted))
        for (hidden, _), (other_hidden, _) in zip(outputs, others):
            old = hidden @ generator.dense[0] + generator.dense[1]
            new = other_hidden @ adopted.dense[0] + adopted.dense[1]
            places = program.encode(generator.vocabulary[1:], joined.vocabulary)
            np.testing.assert_allclose(new[places], old[1:], atol=1e-4)


def test_a_new_token_begins_as_the_mean_of_those_that_end_alike_or_of_all():
    network, dataset = make_network(OLD[1:] * 20, hidden_size=5)
    generator = network.export(dataset)
    other, joined = make_network(["roving", "zyx"] * 40, OLD, hidden_size=5)
    program.adopt(other, generator, joined)
    table = other.export(joined).embedding
    roving, zyx = (table[joined.vocabulary.index(t)] for t in ["roving", "zyx"])
    alike = [
        generator.vocabulary.index(token) for token in ["king", "loving", "moving"]
    ]
    np.testing.assert_allclose(
        roving, generator.embedding[alike].mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(zyx, generator.embedding.mean(axis=0), atol=1e-6)


def test_tokens_and_sizes_are_those_of_the_saved_network_and_the_rate_is_lower():
    saved = program.Settings(token_kind="verse", hidden_size=300, num_layers=2)
    chosen = program.choose_settings({"epochs": 3}, 20_000, saved)
    new = program.choose_settings({"epochs": 3, "token_kind": "verse"}, 20_000)
    same = ["token_kind", "hidden_size", "num_layers", "embedding_size"]
    assert [getattr(chosen, n) for n in same] == [getattr(saved, n) for n in same]
    assert chosen.epochs == 3 and chosen.learning_rate < new.learning_rate / 2
    given = {"learning_rate": 0.01, "token_kind": "verse"}
    assert program.choose_settings(given, 20_000, saved).learning_rate == 0.01


OTHER = TOY_OPTIONS[TOY_OPTIONS.index("--batch-size") :]  # the sizes are in the file
OTHER = ["--corpus", "other.txt", *OTHER, "--epochs", "4", "--patience", "9"]


@pytest.fixture(scope="module")
def folder(toy_folder):
    text = toy_text(200).replace("fool", "clown").replace("the", "a")
    (toy_folder / "other.txt").write_text(text, encoding="utf-8")
    return toy_folder


def check_resuming(options, name, folder):
    """The folder of a whole run; one that is killed and resumed ends as it does."""
    whole = run(*options, name, folder=folder)
    assert whole.returncode == 0, whole.stderr
    process = start(*options, f"killed-{name}", folder=folder)
    read_until(process, "epoch: 2")
    process.kill()
    process.communicate()
    resumed = run(*options, f"killed-{name}", folder=folder)
    assert "Resuming after epoch " in resumed.stdout and resumed.returncode == 0
    (first,), (second,) = ([*(folder / n).iterdir()] for n in [name, f"killed-{name}"])
    assert outcome(first) == outcome(second)
    return first, whole.stdout


@posix
def test_it_goes_on_from_a_run_and_can_be_interrupted_like_any_other(folder):
    old = json.loads((newest(folder) / "report.json").read_text())
    name = str(newest(folder).relative_to(folder))
    options = ["--start-from", name, *OTHER, "--output-dir"]
    first, output = check_resuming(options, "whole", folder)
    assert "\n2 of 13 words are new\n" in output
    assert "\nvalidation perplexity before training: " in output
    report = json.loads((first / "report.json").read_text())
    content = json.dumps(old, sort_keys=True).encode()
    assert report["started_from"] == sha256(content).hexdigest()
    assert report["settings"]["hidden_size"] == 12


@pytest.mark.parametrize(
    "options, words",
    [
        (["--token-kind", "verse"], "--token-kind is words in --start-from"),
        (["--hidden-size", "13"], "--hidden-size is 12 in --start-from"),
        (["--load"], "is for training"),
    ],
)
def test_what_cannot_be_joined_is_one_line(options, words, folder):
    finished = run("--start-from", *OTHER, *options, folder=folder)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert words in finished.stderr


def test_an_interrupted_run_does_not_start_from_itself(tmp_path):
    """It saved what it had, and is the newest; the same command is to resume it."""
    for age, name in enumerate(["newest", "finished"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "generator.keras").touch()
        os.utime(tmp_path / name / "generator.keras", (9 - age, 9 - age))
    (tmp_path / "newest" / "unfinished-0").touch()
    paths = [program.find_model(tmp_path, finished) for finished in [False, True]]
    assert [path.parent.name for path in paths] == ["newest", "finished"]


@pytest.mark.parametrize("name", ["missing.keras", "other.txt", "folder"])
def test_a_file_that_is_no_generator_is_one_line(name, folder):
    (folder / "folder").mkdir(exist_ok=True)
    finished = run("--start-from", name, *OTHER, folder=folder)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert name in finished.stderr
