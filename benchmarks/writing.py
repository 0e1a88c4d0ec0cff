"""How fast words are written, and how soon the first one is there.

    python benchmarks/writing.py

Ours takes one GRU step a word, for one text or for 32 side by side, with the default
temperature and top-p. The way of the project that this one follows, in its own sizes, reads
a window of 50 words anew for each word and takes the likeliest. The weights were never
trained, which takes no less time. For one core: taskset -c 0 python benchmarks/writing.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from runs import make_original, program

ROUNDS, SECONDS = 5, 1.0
NUM_WORDS = 14_353  # the vocabulary of the works


def make_ours():
    """A Keras model of the default sizes, and the Generator that has its weights."""
    vocabulary = [program.UNKNOWN, *(f"word{n}" for n in range(1, NUM_WORDS))]
    model = program.build_model(len(vocabulary), program.Settings())
    return model, program.make_generator(model, vocabulary, "words")


def write_ours(generator, num_samples):
    """Yield the number of words that were written, step by step."""
    settings = program.Settings(num_samples=num_samples)
    for token_ids in program.write_tokens(generator, [1], settings):
        yield len(token_ids)


def write_original(model):
    """The same for the original's way."""
    window = np.ones((1, 50), np.int32)
    while True:
        best = model.predict(window, verbose=0)[0].argmax()
        window = np.append(window[:, 1:], [[best]], axis=1)
        yield 1


def measure_speed(steps):
    """Words a second of one second of writing."""
    start, words = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        words += next(steps)
    return words / (time.perf_counter() - start)


def time_first_word(model, generator):
    """Seconds from the command to the first word of what a kept model writes."""
    report = {"settings": program.asdict(program.Settings())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.keras"
        program.save_generator(model, generator, report, np.arange(10), path)
        command = [sys.executable, "-u", program.__file__, "--load", path]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()  # the title
            process.stdout.read(len("my lord word"))
            seconds = time.perf_counter() - start
            process.stdout.read()
    return seconds


def compare_writing():
    """Print the words a second of each way, and what ours is times the original's."""
    model, generator = make_ours()
    original = make_original(13_984)
    ways = {
        "ours, one text": write_ours(generator, 1),
        "ours, 32 texts": write_ours(generator, 32),
        "the original's": write_original(original),
    }
    for steps in ways.values():
        list(islice(steps, 3))  # the first ones are not typical
    rounds = [
        {way: measure_speed(steps) for way, steps in ways.items()}
        for _ in range(ROUNDS)  # side by side: machines are noisy
    ]
    for way in ways:
        speed = statistics.median(one[way] for one in rounds)
        ratios = [one[way] / one["the original's"] for one in rounds]
        ratio, least = statistics.median(ratios), min(ratios)
        print(
            f"writing: {way}  {speed:8,.0f} words a second ({ratio:.0f} times", end=""
        )
        print(f" the original's, least {least:.0f})")
    seconds = [time_first_word(model, generator) for _ in range(ROUNDS)]
    print(f"from the command to the first word: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    compare_writing()
