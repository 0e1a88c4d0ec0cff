"""How fast words are written, and how soon the first one is there.

    python benchmarks/writing.py

Ours takes one GRU step a word, with the default temperature and top-p. The way of the
project that this one follows, in its own sizes, reads a window of 50 words anew for each
word and takes the likeliest. The weights were never trained, which takes no less time. For
one core: taskset -c 0 python benchmarks/writing.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from runs import make_original, program, train_only

ROUNDS, SECONDS = 5, 1.0
NUM_WORDS = 14_028  # the vocabulary of the plays


def make_ours():
    """A Generator of the default sizes that knows the words of the default prompt."""
    vocabulary = [program.UNKNOWN, *"my lord".split()]
    vocabulary += [f"word{n}" for n in range(len(vocabulary), NUM_WORDS)]
    program.start_tensorflow()
    dataset = train_only(np.arange(NUM_WORDS), vocabulary)
    return program.Network(dataset, program.Settings()).export(dataset)


def write_ours(generator):
    """Yield word after word."""
    return program.write(generator, program.Settings(num_words=10**6))


def write_original(model):
    """Yield the id of word after word, written in the original's way."""
    window = np.ones((1, 50), np.int32)
    while True:
        best = model.predict(window, verbose=0)[0].argmax()
        window = np.append(window[:, 1:], [[best]], axis=1)
        yield best


def measure_speed(words):
    """Words a second of one second of writing."""
    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        next(words)
        number += 1
    return number / (time.perf_counter() - start)


def time_first_word(generator):
    """Seconds from the command to the first word of what a saved generator writes."""
    report = {"settings": program.asdict(program.Settings(prompt="my lord"))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.keras"
        program.save_generator(generator, report, path)
        command = [sys.executable, "-u", program.__file__, "--load", path]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline().startswith(b"Reading")
            assert process.stdout.readline().startswith(b"---")  # the title
            process.stdout.read(len("my lord word"))
            seconds = time.perf_counter() - start
            process.stdout.read()
    return seconds


def compare_writing():
    """Print the words a second of each way, and what ours is times the original's."""
    generator = make_ours()
    original = make_original(13_984)
    ways = {
        "ours, one text": write_ours(generator),
        "the original's": write_original(original),
    }
    for words in ways.values():
        list(islice(words, 3))  # the first ones are not typical
    rounds = [
        {way: measure_speed(words) for way, words in ways.items()}
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
    seconds = [time_first_word(generator) for _ in range(ROUNDS)]
    print(f"from the command to the first word: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    compare_writing()
