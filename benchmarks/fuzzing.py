"""Files and texts that nobody would write, by the thousand: what becomes of each.

    python benchmarks/fuzzing.py [INPUTS]

Half of the inputs are mutations of a small generator.keras, half are bytes for the corpus
reader. Each must be taken or refused with a UserError, leave the folder as it was, and take
no more than ten seconds and one GB. What fails is printed, made as small as hypothesis can.
"""

import io
import json
import os
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import h5py
import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from runs import peak_memory_mb, program

VOCABULARY = ["[UNK]", "the", "king", "queen", "loves", "fears"]
SETTINGS = program.Settings(embedding_size=3, hidden_size=4, num_layers=2)
CELLS = ["gru", "gru_1"]
SECONDS, LARGEST = 10, 2**30  # of an input; bytes that a process may ask for


def pack_weights(arrays):
    """The bytes of a weights file with arrays by name."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return content.getvalue()


def pack(members):
    """The bytes of a zip file of members, pairs of a name and bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of members that come twice
        for name, member in members:
            file.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def make_arrays(size):
    """The weights of a generator of so many words by their names in Keras' file."""
    draw = np.random.default_rng(0)
    depth, width = SETTINGS.embedding_size, SETTINGS.hidden_size
    shapes = {"embedding/vars/0": (size, depth)}
    for name in CELLS:
        for number, shape in enumerate(program.cell_shapes(depth, width)):
            shapes[f"{name}/cell/vars/{number}"] = shape
        depth = width
    shapes |= {"dense/vars/0": (width, size), "dense/vars/1": (size,)}
    arrays = {f"layers/{n}": draw.normal(size=shape) for n, shape in shapes.items()}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def make_check(vocabulary, arrays):
    """The bytes of what its first tokens cost a generator of these arrays."""
    layers = {name.removeprefix("layers/"): array for name, array in arrays.items()}
    cells = [[layers[f"{name}/cell/vars/{n}"] for n in range(3)] for name in CELLS]
    dense = layers["dense/vars/0"], layers["dense/vars/1"]
    embedding = layers["embedding/vars/0"]
    generator = program.Generator(embedding, cells, dense, vocabulary, "words")
    token_ids = [*range(min(3, len(vocabulary)))]
    nats = program.score(generator, token_ids).tolist()
    return json.dumps({"token_ids": token_ids, "nats": nats}).encode()


ARRAYS = make_arrays(len(VOCABULARY))
REPORT = {"settings": program.asdict(SETTINGS)}
MEMBERS = {
    "config.json": b"{}",
    "vocabulary.json": json.dumps(VOCABULARY).encode(),
    "report.json": json.dumps(REPORT).encode(),
    "model.weights.h5": pack_weights(ARRAYS),
    "check.json": make_check(VOCABULARY, ARRAYS),
}
WHOLE = pack(MEMBERS.items())

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**9, -1, 0, 2**63, 10**40])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
PICKLES = st.sampled_from(
    [b"\x80\x04cos\nsystem\n(S'touch pickled'\ntR.", b"\x93NUMPY"]
)


@st.composite
def mutate_bytes(draw, content):
    """Bytes with some of them changed, cut out, doubled, or the end cut off."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 4, 8, 100])))
        patch = draw(st.binary(max_size=8) | PICKLES | st.just(content[start:end] * 2))
        kind = draw(st.sampled_from(["replace", "overwrite", "cut"]))
        if kind == "cut":
            end, patch = draw(st.sampled_from([end, len(content)])), b""
        elif kind == "overwrite":
            end = start + len(patch)
        content[start:end] = patch
    return bytes(content)


@st.composite
def mutate_settings(draw):
    """A report whose settings say something else, or that is no report."""
    names = [field.name for field in program.fields(program.Settings)]
    some = st.dictionaries(st.sampled_from([*names, "other"]), NUMBERS | VALUES)
    changed = REPORT | {"settings": REPORT["settings"] | draw(some)}
    report = draw(st.just(changed) | st.just({"settings": draw(VALUES)}) | VALUES)
    return json.dumps(report).encode()


@st.composite
def mutate_arrays(draw):
    """Weights of which some have another shape, kind of number or name, or are huge."""
    arrays, shapes = dict(ARRAYS), st.lists(st.integers(0, 9), max_size=3)
    kinds = ["float64", "float16", "int32", "bool", "complex64", "S3", ">f4", "float32"]
    some = st.lists(st.sampled_from([*ARRAYS]), min_size=1, max_size=3, unique=True)
    for name in draw(some):
        change = draw(st.integers(0, 4))
        array = np.ones(draw(shapes) if change else arrays[name].shape)
        arrays[name] = array.astype(draw(st.sampled_from(kinds)))
        if change == 1:
            arrays[name] = np.full(ARRAYS[name].shape, draw(st.floats(width=32)), "f4")
        elif change == 2:
            arrays.pop(name, None)
            arrays[f"{name}/{draw(st.sampled_from(['vars', '0', 'x']))}"] = array
        elif change == 3:
            arrays.pop(name, None)
    content = io.BytesIO(pack_weights(arrays))
    with h5py.File(content, "a") as file:
        name = draw(st.sampled_from([*ARRAYS]))
        huge = draw(st.sampled_from([None, (10**12,), (2**40, 2**40), (10**9, 3)]))
        if huge and name in file:  # it is said to be so large; nothing of it is there
            del file[name]
            file.create_dataset(name, huge, "f4", chunks=True, compression="gzip")
        elif draw(st.booleans()) and name in file:
            del file[name]
            links = h5py.SoftLink("/"), h5py.ExternalLink("/etc/passwd", "/"), None
            file[name] = draw(st.sampled_from(links)) or b"a text"
    return content.getvalue()


@st.composite
def mutate_members(draw):
    """A zip whose members are others, go by other names, or come twice."""
    vocabulary = st.lists(st.text(max_size=5) | VALUES, max_size=8) | VALUES
    makers = {
        "vocabulary.json": vocabulary.map(lambda value: json.dumps(value).encode()),
        "report.json": mutate_settings(),
        "check.json": VALUES.map(lambda value: json.dumps(value).encode()),
        "model.weights.h5": mutate_arrays() | mutate_bytes(MEMBERS["model.weights.h5"]),
    }
    members = dict(MEMBERS)
    for name in draw(st.lists(st.sampled_from([*makers]), min_size=1, max_size=2)):
        members[name] = draw(makers[name] | st.binary(max_size=50) | PICKLES)
    pairs = list(members.items())
    names = ["../outside", "/tmp/outside", "report.json", "x" * 300, "a/", "é"]
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        content = draw(st.binary(max_size=20) | st.just(bytes(10**6)))
        pairs.insert(draw(st.integers(0, len(pairs))), (name, content))
    return pack(pairs)


def replace_vocabulary(vocabulary):
    """The whole file with another vocabulary, and arrays that fit its length."""
    arrays = make_arrays(len(vocabulary))
    changes = {
        "model.weights.h5": pack_weights(arrays),
        "vocabulary.json": json.dumps(vocabulary).encode(),
        "check.json": make_check(vocabulary, arrays),
    }
    return pack((MEMBERS | changes).items())


def make_bomb(size):
    """A small file of which one member unpacks to so many bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, member in MEMBERS.items():
            with file.open(name, "w") as opened:
                opened.write(member)
                for _ in range(size // 2**24 if name == "vocabulary.json" else 0):
                    opened.write(b" " * 2**24)
    return content.getvalue()


def claim_sizes(size):
    """The whole file, but every member is said to unpack to so many bytes."""
    content = bytearray(WHOLE)
    for start in range(len(content) - 4):
        if content[start : start + 4] == b"PK\1\2":
            content[start + 24 : start + 28] = size.to_bytes(4, "little")
    return bytes(content)


def swell(name, piece, count):
    """The whole file with a JSON member that is one long list, short once it is zipped."""
    return pack((MEMBERS | {name: b"[" + piece * count + b"0]"}).items())


MODELS = st.one_of(
    mutate_members(),
    st.builds(
        swell,
        st.sampled_from(["vocabulary.json", "report.json", "check.json"]),
        st.sampled_from([b"[],", b"0,", b"1.5,", b'"a",', b"{},"]),
        st.sampled_from([10, 10**3, 10**5, 4 * 10**6, 10**7]),
    ),
    mutate_bytes(WHOLE),
    st.builds(claim_sizes, st.integers(0, 2**32 - 1)),
    st.lists(st.text(max_size=3), max_size=6).map(replace_vocabulary),
    st.dictionaries(st.text(max_size=3), NUMBERS, max_size=6).map(replace_vocabulary),
    st.binary(max_size=200),
)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"]
NOTICES = ["*** START OF THE PROJECT GUTENBERG EBOOK ***", "<<THIS ELECTRONIC VERSION"]
NOTICES += ["*** END OF THE", "1609\n\nTHE SONNETS", "gutenberg", "\r", "\x85", "ﬃ"]
ROWS = ["\u0301" * 40_000, "\u0323" * 40_000, "<<THIS ELECTRONIC VERSION\n" * 40_000]
ROWS = [f"a{row}".encode() for row in ROWS]  # what takes hours if it is read naively
PIECES = st.lists(st.sampled_from(NOTICES) | st.text(), max_size=9).map("\n".join)
TEXTS = st.one_of(
    st.binary(max_size=500),
    st.builds(
        lambda text, encoding: text.encode(encoding, "replace"),
        PIECES,
        st.sampled_from(ENCODINGS),
    ).flatmap(lambda content: st.just(content) | mutate_bytes(content)),
    st.builds(lambda content, n: content * n, st.binary(max_size=9), st.just(50_000)),
    st.lists(st.sampled_from(ROWS), min_size=1, max_size=2).map(b"".join),
)


def read_model(path):
    """Load a generator and, as what loads must write, let it write."""
    generator, _ = program.load_generator(path)
    with np.errstate(all="ignore"):
        for seed in range(2):
            changed = program.Settings(prompt="king", num_words=3, seed=seed)
            list(program.write(generator, changed))


def read_corpus(path):
    """Read a text and do all with it that comes before TensorFlow."""
    corpus = program.load_corpus(str(path))
    sizes = {"min_count": 1, "batch_size": 2, "sequence_length": 3}
    for kind in program.TOKENIZERS:
        chosen = program.replace(SETTINGS, token_kind=kind, **sizes)
        program.make_dataset(program.tokenize(corpus.text, kind), chosen)


def attempt(read, content, folder):
    """What becomes of an input: "taken" or "refused"; an AssertionError if it misbehaves."""
    path = folder / "input"
    path.write_bytes(content)
    start = time.process_time()
    try:
        with redirect_stdout(io.StringIO()):
            read(path)
        result = "taken"
    except program.UserError as error:
        assert "memory" not in repr(error.__context__).lower()  # it asked for too much
        result = "refused"
    assert time.process_time() - start < SECONDS
    assert list(folder.iterdir()) == [path] and path.read_bytes() == content
    assert list(folder.parent.iterdir()) == [folder]
    return result


def limit_memory(size):
    """Let the process have so many bytes more than it has; return the former limits."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, limits[1]))
    return limits


def fuzz(read, inputs, number, chance=0):
    """How many of so many inputs were taken and refused; the first failure is raised."""
    results = Counter()
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "folder"
        folder.mkdir()
        former = os.getcwd()
        os.chdir(folder)
        limits = limit_memory(LARGEST)
        try:

            @seed(chance)
            @settings(
                max_examples=number,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(inputs)
            def check(content):
                results[attempt(read, content, folder)] += 1

            check()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            os.chdir(former)
    return results


if __name__ == "__main__":
    number = int((sys.argv[1:] or ["10000"])[0]) // 2
    for name, read, inputs in [
        ("saved models", read_model, MODELS),
        ("texts", read_corpus, TEXTS),
    ]:
        start = time.perf_counter()
        results = fuzz(read, inputs, number)
        seconds = time.perf_counter() - start
        print(f"{name}: {sum(results.values()):,} tried, {dict(results)}, ", end="")
        print(f"{seconds:.0f} s, peak memory {peak_memory_mb():,} MB")
