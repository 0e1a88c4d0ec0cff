"""The baselines and the measurements are what they say, so that numbers mean something."""

import sys
from importlib import import_module

import numpy as np
import pytest
from conftest import ROOT, TOY_OPTIONS, toy_text

pytest.importorskip("resource")  # not there on Windows
sys.path.insert(0, str(ROOT / "benchmarks"))
import classic
import kneser_ney
import runs
import writing
from runs import program

BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_probabilities_sum_to_one(order):
    """After histories that were seen, seen in part, and never seen."""
    draw, size = np.random.default_rng(order), 20
    ids = np.minimum(draw.geometric(0.2, size=2000), size) - 1
    levels = kneser_ney.fit(ids, order, size)
    for history in [ids[:4], ids[100:104], ids[-4:], [19, 18, 17, 19], [19], []]:
        texts = [np.array([*history, word], int) for word in range(size)]
        last = [kneser_ney.score(levels, text, size)[-1] for text in texts]
        assert sum(last) == pytest.approx(1)
        assert min(last) > 0


def test_a_longer_history_helps_where_the_text_has_one():
    ids = np.tile(np.arange(10), 50)
    ids[::7] = np.random.default_rng(0).integers(10, size=len(ids[::7]))
    nats = [
        -np.log(kneser_ney.score(kneser_ney.fit(ids, order, 10), ids, 10)).mean()
        for order in [1, 2, 3]
    ]
    assert nats[0] > nats[1] > nats[2]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_importing_a_benchmark_runs_nothing(name, capsys):
    if name == "race":
        pytest.importorskip("torch", reason="there is no PyTorch")
    assert import_module(name).__doc__
    assert capsys.readouterr() == ("", "")


def test_the_peak_of_memory_is_that_of_the_command_alone():
    """Even if this process has more: it has TensorFlow, and half a GB for a moment."""
    bytearray(b"x") * (512 * 2**20)
    assert runs.peak_memory_mb() > 512
    few, many = (
        runs.run_measured(sys.executable, "-c", f"bytes(b'x') * ({size} * 2**20)")
        for size in [1, 300]
    )
    assert few < 100 and many - few == pytest.approx(299, abs=10)


def test_a_command_that_fails_ends_the_benchmark():
    with pytest.raises(runs.subprocess.CalledProcessError):
        runs.run_measured(sys.executable, "-c", "raise SystemExit(3)")


def test_a_run_is_reported_with_its_history_and_its_memory(tmp_path):
    path = tmp_path / "toy.txt"
    path.write_text(toy_text(), encoding="utf-8")
    options = [*TOY_OPTIONS, "--corpus", str(path)]
    report = runs.run_script(*options)
    assert report["corpus"] == str(path) and report["train_tokens"] == 2400
    assert [row["epoch"] for row in report["history"]] == ["1", "2"]
    assert report["peak_memory_mb"] > 100


def test_classic_learns_the_words_that_it_is_scored_on(tmp_path, monkeypatch):
    path, changes = tmp_path / "toy.txt", {
        "epochs": 3,
        "batch_size": 4,
        "num_sampled": 5,
    }
    path.write_text(toy_text(2000).replace("\n", " \n"), encoding="utf-8")
    monkeypatch.setattr(
        classic, "SETTINGS", program.replace(classic.SETTINGS, **changes)
    )
    ids, vocabulary = classic.read_ids(str(path))
    assert len(ids) == 10_000 and len(vocabulary) == 13
    shares = np.bincount(ids) / len(ids)
    perplexity, seconds, memory = classic.train_ours(str(path))
    assert 1 < perplexity < np.exp(-np.log(shares[ids]).mean())
    assert seconds > 0 and memory > 100


def test_what_writing_measures_knows_the_prompt_and_writes_words(monkeypatch):
    monkeypatch.setattr(writing, "NUM_WORDS", 50)
    generator = writing.make_ours()
    assert len(generator.vocabulary) == len(generator.embedding) == 50
    assert program.name_unknown("my lord", generator) == ""
    words = writing.write_ours(generator)
    assert {next(words).strip() for _ in range(99)} <= {*generator.vocabulary}
    assert writing.time_first_word(generator) > 0
