"""nanoGPT on the same words, for the same minutes.

    python benchmarks/nanogpt.py FOLDER [MINUTES]
    python benchmarks/nanogpt.py FOLDER tune [MINUTES]

FOLDER is a copy of github.com/karpathy/nanoGPT, whose model and optimizer are used as they
are, on the ids of the plays. As its train.py does, they learn from random windows by the
full softmax, clipped, with a warm-up and a cosine, here by the clock, so that it ends when
the MINUTES (4.7) do. The whole of a part is scored in windows that overlap by half: each
word comes after at least half a block of words, where there are so many. `tune` tries all
of CHOICES on the validation part; set CHOICE to the best. It takes PyTorch and NumPy.
"""

import importlib
import math
import sys
import time

import numpy as np
import torch
from runs import peak_memory_mb, program, read_dataset
from torch.nn import functional

BLOCK, BATCH_SIZE = 64, 12  # as its README has them for a CPU
CHOICES = [  # width, dropout, peak rate
    (128, 0.0, 2e-3),
    (128, 0.0, 4e-3),
    (128, 0.1, 4e-3),
    (64, 0.0, 4e-3),
    (64, 0.0, 8e-3),
    (256, 0.0, 2e-3),
]
CHOICE = CHOICES[3]


def draw_batch(ids, random):
    """Inputs and targets of random windows, each (BATCH_SIZE, BLOCK)."""
    starts = random.integers(len(ids) - BLOCK, size=(BATCH_SIZE, 1))
    windows = torch.from_numpy(ids[starts + np.arange(BLOCK + 1)])
    return windows[:, :-1], windows[:, 1:].contiguous()


def train(nanogpt, dataset, seconds, choice):
    """A model after so many seconds of training, and its number of steps."""
    width, dropout, rate = choice
    torch.manual_seed(0)
    config = nanogpt.GPTConfig(
        block_size=BLOCK,
        vocab_size=len(dataset.vocabulary),
        n_layer=4,
        n_head=4,
        n_embd=width,
        dropout=dropout,
        bias=False,
    )
    model = nanogpt.GPT(config)
    optimizer = model.configure_optimizers(0.1, rate, (0.9, 0.99), "cpu")
    random, ids = np.random.default_rng(0), dataset.train.ids.astype(np.int64)
    step, spent, start = 0, 0, time.perf_counter()
    while spent < seconds:
        share = spent / seconds
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * min(cosine, share / 0.02)
        _, loss = model(*draw_batch(ids, random))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        step, spent = step + 1, time.perf_counter() - start
    return model, step


@torch.no_grad()
def evaluate(model, ids):
    """The perplexity of all ids but the first, in windows that overlap by half."""
    model.eval()
    ids, last = torch.from_numpy(ids.astype(np.int64)), len(ids) - BLOCK - 1
    nats = np.zeros(len(ids))
    for start in [*range(0, last, BLOCK // 2), last]:
        window, skip = ids[None, start : start + BLOCK + 1], BLOCK // 2 if start else 0
        logits, _ = model(window[:, :-1], window[:, 1:].contiguous())
        losses = functional.cross_entropy(logits[0], window[0, 1:], reduction="none")
        nats[start + 1 + skip : start + BLOCK + 1] = losses[skip:].numpy()
    return program.perplexity(nats[1:])


def measure(nanogpt, dataset, minutes, choice, parts):
    """Print what a run of a choice comes to on some parts."""
    model, steps = train(nanogpt, dataset, 60 * minutes, choice)
    epochs = steps * BATCH_SIZE * BLOCK / len(dataset.train.ids)
    memory, ids = peak_memory_mb(), {part: getattr(dataset, part).ids for part in parts}
    scores = (f"{part} {evaluate(model, ids[part]):.1f}" for part in parts)
    print("width {}, dropout {}, rate {}: ".format(*choice), end="")
    print(*scores, f"{epochs:.1f} epochs", f"{memory:,} MB", sep=", ", flush=True)


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    sys.path.insert(0, folder)
    nanogpt, dataset = importlib.import_module("model"), read_dataset("plays")
    tuning = rest[:1] == ["tune"]
    minutes = float((rest[tuning:] or ["4.7"])[0])
    for choice in CHOICES if tuning else [CHOICE]:
        parts = ["validation"] if tuning else ["validation", "test"]
        measure(nanogpt, dataset, minutes, choice, parts)
