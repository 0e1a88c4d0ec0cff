"""The gates while a generator reads, its nearest words, the picture, and the lesson."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program

LETTERS = "abcdefghijklmno"


def toy_generator(vocabulary=("[UNK]", *LETTERS), token_kind="words", num_layers=2):
    """A generator with random weights that are large enough to matter."""
    draw, size = np.random.default_rng(1), len(vocabulary)

    def array(*shape):
        return draw.normal(size=shape).astype(np.float32)

    depths = [5, *[7] * (num_layers - 1)]
    cells = [[array(depth, 21), array(7, 21), array(2, 21)] for depth in depths]
    dense = array(7, size), array(size)
    return program.Generator(array(size, 5), cells, dense, list(vocabulary), token_kind)


def test_the_gates_are_those_of_the_steps_it_takes():
    """The candidate by hand; then the new state from the gates, by its equation."""
    generator, ids = toy_generator(), [3, 1, 4, 1, 5, 9, 2, 6]
    update, reset = program.read_gates(generator, ids)
    assert update.shape == reset.shape == (len(ids), 7)
    assert (0 < update).all() and (update < 1).all()
    assert (0 < reset).all() and (reset < 1).all()
    (kernel, recurrent, bias), h = generator.cells[0], np.zeros(7)
    steps = program.read(generator, ids, program.begin(generator))
    for token_id, z, r, (_, states) in zip(ids, update, reset, steps, strict=True):
        x = generator.embedding[token_id]
        memory = h @ recurrent[:, 14:] + bias[1, 14:]
        candidate = np.tanh(x @ kernel[:, 14:] + bias[0, 14:] + r * memory)
        h = z * h + (1 - z) * candidate
        np.testing.assert_allclose(states[0], h, atol=1e-5)


def test_a_gru_without_gates_is_a_plain_recurrent_network():
    """z = 0 and r = 1, as the lesson has it."""
    kernel, recurrent, bias = toy_generator().cells[0]
    bias = bias.copy()
    bias[0, :7], bias[0, 7:14] = -999, 999
    draw = np.random.default_rng(2)
    x, h = draw.normal(size=5), draw.normal(size=7)
    plain = np.tanh(
        x @ kernel[:, 14:] + h @ recurrent[:, 14:] + bias[:, 14:].sum(axis=0)
    )
    output, state = program.cell_step(x, h, kernel, recurrent, bias)
    np.testing.assert_allclose(output, plain, rtol=1e-6)
    assert output is state  # in a GRU the same


def test_a_closed_update_gate_keeps_the_memory():
    """z = 1: whatever comes, the state stays as it is."""
    kernel, recurrent, bias = toy_generator().cells[0]
    bias = bias.copy()
    bias[0, :7] = 999
    draw = np.random.default_rng(2)
    x, h = draw.normal(size=(9, 5)), draw.normal(size=7)
    state = h
    for row in x:
        _, state = program.cell_step(row, state, kernel, recurrent, bias)
    np.testing.assert_array_equal(state, h)


def test_the_gates_of_many_tokens_at_once_are_those_of_each():
    generator = toy_generator()
    ranked = program.rank_by_memory(generator, count=10)
    assert sorted(ranked) == sorted(generator.vocabulary[1:11])
    kept = [
        program.read_gates(generator, [generator.vocabulary.index(token)])[0].mean()
        for token in ranked
    ]
    assert kept == sorted(kept)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / np.sqrt(sum(a * a) * sum(b * b))


@pytest.mark.parametrize("among", [3, 8, 2000])
def test_the_nearest_words_have_the_greatest_cosines(among):
    generator = toy_generator()
    for token in "ago":
        vector = generator.embedding[generator.vocabulary.index(token)]
        others = [t for t in generator.vocabulary[1 : among + 1] if t != token]
        others.sort(
            key=lambda t: cosine(
                vector, generator.embedding[generator.vocabulary.index(t)]
            )
        )
        nearest = program.find_nearest(generator, token, count=4, among=among)
        assert nearest == others[:-5:-1]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


STRANGE = [
    "$x$",
    "a_b^c",
    r"\frac",
    "%",
    "\n",
    " ",
    "[GLUE]",
    "王",
    "שלום",
    "💀",
    "Щ" * 99,
]


@pytest.mark.parametrize("token_kind", ["words", "characters"])
def test_any_token_can_be_drawn_and_nobody_is_warned(
    token_kind, tmp_path, monkeypatch, caplog
):
    generator = toy_generator(["[UNK]", *STRANGE], token_kind)
    monkeypatch.setattr(program, "tokenize", lambda *_: [*STRANGE, "unknown"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = program.draw_reading(generator, "")
        program.RunFolder(tmp_path).draw("reading.png", figure, show=False)
    assert is_png(tmp_path / "reading.png")
    assert [path.name for path in tmp_path.iterdir()] == ["reading.png"]
    assert not caplog.records  # matplotlib logs what it misses in a font, too


def test_letters_are_drawn_by_a_regular_font_that_has_them_before_boxes(monkeypatch):
    from matplotlib import font_manager

    assert program.find_font("king").name == "DejaVuSans.ttf"
    charmaps = {"LastResort.ttf": "王z", "bold.ttf": "王z", "regular.ttf": "王"}
    weights = 400, 700, 400
    fonts = [SimpleNamespace(fname=f, weight=w) for f, w in zip(charmaps, weights)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)

    def get_font(path):
        letters = charmaps.get(str(path), "")
        return SimpleNamespace(get_charmap=lambda: dict.fromkeys(map(ord, letters)))

    monkeypatch.setattr(font_manager, "get_font", get_font)
    found = [program.find_font(text) for text in ["王", "z", "no"]]
    assert found == [Path("regular.ttf"), Path("bold.ttf"), None]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("text", ["a", "a b", "a " * 10_000])
def test_a_line_of_any_length_can_be_drawn(text, num_layers, tmp_path):
    generator = toy_generator(num_layers=num_layers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = program.draw_reading(generator, text)
        program.RunFolder(tmp_path).draw("reading.png", figure, show=False)
    assert is_png(tmp_path / "reading.png")


def test_the_picture_shows_what_each_token_costs_and_the_gates_at_it():
    """Each column is a token; rows are sorted by their means, the line is the column's."""
    generator, tokens = toy_generator(), list("abacadago")
    ids = program.encode(tokens, generator.vocabulary)
    figure = program.draw_reading(generator, " ".join(tokens))
    bars, *maps = [axes for axes in figure.axes if axes.get_title()]
    heights = [bar.get_height() for bar in bars.patches]
    bits = program.score(generator, ids) / np.log(2)
    np.testing.assert_allclose(heights, bits, rtol=1e-6)
    assert [label.get_text() for label in maps[1].get_xticklabels()] == tokens
    for axes, gate in zip(maps, program.read_gates(generator, ids), strict=True):
        rows = np.array(axes.collections[0].get_array()).reshape(7, len(ids))
        expected = sorted(gate.T.tolist(), key=np.mean)
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
        line = axes.lines[0].get_ydata() / 7
        np.testing.assert_allclose(line, gate.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("parts", [["train", "validation"], ["train"]])
def test_the_curves_are_those_of_the_history(parts, tmp_path):
    rows = [{"train_perplexity": 9, "validation_perplexity": 8}]
    rows.append({"train_perplexity": 5, "validation_perplexity": 6})
    if "validation" not in parts:
        rows = [row | {"validation_perplexity": None} for row in rows]
    figure = program.draw_curves(rows)
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {
        part: [[1, rows[0][f"{part}_perplexity"]], [2, rows[1][f"{part}_perplexity"]]]
        for part in parts
    }
    program.RunFolder(tmp_path).draw("curves.png", figure, show=False)
    assert is_png(tmp_path / "curves.png")


def swap_units(generator, first, second):
    """The same network, two units of whose last GRU have changed places."""
    order = np.arange(7)
    order[[first, second]] = second, first
    columns = np.concatenate([order, order + 7, order + 14])
    kernel, recurrent, bias = generator.cells[-1]
    cell = kernel[:, columns], recurrent[order][:, columns], bias[:, columns]
    dense = generator.dense[0][order], generator.dense[1]
    return replace(generator, cells=[*generator.cells[:-1], cell], dense=dense)


def blend(one, other):
    """The generator midway between two that differ in the last GRU and in Dense."""
    cell = [(a + b) / 2 for a, b in zip(one.cells[-1], other.cells[-1])]
    dense = [(a + b) / 2 for a, b in zip(one.dense, other.dense)]
    return replace(one, cells=[*one.cells[:-1], cell], dense=dense)


def test_training_is_no_convex_problem():
    """Two networks are equally good; midway a convex loss would be no higher."""
    generator = toy_generator()
    swapped = swap_units(generator, 2, 5)
    settings = program.Settings(prompt="a", num_words=500, temperature=1, top_p=1)
    written = "".join(program.write(generator, settings)).split()
    ids = program.encode(written, generator.vocabulary)
    losses = [
        program.score(g, ids).mean()
        for g in [generator, swapped, blend(generator, swapped)]
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] > losses[0] + 0.01
