"""The one file that is saved: what is in it, and what is refused."""

import io
import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import newest


@pytest.fixture(scope="module")
def path(toy_folder):
    return newest(toy_folder) / "generator.keras"


def members(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def arrays(content):
    """All arrays of a weights file, by their names."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(keep)
    return found


def pack(arrays, **how):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **how)
    return content.getvalue()


def test_one_file_tells_all_about_itself(path):
    kept = members(path)
    report = json.loads(kept["report.json"])
    assert report["corpus"] == "toy.txt" and len(report["corpus_sha256"]) == 64
    assert {"settings", "versions", "test_perplexity"} <= set(report)
    assert json.loads(kept["vocabulary.json"])[0] == program.UNKNOWN
    generator, loaded_report = program.load_generator(path)
    assert loaded_report == report
    check = json.loads(kept["check.json"])
    nats = program.score(generator, check["token_ids"])
    assert len(check["token_ids"]) == 10 and len(nats) == 9 and np.ptp(nats) > 0.1
    np.testing.assert_allclose(check["nats"], nats, atol=1e-6)


def changed_weights(kept):
    found = arrays(kept["model.weights.h5"])
    found["layers/dense/vars/0"] *= 1.1
    return pack(found)


def without(array):
    def content(kept):
        found = arrays(kept["model.weights.h5"])
        return pack({name: found[name] for name in found if array not in name})

    return content


def with_array(name, array, **how):
    def content(kept):
        return pack(arrays(kept["model.weights.h5"]) | {name: array}, **how)

    return content


def report_with(**settings):
    def content(kept):
        report = json.loads(kept["report.json"])
        return json.dumps(report | {"settings": report["settings"] | settings})

    return content


def constant(text):
    return lambda kept: text


EMBEDDING, WEIGHTS = "layers/embedding/vars/0", "model.weights.h5"
HOSTILE = {
    "other numbers": (WEIGHTS, changed_weights, "self-check"),
    "another check": (
        "check.json",
        constant('{"token_ids": [1, 2], "nats": [0]}'),
        "self-check",
    ),
    "a check of nonsense": ("check.json", constant('{"token_ids": ["a", "b"]}'), ""),
    "an empty check": (
        "check.json",
        constant('{"token_ids": [], "nats": []}'),
        "no self",
    ),
    "a check of one": (
        "check.json",
        constant('{"token_ids": [1], "nats": 0}'),
        "no self",
    ),
    "a check of lists": (
        "check.json",
        constant('{"token_ids": [[1, 2], [3, 4]], "nats": 0}'),
        "no self",
    ),
    "a check that never ends": (
        "check.json",
        constant('{"token_ids": [%s1], "nats": 0}' % ("1," * 10**6)),
        "self-check",
    ),
    "no GRU": (WEIGHTS, without("gru"), "component not found"),
    "another shape": (
        WEIGHTS,
        with_array(EMBEDDING, np.zeros((3, 8), "f4")),
        "embedding is not float32 (13, 8)",
    ),
    "another type": (
        WEIGHTS,
        with_array(EMBEDDING, np.zeros((13, 8))),
        "embedding is not float32 (13, 8)",
    ),
    "no numbers": (
        WEIGHTS,
        with_array(EMBEDDING, np.full((13, 8), np.nan, "f4")),
        "no training leaves numbers like those of embedding",
    ),
    "huge numbers": (
        WEIGHTS,
        with_array("layers/dense/vars/1", np.full(13, 1e30, "f4")),
        "no training leaves numbers like those of dense",
    ),
    "a pickle": (WEIGHTS, constant(pickle.dumps({"layers": print})), ""),
    "nothing": (WEIGHTS, constant(b""), ""),
    "a bomb": (WEIGHTS, constant(b"\0" * 3 * 10**8), "far too much"),
    "packed arrays": (
        WEIGHTS,
        lambda kept: pack(arrays(kept[WEIGHTS]), compression="gzip", maxshape=None),
        "plainly there",
    ),
    "a vocabulary of numbers": (
        "vocabulary.json",
        constant("[1, 2]"),
        "no list of words",
    ),
    "a short vocabulary": (
        "vocabulary.json",
        constant('["[UNK]", "a"]'),
        "embedding is not",
    ),
    "deep brackets": ("vocabulary.json", constant("[" * 10**5), ""),
    "a huge network": ("report.json", report_with(hidden_size=8192), "gru"),
    "an unknown setting": ("report.json", report_with(magic=1), "magic"),
    "a setting out of range": ("report.json", report_with(num_layers=-1), "num-layers"),
    "a setting of another type": ("report.json", report_with(num_layers="x"), ""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strange_file_is_refused_in_one_line(what, path, tmp_path):
    name, content, reason = HOSTILE[what]
    strange = tmp_path / "strange.keras"
    kept = members(path)
    with zipfile.ZipFile(strange, "w", zipfile.ZIP_DEFLATED) as file:
        for member, value in (kept | {name: content(kept)}).items():
            file.writestr(member, value)
    with pytest.raises(program.UserError) as caught:
        program.load_generator(strange)
    message = str(caught.value)
    assert "damaged or no generator" in message and reason in message
    assert message.count("\n") == 0 and len(message) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["strange.keras"]


def test_a_path_that_leads_out_of_the_folder_is_left_alone(path, tmp_path):
    (tmp_path / "inner").mkdir()
    strange = tmp_path / "inner" / "strange.keras"
    strange.write_bytes(path.read_bytes())
    with zipfile.ZipFile(strange, "a") as file:
        file.writestr("../evil.txt", "evil")
        file.writestr("/tmp/evil-of-a-test.txt", "evil")
    program.load_generator(strange)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "strange.keras"]


def test_numbers_that_lie_in_another_file_are_not_read(path, tmp_path):
    kept = members(path)
    found = arrays(kept["model.weights.h5"])
    embedding = found.pop(EMBEDDING)
    (tmp_path / "secret").write_bytes(embedding.tobytes())
    content = tmp_path / "weights.h5"
    content.write_bytes(pack(found))
    with h5py.File(content, "a") as file:
        where = [(str(tmp_path / "secret"), 0, embedding.nbytes)]
        file.create_dataset(EMBEDDING, embedding.shape, embedding.dtype, external=where)
    strange = tmp_path / "strange.keras"
    with zipfile.ZipFile(strange, "w") as file:
        for name, value in (kept | {"model.weights.h5": content.read_bytes()}).items():
            file.writestr(name, value)
    with pytest.raises(program.UserError, match="plainly there"):
        program.load_generator(strange)


def test_every_cut_of_the_file_is_refused(path, tmp_path):
    whole = path.read_bytes()
    for cut in range(0, len(whole), len(whole) // 20):
        (tmp_path / "cut.keras").write_bytes(whole[:cut])
        with pytest.raises(program.UserError, match="damaged or no generator"):
            program.load_generator(tmp_path / "cut.keras")
