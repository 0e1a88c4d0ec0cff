"""What a budget of CPU seconds brings: `quick` beside the same network in PyTorch.

    python benchmarks/budgets.py [--torch-python PYTHON] [SECONDS ...]

For three seeds and each budget (60, 120 and 240 CPU seconds on one thread): the validation
perplexity, in 64 streams by the full softmax, of the script's Trainer with the settings of
`quick`, which suit about 200 such seconds, and of pytorch_gru.py's network, tuned for 120
and for 240. Both train until the time is over, both schedules end then, and neither's
preparing and scoring counts. They alternate, each in a process of its own. PYTHON is one
that has PyTorch, if this one has not.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from runs import peak_memory_mb, program, read_dataset

SEEDS, BUDGETS = range(3), [60, 120, 240]
ROW = "{:>4} s  seed {}  {:>7.1f}  {:>7.1f}  {:>6.2f}  {:>9,.0f}  {:>9,.0f}  {:>8,}  {:>8,}"
HEADER = "budget         ours  PyTorch   ratio   words a second     peak memory, MB"


def train_ours(dataset, settings, seconds):
    """A Trainer after so many CPU seconds of steps, and their number."""
    trainer = program.Trainer(dataset, program.replace(settings, epochs=10**4))
    program.plan_training(trainer)  # compiles; its steps are undone
    nobody = program.np.zeros(len(program.ENDINGS), "float32")  # has pressed Ctrl-C
    epoch, step, spent, start = 0, 0, 0, time.process_time()
    while spent < seconds:
        batches, states = trainer.begin_epoch(epoch), trainer.begin()
        for inputs, targets in batches:
            rate = program.learning_rate(spent, seconds, settings.learning_rate)
            trainer.optimizer.learning_rate = rate
            _, states = trainer.run_train_step(inputs, targets, states, nobody)
            step, spent = step + 1, time.process_time() - start
            if spent >= seconds:
                break
        epoch += 1
    return trainer, step


def measure_ours(seed, seconds):
    """The validation perplexity of a run, its words a second, its peak memory in MB."""
    program.start_tensorflow()
    program.tf.config.threading.set_intra_op_parallelism_threads(1)
    program.tf.config.threading.set_inter_op_parallelism_threads(1)
    dataset = read_dataset("plays")
    settings = program.choose_settings({"preset": "quick", "seed": seed})
    trainer, steps = train_ours(dataset, settings, seconds)
    memory, speed = peak_memory_mb(), steps * math.prod(trainer.window) / seconds
    return trainer.evaluate(dataset.validation.ids), speed, memory


def run(python, file, *options):
    """What a benchmark prints as the last line, JSON, on one thread."""
    command = [python, str(Path(__file__).with_name(file)), *map(str, options)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env=os.environ | threads
    )
    return json.loads(finished.stdout.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--ours", type=int, metavar="SEED", help="one run of ours")
    parser.add_argument("seconds", nargs="*", type=float, default=BUDGETS)
    asked = parser.parse_args()
    if asked.ours is not None:
        print(json.dumps(measure_ours(asked.ours, asked.seconds[0])))
        sys.exit()
    print(HEADER)
    for seconds in asked.seconds:
        ratios = []
        for seed in SEEDS:
            ours = run(sys.executable, "budgets.py", "--ours", seed, seconds)
            theirs = run(asked.torch_python, "pytorch_gru.py", seed, seconds)
            ratios.append(ours[0] / theirs[0])
            pairs = [number for pair in zip(ours[1:], theirs[1:]) for number in pair]
            numbers = ours[0], theirs[0], ratios[-1], *pairs
            print(ROW.format(round(seconds), seed, *numbers), flush=True)
        print(
            f"{seconds:.0f} CPU seconds: {statistics.mean(ratios):.2f} times PyTorch's"
        )
