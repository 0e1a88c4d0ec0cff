"""Counting baselines on the very same ids: interpolated modified Kneser-Ney, and a cache.

    python benchmarks/kneser_ney.py [GENERATOR]

S. Chen and J. Goodman 1998, An Empirical Study of Smoothing Techniques for Language
Modeling. An n-gram's count is lowered by a discount, and what that sets free goes to the
n-gram without its first word, whose "count" is in how many different contexts it stands.

*Hiding*: the counts are of a training text in which local words are hidden, as ours learns
from; the probability is the mean of those of four such texts. *Cache*: it is mixed with
the shares of the last 500 words, and the weight is the best on the validation part. *Known*:
the perplexity of known words only, when [UNK] is ruled out and the rest renormalised. With
a generator.keras of `standard` the same is said of it.
"""

import sys

import numpy as np
from runs import program, read_dataset

ORDER, NUM_HIDINGS, CACHE_SIZE = 5, 4, 500
WEIGHTS = np.arange(0.01, 0.31, 0.01)  # of the cache


def find(keys, wanted):
    """The positions of wanted in sorted keys; -1 where it is not among them."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def number_grams(ids, order, vocabulary_size):
    """For n = 1 to order: the sorted keys of all n-grams, and which ends where in ids.

    A key is (number of the first n - 1 words) * vocabulary_size + last word.
    """
    grams = [(np.arange(vocabulary_size), ids.astype(np.int64))]
    for n in range(2, order + 1):
        wanted = grams[-1][1][:-1] * vocabulary_size + ids[1:]
        wanted[: n - 2] = -1  # too near to the start
        keys, numbers = np.unique(wanted[n - 2 :], return_inverse=True)
        ends = np.full(len(ids), -1)
        ends[n - 1 :] = numbers
        grams.append((keys, ends))
    return grams


def fit(ids, order, vocabulary_size):
    """For n = 1 to order: keys, discounted shares (of each key), weights (of each prefix).

    A share is (count - discount) / (sum of the counts with that prefix); a weight is what
    the discounts have set free there, for the next lower order.
    """
    grams, levels = number_grams(ids, order, vocabulary_size), []
    for n, (keys, ends) in enumerate(grams, start=1):
        if n == order:
            counts = np.bincount(ends[n - 1 :], minlength=len(keys))
        else:  # how many different words stand before it
            longer = grams[n][1]
            _, first = np.unique(longer[n:], return_index=True)
            counts = np.bincount(ends[first + n], minlength=len(keys))
        once, twice, *_ = often = np.bincount(np.minimum(counts, 5), minlength=6)[1:5]
        discounts = np.array([0, 0.5, 1, 1.5])  # where a text is too small to tell
        if often.all():
            rises = once / (once + 2 * twice) * often[1:] / often[:3]
            discounts[1:] = np.arange(1, 4) - np.arange(2, 5) * rises
        taken = discounts.clip(0)[np.minimum(counts, 3)]
        prefixes = keys // vocabulary_size
        total = np.maximum(np.bincount(prefixes, counts), 1e-9)
        weights = np.bincount(prefixes, taken) / total
        weights[np.bincount(prefixes, counts) == 0] = 1  # nothing known: all goes down
        levels.append((keys, (counts - taken) / total[prefixes], weights))
    return levels


def number_contexts(levels, ids, vocabulary_size):
    """For n = 1 to order: of which (n - 1)-gram each id is the next one; -1 if of none."""
    contexts, ends = [np.zeros(len(ids), int)], ids.astype(np.int64)
    for keys, _, weights in levels[1:]:
        prefixes = np.concatenate([[-1], ends[:-1]])
        prefixes[prefixes >= len(weights)] = -1  # nothing ever came after it
        ends = find(keys, prefixes * vocabulary_size + ids)
        contexts.append(prefixes)
    return contexts


def score(levels, ids, words, vocabulary_size):
    """The probability of each of words in the place of each id, after those before it."""
    probabilities = np.full(len(ids), 1 / vocabulary_size)
    contexts = number_contexts(levels, ids, vocabulary_size)
    for (keys, shares, weights), prefixes in zip(levels, contexts):
        found = find(
            keys, np.where(prefixes < 0, -1, prefixes * vocabulary_size + words)
        )
        share = np.where(found < 0, 0, shares[found])
        weight = np.where(prefixes < 0, 1, weights[prefixes])
        probabilities = share + weight * probabilities
    return probabilities


def cache_shares(ids, words):
    """The share that each of words has among the CACHE_SIZE ids before its place."""
    places = np.arange(len(ids))
    keys = np.sort(ids.astype(np.int64) * len(ids) + places)
    starts = np.maximum(places - CACHE_SIZE, 0)
    first, end = (np.searchsorted(keys, words * len(ids) + p) for p in [starts, places])
    return (end - first) / np.maximum(places - starts, 1)


def predict(models, ids, vocabulary_size):
    """The probabilities of ids and, in their places, of [UNK]: the mean of models'."""
    pair = [[score(m, ids, w, vocabulary_size) for m in models] for w in [ids, 0 * ids]]
    return np.mean(pair, axis=1)


def predict_by_generator(generator, ids):
    """The same of a generator, from its scores with and without [UNK]."""
    kernel, bias = generator.dense
    bias = np.append(np.float32(-1e9), bias[1:])
    without = program.replace(generator, dense=(kernel, bias))
    nats, rest = (np.append(0, program.score(g, ids)) for g in [generator, without])
    chosen = np.exp(-nats)
    unknown = 1 - np.exp(np.where(ids > 0, rest - nats, 0))
    return chosen, np.where(ids > 0, unknown, chosen)


def add_cache(pair, ids, weight):
    """What becomes of the probabilities of ids and of [UNK] with a cache of this weight."""
    shares = cache_shares(ids, ids), cache_shares(ids, 0 * ids)
    return [(1 - weight) * p + weight * share for p, share in zip(pair, shares)]


def perplexities(pair, ids):
    """The perplexity of all ids but the first, and of the known ones, renormalised."""
    chosen, unknown = pair
    known = np.flatnonzero(ids[1:]) + 1
    nats = -np.log(chosen[1:]), -np.log(chosen[known] / (1 - unknown[known]))
    return [program.perplexity(n) for n in nats]


def count(dataset, order, num_hidings=0):
    """What fit makes of the training part or, if any, of so many with hidden words."""
    size, settings, texts = len(dataset.vocabulary), program.Settings(), []
    for seed in range(num_hidings):
        random = np.random.default_rng(seed)
        texts.append(program.hide_local_words(dataset, settings, random))
    return [fit(ids, order, size) for ids in texts or [dataset.train.ids]]


def print_row(name, pairs, parts):
    """Print the perplexities of the parts' ids, of all and of known ones."""
    columns = zip(*(perplexities(pair, ids) for pair, ids in zip(pairs, parts)))
    numbers = "".join(f"{number:10.1f}" for column in columns for number in column)
    print(f"{name:38}{numbers}", flush=True)


def print_rows(name, pairs, parts):
    """Print a row without and one with a cache, its weight the best on the first part."""
    print_row(name, pairs, parts)
    cached = {w: [add_cache(*both, w) for both in zip(pairs, parts)] for w in WEIGHTS}
    best = min(WEIGHTS, key=lambda w: perplexities(cached[w][0], parts[0])[0])
    print_row(f"... and a cache, weight {best:.2f}", cached[best], parts)


HEADER = f"{'perplexity':38}{'validation':>10}      test    known words:  the same"

if __name__ == "__main__":
    dataset = read_dataset("plays")
    size, parts = len(dataset.vocabulary), [dataset.validation.ids, dataset.test.ids]
    print(HEADER)
    unigram = program.token_frequencies(dataset)
    print_row("unigram", [(unigram[i], unigram[0 * i]) for i in parts], parts)
    for order, num_hidings in [(3, 0), (ORDER, 0), (ORDER, NUM_HIDINGS)]:
        models = count(dataset, order, num_hidings)
        pairs = [predict(models, ids, size) for ids in parts]
        name = f"Kneser-Ney, {order}-gram"
        if num_hidings:
            print_rows(f"{name}, hidden words", pairs, parts)
        else:
            print_row(name, pairs, parts)
    if sys.argv[1:]:
        generator, _ = program.load_generator(program.find_model(sys.argv[1]))
        assert generator.vocabulary == dataset.vocabulary, "it is not of these plays"
        print_row("ours", [predict_by_generator(generator, i) for i in parts], parts)
