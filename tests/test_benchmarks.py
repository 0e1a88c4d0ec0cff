"""The baselines are what they say, so that being ahead of them means something."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import kneser_ney


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
