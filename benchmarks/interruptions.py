"""How many kills a training survives, and what its checkpoints cost.

    python benchmarks/interruptions.py [KILLS]

A small run is killed again and again, at a random moment or, every other time, while it
writes a checkpoint, and is started anew by the same command. At last it may end, and must
leave, bit for bit, what a run leaves that nobody killed. Before that, three epochs of
`standard` and its checkpoints are timed. Wants tests/requirements.txt.
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from runs import ROOT, program, read_dataset

sys.path.insert(0, str(ROOT / "tests"))
from conftest import TOY_OPTIONS, newest, run, toy_text
from test_interruption import outcome, read_until, start

OPTIONS = "--epochs 30 --patience 30 --embedding-size 300 --hidden-size 300".split()
OPTIONS = [*TOY_OPTIONS, *OPTIONS]


def kill(folder, draw, writing):
    """Start the run and kill it; tell whether it left a checkpoint half written."""
    for part in folder.glob("runs/*/*.part.npz"):
        part.unlink()  # that an earlier kill left: the next checkpoint would replace it
    process = start(*OPTIONS, folder=folder)
    read_until(process, "epoch: ")
    moment = time.monotonic() + (60 if writing else 3 * draw.random())
    while process.poll() is None and time.monotonic() < moment:
        if writing and list(folder.glob("runs/*/*.part.npz")):
            time.sleep(0.005 * draw.random())
            break
    if process.poll() is not None:
        raise RuntimeError("the run ended before it was killed: give it more epochs")
    process.kill()
    process.communicate()
    return any(folder.glob("runs/*/*.part.npz"))


def measure_kills(number):
    """Whether the killed run came to what the whole one did; how many half checkpoints."""
    draw, half_written = random.Random(0), 0
    with tempfile.TemporaryDirectory() as outer:
        folders = [Path(outer) / name for name in ["whole", "killed"]]
        for folder in folders:
            folder.mkdir()
            (folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
        for n in range(number):
            half_written += kill(folders[1], draw, writing=n % 2)
        for folder in folders:
            finished = run(*OPTIONS, folder=folder)
            assert finished.returncode == 0, finished.stderr
        whole, killed = (outcome(newest(folder)) for folder in folders)
        return whole == killed, half_written


def measure_costs():
    """The seconds and bytes of a checkpoint, and the seconds of an epoch."""
    dataset, settings = read_dataset("plays"), program.Settings(epochs=3)
    costs, sizes = [], []
    program.start_tensorflow()
    save = program.save_checkpoint

    def save_timed(trainer):
        start = time.perf_counter()
        save(trainer)
        costs.append(time.perf_counter() - start)
        sizes.append(trainer.checkpoint.stat().st_size)

    program.save_checkpoint = save_timed
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        path = Path(folder) / "checkpoint.npz"
        rows = program.Trainer(dataset, settings, path).train()
        _, *seconds = [row["seconds"] for row in rows]  # the first takes longer
    return statistics.median(costs), sizes[-1], statistics.mean(seconds)


if __name__ == "__main__":
    number = int((sys.argv[1:] or ["24"])[0])
    seconds, size, epoch = measure_costs()
    print(f"a checkpoint: {size / 1e6:.0f} MB in {seconds:.2f} s, ", end="")
    print(f"{seconds / epoch:.1%} of an epoch of {epoch:.1f} s", flush=True)
    same, half_written = measure_kills(number)
    print(
        f"{number} kills, {half_written} of them while a checkpoint was written: ",
        end="",
    )
    print("the same run, bit for bit" if same else "ANOTHER RUN")
