"""How much a generator copies, beside how much Shakespeare repeats himself.

    python benchmarks/copies.py GENERATOR

The script's measure, find_copies, with the training part as the source: of passages of 60
words of the test part, which nobody copied, and of samples of 60 words at three
temperatures.
"""

import sys

import numpy as np
from runs import program, read_dataset

NUM_TEXTS, NUM_WORDS, TEMPERATURES = 200, 60, [0.3, 0.8, 1.2]


def cut_passages(tokens, token_kind):
    """NUM_TEXTS passages of NUM_WORDS tokens, evenly spread."""
    starts = np.linspace(0, len(tokens) - NUM_WORDS, NUM_TEXTS).astype(int)
    passages = (tokens[start : start + NUM_WORDS] for start in starts)
    return [program.detokenize(passage, token_kind) for passage in passages]


def write_samples(generator, settings):
    """NUM_TEXTS samples of NUM_WORDS tokens, with one seed after the other."""
    settings = program.replace(settings, num_words=NUM_WORDS)
    each = (program.replace(settings, seed=seed) for seed in range(NUM_TEXTS))
    return ["".join(program.write(generator, one)) for one in each]


def print_row(name, texts, source):
    """Print the texts' longest runs and shares of 5-grams that the source has, too."""
    runs, shares = zip(*(program.find_copies(text, source) for text in texts))
    lengths = [len(run.split()) for run in runs]
    print(
        f"{name:24} longest run {np.mean(lengths):4.1f} words (at most {max(lengths)}), "
        f"{np.mean(shares):5.1%} of 5-grams"
    )


if __name__ == "__main__":
    generator, report = program.load_generator(program.find_model(sys.argv[1]))
    dataset = read_dataset("plays")
    source = program.index_words(program.detokenize(dataset.train.tokens, "words"))
    print_row("the test part", cut_passages(dataset.test.tokens, "words"), source)
    for temperature in TEMPERATURES:
        settings = program.Settings(**report["settings"])
        settings = program.replace(settings, temperature=temperature)
        texts = write_samples(generator, settings)
        print_row(f"samples, temperature {temperature}", texts, source)
