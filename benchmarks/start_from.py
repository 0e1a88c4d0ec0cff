"""What a text of one's own gains from a generator that was trained on another.

    python benchmarks/start_from.py GENERATOR TEXT...

For each text and three seeds: the test perplexity of a network that goes on from the
generator (--start-from), and of one that begins from nothing, with the same vocabulary,
sizes and number of steps, and the rate of learning that suits it. Then what was forgotten:
the perplexity of the generator's own test part, before and after.
"""

import sys

import numpy as np
from runs import program, read_text

SEEDS = range(3)


def train(dataset, settings, generator=None):
    """The Generator that comes of a training, from another one or from nothing."""
    trainer = program.Trainer(dataset, settings)
    if generator:
        program.adopt(trainer.network, generator, dataset)
    for _ in trainer.train():
        pass
    return trainer.best_generator()


def test_perplexity(generator, tokens):
    """The perplexity of tokens, each by its own number in the generator's vocabulary."""
    ids = program.encode(tokens, generator.vocabulary)
    return program.perplexity(program.score(generator, ids))


def compare(path, generator, saved, old_test):
    """Print a row for each seed, and the ratio of the mean perplexities."""
    tokens = program.tokenize(read_text(path), saved.token_kind)
    results = []
    for seed in SEEDS:
        given = {"seed": seed}
        settings = program.choose_settings(given, len(tokens), saved)
        fixed = {name: getattr(settings, name) for name in program.names_in("model")}
        new = program.choose_settings(given | fixed, len(tokens))
        dataset = program.make_dataset(tokens, settings, generator.vocabulary)
        on = train(dataset, settings, generator)
        nothing = train(dataset, program.replace(new, epochs=settings.epochs))
        row = [test_perplexity(g, dataset.test.tokens) for g in [on, nothing]]
        row.append(test_perplexity(on, old_test))
        print(*(f"{number:12.1f}" for number in row), flush=True)
        results.append(row)
    on, nothing, forgotten = np.mean(results, axis=0)
    before = test_perplexity(generator, dataset.test.tokens)
    print(
        f"{path}: {len(tokens):,} tokens, {len(dataset.vocabulary):,} in the vocabulary"
    )
    print(f"going on {on:.1f}, from nothing {nothing:.1f}: {on / nothing - 1:+.1%}")
    print(f"the generator's own test part afterwards: {forgotten:.1f}; ", end="")
    print(f"this text before: {before:.1f} (its own vocabulary)")


if __name__ == "__main__":
    program.start_tensorflow()
    generator, report = program.load_generator(program.find_model(sys.argv[1]))
    saved = program.Settings(**report["settings"])
    *_, old_test = program.split_tokens(
        program.tokenize(read_text(report["corpus"]), saved.token_kind), saved
    )
    print(f"{report['corpus']}: test {test_perplexity(generator, old_test):.1f}")
    print("    going on  from nothing  own test after")
    for path in sys.argv[2:]:
        compare(path, generator, saved, old_test)
