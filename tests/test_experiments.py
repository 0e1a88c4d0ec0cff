"""The experiments compare what they say: equally large cells, and one start for all."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, toy_text

sys.path.insert(0, str(ROOT / "benchmarks"))
import experiments
from runs import program


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    program.start_tensorflow()


def network(cell, scheme="Glorot", narrow=False, **sizes):
    settings = replace(experiments.SETTINGS, batch_size=2, **sizes)
    return experiments.make_network(50, settings, cell, scheme, narrow)


def weights_of(layers, cell):
    """The number of weights of the layer that is of this kind."""
    (layer,) = (layer for layer in layers if type(layer).__name__ == cell)
    return layer.count_params()


@pytest.mark.parametrize("sizes", [(100, 128), (32, 96), (200, 64)])
def test_cells_have_equally_many_weights(sizes):
    sizes = dict(zip(["embedding_size", "hidden_size"], sizes))
    counts = [
        weights_of(network(cell, **sizes).layers, cell) for cell in experiments.CELLS
    ]
    assert max(counts) <= 1.02 * min(counts)


def test_the_gru_is_as_wide_as_its_settings_say():
    for width in [1, 7, 128]:
        settings = replace(experiments.SETTINGS, hidden_size=width)
        assert experiments.match_width("GRU", settings) == width


def test_the_last_layer_is_equally_large_for_all_cells():
    networks = [network(cell, narrow=True) for cell in experiments.CELLS]
    assert len({net.layers[-1].count_params() for net in networks}) == 1


@pytest.mark.parametrize("cell", experiments.CELLS)
def test_every_matrix_starts_by_the_scheme(cell):
    """The mean and the deviation of each are what the scheme's formula says."""
    for scheme, mean, deviation in [
        ("Glorot", 0, lambda shape: np.sqrt(2 / sum(shape))),
        ("normal(0, 0.05)", 0, lambda shape: 0.05),
        ("normal(0, 1)", 0, lambda shape: 1),
        ("uniform(0, 1)", 0.5, lambda shape: np.sqrt(1 / 12)),
    ]:
        weights = network(cell, scheme, narrow=True).trainable_weights
        matrices = [w.numpy() for w in weights if w.name != "bias"]
        assert len(matrices) == 5  # embedding, two of the cell, and two of Dense
        for matrix in matrices:
            expected = deviation(matrix.shape)
            assert matrix.std() == pytest.approx(expected, rel=0.05)
            assert abs(matrix.mean() - mean) < 0.1 * expected


TOY = replace(
    experiments.SETTINGS,
    embedding_size=8,
    hidden_size=12,
    batch_size=2,
    sequence_length=5,
    learning_rate=0.01,
    epochs=2,
)


@pytest.mark.parametrize("cell", experiments.CELLS)
def test_what_is_followed_is_the_perplexity_of_the_validation_part(cell):
    """That of the two streams, each read in one piece from an empty memory."""
    dataset = program.make_dataset(program.tokenize(toy_text(200), "words"), TOY)
    made = experiments.make_network(len(dataset.vocabulary), TOY, cell)
    perplexities = experiments.follow(made, dataset, TOY)
    assert len(perplexities) == TOY.epochs
    ids = dataset.validation.ids
    length = (len(ids) - 1) // 10 * 5
    inputs, targets = (ids[n : n + 2 * length].reshape(2, length) for n in [0, 1])
    for layer in made.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()
    logits = np.array(made(inputs), np.float64)
    chosen = np.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0]
    nats = np.log(np.exp(logits).sum(axis=2)) - chosen
    assert perplexities[-1] == pytest.approx(math.exp(nats.mean()), rel=1e-4)
    assert perplexities[-1] < len(dataset.vocabulary)


@pytest.mark.parametrize("name", ["initialisation", "cells"])
def test_an_experiment_prints_and_draws_each_run(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    path = tmp_path / "toy.txt"
    path.write_text(toy_text(200), encoding="utf-8")
    monkeypatch.setattr(experiments, "SETTINGS", replace(TOY, corpus=str(path)))
    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    monkeypatch.setattr(experiments, "SEEDS", [3])
    schemes = {n: experiments.SCHEMES[n] for n in ["Glorot", "normal(0, 1)"]}
    monkeypatch.setattr(experiments, "SCHEMES", schemes)
    getattr(experiments, name)()
    title, *rows = capsys.readouterr().out.splitlines()
    dataset = program.make_dataset(program.tokenize(toy_text(200), "words"), TOY)
    counts = np.bincount(dataset.train.ids, minlength=len(dataset.vocabulary))
    odds = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
    unigram = math.exp(np.mean(-np.log(odds[dataset.validation.ids])))
    words = f"{len(dataset.train.ids):,} words, word frequencies alone: {unigram:.1f}"
    assert title == words
    kinds = schemes if name == "initialisation" else experiments.CELLS
    for kind in kinds:
        assert any(row.startswith(kind) and "seed 3" in row for row in rows)
    for row in rows:
        perplexities = [float(number) for number in row[34:].split()]
        assert len(perplexities) == TOY.epochs and min(perplexities) > 1
    picture = (tmp_path / "docs" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
