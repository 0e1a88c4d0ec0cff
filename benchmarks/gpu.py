"""Does a GPU learn what the CPU does, and how fast is it? For whoever has one.

    python benchmarks/gpu.py

The GRU of cuDNN and the full softmax, against the same on the CPU: the same first losses
without dropout, then milliseconds of a step of `standard` on both.
"""

import sys
import time
from dataclasses import replace

import numpy as np
from runs import program, read_dataset

STEPS = 20


def train(device, dataset, settings):
    """The losses of the first steps on a device, and the milliseconds of one."""
    with program.tf.device(device):
        trainer, losses = program.Trainer(dataset, settings), []
        trainer.odds = None  # the full softmax on both
        batches, states = trainer.begin_epoch(0)[: STEPS + 1], trainer.begin()
        for number, batch in enumerate(batches):
            if number == 1:  # the first one takes longer
                start = time.perf_counter()
            news, states = trainer.run_train_step(*batch, states)
            losses.append(float(news[0]))
        return losses, (time.perf_counter() - start) / STEPS * 1000


if __name__ == "__main__":
    dataset, settings = read_dataset("plays"), program.Settings()
    if not program.start_tensorflow():
        sys.exit("There is no GPU.")
    calm = replace(settings, dropout=0.0, input_dropout=0.0)
    losses = [train(device, dataset, calm)[0] for device in ["CPU:0", "GPU:0"]]
    print(f"largest difference of losses: {np.abs(np.subtract(*losses)).max():.1e}")
    for device in ["CPU:0", "GPU:0"]:
        print(f"{device}: {train(device, dataset, settings)[1]:.1f} ms a step")
