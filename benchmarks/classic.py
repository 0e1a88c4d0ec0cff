"""The original's recipe on its own ground, epoch by epoch, and ours until it is as good.

    python benchmarks/classic.py [EPOCHS]

The project that this one follows took the first 200,001 words of Shakespeare, newlines
deleted, and published a training perplexity of 12.249737 after 100 epochs of Embedding(50)
→ GRU(128) → Dense(13,984): Keras' running mean over the last epoch, dropout on. Here both
recipes learn from these words of the plays, in these sizes; the original's predicts the
last word of 50-word windows, a random four fifths of them, from integer targets, as its
one-hot ones do not fit into 24 GB. After each epoch stand its seconds, which no score is
part of, and three perplexities by the full softmax:

- *running*: the mean of the losses of the epoch's batches, each before its step;
- *training*: of the words at the start of the training text, without dropout;
- *held out*: of the 20,000 words that follow the training text, known ones only.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from runs import make_original, peak_memory_mb, program, read_text, train_only

NUM_TOKENS, NUM_SCORED, SIZE = 200_001, 20_000, 13_984
SETTINGS = program.Settings(
    embedding_size=50,
    hidden_size=128,
    num_layers=1,
    dropout=0,
    input_dropout=0,
    hide_words=0,
    learning_rate=0.012,
    epochs=32,
    sequence_length=50,
    min_count=1,
)
ROW = "{:12} {:>5} {:>8.1f} {:>9.2f} {:>9.2f} {:>9.2f}"


def read_ids(corpus):
    """The ids of a corpus' first words without its newlines, of those after; vocabulary."""
    text = read_text(corpus).replace("\n", "")
    tokens = program.tokenize(text, "words")[: NUM_TOKENS + NUM_SCORED]
    vocabulary = program.build_vocabulary(tokens[:NUM_TOKENS], 1)[:SIZE]
    ids = program.encode(tokens, vocabulary)
    return ids[:NUM_TOKENS], ids[NUM_TOKENS:], vocabulary


def train_ours(corpus):
    """Yield an epoch's seconds and perplexities after each, our way."""
    ids, held_out, vocabulary = read_ids(corpus)
    program.start_tensorflow()
    trainer = program.Trainer(train_only(ids, vocabulary), SETTINGS)
    network, everything = trainer.network, np.arange(len(vocabulary))
    nobody = np.zeros(len(program.ENDINGS), np.float32)  # has pressed Ctrl-C
    program.plan_training(trainer)  # compiles; its steps are undone
    for epoch in range(SETTINGS.epochs):
        start = time.perf_counter()
        batches, states, losses = trainer.begin_epoch(epoch), trainer.begin(), []
        seconds = time.perf_counter() - start
        for number, (inputs, targets) in enumerate(batches):
            table = network.vectors(everything)
            losses.append(
                float(trainer.run_test_step(inputs, targets, states, table)[0])
            )
            start, step = time.perf_counter(), epoch * len(batches) + number
            rate = program.learning_rate(step, trainer.steps, SETTINGS.learning_rate)
            trainer.optimizer.learning_rate = rate
            _, states = trainer.run_train_step(inputs, targets, states, nobody)
            states[0][0].numpy()  # waits for it
            seconds += time.perf_counter() - start
        generator = network.export(trainer.dataset)
        training = program.score(generator, ids[:NUM_SCORED])
        nats = program.score(generator, held_out)[held_out[1:] > 0]
        yield seconds, *map(program.perplexity, [losses, training, nats])


def train_original(corpus, epochs):
    """The same for the original's way."""
    ids, held_out, vocabulary = read_ids(corpus)
    model = make_original(len(vocabulary))
    windows = np.lib.stride_tricks.sliding_window_view(ids, 51)
    windows = windows[np.random.default_rng(0).random(len(windows)) < 0.8]
    others = np.lib.stride_tricks.sliding_window_view(held_out, 51)
    scored = [windows[:NUM_SCORED], others[others[:, -1] > 0]]
    for _ in range(epochs):
        start = time.perf_counter()
        history = model.fit(windows[:, :-1], windows[:, -1], batch_size=64, verbose=0)
        seconds, losses = time.perf_counter() - start, history.history["loss"]
        losses += [model.evaluate(w[:, :-1], w[:, -1], verbose=0) for w in scored]
        yield seconds, *map(float, np.exp(losses))


def measure(train, title, *options, goal=None):
    """Print a row for each epoch of a training, and its memory; return the rows.

    It ends once it is as good as a goal: a running and a training perplexity.
    """
    rows, seconds = [], 0
    for epoch, (more, *perplexities) in enumerate(train(*options), start=1):
        seconds += more
        rows.append((seconds, *perplexities))
        print(ROW.format(title, epoch, *rows[-1]), flush=True)
        if goal and first_as_good(rows, *goal):
            break
    print(f"{title}: peak memory {peak_memory_mb():,} MB", flush=True)
    return rows


def first_as_good(rows, running, training):
    """The number and the seconds of the first epoch that is as good by both; or None."""
    for epoch, row in enumerate(rows, start=1):
        if row[1] <= running and row[2] <= training:
            return epoch, row[0]


if __name__ == "__main__":
    corpus, epochs = "plays", int((sys.argv[1:] or ["3"])[0])
    print(f"{'':12} epoch  seconds   running  training  held out")
    with ProcessPoolExecutor(1) as pool:
        theirs = pool.submit(
            measure, train_original, "the original", corpus, epochs
        ).result()
    with ProcessPoolExecutor(1) as pool:
        goal = theirs[-1][1:3]
        ours = pool.submit(measure, train_ours, "ours", corpus, goal=goal).result()
    for epoch, (seconds, running, training, _) in enumerate(theirs, start=1):
        text = f"as good as the original's epoch {epoch} ({seconds:.1f} s) by both: "
        found = first_as_good(ours, running, training)
        text += f"epoch {found[0]}, after {found[1]:.1f} s" if found else "never"
        print(text)
