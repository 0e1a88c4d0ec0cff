"""Seconds of an epoch and peak memory as the text grows.

    python benchmarks/growth.py [CORPUS]

CORPUS (default: the plays) is taken 1, 4 and 16 times, with a --min-count that grows with
it, so that the vocabulary stays about as large, and a hundredth of it each for validation
and test. An epoch's seconds, scores included, are those of the third, where the text
stands once: the first also builds what the others use.
"""

import sys
import tempfile
from pathlib import Path

from runs import read_text, run_script

EPOCHS = {1: 3, 4: 1, 16: 1}

if __name__ == "__main__":
    text = read_text((sys.argv[1:] or ["plays"])[0])
    for times, epochs in EPOCHS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(text * times, encoding="utf-8")
            options = f"--epochs {epochs} --min-count {2 * times}".split()
            options += "--validation-share 0.01 --test-share 0.01".split()
            report = run_script("--corpus", path, *options)
        tokens, seconds = report["train_tokens"], float(
            report["history"][-1]["seconds"]
        )
        print(
            f"{times:2} times {tokens:11,} tokens of {report['vocabulary_size']:,}  "
            f"{seconds:7.1f} s an epoch, {seconds / tokens * 1e6:.1f} s a million  "
            f"peak {report['peak_memory_mb']:,} MB",
            flush=True,
        )
