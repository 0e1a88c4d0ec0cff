"""What each part of the training recipe brings: validation perplexity without it.

    python benchmarks/recipe.py [VARIANT ...]

Each variant trains for four epochs on the plays, in a process of its own. The test part is
not looked at.
"""

import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from runs import program, read_dataset

BASE = program.Settings(epochs=4)
VARIANTS = {  # what each changes
    "as it is": {},
    "no affixes": {},
    "no vectors shrunk": {},
    "update gates start at one half": {},
    "no hidden words": {"hide_words": 0},
    "all local words hidden": {"hide_words": 1},
    "no dropout": {"dropout": 0, "input_dropout": 0},
    "full softmax": {"num_sampled": 0},
    "one GRU": {"num_layers": 1},
}


def measure(variant):
    """The validation perplexity after the last epoch, and the seconds of training."""
    settings = program.replace(BASE, **VARIANTS[variant])
    if variant == "no affixes":
        program.number_affixes = lambda vocabulary: np.zeros((len(vocabulary), 3), int)
    if variant == "update gates start at one half":
        program.START["bias_initializer"] = "zeros"
    dataset = read_dataset("plays")
    program.start_tensorflow()
    trainer = program.Trainer(dataset, settings)
    if variant == "no vectors shrunk":
        trainer.network.shrinkage[:] = 1
    rows = list(trainer.train())
    seconds = sum(row["seconds"] for row in rows)
    return rows[-1]["validation_perplexity"], seconds


if __name__ == "__main__":
    for variant in sys.argv[1:] or VARIANTS:
        with ProcessPoolExecutor(1) as pool:
            perplexity, seconds = pool.submit(measure, variant).result()
        print(f"{variant:32} {perplexity:6.1f} {seconds:6.0f} s", flush=True)
