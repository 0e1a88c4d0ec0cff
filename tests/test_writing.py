"""Drawing tokens and writing with them."""

import contextlib
import io
import os
import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from unittest import mock

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from hypothesis import example, given
from hypothesis import strategies as st

LOGITS = np.array([9.0, 1.0, 3.0, 2.0, 0.0], np.float32)  # [UNK] would win
SETTINGS = program.Settings(prompt="my lord", temperature=1.0, top_p=1.0, num_samples=1)


def shares(logits, settings, recent=(), draws=10_000):
    """How often each id is drawn."""
    random, recent = np.random.default_rng(0), list(recent)
    ids = [program.draw_token(logits, recent, random, settings) for _ in range(draws)]
    return np.bincount(ids, minlength=len(logits)) / draws


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def reference(logits, settings, recent=()):
    """The probabilities that should come out, token by token and slowly."""
    ids = range(1, len(logits))
    powers = {i: np.exp(float(logits[i])) for i in ids}
    odds = {i: powers[i] / sum(powers.values()) for i in ids}
    for i in recent:
        odds[i] /= settings.repetition_penalty
    odds = {i: odds[i] ** (1 / settings.temperature) for i in ids}
    likeliest = sorted(ids, key=lambda i: -odds[i])[: settings.top_k or None]
    whole, total = sum(odds[i] for i in likeliest), 0.0
    result = np.zeros(len(logits))
    for i in likeliest:
        if total < settings.top_p * whole:
            result[i] = odds[i]
        total += odds[i]
    return result / result.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3, 9])
@pytest.mark.parametrize("top_p", [0.3, 0.7, 0.95, 1.0])
def test_draws_follow_temperature_top_k_and_top_p(temperature, top_k, top_p):
    settings = replace(SETTINGS, temperature=temperature, top_k=top_k, top_p=top_p)
    expected = reference(LOGITS, settings)
    drawn = shares(LOGITS, settings)
    np.testing.assert_allclose(drawn, expected, atol=0.02)
    assert ((drawn > 0) == (expected > 0)).all()


@pytest.mark.parametrize("recent", [[], [2], [2, 2, 3]])
@pytest.mark.parametrize("penalty", [1.0, 1.5, 4.0])
def test_recent_tokens_are_drawn_less_often(penalty, recent):
    settings = replace(SETTINGS, repetition_penalty=penalty, top_k=3, top_p=0.9)
    expected = reference(LOGITS, settings, recent)
    drawn = shares(LOGITS, settings, recent)
    np.testing.assert_allclose(drawn, expected, atol=0.02)


@pytest.mark.parametrize("changes", [{"top_k": 2}, {"top_p": 0.5}, {"top_p": 0.01}])
def test_tokens_as_likely_as_the_last_of_the_nucleus_are_let_in(changes):
    logits = np.array([9, 2, 0, 2, 2, -1], np.float32)
    drawn = shares(logits, replace(SETTINGS, **changes))
    np.testing.assert_allclose(drawn, [0, 1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.02)


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12),
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.001, 1),
    penalty=st.floats(1, 10),
)
def test_any_logits_and_settings_give_a_token_that_may_be(
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


def test_drawing_leaves_the_logits_as_they_were():
    logits = LOGITS.copy()
    shares(logits, replace(SETTINGS, repetition_penalty=2, top_k=2), [1, 2], draws=9)
    assert (logits == LOGITS).all()


def test_low_temperature_approaches_greedy():
    for temperature in [0.0, 1e-320, 1e-9, 0.01]:
        drawn = shares(LOGITS, replace(SETTINGS, temperature=temperature), draws=100)
        assert drawn[2] == 1


def toy_generator(vocabulary=("[UNK]", "king", "queen", "fool"), token_kind="words"):
    draw = np.random.default_rng(1)

    def array(*shape):
        return draw.normal(size=shape).astype(np.float32)

    size = len(vocabulary)
    cell = [array(3, 15), array(5, 15), array(2, 15)]
    dense, vocabulary = (array(5, size), array(size)), list(vocabulary)
    return program.Generator(array(size, 3), [cell], dense, vocabulary, token_kind)


def even_generator(**changes):
    """One that finds all tokens equally likely, whatever it has read."""
    generator = toy_generator(**changes)
    return replace(generator, dense=tuple(0 * array for array in generator.dense))


def write(generator, **changes):
    """What is written after the prompt."""
    return "".join(program.write(generator, replace(SETTINGS, **changes)))


def test_unknown_is_never_written():
    text = write(toy_generator(), prompt="The King, a BEGGAR!", num_words=300)
    words = text.split()
    assert len(words) == 300 and set(words) <= {"king", "queen", "fool"}


def test_what_is_not_known_is_named():
    line = program.name_unknown("The King, a BEGGAR, a Queene!", toy_generator())
    assert line.endswith(": 'the', 'a', 'beggar', 'queene'\n") and "[UNK]" in line
    assert program.name_unknown("king, king", toy_generator()) == ""
    assert program.name_unknown("", toy_generator()) == ""


def test_what_is_not_read_is_named_too():
    assert program.name_unknown("2nd king", toy_generator()).endswith(": '2nd'\n")
    verse = toy_generator(["[UNK]", "king"], "verse")
    assert program.name_unknown("king\nking", verse).endswith(": '\\n'\n")


@given(st.text())
def test_however_much_is_not_known_takes_one_line(prompt):
    line = program.name_unknown(prompt, toy_generator())
    assert line == "" or len(line) < 500 and line.splitlines() == [line[:-1]]


def test_nine_that_are_not_known_are_enough():
    line = program.name_unknown("a b c d e f g h i j k " * 2, toy_generator())
    assert line.endswith(": " + ", ".join(map(repr, "abcdefghi")) + "\n")


def test_same_seed_same_text_other_seed_other_text():
    texts = [write(toy_generator(), seed=seed) for seed in [5, 5, 6]]
    assert texts[0] == texts[1] != texts[2]


def print_samples(generator, shown=None, **changes):
    """What print_samples returns, and what it prints in lines of 100."""
    output = io.StringIO()
    columns = mock.patch.dict(os.environ, COLUMNS="100")
    with contextlib.redirect_stdout(output), columns:
        settings = replace(SETTINGS, **changes)
        samples = program.print_samples(generator, settings, shown)
    return samples, output.getvalue()


def test_a_sample_is_the_same_alone_and_beside_others():
    last = 2**31 - 1  # the largest seed; 0 comes after it
    samples, output = print_samples(toy_generator(), num_samples=3, seed=last)
    assert len(samples) == 3
    for (title, written), seed in zip(samples, [last, 0, 1]):
        assert title == f"--- temperature 1.0, seed {seed}"
        assert written == write(toy_generator(), seed=seed)
    shown = [f"{title} my lord{written}" for title, written in samples]
    assert output.split() == " ".join(shown).split()


def test_what_is_shown_stands_in_the_place_of_the_prompt():
    ((_, written),), output = print_samples(toy_generator(), "…", prompt="king")
    assert written == write(toy_generator(), prompt="king")
    assert output.split("\n")[1].startswith("…" + written[:30])


def test_a_token_is_drawn_when_it_is_asked_for_and_not_before(monkeypatch):
    draw = mock.Mock(wraps=program.draw_token)
    monkeypatch.setattr(program, "draw_token", draw)
    pieces = program.write(toy_generator(), replace(SETTINGS, num_words=10**6))
    assert len(list(islice(pieces, 5))) == draw.call_count == 5


def test_a_long_prompt_is_carried_in_the_state():
    """Reading a prompt and then a word is reading the longer prompt."""
    generator, prompt = toy_generator(), "king queen fool " * 50
    greedy = replace(SETTINGS, temperature=0.0, num_words=6)
    written = list(program.write(generator, replace(greedy, prompt=prompt)))
    longer = replace(greedy, prompt=prompt + "".join(written[:3]))
    assert list(program.write(generator, longer))[:3] == written[3:]


@pytest.mark.parametrize("kind", ["words", "verse", "characters"])
@pytest.mark.parametrize("prompt", ["", " \n", "...", "king ", "king " * 10_000])
def test_any_prompt_takes_the_same_path(prompt, kind):
    generator = toy_generator(["[UNK]", "k", "q", "f"], kind)
    _, output = print_samples(generator, prompt=prompt)
    shown = output.split("\n", maxsplit=1)[1]
    assert "".join(shown.split()).startswith("".join(prompt.split()))
    written = sum(Counter(shown)[letter] for letter in "kqf") - prompt.count("k")
    assert written == (360 if kind == "characters" else 60)


def test_words_go_on_after_a_space_and_verse_as_its_marks_ask():
    assert re.fullmatch("( king| queen| fool){60}", write(toy_generator()))
    text = "Ay, king"
    generator = toy_generator(["[UNK]", ","], "verse")
    assert write(generator, prompt=text, num_words=3) == ",,,"
    generator = toy_generator(["[UNK]", "sir"], "verse")
    assert write(generator, prompt=text, num_words=2) == " sir sir"
    assert write(generator, prompt="(", num_words=2) == "sir sir"
    assert write(generator, prompt="king\n", num_words=2) == "sir sir"


@pytest.mark.parametrize("prompt", ["2nd", "2nd 3rd", "...", "—"])
def test_a_prompt_of_which_no_word_is_read_is_followed_by_a_space(prompt):
    assert program.tokenize(prompt, "words") == []
    assert write(toy_generator(), prompt=prompt)[0] == " "
    assert write(toy_generator(), prompt="")[0] != " "


@pytest.mark.parametrize("kind", ["words", "verse"])
def test_spaces_at_the_end_of_a_prompt_are_not_doubled(kind):
    generator = toy_generator(["[UNK]", "king"], kind)
    for prompt in ["king", "king ", "king   "]:
        ((_, written),), output = print_samples(generator, prompt=prompt, num_words=2)
        assert written == ("king king" if prompt.endswith(" ") else " king king")
        assert output.split("\n")[1] == prompt + written


def test_characters_go_on_after_the_space_that_a_prompt_ends_with():
    generator = toy_generator(["[UNK]", *"king "], "characters")
    ((_, written),), output = print_samples(generator, prompt="king ", num_words=1)
    assert written == write(generator, prompt="king ", num_words=1)
    assert output.split("\n")[1] == "king " + written


PENALTY = {"repetition_penalty": 10.0, "temperature": 0.0}


def test_the_repetition_penalty_sees_the_prompt_and_what_was_written():
    """With one token left that is not recent, it is that one's turn."""
    text = write(even_generator(), prompt="king", num_words=2, **PENALTY)
    assert text == " queen fool"


def test_the_repetition_penalty_looks_back_on_64_tokens():
    """Of two that are equally likely, greedy writing takes the first."""
    for queens, next_word in [(63, "fool"), (64, "king")]:
        prompt = "king" + " queen" * queens
        text = write(even_generator(), prompt=prompt, num_words=1, **PENALTY)
        assert text == f" {next_word}"


def print_pieces(pieces, width):
    """What print_pieces returns, and what it prints."""
    output = io.StringIO()
    columns = mock.patch.dict(os.environ, COLUMNS=str(width))
    with contextlib.redirect_stdout(output), columns:
        return program.print_pieces(pieces), output.getvalue()


@given(st.lists(st.text("ab \n\t", max_size=5)), st.integers(1, 30))
def test_wrapping_turns_spaces_into_line_breaks_and_changes_nothing_else(pieces, width):
    text, output = print_pieces(pieces, width)
    assert text == "".join(pieces)
    assert len(output) == len(text) + 1 and output[-1] == "\n"
    changed = {(old, new) for old, new in zip(text, output) if old != new}
    assert changed <= {(" ", "\n")}


WORDS = st.text("abcdefg", min_size=1, max_size=9)


@given(st.lists(WORDS | st.just("\n")), st.integers(20, 60), st.booleans())
@example(["abcdefghi"] * 9, 28, False)
@example(["abcdefghi"] * 9, 28, True)
def test_no_line_of_short_words_is_longer_than_the_width(words, width, by_letters):
    """A line ends where the next word does not fit, or before its last ten columns."""
    text = "".join(program.spell(words, "verse"))
    pieces = text if by_letters else program.spell(words, "verse")
    lines = print_pieces(pieces, width)[1].split("\n")
    assert max(map(len, lines)) <= width
    starts = iter(text.split("\n"))
    whole = next(starts)
    for line, after in zip(lines, lines[1:]):
        if line == whole:
            whole = next(starts, None)
        else:  # broken
            assert width - len(line) < max(10, 1 + len(after.split(" ")[0]))
            whole = whole.removeprefix(line + " ")


@given(st.lists(WORDS | st.just("\n")), st.integers(20, 60))
def test_a_prompt_of_several_lines_is_wrapped_like_any_text(words, width):
    prompt = "".join(program.spell(words, "verse"))
    columns = mock.patch.dict(os.environ, COLUMNS=str(width))
    output, settings = io.StringIO(), replace(SETTINGS, prompt=prompt, num_words=5)
    with contextlib.redirect_stdout(output), columns:
        program.print_samples(toy_generator(), settings)
    lines = output.getvalue().split("\n")[1:]  # without the title
    assert max(map(len, lines)) <= width


def test_a_text_is_printed_as_it_comes():
    """Nothing waits in a buffer until the next piece is there."""
    shown = io.BytesIO()

    def pieces():
        for number in range(50):
            assert shown.getvalue().split() == [b"king"] * number
            yield " king"

    with contextlib.redirect_stdout(io.TextIOWrapper(shown)):
        assert program.print_pieces(pieces()) == " king" * 50


def color(generator, text):
    """A text in the colours of what its tokens cost."""
    tokens = program.tokenize(text, generator.token_kind)
    return program.color_text(generator, text, program.surprisal(generator, tokens))


def describe_surprise(generator, tokens):
    """The lines on what tokens cost a generator."""
    bits = program.surprisal(generator, tokens)
    return program.describe_surprise(generator, tokens, bits)


@given(st.lists(WORDS, min_size=1), st.integers(10, 60))
def test_colours_do_not_count_as_width(words, width):
    text = " ".join(words)
    _, output = print_pieces(color(toy_generator(), text), width)
    _, plain = print_pieces(re.findall(r"\s*\S+|\s+$", text), width)
    assert re.sub("\033.*?m", "", output) == plain


COPIED = "the king is mad\nand the queen is not mad at all my lord"
SOURCE = program.index_words(COPIED)


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
    assert len(run.split()) == longest_run(words, f" {' '.join(COPIED.split())} ")
    grams = [words[n : n + 5] for n in range(len(words) - 4)]
    source = f" {' '.join(COPIED.split())} "
    found = [f" {' '.join(gram)} " in source for gram in grams]
    assert share == (np.mean(found) if grams else None)


def test_part_of_a_word_is_no_copy():
    assert program.find_copies("kin ueen", SOURCE) == ("", None)


def talk(monkeypatch, capsys, *lines, source=None, generator=None, **changes):
    """What is printed in answer to lines that come through a pipe."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{l}\n" for l in lines)))
    settings = replace(SETTINGS, num_words=5, **changes)
    program.converse(generator or toy_generator(), settings, source)
    return capsys.readouterr().out


def test_a_conversation_goes_on_from_what_is_typed(monkeypatch, capsys):
    output = talk(monkeypatch, capsys, "the fool", "", "king")
    assert output.count("---") == 3 and "Not known" in output
    seeds = re.findall(r"seed (\d)", output)
    assert seeds == ["0", "1", "2"]
    first, second, third = re.split("--- .*\n", output)[1:]
    assert first.startswith("the fool ") and third.startswith("king ")
    prompt = first.split("\n")[0]
    expected = write(toy_generator(), prompt=prompt, num_words=5, seed=1)
    assert second.startswith("…" + expected)


def test_a_conversation_tells_what_is_copied_from_a_source(monkeypatch, capsys):
    source = program.index_words("king queen fool")
    output = talk(monkeypatch, capsys, "king", source=source)
    assert output.count("longest run of the training text") == 1
    written = write(toy_generator(), prompt="king", num_words=5, seed=0)
    assert program.describe_copies(written, source) + "\n" in output


def test_again_is_another_text_from_the_same_prompt(monkeypatch, capsys):
    output = talk(monkeypatch, capsys, "king", "/again", "", "/again")
    first, again, on, on_again = re.split("--- .*\n", output)[1:]
    expected = [
        write(toy_generator(), prompt="king", num_words=5, seed=n) for n in [0, 1]
    ]
    assert [first, again] == [f"king{expected[0]}\n", f"…{expected[1]}\n"]
    prompt = "king" + expected[1]
    for seed, written in [(2, on), (3, on_again)]:
        more = write(toy_generator(), prompt=prompt, num_words=5, seed=seed)
        assert written == f"…{more}\n"


def test_a_setting_alone_says_its_value(monkeypatch, capsys):
    lines = ["/temperature", "/temperature 0.5", "/temperature", "/num-words"]
    assert talk(monkeypatch, capsys, *lines).split() == ["1.0", "0.5", "5"]


def test_a_mistyped_command_is_met_with_the_nearest(monkeypatch, capsys):
    output = talk(monkeypatch, capsys, "/tempature 0.5")
    assert "did you mean /temperature?" in output and output.count("\n") == 1


def test_quit_ends_a_conversation(monkeypatch, capsys):
    assert talk(monkeypatch, capsys, "/quit", "king") == ""


def test_what_was_said_is_saved_in_a_new_file_only(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    lines = [
        "king",
        "",
        "/save",
        "/save mine.txt",
        "/save no/such/talk.txt",
        "/save a b.txt",
    ]
    output = talk(monkeypatch, capsys, *lines)
    assert output.count("Give /save the name of a new file") == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
    first, second = re.split("--- .*\n", output)[1:3]
    saved = (tmp_path / "a b.txt").read_text(encoding="utf-8")
    assert saved == (tmp_path / "no/such/talk.txt").read_text(encoding="utf-8")
    assert saved.startswith("--- temperature 1.0, seed 0\n" + first)
    assert first.strip() + second.split("\n")[0][1:] in saved


def test_a_conversation_changes_settings_and_survives_mistakes(monkeypatch, capsys):
    lines = ["/temperature 0", "/temperature x", "/epochs 3", "/top-p 2", "/", "king"]
    output = talk(monkeypatch, capsys, *lines, "/help")
    assert "temperature 0.0, seed 0" in output
    for wrong in ["/temperature: invalid", "/epochs", "/top-p"]:
        assert wrong in output
    assert "/temperature 0.0\n" in output and "/epochs 8" not in output


@pytest.mark.parametrize("line", ["/", "/help me", "/help temperature", "/-h", "/?"])
def test_a_conversation_survives_any_command(line, monkeypatch, capsys):
    output = talk(monkeypatch, capsys, line, "king")
    assert write(toy_generator(), prompt="king", num_words=5) in output


def test_a_conversation_goes_on_without_the_space_that_was_typed(monkeypatch, capsys):
    """A space follows "king" anyway; two would be another text for verse."""
    generator = toy_generator(["[UNK]", "king", *"abcdefgh"], "verse")
    lines = "/num-words 1", "king ", "/num-words 20", ""
    output = talk(monkeypatch, capsys, *lines, generator=generator)
    first = write(generator, prompt="king", num_words=1, seed=0)
    second, other = (
        write(generator, prompt=prompt + first, num_words=20, seed=1)
        for prompt in ["king", "king "]
    )
    assert second != other
    assert output.endswith(f"…{second}\n")


def test_surprisal_is_what_the_model_thought_of_each_word():
    generator = toy_generator()
    kernel, bias = generator.dense
    h, nats = np.zeros(5), []
    for token_id, target in [(1, 3), (3, 0), (0, 2)]:  # king, fool, [UNK], queen
        x, cell = generator.embedding[token_id], generator.cells[0]
        z, _, candidate = program.gru_gates(x, h, *cell)
        h = z * h + (1 - z) * candidate
        nats.append(-np.log(softmax(h @ kernel + bias)[target]))
    nats[1] += program.spelling_nats(["beggar"], generator.vocabulary).sum()
    bits = program.surprisal(generator, ["king", "fool", "beggar", "queen"])
    np.testing.assert_allclose(bits[1:], np.array(nats) / np.log(2), atol=1e-5)
    assert np.isnan(bits[0]) and len(bits) == 4
    mean = program.perplexity(bits[1:] * np.log(2))
    assert mean == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)


def test_what_is_equally_likely_costs_the_same():
    generator = even_generator(vocabulary=["[UNK]", *"abcdefg"])
    bits = program.surprisal(generator, list("abcabg"))
    np.testing.assert_allclose(bits[1:], 3)  # one of eight


@pytest.mark.parametrize("tokens", [[], ["king"], ["beggar"]])
def test_a_text_without_a_prediction_has_no_perplexity(tokens):
    bits = program.surprisal(toy_generator(), tokens)
    assert len(bits) == len(tokens) and np.isnan(bits).all()
    assert program.perplexity(bits[1:]) is None


def test_surprisal_has_colours_and_what_is_unknown_one_of_its_own(monkeypatch):
    bits = np.array([np.nan, 4.5, 12, 99, 40])
    monkeypatch.setattr(program, "surprisal", lambda *_: bits)
    text = "".join(color(toy_generator(), "king queen fool king zyx"))
    assert re.sub("\033.*?m", "", text) == "king queen fool king zyx"
    codes = re.findall("\033\\[([^m]+)m", text)[::2]
    known = [program.COLORS[limit] for limit in [4, 8, 12, np.inf]]
    assert codes == [*known, "35"] and "magenta" in program.LEGEND


@given(st.text("king queenKING'-,.! \n\t0é…", max_size=60))
@pytest.mark.parametrize("kind", program.TOKENIZERS)
def test_a_text_that_is_scored_keeps_its_lines_capitals_and_marks(kind, text):
    generator = even_generator(
        vocabulary=["[UNK]", "king", "queen", "k"], token_kind=kind
    )
    coloured = "".join(color(generator, text))
    assert re.sub("\033.*?m", "", coloured) == text
    counts = [length for _, length in program.cut_pieces(text, kind)]
    assert sum(counts) == len(program.tokenize(text, kind))


def test_an_unknown_word_costs_its_letters_too():
    generator = even_generator(vocabulary=["[UNK]", *"abcdefg"])
    known, unknown = program.surprisal(generator, list("aaa") + ["blorf"])[2:]
    assert known == pytest.approx(3)
    spelling = program.spelling_nats(["blorf"], generator.vocabulary).sum()
    assert unknown == pytest.approx(3 + spelling / np.log(2)) and unknown > 15


def test_a_text_of_unknown_words_is_said_to_mean_little():
    generator = even_generator(vocabulary=["[UNK]", *"abcdefg"])
    lines = [*describe_surprise(generator, ["a", "b", "blorf", "a", "a"])]
    assert lines[0] == "tokens: 5" and lines[1] == "unknown share: 0.2"
    assert (
        lines[-1].startswith("most surprising: 'blorf' (")
        and "'a' (3 bits)" in lines[-1]
    )
    lines = [*describe_surprise(generator, ["a", "blorf", "zyx"])]
    assert "say little" in lines[-1]
    assert "say little" not in "".join(describe_surprise(generator, []))


def test_blank_lines_do_not_use_up_the_length():
    """A generator that writes two line ends after each word, and one that never stops."""
    generator = even_generator(vocabulary=["[UNK]", "\n", "king"], token_kind="verse")
    text = "".join(program.write(generator, replace(SETTINGS, num_words=40, prompt="")))
    tokens = program.tokenize(text, "verse")
    blank = sum(pair == ("\n", "\n") for pair in zip(["\n", *tokens], tokens))
    assert blank > 0 and len(tokens) == 40 + blank
    lines = even_generator(vocabulary=["[UNK]", "\n"], token_kind="verse")
    text = "".join(program.write(lines, replace(SETTINGS, num_words=40, prompt="")))
    assert text == "\n" * 80
