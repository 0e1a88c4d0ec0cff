"""Held-out perplexity of the presets on the plays, beside the unigram baseline.

    python benchmarks/perplexity.py [RUN ...]

A RUN is a preset and a seed, "standard:1". By default all that the README shows: more than
half an hour.
"""

import sys

from runs import run_script

RUNS = "quick:0 standard:0 standard:1 standard:2 best:0".split()
ROW = "{:18} {:>10} {:>8} {:>9} {:>8}"

if __name__ == "__main__":
    print(ROW.format("perplexity", "validation", "test", "training", "memory"))
    for run in sys.argv[1:] or RUNS:
        preset, seed = run.split(":")
        report = run_script("--preset", preset, "--seed", seed)
        validation, test = report["validation_perplexity"], report["test_perplexity"]
        seconds, memory = report["train_seconds"], report["peak_memory_mb"]
        columns = (
            f"{validation:.1f}",
            f"{test:.1f}",
            f"{seconds:.0f} s",
            f"{memory:,} MB",
        )
        print(ROW.format(run, *columns), flush=True)
    print(ROW.format("unigram", "", f"{report['unigram_perplexity']:.1f}", "", ""))
