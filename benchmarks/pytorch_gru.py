"""The network of `standard` in PyTorch, as one who knows PyTorch well trains it.

    python benchmarks/pytorch_gru.py tune [SECONDS]
    python benchmarks/pytorch_gru.py SEED SECONDS

One GRU of 256 on streams of 64 × 35 words, its output tied to the embedding, dropout on
both sides of it, a bias from the words' frequencies; AdamW with OneCycle and clipping; a
sampled softmax of 1,024 log-uniform samples, their logits less their log odds. After
so many CPU seconds on one thread the validation part is scored by the full softmax. `tune`
tries all of GRID for SECONDS (120); let `choose` return the best. It takes PyTorch and
NumPy, not TensorFlow, and may run in an environment of its own.
"""

import json
import math
import sys
import time

import numpy as np
import torch
from runs import peak_memory_mb, program, read_dataset
from torch import nn
from torch.nn import functional

SIZE, BATCH_SIZE, LENGTH, NUM_SAMPLED = 256, 64, 35, 1024
TICKS = 1000  # of the schedule: it follows the clock, to end when the time does
GRID = [(rate, dropout) for rate in [0.006, 0.012, 0.024] for dropout in [0.15, 0.3]]


def choose(seconds):
    """The peak rate and the dropout that suit so many CPU seconds best, as tuned."""
    return (0.012, 0.15) if seconds < 180 else (0.006, 0.3)


class Network(nn.Module):
    """Embedding → GRU → the embedding's table again, and a bias."""

    def __init__(self, frequencies, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(len(frequencies), SIZE)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.gru = nn.GRU(SIZE, SIZE)
        self.bias = nn.Parameter(torch.from_numpy(frequencies).log())

    def forward(self, vectors, state):
        """The outputs (time, batch, SIZE) after such vectors, and the new state."""
        outputs, state = self.gru(self.drop(vectors), state)
        return self.drop(outputs), state


def read_windows(ids, batch_size, length):
    """A list of pairs of inputs and targets, each (length, batch_size)."""
    pairs = program.make_batches(ids.astype(np.int64), batch_size, length)
    return [[torch.from_numpy(ids.T.copy()) for ids in pair] for pair in pairs]


def log_odds(ids, size):
    """The log of how often each id is expected in a log-uniform sample."""
    shares = torch.log1p(1 / (ids + 1)) / math.log(size + 1)
    return torch.log(NUM_SAMPLED * shares)


def sampled_loss(network, inputs, targets, state):
    """The mean loss of targets that compete with a sample, and the new state."""
    size = len(network.bias)
    sample = torch.exp(torch.rand(NUM_SAMPLED) * math.log(size + 1)).long() - 1
    sample = sample.clamp(max=size - 1)
    ids = torch.cat([inputs.flatten(), targets.flatten(), sample])
    sizes = inputs.numel(), targets.numel(), NUM_SAMPLED
    vectors, rows, table = network.embedding(ids).split(sizes)  # at once, as it is fast
    outputs, state = network(vectors.view(*inputs.shape, SIZE), state)
    outputs, targets = outputs.flatten(0, 1), targets.flatten()
    bias = network.bias[sample] - log_odds(sample, size)
    logits = functional.linear(outputs, table, bias)
    logits = logits.masked_fill(sample == targets[:, None], -math.inf)
    chosen = (outputs * rows).sum(1) + network.bias[targets]
    nats = torch.cat([chosen[:, None], logits], 1).logsumexp(1) - chosen
    return nats.mean(), state.detach()


def train(dataset, seed, seconds, rate, dropout):
    """A Network after so many CPU seconds of training, and its number of steps."""
    torch.manual_seed(seed)
    network = Network(program.token_frequencies(dataset), dropout)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=TICKS, pct_start=0.1
    )
    windows = read_windows(dataset.train.ids, BATCH_SIZE, LENGTH)
    step, spent, start = 0, 0, time.process_time()
    while spent < seconds:
        if step % len(windows) == 0:
            state = None
        loss, state = sampled_loss(network, *windows[step % len(windows)], state)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1)
        optimizer.step()
        step, spent = step + 1, time.process_time() - start
        while schedule.last_epoch < min(TICKS * spent / seconds, TICKS) - 1:
            schedule.step()
    return network, step


@torch.no_grad()
def evaluate(network, ids, batch_size=BATCH_SIZE):
    """The perplexity of ids, in the streams and windows of the script's evaluate."""
    network.eval()
    state, losses = None, []
    for inputs, targets in read_windows(ids, batch_size, 8):
        outputs, state = network(network.embedding(inputs), state)
        logits = outputs.flatten(0, 1) @ network.embedding.weight.T + network.bias
        losses.append(functional.cross_entropy(logits, targets.flatten()).item())
    return program.perplexity(losses)


def measure(seed, seconds, *choice):
    """The validation perplexity of a run, its words a second, its peak memory in MB."""
    torch.set_num_threads(1)
    dataset = read_dataset("plays")
    network, steps = train(dataset, seed, seconds, *(choice or choose(seconds)))
    memory, speed = peak_memory_mb(), steps * BATCH_SIZE * LENGTH / seconds
    return evaluate(network, dataset.validation.ids), speed, memory


if __name__ == "__main__":
    if sys.argv[1] == "tune":
        seconds = float((sys.argv[2:] or ["120"])[0])
        for rate, dropout in GRID:
            perplexity, *_ = measure(0, seconds, rate, dropout)
            print(f"rate {rate}, dropout {dropout}: {perplexity:.1f}", flush=True)
    else:
        seed, seconds = sys.argv[1:]
        print(json.dumps(measure(int(seed), float(seconds))))
