"""Words a second in training and writing, and the memory training takes, side by side.

    python benchmarks/speed.py [CORPUS]

Every way trains Embedding(50) → GRU(128) → Dense(13,984), the original's sizes, with Adam
on batches of 64 × 50 words; ours makes its Dense of a matrix (128, 50) and the embedding's
table, as it always does. The original's way predicts one word a window and is given
integer targets here, as its own one-hot ones do not fit into 24 GB. PyTorch's rows are
there if torch is installed. Each round times each way once, so that a noisy machine is
noisy for all; a ratio is the median of the rounds' ratios. Each way's memory is that of a
process of its own. Writing is measured as writing.py says.
"""

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

import numpy as np
from runs import make_original, peak_memory_mb, program, train_only
from writing import compare_writing

SETTINGS = program.Settings(
    embedding_size=50, hidden_size=128, sequence_length=50, batch_size=64
)
SIZE, ROUNDS, STEPS = 13_984, 5, 10
BATCH = SETTINGS.batch_size, SETTINGS.sequence_length


def read_ids(corpus):
    """The ids of a text's words, the most frequent SIZE - 1 being known."""
    tokens = program.tokenize(program.load_corpus(corpus).text, "words")
    vocabulary = program.build_vocabulary(tokens, 1)[:SIZE]
    return program.encode(tokens, vocabulary), vocabulary


def ours(ids, vocabulary, num_sampled):
    """A function that trains STEPS steps our way, and the words of such a step."""
    program.start_tensorflow()
    settings = program.replace(SETTINGS, num_sampled=num_sampled)
    trainer = program.Trainer(train_only(ids, vocabulary), settings)
    batches = program.make_batches(ids[: STEPS * np.prod(BATCH) + 1], *BATCH)

    def train():
        states = trainer.begin()
        for inputs, targets in batches:
            loss, states = trainer.run_train_step(inputs, targets, states)
        return float(loss)

    return train, np.prod(BATCH)


def original(ids, vocabulary):
    """The same for the original's way: the last word of each window."""
    model = make_original(len(vocabulary))
    windows = np.lib.stride_tricks.sliding_window_view(ids[: 64 * STEPS + 50], 51)
    inputs, targets = windows[:, :-1], windows[:, -1]
    return lambda: model.fit(inputs, targets, batch_size=64, verbose=0), 64


def pytorch(ids, vocabulary, adaptive):
    """The same for PyTorch's GRU with cross-entropy, or with its adaptive softmax."""
    import torch
    from torch import nn

    embedding, gru = nn.Embedding(len(vocabulary), 50), nn.GRU(50, 128)
    if adaptive:  # the cut-offs of the class's own documentation, fitted to the size
        head = nn.AdaptiveLogSoftmaxWithLoss(128, len(vocabulary), [1000, 5000])
    else:
        head = nn.Linear(128, len(vocabulary))
    modules = nn.ModuleList([embedding, gru, head])
    optimizer = torch.optim.Adam(modules.parameters())
    ids = ids[: STEPS * np.prod(BATCH) + 1].astype(np.int64)
    pairs = program.make_batches(ids, *BATCH)
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in pairs]

    def train():
        state = None
        for x, y in batches:
            optimizer.zero_grad()
            hidden, state = gru(embedding(x.T), state)
            hidden, y = hidden.flatten(0, 1), y.T.flatten()
            if adaptive:
                loss = head(hidden, y).loss
            else:
                loss = nn.functional.cross_entropy(head(hidden), y)
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1)
            optimizer.step()
            state = state.detach()

    return train, np.prod(BATCH)


WAYS = {
    "ours, sampled": (ours, 1024),
    "PyTorch, adaptive": (pytorch, True),
    "ours, full softmax": (ours, 0),
    "PyTorch, full softmax": (pytorch, False),
    "the original's": (original,),
}
PAIRS = [
    ("ours, sampled", "PyTorch, adaptive"),
    ("ours, full softmax", "PyTorch, full softmax"),
    ("ours, sampled", "the original's"),
]


def measure_memory(way, corpus):
    """The peak memory in MB of a process that trains STEPS steps."""
    make, *options = WAYS[way]
    make(*read_ids(corpus), *options)[0]()
    return peak_memory_mb()


def measure_speed(trainings):
    """For each way, its words a second in each round."""
    speeds = {way: [] for way in trainings}
    for _ in range(ROUNDS):
        for way, (train, words) in trainings.items():
            start = time.perf_counter()
            train()
            speeds[way].append(STEPS * words / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    corpus = (sys.argv[1:] or ["plays"])[0]
    ids, vocabulary = read_ids(corpus)
    ways = [way for way in WAYS if find_spec("torch") or "PyTorch" not in way]
    memory = {}
    for way in ways:
        with ProcessPoolExecutor(1) as pool:
            memory[way] = pool.submit(measure_memory, way, corpus).result()
    makers = {way: WAYS[way] for way in ways}
    trainings = {w: make(ids, vocabulary, *rest) for w, (make, *rest) in makers.items()}
    measure_speed(trainings)  # the first rounds are not typical
    speeds = measure_speed(trainings)
    for way in ways:
        speed = statistics.median(speeds[way])
        print(f"{way:22} {speed:9,.0f} words a second  peak {memory[way]:6,} MB")
    for one, other in PAIRS:
        if other in ways:
            ratios = [a / b for a, b in zip(speeds[one], speeds[other])]
            ratio, least = statistics.median(ratios), min(ratios)
            print(f"{one} against {other}: {ratio:.1f} times (least {least:.1f})")
    compare_writing()
