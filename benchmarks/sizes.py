"""The settings that suit a text's size, beside settings that are drawn around them.

    python benchmarks/sizes.py [MINUTES [TEXT ...]]

For each of TEXTS: the validation perplexity with what the script chooses, then with 12
settings whose every value is drawn from GRID, with a fixed seed. A training has as many
epochs as it says or, where that is less, as many steps as MINUTES (default: 6) allow, and it
may stop early. It counts with its best epoch. The test part is not looked at.
"""

import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from runs import program, read_text

TEXTS = {  # a corpus, and how many of its tokens; four fifths of them train
    "sonnets": ("sonnets", None),
    "75,000": ("plays", 75_000),
    "250,000": ("plays", 250_000),
    "plays": ("plays", None),
}
NUM_DRAWS = 12
GRID = {  # factors of what the script chooses; what is added to dropout and to layers
    "width": [0.5, 0.7, 1, 1.4, 2],
    "num_layers": [-1, 0, 1],
    "dropout": [-0.2, -0.1, 0, 0.1, 0.2],
    "batch_size": [0.25, 0.5, 1, 2],
    "learning_rate": [0.5, 0.7, 1, 1.4, 2],
    "epochs": [0.5, 0.7, 1, 1.4, 2],
}


def vary(settings, drawn):
    """The settings with a value of each row of GRID."""
    width = 16 * round(settings.hidden_size * drawn["width"] / 16)
    return program.replace(
        settings,
        embedding_size=width,
        hidden_size=width,
        num_layers=max(1, settings.num_layers + drawn["num_layers"]),
        dropout=settings.dropout + drawn["dropout"],
        input_dropout=settings.input_dropout + drawn["dropout"] / 2,
        batch_size=max(1, round(settings.batch_size * drawn["batch_size"])),
        learning_rate=settings.learning_rate * drawn["learning_rate"],
        epochs=max(1, round(settings.epochs * drawn["epochs"])),
    )


def draw_settings(settings):
    """The settings and NUM_DRAWS variations of them, the same ones each time."""
    random = np.random.default_rng(0)
    yield settings
    for _ in range(NUM_DRAWS):
        places = {name: random.integers(len(values)) for name, values in GRID.items()}
        drawn = {name: GRID[name][place] for name, place in places.items()}
        yield vary(settings, drawn)


def measure(tokens, settings):
    """The lowest validation perplexity of a training, its epoch, and all seconds."""
    dataset = program.make_dataset(tokens, settings)
    program.start_tensorflow()
    trainer = program.Trainer(dataset, settings)
    trainer.steps = min(trainer.steps, program.plan_training(trainer)[0])
    rows = list(trainer.train())
    best = min(rows, key=program.judge)
    seconds = sum(row["seconds"] for row in rows)
    return best["validation_perplexity"], best["epoch"], seconds


if __name__ == "__main__":
    minutes = float((sys.argv[1:] or [6])[0])
    print(
        "text       width layers dropout batch   rate epochs  perplexity best seconds"
    )
    for name in sys.argv[2:] or TEXTS:
        corpus, max_tokens = TEXTS[name]
        tokens = program.tokenize(read_text(corpus), "words")
        tokens = tokens[:max_tokens]
        chosen = program.choose_settings({"minutes": minutes}, len(tokens))
        for s in draw_settings(chosen):
            with ProcessPoolExecutor(1) as pool:
                perplexity, epoch, seconds = pool.submit(measure, tokens, s).result()
            print(
                f"{name:10} {s.hidden_size:5} {s.num_layers:6} {s.dropout:7.2f} "
                f"{s.batch_size:5} {s.learning_rate:6.4f} {s.epochs:6}  {perplexity:10.1f} "
                f"{epoch:4} {seconds:7.0f}",
                flush=True,
            )
