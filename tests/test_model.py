"""The GRU by hand, the scores, and what training rests on, against Keras and by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program

VOCABULARY = ["[UNK]", *"abcdefghijklmno"]
SETTINGS = program.Settings(
    embedding_size=5,
    hidden_size=7,
    num_layers=2,
    batch_size=3,
    sequence_length=4,
    dropout=0,
    input_dropout=0,
    num_sampled=0,
    epochs=3,
)


def train(model, train_ids, validation_ids, settings):
    """The rows of a training with all of its epochs."""
    steps = settings.epochs * program.count_steps(train_ids, settings)
    parts = train_ids, validation_ids
    return list(program.train(model, VOCABULARY, *parts, settings, steps, show=0))


@pytest.fixture(scope="module")
def keras():
    program.start_tensorflow()
    import keras

    return keras


@pytest.fixture
def model(keras):
    """A toy model with weights large enough to matter."""
    model = program.build_model(len(VOCABULARY), SETTINGS)
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(size=w.shape) for w in model.get_weights()])
    return model


def test_a_step_by_hand_is_a_step_of_keras(model):
    ids = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    generator = program.make_generator(model, VOCABULARY, "words")
    state, logits = program.zero_state(generator), []
    for token_id in ids:
        state = program.read_token(generator, token_id, state)
        logits.append(state[-1] @ generator.dense[0] + generator.dense[1])
    np.testing.assert_allclose(logits, model(ids[None])[0], atol=1e-5)


def test_a_score_is_the_cross_entropy_of_keras(model, keras):
    ids = np.random.default_rng(1).integers(len(VOCABULARY), size=2500)
    generator = program.make_generator(model, VOCABULARY, "words")
    loss = keras.ops.sparse_categorical_crossentropy(
        ids[1:], model(ids[None, :-1])[0], from_logits=True
    )
    np.testing.assert_allclose(program.score_tokens(generator, ids), loss, atol=2e-4)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity(model):
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    generator = program.make_generator(model, VOCABULARY, "words")
    nats = program.score_tokens(generator, np.arange(16))
    assert len(nats) == 15
    assert program.perplexity(nats.mean()) == pytest.approx(16)


def test_every_kernel_starts_as_glorot_says(keras):
    model = program.build_model(400, program.Settings(embedding_size=60))
    matrices = [w for w in model.get_weights() if w.ndim == 2 and len(w) > 2]
    assert len(matrices) == 4  # embedding, GRU's kernel and recurrent kernel, Dense
    for matrix in matrices:
        limit = math.sqrt(6 / sum(matrix.shape))
        assert abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("num_sampled", [1, 10, 500, 999])
def test_sampling_odds_are_odds_and_add_up(num_sampled):
    odds = program.sampling_odds(1000, num_sampled)
    assert odds.sum() == pytest.approx(num_sampled, rel=1e-6)
    assert ((0 < odds) & (odds <= 1)).all() and (np.diff(odds) <= 0).all()


def test_the_sampled_softmax_estimates_the_full_one_without_bias(keras):
    draw = np.random.default_rng(2)
    size, hidden, targets = 300, draw.normal(size=(8, 6)), draw.integers(300, size=8)
    table, bias = draw.normal(size=(size, 6)), draw.normal(size=size)
    hidden, table, bias = (a.astype("float32") for a in (hidden, table, bias))
    odds = program.sampling_odds(size, 150)
    chance = keras.random.SeedGenerator(3)
    losses = []
    for _ in range(400):
        sample = program.draw_sample(odds, chance)
        expected = odds[sample].astype("float32")
        losses.append(
            program.sampled_loss(hidden, targets, sample, table, bias, expected)
        )
    full = float(program.full_loss(hidden, targets, table, bias))
    assert np.mean(losses) == pytest.approx(full, rel=0.01)
    assert np.std(losses) > 0


def test_the_full_softmax_is_the_cross_entropy_of_keras(keras):
    draw = np.random.default_rng(2)
    shapes = (8, 6), (30, 6), (30,)
    hidden, table, bias = (draw.normal(size=s).astype("float32") for s in shapes)
    targets = draw.integers(30, size=8)
    logits = hidden @ table.T + bias
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(loss(targets, logits))
    assert float(program.full_loss(hidden, targets, table, bias)) == pytest.approx(
        expected, rel=1e-5
    )


def test_gradients_are_dense_as_adam_needs_them(keras):
    import tensorflow as tf

    settings = program.replace(SETTINGS, dropout=0.5, num_sampled=4)
    model = program.build_model(len(VOCABULARY), settings)
    trainer = program.make_trainer(model, VOCABULARY, settings)
    ids = np.ones((3, 4), np.int32)
    with tf.GradientTape() as tape:
        loss = trainer((ids, ids), training=True)
    variables = [variable.value for variable in trainer.trainable_variables]
    gradients = tape.gradient(loss, variables)
    assert all(isinstance(gradient, tf.Tensor) for gradient in gradients)


def test_the_state_is_carried_from_batch_to_batch(model):
    trainer = program.make_trainer(model, VOCABULARY, SETTINGS)
    pair = np.random.default_rng(4).integers(len(VOCABULARY), size=(2, 3, 8))
    whole = float(trainer(pair))
    trainer.begin()
    halves = [float(trainer(pair[:, :, :4])), float(trainer(pair[:, :, 4:]))]
    assert np.mean(halves) == pytest.approx(whole, abs=1e-5)
    trainer.begin()
    assert float(trainer(pair[:, :, 4:])) != pytest.approx(halves[1], abs=1e-5)


def test_the_penalty_is_the_mean_square_of_the_output_while_training(model):
    settings = program.replace(SETTINGS, activation_penalty=3)
    trainer = program.make_trainer(model, VOCABULARY, settings)
    trainer.fold()
    pair = np.random.default_rng(6).integers(len(VOCABULARY), size=(2, 3, 4))
    plain = float(trainer(pair))
    trainer.begin()
    penalty = float(trainer(pair, training=True)) - plain
    generator = program.make_generator(model, VOCABULARY, "words")
    state, output = program.zero_state(generator), []
    for token_ids in pair[0].T:
        state = program.read_token(generator, token_ids, state)
        output.append(state[-1])
    assert penalty == pytest.approx(3 * np.mean(np.square(output)), abs=1e-5)


def test_what_is_learnt_is_handed_to_the_plain_model(keras):
    """The generator scores as the trainer did: the table, tied, became Dense's kernel."""
    ids = np.tile(np.arange(1, 9), 40)
    model = program.build_model(len(VOCABULARY), SETTINGS)
    rows = train(model, ids, ids[:100], SETTINGS)
    generator = program.make_generator(model, VOCABULARY, "words")
    loss = program.score_tokens(generator, ids[:100]).mean()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    losses = [row["validation_loss"] for row in rows]
    assert min(losses) == losses[-1] < losses[0] < math.log(16)
    assert loss == pytest.approx(losses[-1], rel=0.2)


def test_training_stops_and_keeps_the_best_when_validation_gets_worse(keras):
    draw = np.random.default_rng(5)
    train_ids, validation_ids = draw.integers(1, 16, size=(2, 200))
    changes = {"epochs": 99, "learning_rate": 0.1, "patience": 9}
    settings = program.replace(SETTINGS, embedding_size=7, **changes)  # no projection
    model = program.build_model(len(VOCABULARY), settings)
    rows = train(model, train_ids, validation_ids, settings)
    losses = [row["validation_loss"] for row in rows]
    best = int(np.argmin(losses))
    assert len(rows) == best + 1 + settings.patience < settings.epochs
    assert rows[-1]["stopped"] == "no progress"
    trainer = program.make_trainer(model, VOCABULARY, settings)
    kept = program.measure_loss(trainer, validation_ids, settings)
    assert kept == pytest.approx(losses[best], abs=1e-5)
    assert kept < losses[-1] - 1e-4


def test_a_loss_that_is_no_number_stops_with_advice(keras, monkeypatch):
    monkeypatch.setattr(program, "measure_loss", lambda *_: math.nan)
    model = program.build_model(len(VOCABULARY), SETTINGS)
    with pytest.raises(program.UserError, match="smaller --learning-rate"):
        train(model, np.arange(100) % 16, np.zeros(0, int), SETTINGS)


def test_a_gpu_scores_the_whole_vocabulary_while_training():
    assert program.suit_device(program.Settings(), "GPU").num_sampled == 0
    assert program.suit_device(program.Settings(), "CPU") == program.Settings()


def test_a_step_moves_only_the_vectors_of_tokens_that_it_meets(keras):
    """Those of the inputs, the targets and the sample."""
    vocabulary = [
        "[UNK]",
        *(f"{letter}{letter}{n:03}" for n, letter in enumerate("abcdefgh")),
    ]
    settings = program.replace(SETTINGS, num_sampled=2, embedding_size=7)
    model = program.build_model(len(vocabulary), settings)
    trainer = program.make_trainer(model, vocabulary, settings)
    before = trainer.words.numpy()
    batches = program.make_dataset(np.tile([1, 2, 3], 5)[:13], 3, 4)
    trainer.fit(batches, shuffle=False, verbose=0)
    moved = np.flatnonzero(abs(trainer.words.numpy() - before).sum(axis=1))
    assert {1, 2, 3} <= set(moved) and len(moved) <= 5


def test_spelling_costs_letters_and_an_end_mark_with_one_added():
    types = {"ab", "a"}  # a twice, b once, two ends: 5, plus 3 kinds and one unseen
    expected = -math.log(3 / 9) - math.log(1 / 9) - math.log(3 / 9)
    assert program.spelling_nats(["ax"], types) == pytest.approx(expected)
    assert program.spelling_nats([], types) == 0


def test_scores_by_hand(model):
    """A model without weights finds all 16 tokens equally likely."""
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    generator = program.make_generator(model, VOCABULARY, "words")
    train, test = list("aab"), ["a", "b", "zz", "a"]
    scores = program.score_parts(generator, train, [], test)
    spelling = program.spelling_nats(["zz"], {"a", "b"})
    nats = 3 * math.log(16) + spelling
    counts = Counter(train)
    frequencies = {t: counts.get(t, 1) for t in VOCABULARY}
    total = sum(frequencies.values())
    unigram = [total / frequencies[t] for t in ["a", "b", "[UNK]", "a"]]
    assert scores == {
        "vocabulary_size": 16,
        "train_tokens": 3,
        "test_tokens": 4,
        "unknown_share": 0.25,
        "unigram_perplexity": pytest.approx(math.prod(unigram) ** (1 / 4)),
        "validation_perplexity": None,
        "test_perplexity": pytest.approx(16),
        "bits_per_character": pytest.approx(nats / math.log(2) / len("a b zz a")),
    }
