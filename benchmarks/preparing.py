"""Seconds and memory to get a text ready for training, as the text grows.

    python benchmarks/preparing.py [TEXT]

TEXT (default: the plays) is taken 1, 4 and 16 times, each in a process of its own that does
what the script does before it trains. Then words a second, for ASCII and for Cyrillic.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from runs import peak_memory_mb, program, read_dataset, read_text


def prepare(path):
    """Seconds and peak MB from a file to its dataset of ids."""
    start = time.perf_counter()
    read_dataset(str(path))
    return time.perf_counter() - start, peak_memory_mb()


def words_a_second(text):
    """Millions of words a second from a text to words, the best of five times."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        words = program.tokenize(text, "words")
        seconds.append(time.perf_counter() - start)
    return len(words) / min(seconds) / 1e6


def transliterate(text):
    """The text with Cyrillic letters in the place of Latin ones."""
    latin = "abcdefghijklmnopqrstuvwxyz"
    cyrillic = "абцдефгхижклмнопкрстувшхыз"
    both = latin + latin.upper(), cyrillic + cyrillic.upper()
    return text.translate(str.maketrans(*both))


if __name__ == "__main__":
    text = read_text((sys.argv[1:] or ["plays"])[0])
    for times in [1, 4, 16]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(text * times, encoding="utf-8")
            megabytes = path.stat().st_size / 1e6
            with ProcessPoolExecutor(1) as pool:
                seconds, peak = pool.submit(prepare, path).result()
        print(
            f"{times:2} times {megabytes:6.1f} MB  {seconds:6.2f} s  "
            f"{seconds / megabytes:.3f} s/MB  peak {peak:,} MB"
        )
    os.sched_setaffinity(0, [0]) if hasattr(os, "sched_setaffinity") else None
    print(f"ASCII     {words_a_second(text):.1f} million words a second")
    print(f"Cyrillic  {words_a_second(transliterate(text)):.1f} million words a second")
