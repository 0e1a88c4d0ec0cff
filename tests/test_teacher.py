"""Learning from the predictions of a saved generator: knowledge distillation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import TOY_OPTIONS, newest, run, toy_text
from test_start_from import check_resuming, posix
from test_model import DATASET, IDS, SETTINGS, check_carried_state, logits_of
from test_model import randomize

OTHER_SIZES = dict(embedding_size=4, hidden_size=6, num_layers=1)
STREAMS = IDS[0, :27].reshape(3, 9)


@pytest.fixture(scope="module", autouse=True)
def keras():
    program.start_tensorflow()
    return program.keras


def make_teacher(**sizes):
    """A Network with weights that are large enough to matter."""
    return randomize(program.Network(DATASET, replace(SETTINGS, **sizes)), seed=5)


def make_student(teacher, **changes):
    """A Trainer with such weights, other ones, that the network teaches."""
    settings = replace(SETTINGS, **changes)
    trainer = program.Trainer(DATASET, settings, teacher=teacher)
    randomize(trainer.network)
    return trainer


def find_gradients(trainer):
    """The gradients of a batch, one after the other, for all weights of the student."""
    with program.tf.GradientTape() as tape:
        batch = STREAMS[:, :-1], STREAMS[:, 1:], trainer.begin()
        loss, _ = trainer.loss(*batch)
    gradients = tape.gradient(loss, trainer.network.weights)
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def log_probabilities(network):
    """What a network gives all tokens after each of the streams' but the last."""
    generator = network.export(DATASET)
    logits = np.stack([logits_of(generator, s) for s in STREAMS[:, :-1]])
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_the_loss_is_a_blend_of_the_text_and_of_what_the_teacher_predicts(weight):
    """The teacher may have other sizes; both are read by NumPy here."""
    trainer = make_student(make_teacher(**OTHER_SIZES), teacher_weight=weight)
    student, teacher = map(log_probabilities, [trainer.network, trainer.teacher])
    hard = -np.take_along_axis(student, STREAMS[:, 1:, None], axis=-1).mean()
    soft = -(np.exp(teacher) * student).sum(axis=-1).mean()
    loss, _ = trainer.loss(STREAMS[:, :-1], STREAMS[:, 1:], trainer.begin())
    assert abs(hard - soft) > 0.1
    expected = (1 - weight) * hard + weight * soft
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_sampled", [0, 4])
def test_who_predicts_as_the_teacher_does_has_nothing_more_to_learn(num_sampled):
    teacher = make_teacher()
    trainer = make_student(teacher, teacher_weight=1, num_sampled=num_sampled)
    before = np.abs(find_gradients(trainer)).max()
    for weights, own in zip(teacher.weights, trainer.network.weights):
        own.assign(weights)
    assert np.abs(find_gradients(trainer)).max() < 1e-5 < 1e-2 < before


def test_soft_targets_of_samples_estimate_those_of_all_tokens(keras):
    """With the weight 1, so that the text itself has no part in it."""
    draw, size = np.random.default_rng(2), 300
    targets = draw.integers(size, size=(2, 4))
    shapes = (2, 4, 6), (size, 6), (size,)
    student, teacher = (
        [draw.normal(0, 0.6, shape).astype("float32") for shape in shapes] for _ in "ab"
    )
    pair, teacher = (student[0], targets, *student[1:]), [*teacher, 1]
    full = program.cross_entropy(*pair, teacher=teacher)
    logits = [x @ t.T + b for x, t, b in [student, teacher[:3]]]
    own, taught = (keras.ops.log_softmax(x, axis=-1) for x in logits)
    expected = -np.mean(np.sum(np.exp(taught) * own, axis=-1))
    assert float(full) == pytest.approx(expected, rel=1e-4)
    odds, losses = program.sampling_odds(size, 150), []
    seeds = keras.random.SeedGenerator(3)
    for _ in range(200):
        sample = program.draw_sample(odds, seeds)
        negatives = sample, keras.ops.take(odds, sample)
        losses.append(float(program.cross_entropy(*pair, negatives, teacher)))
    assert np.mean(losses) == pytest.approx(float(full), rel=0.02)
    assert np.std(losses) > 0


def test_the_teachers_state_is_carried_from_batch_to_batch():
    check_carried_state(make_student(make_teacher(**OTHER_SIZES), teacher_weight=1))


def test_training_leaves_the_teacher_as_it_is_and_scores_the_student_alone():
    teacher = make_teacher(**OTHER_SIZES)
    before = [weights.numpy() for weights in teacher.weights]
    trainer = program.Trainer(DATASET, SETTINGS, teacher=teacher)
    rows = list(trainer.train())
    assert len(rows) == SETTINGS.epochs
    for weights, old in zip(teacher.weights, before):
        np.testing.assert_array_equal(weights.numpy(), old)
    alone = program.Trainer(DATASET, SETTINGS)
    for own, learnt in zip(alone.network.weights, trainer.network.weights):
        own.assign(learnt)
    score = alone.evaluate(DATASET.validation.ids)
    assert rows[-1]["validation_perplexity"] == pytest.approx(score)


def test_a_student_begins_as_it_would_without_a_teacher():
    teacher = make_teacher()
    student = program.Trainer(DATASET, SETTINGS, teacher=teacher).network
    alone = program.Trainer(DATASET, SETTINGS).network
    for own, other in zip(student.weights, alone.weights):
        np.testing.assert_array_equal(own.numpy(), other.numpy())


def test_a_taught_network_has_half_the_dropout_unless_it_is_given():
    plain = program.choose_settings({}, 900_000)
    taught = program.choose_settings({"teacher": "runs"}, 900_000)
    assert taught.dropout == plain.dropout / 2
    assert taught.input_dropout == plain.input_dropout / 2
    given = program.choose_settings({"teacher": "runs", "dropout": 0.3}, 900_000)
    assert given.dropout == 0.3


@pytest.fixture(scope="module")
def folder(toy_folder):
    """A folder with a run of a toy text, and with the text and another one."""
    text = toy_text().replace("fool", "clown")
    (toy_folder / "other.txt").write_text(text, encoding="utf-8")
    return toy_folder


TAUGHT = ["--teacher", "--seed", "1", "--corpus"]


@posix
def test_a_run_learns_from_the_newest_one_and_resumes_with_the_same_teacher(folder):
    teacher = newest(folder) / "generator.keras"
    options = [*TAUGHT, "toy.txt", *TOY_OPTIONS, "--epochs", "6", "--output-dir"]
    first, _ = check_resuming(options, "taught", folder)
    report = json.loads((first / "report.json").read_text())
    assert report["settings"]["teacher"] == str(teacher.relative_to(folder))


@pytest.mark.parametrize(
    "options, words",
    [
        (["--teacher", "--corpus", "other.txt"], "--teacher has learnt other tokens"),
        (["--teacher", "no", "--corpus", "toy.txt"], "there is no file no"),
        (["--teacher", "toy.txt", "--corpus", "toy.txt"], "toy.txt is damaged or no"),
        (["--teacher", "", "--corpus", "toy.txt"], "--teacher is empty"),
    ],
)
def test_who_cannot_teach_is_one_line_and_no_run_begins(options, words, folder):
    before = sorted(folder.glob("runs/*"))
    finished = run(*TOY_OPTIONS, *options, folder=folder)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1
    assert words in finished.stderr
    assert sorted(folder.glob("runs/*")) == before
