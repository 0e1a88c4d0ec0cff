"""The experiments compare what they say: equally large cells, and one start for all."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

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
