"""Several devices against one: do they learn the same, and what do they send for it?

    python benchmarks/devices.py

80 steps of a small network with all chance on: logical CPUs of one process, and machines
that are processes on loopback. Then, on paper, when machines pay.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from runs import program

OPTIONS = (
    "--corpus sonnets --batch-size 12 --sequence-length 14 --epochs 1 --embedding-size 64 "
    "--hidden-size 96 --num-sampled 200 --num-words 5 --num-samples 1"
).split()


def train(num_devices):
    """The weights after one epoch on so many logical CPUs, as one array."""
    tokens = program.tokenize(program.load_corpus("sonnets").text, "words")
    settings = program.choose_settings(program.read_options(OPTIONS), len(tokens))
    dataset = program.make_dataset(tokens, settings)
    program.start_tensorflow()
    tf = program.tf
    if num_devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * num_devices
        tf.config.set_logical_device_configuration(cpu, logical)
        names = [f"CPU:{number}" for number in range(num_devices)]
        strategy = tf.distribute.MirroredStrategy(names)
        tf.distribute.experimental_set_strategy(strategy)
    trainer = program.Trainer(dataset, settings)
    for row in trainer.train():
        print(f"validation perplexity {row['validation_perplexity']:.6f}")
    generator = trainer.best_generator()
    return flatten(generator)


def flatten(generator):
    """All numbers of a generator, one after the other."""
    arrays = [generator.embedding, *sum(generator.cells, []), *generator.dense]
    return np.concatenate([array.ravel() for array in arrays])


def train_on_machines(number):
    """The weights that so many processes on loopback learn together."""
    servers = [socket.create_server(("localhost", 0)) for _ in range(number)]
    workers = [f"localhost:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    command = [sys.executable, program.__file__, *OPTIONS]
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for index in range(number):
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": workers}, "task": task}
            environment = os.environ | {"TF_CONFIG": json.dumps(config)}
            options = dict(cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            processes.append(subprocess.Popen(command, **options))
        assert not any(process.wait() for process in processes)
        (path,) = Path(folder).glob("runs/*/generator.keras")
        return flatten(program.load_generator(path)[0])


def print_bytes():
    """What a step of `standard` reduces between two machines, on paper."""
    cells = 4 * program.Settings().num_layers * (2 * 256 * 768 + 2 * 768)
    print("rows of 35 tokens, vocabulary: reduced, seconds on 1 and 10 Gbit/s, NVLink")
    for streams, met in [(64, 1_170), (1_024, 5_240)]:  # tokens and samples, on plays
        for vocabulary in [14_000, 100_000]:
            everything = 1.27 * vocabulary  # with the affixes
            for name, rows in [("met rows", met), ("all rows", everything)]:
                size = 4 * 257 * rows + cells
                seconds = [size / speed for speed in [1.25e8, 1.25e9, 3e11]]
                times = ", ".join(f"{number:.5f}" for number in seconds)
                line = f"{streams:5,}, {vocabulary:7,}, {name}: {size / 1e6:5.1f} MB"
                print(f"{line}: {times}")


if __name__ == "__main__":
    if len(sys.argv) > 2:  # in a process of its own, as devices are set once
        np.save(sys.argv[2], train(int(sys.argv[1])))
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.npy")
        learnt = {}
        for number in [1, 2, 3]:
            command = [sys.executable, __file__, str(number), str(path)]
            subprocess.run(command, check=True)
            learnt[f"{number} devices"] = np.load(path)
    for number in [2, 3]:
        learnt[f"{number} machines"] = train_on_machines(number)
    for name, weights in learnt.items():
        difference = np.abs(weights - learnt["1 devices"]).max()
        print(f"{name}: largest difference of a weight {difference:.1e}")
    print_bytes()
