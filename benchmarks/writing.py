"""How fast words are written: one GRU step a word, or a 50-word window read anew a word.

    python benchmarks/writing.py

The second way, and its sizes, are those of the project that this one follows. Both write
greedily or by sampling from weights that were never trained, which takes no less time.
"""

import statistics
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shakespeare_text_generator_using_gru as program

program.start_tensorflow()
import keras

ROUNDS, STEP_WORDS, WINDOW_WORDS = 5, 500, 50


def make_ours():
    """A generator of the default sizes with the vocabulary of the works."""
    settings = program.Settings()
    vocabulary = [f"word{n}" for n in range(14_353)]
    model = program.build_model(len(vocabulary), settings)
    return program.make_generator(model, vocabulary, "words"), settings


def make_theirs():
    """The original's network: it gives the probabilities of the word after a window."""
    layers = [
        keras.Input((50,)),
        keras.layers.Embedding(13_984, 50),
        keras.layers.GRU(128),
        keras.layers.Dense(13_984, activation="softmax"),
    ]
    return keras.Sequential(layers)


def time_steps(generator, settings):
    """Seconds a word, the state carried from word to word."""
    start = time.perf_counter()
    list(islice(program.write_tokens(generator, [1], settings), STEP_WORDS))
    return (time.perf_counter() - start) / STEP_WORDS


def time_windows(model):
    """Seconds a word, 50 words read again for each."""
    window = np.ones((1, 50), np.int32)
    start = time.perf_counter()
    for _ in range(WINDOW_WORDS):
        best = model.predict(window, verbose=0)[0].argmax()
        window = np.append(window[:, 1:], [[best]], axis=1)
    return (time.perf_counter() - start) / WINDOW_WORDS


generator, settings = make_ours()
model = make_theirs()
time_steps(generator, settings), time_windows(model)  # the first time is not typical
steps, windows = [], []
for _ in range(ROUNDS):  # side by side: machines are noisy
    steps.append(time_steps(generator, settings))
    windows.append(time_windows(model))
ratios = [window / step for window, step in zip(windows, steps)]
print(f"one step a word      {statistics.median(steps) * 1000:6.2f} ms a word")
print(f"a window a word      {statistics.median(windows) * 1000:6.2f} ms a word")
print(
    f"ratio                {statistics.median(ratios):6.1f} (least {min(ratios):.1f})"
)
