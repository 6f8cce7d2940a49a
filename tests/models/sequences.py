"""Sequence models of random weights, and what they compute, written out."""

import numpy as np

from midstream.models.histories import Histories
from midstream.models.items.sequence import SMALL, SequenceModel, Weights, shapes
from midstream.models.vocabulary import ItemVocabulary

HISTORIES = Histories.of([[3, 1, 4], [], [1], [4, 1, 3], [2, 2, 2, 2, 5, 6, 0, 1, 3], [6]])


def vocabulary_of(items):
    """So many items."""
    ids = [f"i{number}" for number in range(items)]
    return ItemVocabulary.of(ids)


def drawn_model(seed=0, *, items=7, ages=5, blocks=2, factors=8, hidden=12, heads=2):
    """A model of random weights, gains around 1."""
    dice = np.random.default_rng(seed)
    found = {
        name: dice.standard_normal(shape).astype(np.float32) * np.float32(0.4)
        for name, shape in shapes(items, ages, blocks, factors, hidden).items()
    }
    found["norm"][:, :, 0] += 1
    found["last_norm"][0] += 1
    return SequenceModel(vocabulary_of(items), Weights(**found), heads)


def _normed(rows, norm):
    return [(row - row.mean()) / np.sqrt(row.var() + SMALL) * norm[0] + norm[1] for row in rows]


def twin_of(model, rows):
    """The vector of a user as the formulas say: every place, float64, one number at a time in an attention."""
    weights = {name: getattr(model.weights, name).astype(np.float64) for name in Weights.__slots__}
    rows = rows[-len(weights["ages"]) :]
    found = [weights["items"][row] + weights["ages"][len(rows) - 1 - at] for at, row in enumerate(rows)]
    width = len(found[0]) // model.heads
    for block in range(len(weights["inner"])):
        matrix, shift = weights["attention"][block], weights["attention_shift"][block]
        given = _normed(found, weights["norm"][block, 0])
        query, key, value = ([row @ matrix[which] + shift[which] for row in given] for which in range(3))
        seen = []
        for at in range(len(rows)):
            parts = []
            for head in range(model.heads):
                part = slice(head * width, (head + 1) * width)
                like = [np.exp(query[at][part] @ key[to][part] / np.sqrt(width)) for to in range(at + 1)]
                parts.append(sum(each * value[to][part] for to, each in enumerate(like)) / sum(like))
            seen.append(np.concatenate(parts) @ matrix[3] + shift[3])
        found = [one + two for one, two in zip(found, seen, strict=True)]
        given = _normed(found, weights["norm"][block, 1])
        inner = [np.maximum(row @ weights["inner"][block] + weights["inner_shift"][block], 0) for row in given]
        outer = [row @ weights["outer"][block] + weights["outer_shift"][block] for row in inner]
        found = [one + two for one, two in zip(found, outer, strict=True)]
    return _normed(found, weights["last_norm"])[-1]
