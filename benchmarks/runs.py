"""What several benchmarks share: runs, their memory, texts, the original's network."""

import csv
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import shakespeare_text_generator_using_gru as program

LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def megabytes(peak):
    """A peak of memory in MB, from the unit in which the system tells it."""
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def peak_memory_mb():
    """The most memory that this process has had, in MB."""
    return megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def run_measured(*command):
    """Run a command in the project's folder; the most memory that it had, in MB.

    A small process starts it, as a child's peak is at least what its parent had.
    """
    command = [sys.executable, "-c", LAUNCHER, *command]
    finished = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return megabytes(int(finished.stdout))


def check_corpus(found, wanted):
    """End where a text cannot be had: the script would take the sonnets in its place."""
    if found != program.clean(wanted):
        sys.exit(f"nothing was measured: put {wanted} at data/{wanted}.txt")


def read_text(name):
    """The text of a corpus, and no other."""
    corpus = program.load_corpus(name)
    check_corpus(corpus.name, name)
    return corpus.text


def run_script(*options):
    """The report of a run, with its "generator", "history" and "peak_memory_mb"."""
    with tempfile.TemporaryDirectory() as folder:
        options = *map(str, options), "--output-dir", folder
        memory = run_measured(sys.executable, program.__file__, *options)
        (run,) = Path(folder).iterdir()
        report = json.loads((run / "report.json").read_text())
        check_corpus(report["corpus"], report["settings"]["corpus"])
        rows = list(csv.DictReader((run / "history.csv").open()))
        generator, _ = program.load_generator(run / "generator.keras")
        more = {"generator": generator, "history": rows, "peak_memory_mb": memory}
        return report | more


def train_only(token_ids, vocabulary):
    """A Dataset of words that has nothing but a training part, of these ids."""
    train = program.Part(program.decode(token_ids, vocabulary), token_ids)
    nothing = program.Part([], token_ids[:0])
    return program.Dataset("words", vocabulary, train, nothing, nothing)


def read_dataset(corpus):
    """The Dataset of a corpus, cut and numbered as the script does by default."""
    tokens = program.tokenize(read_text(corpus), "words")
    return program.make_dataset(tokens, program.Settings())


def make_original(vocabulary_size):
    """The network of the project that this one follows, ready for integer targets."""
    program.start_tensorflow()
    keras = program.keras
    layers = [
        keras.layers.Embedding(vocabulary_size, 50),
        keras.layers.GRU(128, dropout=0.2),
        keras.layers.Dense(vocabulary_size, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
