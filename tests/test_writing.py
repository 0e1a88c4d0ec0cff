"""Drawing tokens and writing with them."""

import io
import re
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from hypothesis import given
from hypothesis import strategies as st

LOGITS = np.array([9.0, 1.0, 3.0, 2.0, 0.0], np.float32)  # [UNK] would win
SETTINGS = program.Settings(temperature=1.0, top_p=1.0, num_samples=1)


def shares(logits, settings, recent=(), draws=20_000):
    """How often each id is drawn."""
    random, recent = np.random.default_rng(0), np.array(recent, int)
    ids = [program.draw_token(logits, recent, random, settings) for _ in range(draws)]
    return np.bincount(ids, minlength=len(logits)) / draws


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def reference(logits, settings, recent=()):
    """The probabilities that should come out, token by token and slowly."""
    ids = range(1, len(logits))
    powers = {i: np.exp(float(logits[i])) for i in ids}
    chances = {i: powers[i] / sum(powers.values()) for i in ids}
    for i in recent:
        chances[i] /= settings.repetition_penalty
    chances = {i: chances[i] ** (1 / settings.temperature) for i in ids}
    likeliest = sorted(ids, key=lambda i: -chances[i])[: settings.top_k or None]
    whole, total, result = (
        sum(chances[i] for i in likeliest),
        0.0,
        np.zeros(len(logits)),
    )
    for i in likeliest:
        if total < settings.top_p * whole:
            result[i] = chances[i]
        total += chances[i]
    return result / result.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 9])
@pytest.mark.parametrize("top_p", [0.3, 0.7, 0.95, 1.0])
def test_draws_follow_temperature_top_k_and_top_p(temperature, top_k, top_p):
    settings = replace(SETTINGS, temperature=temperature, top_k=top_k, top_p=top_p)
    expected = reference(LOGITS, settings)
    drawn = shares(LOGITS, settings)
    np.testing.assert_allclose(drawn, expected, atol=0.015)
    assert ((drawn > 0) == (expected > 0)).all()


@pytest.mark.parametrize("recent", [[], [2], [2, 2, 3]])
@pytest.mark.parametrize("penalty", [1.0, 1.5, 4.0])
def test_recent_tokens_are_drawn_less_often(penalty, recent):
    settings = replace(SETTINGS, repetition_penalty=penalty, top_k=3, top_p=0.9)
    expected = reference(LOGITS, settings, recent)
    drawn = shares(LOGITS, settings, recent)
    np.testing.assert_allclose(drawn, expected, atol=0.015)


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12),
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.001, 1),
    penalty=st.floats(1, 10),
)
def test_any_scores_and_settings_give_a_token_that_may_be(
    logits, temperature, top_k, top_p, penalty
):
    """Of equals at the edge of top_k all are let in."""
    settings = replace(SETTINGS, temperature=temperature, top_k=top_k, top_p=top_p)
    settings = replace(settings, repetition_penalty=penalty)
    logits = np.array(logits, np.float32)
    drawn = np.flatnonzero(shares(logits, settings, [1], draws=20))
    assert 0 not in drawn
    if top_k and penalty == 1:
        lowest = sorted(logits[1:])[-min(top_k, len(logits) - 1)]
        assert (logits[drawn] >= lowest).all()


def test_low_temperature_approaches_greedy():
    for temperature in [0.0, 1e-320, 1e-9, 0.01]:
        drawn = shares(LOGITS, replace(SETTINGS, temperature=temperature), draws=100)
        assert drawn[2] == 1


def toy_generator(vocabulary=("[UNK]", "king", "queen", "fool"), token_kind="words"):
    draw = np.random.default_rng(1)

    def array(*shape):
        return draw.normal(size=shape).astype(np.float32)

    size = len(vocabulary)
    gru = [array(3, 15), array(5, 15), array(2, 15)]
    dense = array(5, size), array(size)
    return program.Generator(array(size, 3), [gru], dense, list(vocabulary), token_kind)


def write(generator, **changes):
    """The texts that are written, without their prompt."""
    samples = program.write_samples(generator, replace(SETTINGS, **changes))
    return ["".join(pieces) for _, pieces in samples]


def test_unknown_is_never_written():
    (text,) = write(toy_generator(), prompt="The King, a BEGGAR!", num_words=300)
    words = text.split()
    assert len(words) == 300 and set(words) <= {"king", "queen", "fool"}


def test_what_is_not_known_is_named_with_the_nearest_that_is():
    line = program.name_unknown("The King, a BEGGAR and a Queene!", toy_generator())
    names = line[line.index(":") :]
    assert names == ": the, a, beggar, and, queene (near: queen)\n"
    assert program.name_unknown("king, king", toy_generator()) == ""
    assert ": 2nd\n" in program.name_unknown("2nd king", toy_generator())
    many = program.name_unknown(" ".join("abcdefghijklmnopqrst"), toy_generator())
    assert many.endswith("e, 15 more\n")


def test_same_seed_same_text_other_seed_other_text():
    texts = [write(toy_generator(), seed=seed) for seed in [5, 5, 6]]
    assert texts[0] == texts[1] != texts[2]


def test_a_sample_is_the_same_alone_and_beside_others():
    settings = replace(SETTINGS, num_samples=3, seed=2**31 - 1)
    samples = list(program.write_samples(toy_generator(), settings))
    assert [seed for seed, _ in samples] == [2**31 - 1, 0, 1]
    for seed, pieces in samples:
        assert ["".join(pieces)] == write(toy_generator(), seed=seed)


def test_a_sample_is_written_as_it_is_read():
    """Nothing is drawn before it is asked for, and all samples step together."""
    settings = replace(SETTINGS, num_samples=2, num_words=10**6)
    samples = program.write_samples(toy_generator(), settings)
    (_, first), (_, second) = samples
    assert len(list(islice(first, 5))) == len(list(islice(second, 5))) == 5


def test_a_long_prompt_is_carried_in_the_state():
    """Reading a prompt and then a word is reading the longer prompt."""
    generator, ids = toy_generator(), [1, 2, 3] * 50
    greedy = replace(SETTINGS, temperature=0.0)

    def go_on(ids, count):
        written = islice(program.write_tokens(generator, ids, greedy), count)
        return [token_id for token_id, in written]

    written = go_on(ids, 6)
    assert go_on(ids + written[:3], 3) == written[3:]


@pytest.mark.parametrize("kind", ["words", "verse", "characters"])
@pytest.mark.parametrize("prompt", ["", " \n", "...", "king ", "king " * 10_000])
def test_any_prompt_takes_the_same_path(prompt, kind, capsys):
    generator = toy_generator(["[UNK]", "k", "q", "f"], kind)
    program.print_samples(generator, replace(SETTINGS, prompt=prompt), "")
    shown = capsys.readouterr().out.split("\n", maxsplit=1)[1]
    assert "".join(shown.split()).startswith("".join(prompt.split()))
    written = sum(Counter(shown)[letter] for letter in "kqf") - prompt.count("k")
    assert written == (360 if kind == "characters" else 60)


def test_words_go_on_after_a_blank_and_verse_as_its_marks_ask():
    text = "Ay, king"
    ((_, pieces),) = program.write_samples(
        toy_generator(), replace(SETTINGS, prompt=text)
    )
    assert next(pieces)[0] == " "
    generator = toy_generator(["[UNK]", ","], "verse")
    assert write(generator, prompt=text, num_words=3) == [",,,"]
    generator = toy_generator(["[UNK]", "sir"], "verse")
    assert write(generator, prompt="(", num_words=2) == ["sir sir"]


def test_the_repetition_penalty_sees_the_prompt_and_what_was_written():
    """With one token left that is not recent, it is that one's turn."""
    penalty = {"repetition_penalty": 10.0, "temperature": 0.0}
    even = toy_generator()
    even = replace(even, dense=(even.dense[0] * 0, even.dense[1] * 0))
    (text,) = write(even, prompt="king", num_words=2, **penalty)
    assert text.split() == ["queen", "fool"]


@given(st.lists(st.text("ab \n\t", max_size=5)), st.integers(1, 30))
def test_wrapping_breaks_lines_and_changes_nothing_else(pieces, width):
    wrapped = "".join(program.wrap_pieces(pieces, width))
    text = "".join(pieces)
    assert wrapped.split() == text.split()
    assert wrapped.count("\n") >= text.count("\n")
    for line in wrapped.split("\n"):
        assert len(line) <= width or len(line.split()) <= 1 or re.search(r"\s\s", line)


def test_colours_do_not_count_as_width():
    pieces = ["\033[32mking\033[0m", "\033[32m queen\033[0m"]
    assert "\n" not in "".join(program.wrap_pieces(pieces, 10))
    assert "\n" in "".join(program.wrap_pieces(pieces, 9))


SOURCE = program.join_words("the king is mad\nand the queen is not mad at all my lord")


def longest_run(words, source):
    """The same by trying all runs."""
    runs = [words[i:j] for i in range(len(words)) for j in range(i, len(words) + 1)]
    copied = [run for run in runs if f" {' '.join(run)} " in source]
    return max(map(len, copied), default=0)


def test_a_planted_copy_is_found():
    text = "fool fool and the queen is not\nmad fool the king at mad"
    run, share = program.find_copies(text, SOURCE)
    assert run == "and the queen is not mad" and share == 2 / 9
    line = program.describe_copies(text, SOURCE)
    assert "6 words" in line and "22% of its 5-grams" in line


@given(st.lists(st.sampled_from("the king queen is mad not at fool".split())))
def test_the_longest_copied_run_is_that_of_brute_force(words):
    run, share = program.find_copies(" ".join(words), SOURCE)
    assert len(run.split()) == longest_run(words, SOURCE)
    grams = [words[n : n + 5] for n in range(len(words) - 4)]
    found = [f" {' '.join(gram)} " in SOURCE for gram in grams]
    assert share == (np.mean(found) if grams else None)


def test_part_of_a_word_is_no_copy():
    assert program.find_copies("kin ueen", SOURCE) == ("", None)


def talk(monkeypatch, capsys, *lines, **changes):
    """What is printed in answer to lines that come through a pipe."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    settings = replace(SETTINGS, num_words=5, **changes)
    program.converse(toy_generator(), settings, "")
    return capsys.readouterr().out


def test_a_conversation_goes_on_from_what_is_typed(monkeypatch, capsys):
    output = talk(monkeypatch, capsys, "the fool", "", "king")
    assert output.count("---") == 3 and "Not known" in output
    seeds = re.findall(r"seed (\d)", output)
    assert seeds == ["0", "1", "2"]
    first, second, third = re.split("--- .*\n", output)[1:]
    assert first.startswith("the fool ") and third.startswith("king ")
    (expected,) = write(
        toy_generator(), prompt=first.split("\n")[0], num_words=5, seed=1
    )
    assert second.startswith("…" + expected)


def test_a_conversation_changes_settings_and_survives_mistakes(monkeypatch, capsys):
    lines = ["/temperature 0", "/temperature x", "/epochs 3", "/top-p", "/", "king"]
    output = talk(monkeypatch, capsys, *lines, "/help")
    assert "temperature 0.0, seed 0" in output
    for wrong in ["/temperature: invalid", "/epochs", "/top-p"]:
        assert wrong in output
    assert "/temperature 0.0\n" in output and "/epochs 8" not in output


def test_surprise_is_what_the_model_thought_of_each_word():
    generator = toy_generator()
    tokens, bits, summary = program.score_text(generator, "King fool, beggar QUEEN")
    assert tokens == ["king", "fool", "beggar", "queen"]
    state, nats = program.zero_state(generator), []
    for token_id, target in [(1, 3), (3, 0), (0, 2)]:
        state = program.read_token(generator, token_id, state)
        logits = state[-1] @ generator.dense[0] + generator.dense[1]
        nats.append(-np.log(softmax(logits)[target]))
    np.testing.assert_allclose(bits[1:], np.array(nats) / np.log(2), atol=1e-5)
    assert np.isnan(bits[0]) and summary["unknown_share"] == 0.25
    assert summary["perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)


@pytest.mark.parametrize("text", ["", "king", "..."])
def test_a_text_without_a_guess_has_no_perplexity(text):
    tokens, bits, summary = program.score_text(toy_generator(), text)
    assert len(tokens) == len(bits) == summary["tokens"] <= 1
    assert summary["perplexity"] is None


def test_surprise_has_colours():
    tokens, bits = ["king", "queen", "fool", "duke"], [np.nan, 4.5, 12, 99]
    text = "".join(program.color_tokens(tokens, bits, "words"))
    assert re.sub("\033.*?m", "", text) == "king queen fool duke"
    codes = re.findall("\033\\[([^m]+)m", text)[::2]
    assert codes == [program.COLORS[limit] for limit in [4, 8, 12, np.inf]]
