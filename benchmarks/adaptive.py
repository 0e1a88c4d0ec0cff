"""What adapting to the text that it reads brings a generator: a cache, and learning on.

    python benchmarks/adaptive.py GENERATOR

*Cache*: kneser_ney.py's, of the last 500 words, over the network's probabilities.
*Dynamic evaluation* (Krause et al. 2018, arXiv 1709.07432): windows of 20 words are scored,
one after the other, and once it is scored each one is learnt from by a step of RMSprop,
clipped, full softmax. The weight of the cache and the rate of RMSprop are the best on the
validation part, and the test part begins with the generator as it was. Rows of their own:
no headline has any of this.
"""

import sys

from kneser_ney import HEADER, predict_by_generator, print_rows
from runs import program, read_dataset

RATES, LENGTH = [0.0002, 0.0005, 0.001], 20


def evaluate_dynamically(generator, dataset, ids, rate):
    """The perplexity of ids, each window scored before it is learnt from."""
    size, width = len(generator.embedding[0]), len(generator.dense[0])
    settings = program.Settings(
        embedding_size=size, hidden_size=width, num_layers=len(generator.cells)
    )
    settings = program.replace(
        settings, dropout=0, input_dropout=0, num_sampled=0, batch_size=1
    )
    trainer = program.Trainer(dataset, settings)
    program.adopt(trainer.network, generator, dataset)
    trainer.optimizer = program.keras.optimizers.RMSprop(rate, rho=0.99)
    trainer.optimizer.build(trainer.network.weights)
    states, nats = trainer.begin(), []
    for start in range(0, len(ids) - 1, LENGTH):
        inputs = ids[None, start : start + LENGTH][:, : len(ids) - 1 - start]
        targets = ids[None, start + 1 : start + LENGTH + 1]
        loss, states = trainer.run_train_step(inputs, targets, states)
        nats += [float(loss[0])] * targets.size
    return program.perplexity(nats)


if __name__ == "__main__":
    generator, _ = program.load_generator(program.find_model(sys.argv[1]))
    dataset = read_dataset("plays")
    assert generator.vocabulary == dataset.vocabulary, "it is not of these plays"
    parts = [dataset.validation.ids, dataset.test.ids]
    print(HEADER)
    print_rows("ours", [predict_by_generator(generator, i) for i in parts], parts)
    program.start_tensorflow()
    found = {}
    for rate in RATES:
        found[rate] = evaluate_dynamically(generator, dataset, parts[0], rate)
        print(f"dynamic evaluation, rate {rate:<12}{found[rate]:10.1f}", flush=True)
    best = min(found, key=found.get)
    test = evaluate_dynamically(generator, dataset, parts[1], best)
    print(f"dynamic evaluation, rate {best:<12}{found[best]:10.1f}{test:10.1f}")
