"""From text to tokens, ids and batches."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

DATA = ROOT.parent / "shared" / "data"
WORKS = DATA / "complete_works.txt"


def test_words_lose_punctuation_capitals_and_newlines_only():
    text = "Ay, sir;\nthat's so.\r\nThe 2 gentlemen -- of Verona!"
    words = ["ay", "sir", "thats", "so", "the", "gentlemen", "of", "verona"]
    assert program.tokenize(text, "words") == words


def test_words_at_line_ends_stay_apart():
    assert program.tokenize("Rome and\nis lost", "words") == "rome and is lost".split()


def test_characters_give_the_text_back():
    text = "Ay, sir;\n\tñ — 東京 ! "
    assert (
        program.detokenize(program.tokenize(text, "characters"), "characters") == text
    )


def test_verse_has_words_as_they_are_and_marks_and_line_breaks():
    text = "KING (aside):\n'Tis o'er -- the grey-eyed Moor!\n"
    words = "KING ( aside ) : \n 'Tis o'er -- the grey-eyed Moor ! \n".split(" ")
    assert [t for t in program.tokenize(text, "verse") if t != " "] == words


def test_verse_takes_blanks_for_granted_only_where_they_usually_stand():
    assert program.tokenize("Ay, sir.", "verse") == ["Ay", ",", "sir", "."]
    glue = program.GLUE
    assert program.tokenize("Ay,sir .", "verse") == ["Ay", ",", glue, "sir", " ", "."]


def one_blank(text):
    return re.sub(r"[^\S\n]+", " ", text)


@given(st.text() | st.text("ab'-’., \n\t(!\u0301é東"))
@example(" a \n b  ")
@example("[GLUE] [UNK] '' a'b--c")
@example("नमस्ते दुनिया। مرحبا، 東京")
def test_verse_gives_back_any_text_up_to_runs_of_blanks(text):
    tokens = program.tokenize(text, "verse")
    assert program.detokenize(tokens, "verse") == one_blank(text)
    assert program.UNKNOWN not in tokens


@given(st.text())
def test_characters_give_back_any_text(text):
    assert (
        program.detokenize(program.tokenize(text, "characters"), "characters") == text
    )


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["complete_works.txt", "tinyshakespeare.txt"])
def test_verse_gives_back_the_corpora(name):
    text = (DATA / name).read_text(encoding="utf-8")
    tokens = program.tokenize(text, "verse")
    assert program.detokenize(tokens, "verse") == one_blank(text)
    assert tokens.count(program.GLUE) < len(tokens) / 1000


@given(st.lists(st.sampled_from(["Ay", "'tis", ",", "\n", "(", "--", " "])), st.data())
def test_spelling_goes_on_from_any_token(tokens, data):
    cut = data.draw(st.integers(0, len(tokens)))
    before = program.detokenize(tokens[:cut], "verse")
    after = program.spell(tokens[cut:], "verse", ["\n", *tokens[:cut]][-1])
    assert before + "".join(after) == program.detokenize(tokens, "verse")


def settings(**changes):
    return program.Settings(**{"batch_size": 2, "sequence_length": 3, **changes})


def test_parts_are_contiguous_and_lose_nothing():
    tokens = [str(n) for n in range(105)]
    parts = program.split_tokens(tokens, settings())
    assert [len(part) for part in parts] == [85, 10, 10]
    assert sum(parts, []) == tokens


def test_shares_of_zero_leave_everything_to_training():
    changes = {"validation_share": 0, "test_share": 0}
    parts = program.split_tokens(["a"] * 50, settings(**changes))
    assert [len(part) for part in parts] == [50, 0, 0]


def test_a_text_that_is_too_short_is_refused_with_numbers():
    refused = partial(pytest.raises, program.UserError)
    with refused(match="6 training tokens .* are too few for 2 streams of 3"):
        program.check_sizes(["a"] * 6, [], settings())
    with refused(match="2 for validation are too few"):
        program.check_sizes(["a"] * 7, ["a"] * 2, settings())
    program.check_sizes(["a"] * 7, ["a"] * 3, settings())
    program.check_sizes(["a"] * 7, [], settings())


def test_vocabulary_is_unknown_then_the_most_frequent_first():
    tokens = "to be or not to be to".split()
    assert program.build_vocabulary(tokens, 2) == ["[UNK]", "to", "be"]
    with pytest.raises(program.UserError, match="no token is seen 4 times"):
        program.build_vocabulary(tokens, 4)


def test_encode_and_decode_are_inverse_but_for_unknown_tokens():
    vocabulary = ["[UNK]", "to", "be"]
    ids = program.encode(["be", "bold", "to"], vocabulary)
    assert ids.dtype == np.int32 and ids.tolist() == [2, 0, 1]
    assert program.decode(ids, vocabulary) == ["be", "[UNK]", "to"]


@pytest.mark.parametrize("length", [7, 8, 30, 31, 100])
def test_each_row_goes_on_where_the_batch_before_stopped(length):
    ids = np.arange(length)
    inputs, targets = program.make_batches(ids, batch_size=2, sequence_length=3)
    assert (targets == inputs + 1).all()
    assert (inputs[2:, 0] == inputs[:-2, -1] + 1).all()
    assert inputs.size == (length - 1) // 6 * 6 == len(np.unique(inputs))


def test_local_words_are_hidden_in_all_of_a_tenth_or_not_at_all():
    """Word 1 is everywhere, 2 twice in two tenths, and each tenth has two of its own."""
    ids = np.ones(1000, int)
    ids[[5, 7, 905, 907]] = 2
    for tenth in range(10):
        ids[tenth * 100 + 20 :][:30:10] = 10 + tenth
        ids[tenth * 100 + 60 :][:30:10] = 20 + tenth
    changed = settings(hide_words=0.5)
    hidden = program.hide_local_words(ids, 30, changed, np.random.default_rng(0))
    assert (hidden[ids < 10] == ids[ids < 10]).all()
    shares = [np.mean(hidden[ids == word] == 0) for word in range(10, 30)]
    assert set(shares) == {0, 1} and 5 <= sum(shares) <= 15
    assert (hidden[hidden > 0] == ids[hidden > 0]).all()


@pytest.mark.parametrize("share", [0, 1])
def test_no_local_word_or_every_one_is_hidden(share):
    ids = np.repeat(np.arange(20), 5)  # two words a tenth, none in another
    changed = settings(hide_words=share)
    hidden = program.hide_local_words(ids, 20, changed, np.random.default_rng(0))
    assert (hidden == ids * (1 - share)).all()


def test_affixes_are_shared_by_words_that_begin_or_end_alike():
    vocabulary = "[UNK] loves lovely moves ox".split()
    unknown, loves, lovely, moves, ox = program.number_affixes(vocabulary)
    assert loves[2] == lovely[2] > 0  # love-
    assert loves[0] == moves[0] > 0 and loves[1] == moves[1] > 0  # -es, -ves
    assert set(unknown) == {0}
    assert lovely[0] == lovely[1] == moves[2] == 0  # nobody else has these
    assert program.number_affixes(list("abc")).tolist() == [[0, 0, 0]] * 3


def test_affixes_have_the_same_numbers_in_every_process():
    """Python orders a set of texts anew in each: the same seed would be another run."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {program.__name__} as p;"
        "print(p.number_affixes('loves moves lovely lively giveth loveth'.split()))"
    )
    outputs = {
        subprocess.check_output(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in "12345"
    }
    assert len(outputs) == 1


@pytest.mark.skipif(not Path(WORKS).exists(), reason="needs ../shared")
def test_the_complete_works_split_as_published():
    text = WORKS.read_text(encoding="utf-8")
    tokens = program.tokenize(text, "words")
    parts = program.split_tokens(tokens, program.Settings())
    vocabulary = program.build_vocabulary(parts[0], 2)
    assert len(tokens) == 938_390
    assert [len(part) for part in parts] == [750_712, 93_839, 93_839]
    assert len(vocabulary) == 14_353
    ids = [program.encode(part, vocabulary) for part in parts]
    frequencies = program.token_frequencies(ids[0], len(vocabulary))
    unigram = [np.exp(-np.log(frequencies[part]).mean()) for part in ids[1:]]
    assert unigram == pytest.approx([790.3, 721.1], abs=0.1)
