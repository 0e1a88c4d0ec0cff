"""The GRU by hand, the scores, and what training rests on, against Keras and by hand."""

import math
from collections import Counter
from dataclasses import replace

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
    hide_words=0,
    num_sampled=0,
    epochs=3,
)
RANDOM = dict(dropout=0.5, input_dropout=0.4, hide_words=0.5, num_sampled=4)
IDS = np.random.default_rng(0).integers(1, 16, size=(2, 150)).astype(np.int32)


@pytest.fixture(scope="module", autouse=True)
def keras():
    program.start_tensorflow()
    return program.keras


def dataset_of(train_ids, validation_ids=(), vocabulary=VOCABULARY):
    """The Dataset that these ids make, without a test part."""
    parts = [np.array(ids, np.int32) for ids in [train_ids, validation_ids, []]]
    parts = [program.Part([vocabulary[i] for i in ids], ids) for ids in parts]
    return program.Dataset("words", vocabulary, *parts)


DATASET = dataset_of(*IDS)


def randomize(network, seed=0):
    """Give a network weights that are large enough to matter; return it."""
    draw = np.random.default_rng(seed)
    for weights in network.weights:
        weights.assign(draw.normal(size=weights.shape))
    return network


def random_trainer(dataset=DATASET, **changes):
    """A Trainer whose weights are large enough to matter."""
    trainer = program.Trainer(dataset, replace(SETTINGS, **changes))
    randomize(trainer.network)
    return trainer


def random_generator(**changes):
    """A Generator of such weights."""
    return random_trainer(**changes).network.export(DATASET)


def without_weights(generator):
    """The generator with nothing but zeros."""
    cells = [[0 * array for array in weights] for weights in generator.cells]
    dense = tuple(0 * array for array in generator.dense)
    return replace(generator, cells=cells, dense=dense)


def keras_logits(generator, token_ids, layer="GRU"):
    """The logits after each of these ids, by layers of Keras that are made here."""
    layers, hidden_size = program.keras.layers, len(generator.dense[0])
    model = program.keras.Sequential(
        [
            program.keras.Input((None,), dtype="int32"),
            layers.Embedding(*generator.embedding.shape),
            *(
                getattr(layers, layer)(hidden_size, return_sequences=True)
                for _ in generator.cells
            ),
            layers.Dense(len(generator.vocabulary)),
        ]
    )
    weights = [array for cell in generator.cells for array in cell]
    model.set_weights([generator.embedding, *weights, *generator.dense])
    return model.predict(np.array([token_ids]), verbose=0)[0]


def logits_of(generator, token_ids):
    """The logits after each of these ids, a step at a time."""
    outputs = program.read(generator, token_ids, program.begin(generator))
    kernel, bias = generator.dense
    return np.stack([output for output, _ in outputs]) @ kernel + bias


def values(trainer):
    """All that is numbers in a trainer: weights, Adam's memory, the random seeds."""
    return [v.numpy() for v in [*trainer.variables, trainer.seeds.state]]


def assert_same_bits(arrays, expected):
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


# The generator


def test_a_step_by_hand_is_a_step_of_keras():
    ids = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    generator = random_generator()
    expected = keras_logits(generator, ids)
    np.testing.assert_allclose(logits_of(generator, ids), expected, atol=1e-5)


def test_reading_goes_on_from_any_states_and_leaves_them_as_they_were():
    generator, ids = random_generator(), [3, 1, 4, 1, 5, 9]
    *_, (_, middle) = program.read(generator, ids[:3], program.begin(generator))
    before = np.array(middle)
    for _ in range(2):
        *_, (output, _) = program.read(generator, ids[3:], middle)
        logits = output @ generator.dense[0] + generator.dense[1]
        expected = logits_of(generator, ids)[-1]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(middle, before)


def test_a_score_is_the_cross_entropy_of_keras(keras):
    ids = np.random.default_rng(1).integers(len(VOCABULARY), size=2500)
    generator = random_generator()
    logits = keras_logits(generator, ids[:-1])
    loss = keras.ops.sparse_categorical_crossentropy(ids[1:], logits, from_logits=True)
    np.testing.assert_allclose(program.score(generator, ids), loss, atol=2e-4)


@pytest.mark.parametrize("length", [0, 1, 2, 1000, 1001, 1002])
def test_each_token_but_the_first_has_a_score(length):
    nats = program.score(random_generator(), [1] * length)
    assert nats.shape == (max(0, length - 1),) and nats.dtype == np.float64


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity():
    nats = program.score(without_weights(random_generator()), np.arange(16))
    assert program.perplexity(nats) == pytest.approx(16)
    assert program.perplexity(nats[:0]) is None


def test_spelling_costs_letters_and_an_end_mark_with_one_added():
    """Of the vocabulary a is there twice, b once, an end twice; plus 3 kinds, one unseen."""
    vocabulary = ["[UNK]", "ab", "a"]
    expected = -math.log(3 / 9) - math.log(1 / 9) - math.log(3 / 9)
    nats = program.spelling_nats(["a", "ax", "ab"], vocabulary)
    assert nats == pytest.approx([0, expected, 0])
    assert program.spelling_nats([], vocabulary).shape == (0,)
    assert program.spelling_nats(["[UNK]"], vocabulary) > 0  # it may stand in a text


def test_scores_by_hand():
    """A model without weights finds all 16 tokens equally likely."""
    train, test = list("aab"), ["a", "b", "zz", "a"]
    parts = [
        program.Part(part, program.encode(part, VOCABULARY))
        for part in [train, [], test]
    ]
    dataset = program.Dataset("words", VOCABULARY, *parts)
    generator = without_weights(random_generator())
    (spelling,) = program.spelling_nats(["zz"], VOCABULARY)
    nats = 3 * math.log(16) + spelling
    counts = Counter(train)
    frequencies = {t: counts.get(t, 1) for t in VOCABULARY}
    total = sum(frequencies.values())
    unigram = [total / frequencies[t] for t in ["a", "b", "[UNK]", "a"]]
    assert program.score_dataset(generator, dataset) == {
        "vocabulary_size": 16,
        "train_tokens": 3,
        "test_tokens": 4,
        "unknown_share": 0.25,
        "unigram_perplexity": pytest.approx(math.prod(unigram) ** (1 / 4)),
        "validation_perplexity": None,
        "test_perplexity": pytest.approx(16),
        "bits_per_character": pytest.approx(nats / math.log(2) / len("a b zz a")),
    }


# The network


def test_every_matrix_starts_as_glorot_says():
    vocabulary = ["[UNK]", *(f"w{n:05}" for n in range(400))]
    settings = program.Settings(embedding_size=60, hidden_size=80)
    network = program.Network(dataset_of([1], vocabulary=vocabulary), settings)
    matrices = [w.numpy() for w in network.weights if len(w.shape) == 2]
    matrices = [m for m in matrices if len(m) > 2]  # but for the biases of the GRU
    assert len(matrices) == 7  # words, affixes, two of each GRU, projection
    for matrix in matrices:
        limit = math.sqrt(6 / sum(matrix.shape))
        assert abs(matrix).max() <= limit
        assert matrix.std() == pytest.approx(limit / math.sqrt(3), rel=0.1)


def test_update_gates_start_as_a_range_of_memories_in_every_layer():
    """With no weights but its biases a GRU is its z: from 0.05 to 0.98, 50 words."""
    network = program.Network(DATASET, replace(SETTINGS, num_layers=2))
    for cell in network.cells:
        kernel, recurrent_kernel, bias = cell.get_weights()
        x, h = np.zeros(len(kernel)), np.ones(len(recurrent_kernel))
        still = np.zeros_like(kernel), np.zeros_like(recurrent_kernel)
        z, r, candidate = program.gru_gates(x, h, *still, bias)
        assert 1 / (1 - z[0]) < 1.06 and 50 < 1 / (1 - z[-1]) < 60
        assert (np.diff(z) > 0).all()
        assert (r == 0.5).all() and (candidate == 0).all()


@pytest.mark.parametrize("size", [5, 7])  # with a projection, and without
def test_the_network_that_is_shown_is_the_one_that_is_trained(size):
    settings = replace(SETTINGS, embedding_size=size)
    shown = [w.numpy() for w in program.Network(DATASET, settings).weights]
    again = [w.numpy() for w in program.Network(DATASET, settings).weights]
    start = program.Trainer(DATASET, settings).network.weights
    assert_same_bits(again, shown)
    assert_same_bits([w.numpy() for w in start], shown)
    other = program.Network(DATASET, replace(settings, seed=1)).weights
    for weights, array in zip(other, shown):
        assert weights.name == "bias" or (weights.numpy() != array).all()


def test_training_adds_no_weights_to_those_that_are_shown():
    trainer = program.Trainer(DATASET, SETTINGS)
    before = [w.shape for w in trainer.network.weights]
    count = len(trainer.variables)
    list(trainer.train())
    assert [w.shape for w in trainer.network.weights] == before
    assert len(trainer.variables) == count


def test_an_untrained_network_knows_the_frequencies_and_nothing_else():
    """Its perplexity is the unigram's and, with a bias of zero, the vocabulary's size."""
    draw, size = np.random.default_rng(3), 300
    ids = np.minimum(draw.geometric(0.02, size=2000), size - 1)
    vocabulary = ["[UNK]", *(f"{n}" for n in range(1, size))]
    dataset = dataset_of(ids, vocabulary=vocabulary)
    settings = replace(SETTINGS, embedding_size=32, hidden_size=48)
    generator = program.Network(dataset, settings).export(dataset)
    kernel, bias = generator.dense
    ignorant = replace(generator, dense=(kernel, 0 * bias))
    perplexity = program.perplexity(program.score(ignorant, ids))
    assert perplexity == pytest.approx(size, rel=0.05)
    counts = np.maximum(np.bincount(ids, minlength=size), 1)
    unigram = math.exp(np.mean(-np.log(counts / counts.sum())[ids[1:]]))
    perplexity = program.perplexity(program.score(generator, ids))
    assert perplexity == pytest.approx(unigram, rel=0.05) and unigram < size / 1.5


def test_a_vector_is_the_words_own_plus_those_of_its_affixes():
    """Its own is shrunk by n / (n + k), where k is 1 for a text of 1,800 tokens."""
    vocabulary = ["[UNK]", "loves", "lovely", "moves", "lively"]
    ids = [1] * 60 + [2] * 1737 + [0, 3, 4]
    network = randomize(program.Network(dataset_of(ids, (), vocabulary), SETTINGS))
    own, affixes = network.words.numpy(), network.affixes.numpy()
    numbers = {}  # of each affix that two words have
    for word, row in zip(vocabulary, network.affix_numbers):
        numbers |= {affix: n for affix, n in zip([word[-2:], word[-3:], word[:4]], row)}
    shared = [numbers[affix] for affix in ["es", "ves", "ly", "ely", "love"]]
    assert len({0, *shared}) == 6
    expected = [
        own[1] * 60 / 61
        + affixes[numbers["es"]]
        + affixes[numbers["ves"]]
        + affixes[numbers["love"]],
        own[4] / 2 + affixes[numbers["ly"]] + affixes[numbers["ely"]] + affixes[0],
    ]
    np.testing.assert_allclose(network.vectors([1, 4]), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [5, 7])  # with a projection, and without
def test_what_is_exported_computes_what_the_trainer_does(size):
    """The table, tied, became Dense's kernel, behind the projection."""
    trainer, ids = random_trainer(embedding_size=size), IDS[:, :12]
    ids = np.concatenate([ids, ids[:1]])  # a batch of three
    network = trainer.network
    table = network.vectors(np.arange(16))
    hidden, _ = trainer.read(network, trainer.embed(table, ids), trainer.begin())
    outputs = np.array(network.project(hidden))
    logits = outputs @ np.array(table).T + network.bias.numpy()
    generator = network.export(DATASET)
    for row, expected in zip(ids, logits):
        np.testing.assert_allclose(logits_of(generator, row), expected, atol=1e-4)


def score_streams(generator, streams):
    """The mean nats of a token, each stream read by itself."""
    return np.concatenate([program.score(generator, s) for s in streams]).mean()


# The loss


@pytest.mark.parametrize("size", [5, 7])  # with a projection, and without
def test_the_loss_is_what_the_generator_that_is_exported_scores(size):
    streams = IDS[0, :27].reshape(3, 9)
    trainer = random_trainer(embedding_size=size)
    expected = score_streams(trainer.network.export(DATASET), streams)
    loss, _ = trainer.loss(streams[:, :-1], streams[:, 1:], trainer.begin())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [5, 7])  # with a projection, and without
def test_the_loss_with_negative_samples_by_hand(size, monkeypatch):
    """A target competes with the samples; rare ones have their logits raised."""
    streams, sample = IDS[0, :27].reshape(3, 9), np.array([0, 2, 3, 11], np.int32)
    trainer = random_trainer(embedding_size=size, num_sampled=4)
    monkeypatch.setattr(program, "draw_sample", lambda odds, seeds: sample)
    loss, _ = trainer.loss(streams[:, :-1], streams[:, 1:], trainer.begin())
    generator, nats = trainer.network.export(DATASET), []
    for stream in streams:
        for target, logits in zip(stream[1:], logits_of(generator, stream)):
            others = [n for n in sample if n != target]
            raised = logits[others] - np.log(trainer.odds[others])
            total = np.exp(logits[target]) + np.exp(raised).sum()
            nats.append(np.log(total) - logits[target])
    assert float(loss) == pytest.approx(np.mean(nats), rel=1e-4)


@pytest.mark.parametrize("num_sampled", [1, 10, 500, 999])
def test_sampling_odds_are_odds_and_add_up(num_sampled):
    odds = program.sampling_odds(1000, num_sampled)
    assert odds.sum(dtype=float) == pytest.approx(num_sampled, rel=1e-6)
    assert ((0 < odds) & (odds <= 1)).all() and (np.diff(odds) <= 0).all()


def test_the_sampled_softmax_estimates_the_full_one_without_bias(keras):
    draw = np.random.default_rng(2)
    size, outputs, targets = (
        300,
        draw.normal(size=(2, 4, 6)),
        draw.integers(300, size=8),
    )
    table, bias = draw.normal(size=(size, 6)), draw.normal(size=size)
    outputs, table, bias = (a.astype("float32") for a in (outputs, table, bias))
    pair = outputs, targets.reshape(2, 4), table, bias
    odds = program.sampling_odds(size, 150)
    seeds = keras.random.SeedGenerator(3)
    losses = []
    for _ in range(400):
        sample = program.draw_sample(odds, seeds)
        assert len(set(np.array(sample))) == 150
        negatives = sample, keras.ops.take(odds, sample)
        losses.append(float(program.cross_entropy(*pair, negatives)))
    full = float(program.cross_entropy(*pair))
    assert np.mean(losses) == pytest.approx(full, rel=0.01)
    assert np.std(losses) > 0


def test_the_full_softmax_is_the_cross_entropy_of_keras(keras):
    draw = np.random.default_rng(2)
    shapes = (2, 4, 6), (30, 6), (30,)
    outputs, table, bias = (draw.normal(size=s).astype("float32") for s in shapes)
    targets = draw.integers(30, size=(2, 4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(loss(targets, outputs @ table.T + bias))
    computed = float(program.cross_entropy(outputs, targets, table, bias))
    assert computed == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_sampled", [0, 4])
def test_gradients_are_dense_as_adam_needs_them(num_sampled):
    trainer = random_trainer(**RANDOM | {"num_sampled": num_sampled})
    ids, tf = np.ones((3, 4), np.int32), program.tf
    with tf.GradientTape() as tape:
        loss, _ = trainer.loss(ids, ids, trainer.begin())
    gradients = tape.gradient(loss, trainer.network.weights)
    assert all(isinstance(gradient, tf.Tensor) for gradient in gradients)


def check_carried_state(trainer):
    """The halves of a window cost what the whole does, if states go from one to the other."""
    inputs, targets = IDS[:, :24].reshape(2, 3, 8)
    whole, _ = trainer.loss(inputs, targets, trainer.begin())
    states, halves = trainer.begin(), []
    for half in [slice(0, 4), slice(4, 8)]:
        loss, states = trainer.loss(inputs[:, half], targets[:, half], states)
        halves.append(float(loss))
    assert np.mean(halves) == pytest.approx(float(whole), abs=1e-5)
    anew, _ = trainer.loss(inputs[:, 4:], targets[:, 4:], trainer.begin())
    assert float(anew) != pytest.approx(halves[1], abs=1e-5)


def test_the_state_is_carried_from_batch_to_batch():
    check_carried_state(random_trainer())


def test_the_penalty_is_the_mean_square_of_the_output():
    inputs, targets = IDS[:, :12].reshape(2, 3, 4)
    plain, penalized = (
        random_trainer(activation_penalty=penalty) for penalty in [0, 3]
    )
    losses = [t.loss(inputs, targets, t.begin())[0] for t in [plain, penalized]]
    generator, outputs = plain.network.export(DATASET), []
    for row in inputs:
        read = program.read(generator, row, program.begin(generator))
        outputs += [output for output, _ in read]
    expected = 3 * np.mean(np.square(outputs))
    assert float(losses[1] - losses[0]) == pytest.approx(expected, abs=1e-5)


def test_dropout_is_the_same_at_all_times_and_keeps_the_mean():
    trainer = random_trainer()
    dropped = np.array(trainer.drop(np.ones((3, 4, 2000), np.float32), 0.4))
    assert (dropped == dropped[:, :1]).all() and (dropped[0] != dropped[1]).any()
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.6)}
    assert dropped.mean() == pytest.approx(1, abs=0.05)


def test_word_dropout_drops_a_word_wherever_it_stands():
    trainer = random_trainer(input_dropout=0.4)
    table, ids = np.ones((999, 64), np.float32), np.tile(np.arange(999), (3, 2))
    empty = (np.array(trainer.embed(table, ids)) == 0).all(axis=2)
    assert (empty == np.tile(empty[0, :999], (3, 2))).all()
    assert empty.mean() == pytest.approx(0.4 / 2, abs=0.05)


def test_a_gpu_trains_with_the_full_softmax(monkeypatch):
    settings = replace(SETTINGS, num_sampled=4)
    assert program.Trainer(DATASET, settings).odds is not None
    assert program.Trainer(DATASET, replace(settings, num_sampled=16)).odds is None
    config = program.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [kind])
    assert program.Trainer(DATASET, settings).odds is None


# Training


def test_the_learning_rate_is_that_of_keras_schedule(keras):
    """Linear warm-up in the first 2 %, then a cosine down to 5 % of the peak."""
    steps, peak = 1000, 0.004
    rates = [program.learning_rate(step, steps, peak) for step in range(steps + 1)]
    assert rates[0] == 0 and rates[20] == max(rates) == peak
    assert rates[-1] == pytest.approx(0.05 * peak)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - 20, 0.05, warmup_target=peak, warmup_steps=20
    )
    for step in [0, 1, 10, 19, 20, 21, 100, 500, 999, 1000]:
        assert rates[step] == pytest.approx(float(schedule(step)), rel=1e-4)


@pytest.mark.parametrize("steps", [5, 12, 30, 108])  # an epoch has 12
def test_each_step_that_is_planned_is_taken_at_its_learning_rate(steps):
    settings = replace(SETTINGS, epochs=9, patience=9)
    trainer, rates = program.Trainer(DATASET, settings), []
    assert (trainer.steps_per_epoch, trainer.steps) == (12, 108)
    trainer.steps, step = steps, trainer.run_train_step

    def spy(*batch):
        rates.append(float(trainer.optimizer.learning_rate))
        return step(*batch)

    trainer.run_train_step = spy
    rows, peak = list(trainer.train()), settings.learning_rate
    assert len(rows) == math.ceil(steps / 12)
    assert [row["learning_rate"] for row in rows] == [*rates[11::12], rates[-1]][
        : len(rows)
    ]
    expected = [program.learning_rate(n, steps, peak) for n in range(steps)]
    assert rates == pytest.approx(expected, rel=1e-6)


def test_a_step_moves_only_the_vectors_of_tokens_that_it_meets():
    """Those of the inputs, the targets and the sample."""
    vocabulary = ["[UNK]", *(f"{chr(97 + n) * 2}{n:03}" for n in range(25))]
    settings = replace(SETTINGS, num_sampled=5, embedding_size=7)
    trainer = program.Trainer(dataset_of([1] * 20, (), vocabulary), settings)
    before = trainer.network.words.numpy()
    ids = np.tile([1, 2, 3], 5)[:13].astype(np.int32)
    batch = ids[:12].reshape(3, 4), ids[1:].reshape(3, 4)
    trainer.run_train_step(*batch, trainer.begin())
    moved = np.flatnonzero((trainer.network.words.numpy() != before).any(axis=1))
    assert {1, 2, 3} <= set(moved) and len(moved) <= 3 + 5


def test_the_gradient_is_clipped_to_the_norm_one(monkeypatch):
    trainer, norms = random_trainer(activation_penalty=100), []
    batch = *IDS[:, :12].reshape(2, 3, 4), trainer.begin()
    norm, tf = program.tf.linalg.global_norm, program.tf
    with tf.GradientTape() as tape:
        loss, _ = trainer.loss(*batch)
    gradients = tape.gradient(loss, trainer.network.weights)
    monkeypatch.setattr(trainer.optimizer, "apply", lambda g, _: norms.append(norm(g)))
    trainer.train_step(*batch)
    assert float(norms[0]) == pytest.approx(1, rel=1e-5) and norm(gradients) > 2


def test_what_is_learnt_is_handed_to_the_generator():
    """It scores as the trainer did, and has learnt what comes after what."""
    ids = np.tile(np.arange(1, 9), 40)
    settings = replace(SETTINGS, learning_rate=0.02)
    trainer = program.Trainer(dataset_of(ids, ids[:100]), settings)
    rows = list(trainer.train())
    assert [row["epoch"] for row in rows] == [1, 2, 3] and trainer.stopped is None
    perplexities = [row["validation_perplexity"] for row in rows]
    assert min(perplexities) == perplexities[-1] < 4 < 8  # the unigram's
    nats = program.score(trainer.best_generator(), ids[:100])
    assert nats.mean() == pytest.approx(math.log(perplexities[-1]), rel=0.2)


@pytest.mark.parametrize("sequence_length", [4, 8, 24])
def test_an_evaluation_is_the_perplexity_of_the_streams_by_hand(sequence_length):
    """Over the whole vocabulary and without dropout, whatever trains."""
    trainer = random_trainer(**RANDOM, sequence_length=sequence_length)
    ids, length = IDS[0, : 3 * 24 + 1], 24
    generator = trainer.network.export(DATASET)
    streams = [ids[start : start + length + 1] for start in [0, length, 2 * length]]
    expected = math.exp(score_streams(generator, streams))
    assert trainer.evaluate(ids) == pytest.approx(expected, rel=1e-4)
    assert trainer.evaluate(ids[:3]) is trainer.evaluate(ids[:0]) is None


def losses_of(trainer, num_evaluations):
    """The losses of the first steps, with so many evaluations before each."""
    states, losses = trainer.begin(), []
    for inputs, targets in trainer.begin_epoch(0)[:5]:
        for _ in range(num_evaluations):
            trainer.evaluate(IDS[1])
        loss, states = trainer.run_train_step(inputs, targets, states)
        losses.append(float(loss[0]))
    return losses


def test_an_evaluation_touches_nothing_of_the_training():
    plain, evaluated = (
        program.Trainer(DATASET, replace(SETTINGS, **RANDOM)) for _ in "ab"
    )
    losses = losses_of(plain, 0)
    assert losses_of(evaluated, 2) == losses and len(set(losses)) == 5
    before = values(evaluated)
    assert_same_bits(before, values(plain))
    assert evaluated.evaluate(IDS[1]) == evaluated.evaluate(IDS[1])
    assert_same_bits(values(evaluated), before)


def test_planning_trains_and_undoes_it():
    settings = replace(SETTINGS, **RANDOM)
    trainer, norms = program.Trainer(DATASET, settings), []
    before, step = [v.numpy() for v in trainer.variables], trainer.run_train_step

    def spy(*batch):
        result = step(*batch)
        norms.append(np.abs(trainer.network.words.numpy() - before[0]).max())
        return result

    trainer.run_train_step = spy
    steps, seconds = program.plan_training(trainer)
    assert steps == 3 * trainer.steps_per_epoch and seconds > 0
    assert len(norms) == 1 + min(20, trainer.steps_per_epoch) and min(norms) > 0
    assert_same_bits([v.numpy() for v in trainer.variables], before)
    assert trainer.history == [] and trainer.best_weights is None
    unplanned = program.Trainer(DATASET, settings)
    for row, other in zip(trainer.train(), unplanned.train(), strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}
    assert_same_bits(values(trainer), values(unplanned))


def test_all_chance_of_an_epoch_follows_from_the_seed_and_its_number():
    settings = replace(SETTINGS, **RANDOM, epochs=9)
    first, other = (program.Trainer(DATASET, settings) for _ in "ab")
    losses_of(other, 0)  # whatever came before
    drawn = []
    for trainer, epoch in [(first, 4), (other, 4), (other, 5)]:
        batches = np.array(trainer.begin_epoch(epoch)).tolist()
        drawn.append((batches, trainer.seeds.state.numpy().tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[2][0] != drawn[1][0] and drawn[2][1] != drawn[1][1]
    seeded = program.Trainer(DATASET, replace(settings, seed=1))
    assert np.array(seeded.begin_epoch(4)).tolist() != drawn[0][0]


def test_training_stops_and_the_best_weights_win_when_validation_gets_worse():
    changes = {"epochs": 99, "learning_rate": 0.1, "patience": 9}
    settings = replace(SETTINGS, embedding_size=7, **changes)  # no projection
    trainer = program.Trainer(DATASET, settings)
    rows = list(trainer.train())
    perplexities = [row["validation_perplexity"] for row in rows]
    best = int(np.argmin(perplexities))
    assert len(rows) == best + 1 + settings.patience < settings.epochs
    assert trainer.stopped == "early stopping" and rows == trainer.history
    assert trainer.evaluate(IDS[1]) == pytest.approx(perplexities[-1], rel=1e-5)
    trainer.best_generator()
    kept = trainer.evaluate(IDS[1])
    assert kept == pytest.approx(perplexities[best], rel=1e-5)
    assert kept < perplexities[-1] - 1e-4


def test_without_a_validation_part_the_training_part_judges():
    trainer = program.Trainer(dataset_of(IDS[0]), SETTINGS)
    rows = list(trainer.train())
    assert [row["validation_perplexity"] for row in rows] == [None] * 3
    trainer.best_generator()
    kept = trainer.evaluate(IDS[0])
    best = min(row["train_perplexity"] for row in rows)
    assert kept == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 16 * math.exp(3)])
def test_a_perplexity_that_is_no_number_stops_with_advice(value, monkeypatch):
    trainer = program.Trainer(DATASET, SETTINGS)
    monkeypatch.setattr(trainer, "evaluate", lambda _: value)
    assert len(list(trainer.train())) == 1 and trainer.stopped == "diverged"
    with pytest.raises(program.UserError, match="smaller --learning-rate"):
        trainer.best_generator()


def test_a_loss_that_is_no_number_ends_the_epoch_and_leaves_the_best():
    trainer, steps = program.Trainer(DATASET, SETTINGS), []
    rows, step = trainer.train(), trainer.run_train_step
    first = next(rows)
    best = trainer.evaluate(IDS[1])

    def spoil(*batch):
        steps.append(step(*batch))
        if len(steps) == 4:
            trainer.network.bias.assign(np.full(16, math.nan))
        factors = [math.nan if len(steps) == 4 else 1.0, 1, 1, 1]  # of the loss
        return steps[-1][0] * factors[: len(steps[-1][0])], steps[-1][1]

    trainer.run_train_step = spoil
    (last,) = rows
    assert len(steps) == 4 and math.isnan(last["validation_perplexity"])
    assert trainer.stopped == "diverged" and first["epoch"] == 1
    trainer.best_generator()
    assert trainer.evaluate(IDS[1]) == best


# Another cell


def lstm_shapes(input_size, hidden_size):
    width = 4 * hidden_size
    return (input_size, width), (hidden_size, width), (width,)


def lstm_state(hidden_size):
    """The state h and the memory c."""
    return np.zeros((2, hidden_size), np.float32)


def lstm_step(x, state, kernel, recurrent_kernel, bias):
    """The equations of Hochreiter and Schmidhuber's cell, with the gates of Keras."""
    h, c = state
    gates = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
    i, f, o = (1 / (1 + np.exp(-gates[number])) for number in [0, 1, 3])
    c = f * c + i * np.tanh(gates[2])
    h = o * np.tanh(c)
    return h, np.stack([h, c])


def build_lstm(hidden_size, **start):
    return program.keras.layers.LSTM(hidden_size, return_sequences=True, **start)


def run_lstm(layer, x, state):
    """The layer itself keeps its last state from us, so its cell runs in another."""
    options = dict(return_sequences=True, return_state=True)
    outputs, *state = program.keras.layers.RNN(layer.cell, **options)(
        x, initial_state=state
    )
    return outputs, state


@pytest.fixture
def lstm(monkeypatch):
    """The program with an LSTM in the place of the GRU."""
    monkeypatch.setattr(program, "CELL", "lstm")
    monkeypatch.setattr(program, "cell_shapes", lstm_shapes)
    monkeypatch.setattr(program, "initial_state", lstm_state)
    monkeypatch.setattr(program, "cell_step", lstm_step)
    monkeypatch.setattr(program, "START", {})
    monkeypatch.setattr(program, "build_cell", build_lstm)
    monkeypatch.setattr(program, "run_cell", run_lstm)


@pytest.mark.usefixtures("lstm")
def test_an_lstm_takes_the_place_of_the_gru_by_seven_names(keras, tmp_path):
    """It trains, is evaluated, scores, writes, and is saved and loaded."""
    ids = np.tile(np.arange(1, 9), 40)
    settings = replace(SETTINGS, learning_rate=0.02, epochs=10, patience=9)
    trainer = program.Trainer(dataset_of(ids, ids[:100]), settings)
    *_, row = trainer.train()
    assert row["validation_perplexity"] < 4 < 8  # the unigram's
    generator = trainer.best_generator()
    logits = keras_logits(generator, ids[:-1], "LSTM")
    np.testing.assert_allclose(logits_of(generator, ids[:-1]), logits, atol=1e-5)
    loss = keras.ops.sparse_categorical_crossentropy(ids[1:], logits, from_logits=True)
    np.testing.assert_allclose(program.score(generator, ids), loss, atol=1e-4)
    writing = replace(settings, prompt="a b c", num_words=5, temperature=0)
    written = "".join(program.write(generator, writing)).split()
    text = [1, 2, 3, *program.encode(written, VOCABULARY)]
    likeliest = keras_logits(generator, text, "LSTM")[:, 1:].argmax(axis=1) + 1
    assert text[3:] == likeliest[2:-1].tolist() and len(written) == 5
    report = {"settings": program.asdict(settings)}
    program.save_generator(generator, report, tmp_path / "generator.keras")
    loaded, _ = program.load_generator(tmp_path / "generator.keras")
    nats = program.score(loaded, ids)
    np.testing.assert_array_equal(nats, program.score(generator, ids))


@pytest.mark.usefixtures("lstm")
def test_the_states_of_an_lstm_are_carried_from_batch_to_batch():
    trainer = random_trainer()
    generator = trainer.network.export(DATASET)
    ids = IDS[0, : 3 * 24 + 1]
    streams = [ids[start : start + 25] for start in [0, 24, 48]]
    expected = math.exp(score_streams(generator, streams))
    assert trainer.evaluate(ids) == pytest.approx(expected, rel=1e-4)
