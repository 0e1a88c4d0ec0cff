"""From text to tokens, ids and batches."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

DATA = ROOT.parent / "shared" / "data"


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


def test_verse_takes_spaces_for_granted_only_where_they_usually_stand():
    assert program.tokenize("Ay, sir.", "verse") == ["Ay", ",", "sir", "."]
    glue = program.GLUE
    assert program.tokenize("Ay,sir .", "verse") == ["Ay", ",", glue, "sir", " ", "."]
    assert program.tokenize(" Ay,  sir", "verse") == [" ", "Ay", ",", " ", " ", "sir"]


@given(st.text() | st.text("ab1'-’.,— \n\t\r\xa0(«!\u0301\u200dé東👩🏽"))
@example(" a \n b  ")
@example("    Exit.\n\tHe dies;  \t and\t\tthen,   rests .\n\n\n  ")
@example("[GLUE] [UNK][GLUE]x[UNK] '' a'b--c")
@example("👩\u200d👩\u200d👧 👍🏽👍🏽  ☠\ufe0f, 🇬🇧")
@example("नमस्ते दुनिया। مرحبا، 東京")
def test_verse_gives_back_any_text(text):
    tokens = program.tokenize(text, "verse")
    assert program.detokenize(tokens, "verse") == text
    assert program.UNKNOWN not in tokens and "" not in tokens


@given(st.text())
def test_characters_give_back_any_text(text):
    assert (
        program.detokenize(program.tokenize(text, "characters"), "characters") == text
    )


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["tinyshakespeare.txt"])
def test_verse_gives_back_the_corpora(name):
    text = (DATA / name).read_text(encoding="utf-8")
    tokens = program.tokenize(text, "verse")
    assert program.detokenize(tokens, "verse") == text
    assert tokens.count(program.GLUE) < len(tokens) / 1000


SPELLED = ["Ay", "'tis", ",", "\n", "(", "--", " ", "\t", program.GLUE]


@given(st.lists(st.sampled_from(SPELLED)), st.data())
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


def make(num_train, num_validation, **changes):
    """The dataset of a text of one word, cut into parts of these lengths."""
    share = num_validation / (num_train + num_validation) + 1e-9
    changes |= {"validation_share": share, "test_share": 0}
    return program.make_dataset(
        ["a"] * (num_train + num_validation), settings(**changes)
    )


def test_a_text_that_is_too_short_is_refused_with_numbers():
    refused = partial(pytest.raises, program.UserError)
    with refused(match="6 training tokens .* are too few for 2 streams of 3"):
        make(6, 0)
    with refused(match="2 for validation are too few"):
        make(7, 2)
    for num_train, num_validation in [(7, 3), (7, 0)]:
        dataset = make(num_train, num_validation)
        assert len(dataset.train.ids) == num_train
        assert len(dataset.validation.ids) == num_validation


def test_a_text_without_a_frequent_token_is_refused():
    assert make(7, 0, min_count=7).vocabulary == ["[UNK]", "a"]
    with pytest.raises(program.UserError, match="smaller --min-count"):
        make(7, 0, min_count=8)


def test_vocabulary_is_unknown_then_the_most_frequent_first():
    tokens = "to be or not to be to".split()
    assert program.build_vocabulary(tokens, 2) == ["[UNK]", "to", "be"]
    assert program.build_vocabulary(tokens, 4) == ["[UNK]"]


def test_only_the_training_part_says_what_is_known():
    text = "to be or not to be " * 10 + "be bold bold bold"
    changed = settings(max_tokens=63, validation_share=0.05, test_share=0)
    dataset = program.make_dataset(text.split()[: changed.max_tokens], changed)
    assert dataset.token_kind == "words"
    assert set(dataset.vocabulary) == {"[UNK]", "to", "be", "or", "not"}
    assert dataset.train.tokens == "to be or not to be".split() * 10
    assert dataset.validation.tokens == ["be", "bold", "bold"]
    assert dataset.test.tokens == [] and dataset.test.ids.shape == (0,)
    for part in dataset[2:]:
        known = [t if t != "bold" else "[UNK]" for t in part.tokens]
        assert program.decode(part.ids, dataset.vocabulary) == known


def test_encode_and_decode_are_inverse_but_for_unknown_tokens():
    vocabulary = ["[UNK]", "to", "be"]
    ids = program.encode(["be", "bold", "to"], vocabulary)
    assert ids.dtype == np.int32 and ids.tolist() == [2, 0, 1]
    assert program.decode(ids, vocabulary) == ["be", "[UNK]", "to"]


@pytest.mark.parametrize("length", [2, 7, 8, 30, 31, 100])
def test_each_row_goes_on_where_the_batch_before_stopped(length):
    ids = np.arange(length)
    batches = program.make_batches(ids, batch_size=2, sequence_length=3)
    assert len(batches) == (length - 1) // 6
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (2, 3)
        assert (targets == inputs + 1).all()
    for (before, _), (after, _) in zip(batches, batches[1:]):
        assert (after[:, 0] == before[:, -1] + 1).all()
    seen = [token_id for inputs, _ in batches for token_id in inputs.flat]
    assert sorted(seen) == list(range(len(batches) * 6))


def hide(ids, size, share):
    """The ids of a training part in which local words were hidden."""
    vocabulary = list(map(str, range(size)))
    part = program.Part([vocabulary[token_id] for token_id in ids], ids)
    dataset = program.Dataset("words", vocabulary, part, None, None)
    random = np.random.default_rng(0)
    return program.hide_local_words(dataset, settings(hide_words=share), random)


def test_local_words_are_hidden_in_all_of_a_tenth_or_not_at_all():
    """Word 1 is everywhere, 2 twice in two tenths, and each tenth has two of its own."""
    ids = np.ones(1000, int)
    ids[[5, 7, 905, 907]] = 2
    for tenth in range(10):
        ids[tenth * 100 + 20 :][:30:10] = 10 + tenth
        ids[tenth * 100 + 60 :][:30:10] = 20 + tenth
    hidden = hide(ids, 30, 0.5)
    assert (hidden[ids < 10] == ids[ids < 10]).all()
    shares = [np.mean(hidden[ids == word] == 0) for word in range(10, 30)]
    assert set(shares) == {0, 1} and 5 <= sum(shares) <= 15
    assert (hidden[hidden > 0] == ids[hidden > 0]).all()


@pytest.mark.parametrize("share", [0, 1])
def test_no_local_word_or_every_one_is_hidden(share):
    ids = np.repeat(np.arange(20), 5)  # two words a tenth, none in another
    assert (hide(ids, 20, share) == ids * (1 - share)).all()


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


@pytest.mark.parametrize(
    "text, kind",
    [
        ("To be, or not to be", "words"),
        ("Он вышел из дома", "words"),
        ("나는 학교에 간다", "words"),
        ("話說天下大勢，分久必合，合久必分", "characters"),
        ("吾輩は猫である。名前はまだ無い。", "characters"),
        ("สวัสดีชาวโลก", "characters"),
        ("He said 東京 and 大阪", "words"),
        ("1 2 3", "words"),
        ("", "words"),
    ],
)
def test_a_script_without_spaces_is_read_as_characters(text, kind):
    assert program.guess_token_kind(text) == kind
    assert program.guess_token_kind(text * 9999) == kind


def test_the_prompt_is_the_most_frequent_pair_of_words_in_a_line():
    """Neither across a mark or a line's end, nor from the held-out parts."""
    text = "my lord\nmy lord\nking. A\nking. A\nking. A\nlord\nmy\n- -\n- -\n- - 1 2 1 2 1 2\n"
    assert program.find_prompt(text + "so so so so\n" * 2, settings()) == "my lord"
    assert program.find_prompt("Он вышел. " * 9, settings()) == ""
    assert program.find_prompt("как будто он\n" * 20, settings()) == "как будто"
    for text in ["", "one two", "話說天下大勢，分久必合\n" * 9]:
        assert program.find_prompt(text, settings()) == ""


PLAYS = ROOT / "data" / "plays.txt"


@pytest.mark.skipif(
    not PLAYS.exists(), reason="needs data/plays.txt: run the program once"
)
def test_the_plays_split_as_published():
    tokens = program.tokenize(PLAYS.read_text(encoding="utf-8"), "words")
    dataset = program.make_dataset(tokens, program.Settings())
    parts = dataset.train, dataset.validation, dataset.test
    assert sum(len(part.tokens) for part in parts) == 903_138
    assert [len(part.ids) for part in parts] == [722_512, 90_313, 90_313]
    assert len(dataset.vocabulary) == 14_028
    frequencies = program.token_frequencies(dataset)
    unigram = [np.exp(-np.log(frequencies[part.ids]).mean()) for part in parts[1:]]
    assert unigram == pytest.approx([701.1, 718.4], abs=0.1)
