"""The strongest counting baseline: interpolated modified Kneser-Ney, on the very same ids.

    python benchmarks/kneser_ney.py [CORPUS]

S. Chen and J. Goodman 1998, An Empirical Study of Smoothing Techniques for Language
Modeling. An n-gram's count is lowered by a discount, and what that sets free goes to the
n-gram without its first word, whose "count" is in how many different contexts it stands.
"""

import sys

import numpy as np
from runs import program, read_dataset


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


def score(levels, ids, vocabulary_size):
    """The probability of each id after those before it, (len(ids),)."""
    keys, shares, weights = levels[0]
    probabilities = shares[ids] + weights[0] / vocabulary_size
    ends = ids.astype(np.int64)
    for n, (keys, shares, weights) in enumerate(levels[1:], start=2):
        prefixes = np.concatenate([[-1], ends[:-1]])
        known = (prefixes >= 0) & (prefixes < len(weights))
        found = np.where(known, find(keys, prefixes * vocabulary_size + ids), -1)
        share = np.where(found >= 0, shares[found], 0)
        weight = np.where(known, weights[np.where(known, prefixes, 0)], 1)
        probabilities = share + weight * probabilities
        ends = found
    return probabilities


def measure_perplexities(dataset, order):
    """The perplexities of the validation and the test part after counting the training."""
    size, held_out = len(dataset.vocabulary), [dataset.validation, dataset.test]
    levels = fit(dataset.train.ids, order, size)
    nats = [-np.log(score(levels, part.ids, size)) for part in held_out]
    return [program.perplexity(n) for n in nats]


if __name__ == "__main__":
    dataset = read_dataset((sys.argv[1:] or ["plays"])[0])
    print("perplexity                validation      test")
    for order in [3, 5]:
        columns = measure_perplexities(dataset, order)
        print(
            f"Kneser-Ney, {order}-gram       " + "".join(f"{n:10.1f}" for n in columns)
        )
