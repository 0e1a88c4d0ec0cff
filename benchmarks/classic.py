"""The original's headline on its own ground: its words, its sizes, its way to count.

    python benchmarks/classic.py [CORPUS]

The project that this one follows took the first 200,001 words of Shakespeare, newlines
deleted, and published a training perplexity of 12.249737 after 100 epochs of Embedding(50)
→ GRU(128) → Dense(13,984). Here the script's functions train these sizes on these words (of
CORPUS: by default the plays, whose 13,983 most frequent words are known), then score every
token of them by the full softmax, without dropout. Beside it stands one epoch of the
original's way, with integer targets, as its one-hot ones do not fit into 24 GB.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from runs import make_original, peak_memory_mb, program, train_only

NUM_TOKENS, SIZE = 200_001, 13_984
SETTINGS = program.Settings(
    embedding_size=50,
    hidden_size=128,
    dropout=0,
    input_dropout=0,
    hide_words=0,
    learning_rate=0.012,
    epochs=32,
    sequence_length=50,
    min_count=1,
)


def read_ids(corpus):
    """The ids of the first NUM_TOKENS words of a corpus without its newlines."""
    text = program.load_corpus(corpus).text.replace("\n", "")
    tokens = program.tokenize(text, "words")[:NUM_TOKENS]
    vocabulary = program.build_vocabulary(tokens, 1)[:SIZE]
    return program.encode(tokens, vocabulary), vocabulary


def train_ours(corpus):
    """Training perplexity, seconds of training, and peak memory in MB."""
    ids, vocabulary = read_ids(corpus)
    program.start_tensorflow()
    trainer = program.Trainer(train_only(ids, vocabulary), SETTINGS)
    seconds = sum(row["seconds"] for row in trainer.train())
    nats = program.score(trainer.best_generator(), ids)
    return program.perplexity(nats), seconds, peak_memory_mb()


def train_original(corpus):
    """Seconds of an epoch of the original's way: the last word of 50-word windows."""
    ids, vocabulary = read_ids(corpus)
    model = make_original(len(vocabulary))
    windows = np.lib.stride_tricks.sliding_window_view(ids, 51)
    windows = windows[np.random.default_rng(0).random(len(windows)) < 0.8]
    start = time.perf_counter()
    model.fit(windows[:, :-1], windows[:, -1], batch_size=64, verbose=0)
    return time.perf_counter() - start


if __name__ == "__main__":
    corpus = (sys.argv[1:] or ["plays"])[0]
    with ProcessPoolExecutor(1) as pool:
        perplexity, seconds, memory = pool.submit(train_ours, corpus).result()
    print(f"training perplexity {perplexity:.2f} (the original's: 12.25)")
    print(f"{seconds:.0f} s of training, peak memory {memory:,} MB", flush=True)
    with ProcessPoolExecutor(1) as pool:
        epoch = pool.submit(train_original, corpus).result()
    print(f"an epoch the original's way: {epoch:.1f} s, so 100 in {100 * epoch:,.0f} s")
    print(f"ours is {100 * epoch / seconds:.0f} times faster")
