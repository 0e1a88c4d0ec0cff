"""No file makes the loader of models or the corpus reader do worse than say no."""

import sys

import pytest
from conftest import ROOT

pytest.importorskip("resource")  # not there on Windows
sys.path.insert(0, str(ROOT / "benchmarks"))
import fuzzing


def test_what_the_mutations_begin_with_is_a_model(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert fuzzing.attempt(fuzzing.read_model, fuzzing.WHOLE, folder) == "taken"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["models", "texts"])
def test_any_file_is_taken_or_refused(kind, seed):
    read, inputs = {
        "models": (fuzzing.read_model, fuzzing.MODELS),
        "texts": (fuzzing.read_corpus, fuzzing.TEXTS),
    }[kind]
    results = fuzzing.fuzz(read, inputs, 100, seed)
    assert results["refused"] > 0 and results["taken"] > 0


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    limits = fuzzing.limit_memory(fuzzing.LARGEST)
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        bomb = fuzzing.make_bomb(3 * 2**29)
        assert fuzzing.attempt(fuzzing.read_model, bomb, folder) == "refused"
    finally:
        fuzzing.resource.setrlimit(fuzzing.resource.RLIMIT_AS, limits)


def test_a_fault_would_be_found():
    def read(path):
        if b"q" in path.read_bytes():
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        fuzzing.fuzz(read, fuzzing.TEXTS, 300)
