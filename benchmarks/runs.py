"""What several benchmarks share: a run of the script, and the original's network."""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import shakespeare_text_generator_using_gru as program


def run_script(*options):
    """The report of a run with these options, its history under "history"."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, program.__file__, *options, "--output-dir", folder]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((Path(folder) / "report.json").read_text())
        rows = csv.DictReader((Path(folder) / "history.csv").open())
        return report | {"history": list(rows)}


def make_original(vocabulary_size):
    """The network of the project that this one follows, ready for integer targets."""
    program.start_tensorflow()
    import keras

    layers = [
        keras.layers.Embedding(vocabulary_size, 50),
        keras.layers.GRU(128, dropout=0.2),
        keras.layers.Dense(vocabulary_size, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
