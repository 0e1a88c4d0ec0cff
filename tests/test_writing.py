"""Drawing tokens and writing with them."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program

LOGITS = np.array([9.0, 1.0, 3.0, 2.0, 0.0], np.float32)  # [UNK] would win
SETTINGS = program.Settings(temperature=1.0, top_p=1.0)


def shares(logits, settings, draws=20_000):
    """How often each id is drawn."""
    random = np.random.default_rng(0)
    ids = [program.draw_token(logits, settings, random) for _ in range(draws)]
    return np.bincount(ids, minlength=len(logits)) / draws


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def reference(logits, settings):
    """The probabilities that should come out, token by token and slowly."""
    likeliest = sorted(range(1, len(logits)), key=lambda i: -logits[i])
    likeliest = likeliest[: settings.top_k or None]
    probabilities = softmax(logits[likeliest] / settings.temperature)
    result, total = np.zeros(len(logits)), 0.0
    for token_id, probability in zip(likeliest, probabilities):
        if total < settings.top_p:
            result[token_id] = probability
        total += probability
    return result / result.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 3])
@pytest.mark.parametrize("top_p", [0.3, 0.7, 0.95, 1.0])
def test_draws_follow_temperature_top_k_and_top_p(temperature, top_k, top_p):
    settings = replace(SETTINGS, temperature=temperature, top_k=top_k, top_p=top_p)
    expected = reference(LOGITS, settings)
    drawn = shares(LOGITS, settings)
    np.testing.assert_allclose(drawn, expected, atol=0.015)
    assert ((drawn > 0) == (expected > 0)).all()


def test_low_temperature_approaches_greedy():
    for temperature in [0.0, 1e-9, 0.01]:
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


def test_unknown_is_never_written_and_always_readable():
    settings = replace(SETTINGS, prompt="The King, a BEGGAR!", num_words=300)
    text = program.write_sample(toy_generator(), settings)
    assert text.startswith("The King, a BEGGAR! ")
    words = text.removeprefix("The King, a BEGGAR! ").split()
    assert len(words) == 300 and set(words) <= {"king", "queen", "fool"}
    assert program.find_unknown(settings.prompt, toy_generator()) == [
        "a",
        "beggar",
        "the",
    ]


def test_same_seed_same_text_other_seed_other_text():
    texts = [
        program.write_sample(toy_generator(), replace(SETTINGS, seed=seed))
        for seed in [5, 5, 6]
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_long_prompt_is_carried_in_the_state():
    """Reading a prompt and then a word is reading the longer prompt."""
    generator, ids = toy_generator(), [1, 2, 3] * 50
    greedy = replace(SETTINGS, temperature=0.0)
    written = list(islice(program.write_tokens(generator, ids, greedy), 6))
    longer = ids + written[:3]
    assert (
        list(islice(program.write_tokens(generator, longer, greedy), 3)) == written[3:]
    )


@pytest.mark.parametrize("prompt", ["", " \n", "...", "king " * 10_000])
def test_any_prompt_takes_the_same_path(prompt):
    text = program.write_sample(toy_generator(), replace(SETTINGS, prompt=prompt))
    assert text.startswith(prompt)
    assert len(text.removeprefix(prompt).split()) == SETTINGS.num_words


def test_characters_are_written_without_blanks_between():
    generator = toy_generator(["[UNK]", "a", " ", "\n"], "characters")
    text = program.write_sample(generator, replace(SETTINGS, prompt="aa"))
    assert text.startswith("aa") and len(text) == 2 + SETTINGS.num_words


def test_text_is_wrapped_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    wrapped = program.wrap_text("word " * 30 + "\n\nend")
    assert max(map(len, wrapped.splitlines())) <= 20
    assert wrapped.split() == ["word"] * 30 + ["end"]
    assert wrapped.endswith("\n\nend")


def test_each_sample_can_be_written_again_by_its_seed():
    settings = replace(SETTINGS, num_samples=3, seed=2**31 - 1)
    samples = list(program.write_samples(toy_generator(), settings, [0.5, 1.0]))
    assert len(samples) == 6 and "temperature 1.0, seed 1\n" in samples[5]
    again = replace(settings, seed=1, num_samples=1)
    assert list(program.write_samples(toy_generator(), again, [1.0])) == samples[5:]
