"""Two experiments that a learner asks for: how weights start, and which cell reads.

    python benchmarks/experiments.py [initialisation | cells]

Plain networks, Embedding → recurrent layer → Dense, read the first 100,000 words of the
plays, all in the same order. They learn by the full softmax, at one rate of Adam, with
one dropout. Printed are the validation perplexities after each epoch; the pictures go
to docs/. The test part is not looked at.
"""

import math
import sys

import numpy as np
from runs import ROOT, program, read_text

SETTINGS = program.Settings(
    max_tokens=100_000,
    embedding_size=100,
    hidden_size=128,
    batch_size=8,
    learning_rate=0.003,
    epochs=8,
)
SEEDS = range(2)
SCHEMES = {  # how every matrix starts
    "Glorot": lambda draw, shape: draw.uniform(-1, 1, shape) * (6 / sum(shape)) ** 0.5,
    "normal(0, 0.05)": lambda draw, shape: draw.normal(0, 0.05, shape),
    "normal(0, 1)": lambda draw, shape: draw.normal(0, 1, shape),
    "uniform(0, 1)": lambda draw, shape: draw.uniform(0, 1, shape),
}
CELLS = {  # pairs of matrices, for the input and for the state; biases of a unit
    "GRU": (3, 6),
    "LSTM": (4, 4),
    "SimpleRNN": (1, 1),
}


def match_width(cell, settings):
    """The width at which a cell has as many weights as the GRU of these settings."""
    size, width = settings.embedding_size, settings.hidden_size
    pairs, biases = CELLS["GRU"]
    goal = pairs * width * (size + width) + biases * width
    pairs, biases = CELLS[cell]
    half = (size + biases / pairs) / 2  # width² + 2 half width = goal / pairs
    return round(math.sqrt(half**2 + goal / pairs) - half)


def make_network(
    vocabulary_size, settings, cell="GRU", scheme="Glorot", narrow=False, clip=1.0
):
    """A compiled network that carries its state. Its matrices start by a scheme.

    A narrow one has a Dense of the embedding's size before the last, so that the last
    is as large for every cell. The gradients' norm is clipped, unless clip is None.
    """
    keras = program.keras

    class Embedding(keras.layers.Embedding):
        def call(self, ids):
            # Times 1 makes dense gradients; Adam goes wrong on a table's sparse ones.
            return keras.ops.take(self.embeddings * 1.0, ids, axis=0)

    keras.utils.set_random_seed(settings.seed)
    size, width = settings.embedding_size, match_width(cell, settings)
    layers = [
        keras.Input(batch_shape=(settings.batch_size, None), dtype="int32"),
        Embedding(vocabulary_size, size),
        keras.layers.SpatialDropout1D(settings.input_dropout),
        getattr(keras.layers, cell)(width, return_sequences=True, stateful=True),
        keras.layers.SpatialDropout1D(settings.dropout),
        *([keras.layers.Dense(size, use_bias=False)] if narrow else []),
        keras.layers.Dense(vocabulary_size),
    ]
    network = keras.Sequential(layers)
    random = np.random.default_rng(settings.seed)
    for weights in network.trainable_weights:
        if weights.name != "bias":
            weights.assign(SCHEMES[scheme](random, weights.shape))
    network.compile(
        keras.optimizers.Adam(settings.learning_rate, global_clipnorm=clip),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return network


def follow(network, dataset, settings):
    """The validation perplexities of a network after each epoch of its training."""
    sizes = settings.batch_size, settings.sequence_length

    def read(act, ids, **options):
        for layer in network.layers:
            if getattr(layer, "stateful", False):
                layer.reset_state()
        batches = zip(*program.make_batches(ids, *sizes))
        inputs, targets = (np.concatenate(windows) for windows in batches)
        return act(inputs, targets, batch_size=sizes[0], verbose=0, **options)

    perplexities = []
    for epoch in range(settings.epochs):
        random = np.random.default_rng((settings.seed, epoch))
        text = program.hide_local_words(dataset, settings, random)
        text = np.roll(text, random.integers(len(text)))  # windows begin elsewhere
        read(network.fit, text, shuffle=False)
        loss = read(network.evaluate, dataset.validation.ids)
        perplexities.append(program.perplexity([loss]))
    return perplexities


def draw(curves, unigram, title, path):
    """Draw each name's lists of perplexities, one a seed, without what is far above."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes, top = figure.subplots(), 4 * unigram
    axes.set(title=title, xlabel="epoch", ylabel="validation perplexity", yscale="log")
    for number, (name, seeds) in enumerate(curves.items()):
        label = name if np.min(seeds) < top else f"{name}: far above"
        epochs = np.arange(len(seeds[0])) + 1
        lines = axes.plot(epochs, np.transpose(seeds), "o-", color=f"C{number}")
        lines[0].set_label(label)
    axes.axhline(unigram, color="gray", linestyle="--", label="word frequencies alone")
    axes.set_ylim(0.4 * unigram, top)
    axes.yaxis.set_major_locator(LogLocator(subs=[1, 1.5, 2, 2.5, 3, 4, 5, 7]))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def compare(runs, title, name):
    """Train the networks of runs with each seed; print and draw their perplexities."""
    text = read_text(SETTINGS.corpus)
    tokens = program.tokenize(text, "words")[: SETTINGS.max_tokens]
    dataset = program.make_dataset(tokens, SETTINGS)
    nats = -np.log(program.token_frequencies(dataset))
    unigram = program.perplexity(nats[dataset.validation.ids])
    num_words = len(dataset.train.ids)
    print(f"{num_words:,} words, word frequencies alone: {unigram:.1f}")
    curves = {}
    for label, differences in runs.items():
        curves[label] = []
        for seed in SEEDS:
            settings = program.replace(SETTINGS, seed=seed)
            size = len(dataset.vocabulary)
            network = make_network(size, settings, **differences)
            curves[label].append(follow(network, dataset, settings))
            row = "".join(f"{perplexity:10.4g}" for perplexity in curves[label][-1])
            print(f"{label}, seed {seed}".ljust(34) + row, flush=True)
    draw(curves, unigram, title, ROOT / "docs" / name)


def initialisation():
    """Glorot's scheme against plain random weights in Embedding → GRU → Dense."""
    runs = {scheme: {"scheme": scheme} for scheme in SCHEMES}
    runs["normal(0, 1), no clipping"] = {"scheme": "normal(0, 1)", "clip": None}
    title = "Small random weights learn like Glorot's, large ones do not"
    compare(runs, title, "initialisation.png")


def cells():
    """GRU, LSTM and simple RNN with equally many weights, after Chung et al. 2014."""
    widths = {cell: match_width(cell, SETTINGS) for cell in CELLS}
    runs = {f"{c}, {widths[c]} wide": {"cell": c, "narrow": True} for c in CELLS}
    title = "With equally many weights, gates pay: GRU and LSTM lead"
    compare(runs, title, "cells.png")


if __name__ == "__main__":
    program.start_tensorflow()
    for experiment in sys.argv[1:] or ["initialisation", "cells"]:
        {"initialisation": initialisation, "cells": cells}[experiment]()
