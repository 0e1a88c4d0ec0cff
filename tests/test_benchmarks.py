"""The baselines and the measurements are what they say, so that numbers mean something."""

import sys
from importlib import import_module
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, TOY_OPTIONS, toy_text

pytest.importorskip("resource")  # not there on Windows
sys.path.insert(0, str(ROOT / "benchmarks"))
import adaptive
import budgets
import characters
import classic
import copies
import kneser_ney
import runs
import sizes
import writing
from runs import program

BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


TOY_SETTINGS = program.Settings(
    embedding_size=8,
    hidden_size=12,
    batch_size=4,
    sequence_length=10,
    num_sampled=8,
    epochs=3,
    learning_rate=0.02,
)


@pytest.fixture(scope="module")
def toy_dataset():
    """A Dataset of a toy text in which some words are local and some unknown."""
    lines = toy_text(400).splitlines()
    names = "ada bea cyd dot eva fay gus hal ida joe kit lea max".split()
    lines = [f"{line} {names[n // 32]}" for n, line in enumerate(lines)]
    tokens = program.tokenize(" ".join(lines), "words")
    dataset = program.make_dataset(tokens, TOY_SETTINGS)
    assert 0 < np.mean(dataset.test.ids == 0) < 0.5
    hidden = program.hide_local_words(dataset, TOY_SETTINGS, np.random.default_rng(0))
    assert np.any(hidden != dataset.train.ids)
    return dataset


@pytest.fixture(scope="module")
def toy_generator(toy_dataset):
    """A Generator that has learnt the toy text."""
    program.start_tensorflow()
    trainer = program.Trainer(toy_dataset, TOY_SETTINGS)
    assert len(list(trainer.train())) == 3
    return trainer.best_generator()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_probabilities_sum_to_one(order):
    """After histories that were seen, seen in part, and never seen."""
    draw, size = np.random.default_rng(order), 20
    ids = np.minimum(draw.geometric(0.2, size=2000), size) - 1
    levels = kneser_ney.fit(ids, order, size)
    for history in [ids[:4], ids[100:104], ids[-4:], [19, 18, 17, 19], [19], []]:
        text = np.array([*history, 7], int)
        words = [np.full(len(text), word) for word in range(size)]
        last = [kneser_ney.score(levels, text, word, size)[-1] for word in words]
        assert sum(last) == pytest.approx(1)
        assert min(last) > 0


def test_hiding_caching_and_renormalising_leave_probabilities(toy_dataset):
    """They sum to 1 over the vocabulary, or over what is known of it."""
    size, ids = len(toy_dataset.vocabulary), toy_dataset.test.ids
    models = kneser_ney.count(toy_dataset, 3, num_hidings=4)
    assert len(models) == 4
    everything = [ids * 0 + word for word in range(size)]
    pairs = []
    for words in everything:
        scores = [kneser_ney.score(m, ids, words, size) for m in models]
        shares = kneser_ney.cache_shares(ids, words)
        pairs.append(0.9 * np.mean(scores, axis=0) + 0.1 * shares)
    sums = np.sum(pairs, axis=0)
    assert sums[1:] == pytest.approx(1)
    chosen, unknown = kneser_ney.add_cache(
        kneser_ney.predict(models, ids, size), ids, 0.1
    )
    assert chosen == pytest.approx(np.choose(ids, pairs))
    assert unknown == pytest.approx(pairs[0])
    known = np.array(pairs[1:]) / (1 - unknown)
    assert known.sum(axis=0)[1:] == pytest.approx(1)
    nats = -np.log(np.choose(ids - 1, known, mode="clip"))[1:][ids[1:] > 0]
    _, found = kneser_ney.perplexities((chosen, unknown), ids)
    assert found == pytest.approx(np.exp(nats.mean()))


def test_a_cache_has_the_shares_of_the_last_words(monkeypatch):
    monkeypatch.setattr(kneser_ney, "CACHE_SIZE", 3)
    ids = np.array([5, 2, 5, 5, 2, 2, 9])
    shares = kneser_ney.cache_shares(ids, ids)
    assert shares == pytest.approx([0, 0, 1 / 2, 2 / 3, 1 / 3, 1 / 3, 0])
    shares = kneser_ney.cache_shares(ids, 0 * ids + 5)
    assert shares == pytest.approx([0, 1, 1 / 2, 2 / 3, 2 / 3, 2 / 3, 1 / 3])


def test_a_longer_history_helps_where_the_text_has_one():
    ids = np.tile(np.arange(10), 50)
    ids[::7] = np.random.default_rng(0).integers(10, size=len(ids[::7]))
    nats = [
        -np.log(kneser_ney.score(kneser_ney.fit(ids, order, 10), ids, ids, 10)).mean()
        for order in [1, 2, 3]
    ]
    assert nats[0] > nats[1] > nats[2]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_importing_a_benchmark_runs_nothing(name, capsys):
    if name in ["nanogpt", "pytorch_gru"]:
        pytest.importorskip("torch", reason="there is no PyTorch")
    assert import_module(name).__doc__
    assert capsys.readouterr() == ("", "")


def test_the_peak_of_memory_is_that_of_the_command_alone():
    """Even if this process has more: it has TensorFlow, and half a GB for a moment."""
    bytearray(b"x") * (512 * 2**20)
    assert runs.peak_memory_mb() > 512
    few, many = (
        runs.run_measured(sys.executable, "-c", f"bytes(b'x') * ({size} * 2**20)")
        for size in [1, 300]
    )
    assert few < 100 and many - few == pytest.approx(299, abs=10)


def test_a_command_that_fails_ends_the_benchmark():
    with pytest.raises(runs.subprocess.CalledProcessError):
        runs.run_measured(sys.executable, "-c", "raise SystemExit(3)")


def test_a_run_is_reported_with_its_history_and_its_memory(tmp_path):
    path = tmp_path / "toy.txt"
    path.write_text(toy_text(), encoding="utf-8")
    options = [*TOY_OPTIONS, "--corpus", str(path)]
    report = runs.run_script(*options)
    assert report["corpus"] == str(path) and report["train_tokens"] == 2400
    assert [row["epoch"] for row in report["history"]] == ["1", "2"]
    assert report["peak_memory_mb"] > 100


def test_classic_learns_the_words_that_it_is_scored_on(tmp_path, monkeypatch):
    path, changes = tmp_path / "toy.txt", {
        "epochs": 6,
        "batch_size": 4,
        "num_sampled": 5,
    }
    path.write_text(toy_text(2000).replace("\n", " \n"), encoding="utf-8")
    monkeypatch.setattr(
        classic, "SETTINGS", program.replace(classic.SETTINGS, **changes)
    )
    monkeypatch.setattr(classic, "NUM_TOKENS", 2401)
    monkeypatch.setattr(classic, "NUM_SCORED", 400)
    ids, held_out, vocabulary = classic.read_ids(str(path))
    assert (len(ids), len(held_out), len(vocabulary)) == (2401, 400, 13)
    unigram = np.exp(-np.log((np.bincount(ids) / len(ids))[ids]).mean())
    ours = classic.measure(classic.train_ours, "ours", str(path))
    theirs = classic.measure(classic.train_original, "theirs", str(path), 2)
    assert (len(ours), len(theirs)) == (6, 2)
    for rows in [ours, theirs]:
        assert rows[0][0] < rows[-1][0]  # the seconds add up
        assert rows[-1][1] < rows[0][1]
        assert max(rows[-1][2:]) < unigram
    _, running, training, _ = ours[1]
    assert classic.first_as_good(ours, running, training) == (2, ours[1][0])
    assert classic.first_as_good(ours, 1, 1) is None
    goal = running, training
    again = classic.measure(classic.train_ours, "ours", str(path), goal=goal)
    assert [row[1:] for row in again] == [row[1:] for row in ours[:2]]


def test_what_writing_measures_knows_the_prompt_and_writes_words(monkeypatch):
    monkeypatch.setattr(writing, "NUM_WORDS", 50)
    generator = writing.make_ours()
    assert len(generator.vocabulary) == len(generator.embedding) == 50
    assert program.name_unknown("my lord", generator) == ""
    words = writing.write_ours(generator)
    assert {next(words).strip() for _ in range(99)} <= {*generator.vocabulary}
    assert writing.time_first_word(generator) > 0


def test_a_generator_without_the_unknown_word_is_renormalised(
    toy_generator, toy_dataset
):
    ids = toy_dataset.test.ids[:50]
    pair = kneser_ney.predict_by_generator(toy_generator, ids)
    (kernel, bias), states = toy_generator.dense, program.begin(toy_generator)
    logits = [h @ kernel + bias for h, _ in program.read(toy_generator, ids, states)]
    odds = np.exp(np.array(logits[:-1], float))
    rows, known = np.arange(49), ids[1:] > 0
    chosen = odds[rows, ids[1:]] / odds.sum(axis=1)
    renormalised = (odds[rows, ids[1:]] / odds[:, 1:].sum(axis=1))[known]
    found = kneser_ney.perplexities(pair, ids)
    expected = [np.exp(-np.log(p).mean()) for p in [chosen, renormalised]]
    assert found == pytest.approx(expected, rel=1e-4)


def test_learning_on_adapts_and_a_rate_of_nothing_scores(toy_generator, toy_dataset):
    """Each window is scored before it is learnt from, and none is left out."""
    ids = toy_dataset.test.ids[:95]  # no multiple of a window
    plain = program.perplexity(program.score(toy_generator, ids))
    same = adaptive.evaluate_dynamically(toy_generator, toy_dataset, ids, 1e-30)
    assert same == pytest.approx(plain, rel=1e-4)
    text = np.tile(ids[:30], 10)
    plain = program.perplexity(program.score(toy_generator, text))
    assert (
        adaptive.evaluate_dynamically(toy_generator, toy_dataset, text, 0.003) < plain
    )


def test_no_number_is_of_the_sonnets_in_the_place_of_another_text(monkeypatch):
    sonnets = program.Corpus("sonnets", "shall i compare thee", "")
    monkeypatch.setattr(program, "load_corpus", lambda name: sonnets)
    assert runs.read_text("sonnets") == sonnets.text
    with pytest.raises(SystemExit, match="put tiny at data/tiny.txt"):
        runs.read_text("tiny")


def test_random_windows_are_read_side_by_side(toy_generator, toy_dataset, monkeypatch):
    monkeypatch.setattr(characters, "NUM_WINDOWS", 5)
    monkeypatch.setattr(characters, "LENGTH", 7)
    ids, random = toy_dataset.test.ids, np.random.default_rng(3)
    starts = random.integers(len(ids) - 7, size=5)
    nats = [program.score(toy_generator, ids[start : start + 8]) for start in starts]
    found = characters.score_windows(toy_generator, ids, np.random.default_rng(3))
    assert found == pytest.approx(np.mean(nats), rel=1e-4)


def test_a_taught_network_has_a_teacher_of_another_seed(monkeypatch):
    """What would be run is looked at, not run."""
    runs = []

    def note(*options):
        runs.append(program.make_parser().parse_args([*map(str, options)]))

    monkeypatch.setattr(characters, "run_measured", lambda *c: note(*c[2:]))
    monkeypatch.setattr(characters, "run_script", note)
    characters.train(2, True, ["--dropout", "0.3"])
    teacher, student = runs
    assert student.teacher == teacher.output_dir and student.seed != teacher.seed
    assert student.dropout == 0.3 and not hasattr(teacher, "dropout")
    assert student.corpus == teacher.corpus == "tiny"


def test_copies_are_those_of_passages_and_samples(
    toy_generator, toy_dataset, monkeypatch, capsys
):
    monkeypatch.setattr(copies, "NUM_TEXTS", 3)
    monkeypatch.setattr(copies, "NUM_WORDS", 10)
    train = toy_dataset.train.tokens
    source = program.index_words(program.detokenize(train, "words"))
    passages = copies.cut_passages(train, "words")
    assert [len(passage.split()) for passage in passages] == [10, 10, 10]
    copies.print_row("its own", passages, source)
    assert "10.0 words (at most 10), 100.0% of 5-grams" in capsys.readouterr().out
    samples = copies.write_samples(toy_generator, TOY_SETTINGS)
    assert len({*samples}) == 3 and {len(s.split()) for s in samples} == {10}


def test_a_budget_ends_when_its_time_does(toy_dataset, monkeypatch):
    """By a clock that goes on by a second whenever it is read: once a step."""
    clock = SimpleNamespace(process_time=count().__next__)
    monkeypatch.setattr(budgets, "time", clock)
    program.start_tensorflow()
    trainer, steps = budgets.train_ours(toy_dataset, TOY_SETTINGS, 100)
    assert steps == 100 > 2 * trainer.steps_per_epoch  # it goes on with other epochs
    assert trainer.evaluate(toy_dataset.validation.ids) < len(toy_dataset.vocabulary)
    assert float(trainer.optimizer.learning_rate) < 0.1 * TOY_SETTINGS.learning_rate


@pytest.fixture()
def torch():
    """PyTorch; without it the test skips."""
    return pytest.importorskip("torch", reason="there is no PyTorch")


def test_settings_are_drawn_alike_each_time_and_none_is_refused():
    for num_tokens in [17_511, 75_000, 250_000, 903_138]:
        settings = program.choose_settings({}, num_tokens)
        first, *drawn = sizes.draw_settings(settings)
        assert first == settings and len(set(drawn)) == 12
        assert drawn == [*sizes.draw_settings(settings)][1:]


def test_a_trial_ends_with_its_minutes_or_its_epochs():
    tokens = program.tokenize(toy_text(400), "words")
    long = program.replace(TOY_SETTINGS, min_count=1, minutes=60.0)
    perplexity, epoch, _ = sizes.measure(tokens, long)
    assert 1 < perplexity < 40 and epoch <= 3
    short = program.replace(long, epochs=10**4, minutes=0.02)
    _, epoch, _ = sizes.measure(tokens, short)
    assert epoch < 10**4


def test_the_network_in_pytorch_is_scored_as_ours_is(torch, toy_dataset, monkeypatch):
    """Its weights make a Generator, as its GRU has the same equations."""
    pytorch_gru = import_module("pytorch_gru")
    monkeypatch.setattr(pytorch_gru, "LENGTH", 10)
    monkeypatch.setattr(pytorch_gru, "BATCH_SIZE", 4)
    network, steps = pytorch_gru.train(toy_dataset, 0, 1.0, 0.01, 0.1)
    assert steps > 10
    weights = {n: w.detach().numpy() for n, w in network.named_parameters()}
    order = [1, 0, 2]  # Keras has z, r, h and PyTorch r, z, h
    names = [f"gru.{kind}_l0" for kind in ["weight_ih", "weight_hh"]]
    cell = [
        np.concatenate([np.split(weights[n], 3)[i] for i in order]).T for n in names
    ]
    names = [f"gru.{kind}_l0" for kind in ["bias_ih", "bias_hh"]]
    biases = [
        np.concatenate([np.split(weights[n], 3)[i] for i in order]) for n in names
    ]
    table = weights["embedding.weight"]
    generator = program.Generator(
        table,
        [(*cell, np.stack(biases))],
        (table.T, weights["bias"]),
        toy_dataset.vocabulary,
        "words",
    )
    ids = toy_dataset.test.ids[: 8 * 20 + 1]
    expected = program.perplexity(program.score(generator, ids))
    assert pytorch_gru.evaluate(network, ids, 1) == pytest.approx(expected, rel=1e-4)
    assert expected < len(toy_dataset.vocabulary)


def test_the_sampled_loss_in_pytorch_comes_near_the_full_one(torch, monkeypatch):
    pytorch_gru = import_module("pytorch_gru")
    monkeypatch.setattr(pytorch_gru, "NUM_SAMPLED", 20_000)
    torch.manual_seed(0)
    network = pytorch_gru.Network(np.full(9, 1 / 9, np.float32), dropout=0)
    assert torch.exp(pytorch_gru.log_odds(torch.arange(9), 9)).sum() == pytest.approx(
        20_000
    )
    ids = torch.randint(9, (2, 5, 3))
    sampled, _ = pytorch_gru.sampled_loss(network, *ids, None)
    outputs, _ = network(network.embedding(ids[0]), None)
    logits = outputs.flatten(0, 1) @ network.embedding.weight.T + network.bias
    full = torch.nn.functional.cross_entropy(logits, ids[1].flatten())
    assert sampled.item() == pytest.approx(full.item(), rel=0.02)


def test_nanogpt_is_scored_on_every_word_but_the_first(torch):
    """Each costs nothing here after half a block of words, else as one of a thousand."""
    nanogpt, ids = import_module("nanogpt"), np.arange(1000)
    half = nanogpt.BLOCK // 2

    class Model(torch.nn.Module):
        def forward(self, inputs, targets):
            far = torch.arange(inputs.shape[1]) >= half
            right = torch.nn.functional.one_hot(targets, 1000)
            return 100.0 * right * far[:, None], None

    expected = np.exp(half * np.log(1000) / 999)  # only the first ones have no more
    assert nanogpt.evaluate(Model(), ids) == pytest.approx(expected)
