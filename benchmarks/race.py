"""Seconds of training until the validation perplexity of the plays is at most 350.

    python benchmarks/race.py

Ours is one epoch of the default settings. Against it stands the recipe of PyTorch's example
word_language_model (one GRU of 256, its output tied to its embedding, dropout 0.5, SGD
with rate 20, clipping at 0.25, batches of 32 × 35 words, full softmax), on the same ids and
scored on the same validation part after each epoch, until it is there too.
"""

import math
import time

import numpy as np
import torch
from runs import program, read_dataset, run_script
from torch import nn

GOAL, SIZE, BATCH_SIZE, LENGTH, RATE = 350, 256, 32, 35, 20.0


class Network(nn.Module):
    """The example's network; its output's matrix is the embedding's."""

    def __init__(self, vocabulary_size):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.embedding = nn.Embedding(vocabulary_size, SIZE)
        self.gru = nn.GRU(SIZE, SIZE)
        self.output = nn.Linear(SIZE, vocabulary_size)
        self.output.weight = self.embedding.weight
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def forward(self, ids, state):
        hidden, state = self.gru(self.drop(self.embedding(ids)), state)
        return self.output(self.drop(hidden)).flatten(0, 1), state


def read_windows(ids):
    """Yield pairs of inputs and targets, each (LENGTH, BATCH_SIZE), in order."""
    for pair in program.make_batches(ids.astype(np.int64), BATCH_SIZE, LENGTH):
        yield [torch.from_numpy(ids.T.copy()) for ids in pair]


def read(network, ids, learn):
    """The mean loss over ids, read as streams; with `learn`, a step of SGD a window."""
    network.train(learn)
    state, losses = None, []
    with torch.set_grad_enabled(learn):
        for inputs, targets in read_windows(ids):
            logits, state = network(inputs, state)
            state = state.detach()
            loss = nn.functional.cross_entropy(logits, targets.flatten())
            losses.append(loss.item())
            if learn:
                network.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.25)
                with torch.no_grad():
                    for weights in network.parameters():
                        weights -= RATE * weights.grad
    return sum(losses) / len(losses)


if __name__ == "__main__":
    history = run_script("--epochs", "1")["history"]
    (ours,) = [float(row["seconds"]) for row in history]
    reached = float(history[0]["validation_perplexity"])
    print(f"ours:    {reached:6.1f} after {ours:6.1f} s", flush=True)
    dataset = read_dataset("plays")
    torch.manual_seed(0)
    network, reached = Network(len(dataset.vocabulary)), math.inf
    start = time.perf_counter()
    while reached > GOAL:
        read(network, dataset.train.ids, learn=True)
        reached = math.exp(read(network, dataset.validation.ids, learn=False))
        theirs = time.perf_counter() - start
        print(f"PyTorch: {reached:6.1f} after {theirs:6.1f} s", flush=True)
    print(f"ours is there {theirs / ours:.1f} times sooner")
