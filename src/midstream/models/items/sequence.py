"""Sequential model: a transformer over the last items of a history, as arrays and NumPy alone.

Each item of the history is its vector plus one for its age (0 = the last item). Blocks follow, each of causal attention
and a feed-forward network, both added to their input:

    x = x + Attention(Norm(x)),    x = x + ReLU(Norm(x) W + b) V + c,    user = Norm(x of the last item)

and the score of an item is the product of its vector with the user's. Only the last item has to pass the last block.
The model holds no user: the history is read at request time, up to the last click. Order is read, weights of acts are
not.

A history is computed by itself, in the same steps in any batch, so it gets the same bits. Training is elsewhere
(``sasrec``); scoring needs NumPy and the kernels of ``top_k``.

Reference: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, section III (blocks, shared
item vectors, normalisation before each part).
"""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ScoresUnavailable
from midstream.core.types import Index, Score
from midstream.models.histories import Histories
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import inner_products
from midstream.models.model import Arrays, checked
from midstream.models.vocabulary import ItemVocabulary

Real32: TypeAlias = NDArray[np.float32]
SMALL = 1e-6
"""Added to a variance before it divides."""
QUERY, KEY, VALUE, OUT = range(4)
"""Matrices of an attention."""
BEFORE_ATTENTION, BEFORE_NETWORK = range(2)
"""Norms of a block."""
GAIN, SHIFT = range(2)
"""Of a norm."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What a training finds, float32; d numbers an item, h of the inner layer, b blocks."""

    items: Real32
    """Vector of each item, (items, d): read of a history, and multiplied to score."""
    ages: Real32
    """Added to the vector of an item by its age, 0 = the last of the history, (ages, d)."""
    norm: Real32
    """Of each block before its attention and its network, gain and shift, (b, 2, 2, d)."""
    attention: Real32
    """Of each block: query, key, value, out, applied from the right, (b, 4, d, d)."""
    attention_shift: Real32
    """Added behind each of these, (b, 4, d)."""
    inner: Real32
    """First layer of each network, (b, d, h)."""
    inner_shift: Real32
    """(b, h)."""
    outer: Real32
    """Second layer, (b, h, d)."""
    outer_shift: Real32
    """(b, d)."""
    last_norm: Real32
    """Gain and shift at the end, (2, d)."""


NAMES = tuple(Weights.__slots__)
"""Of the arrays, in order."""


def shapes(items: int, ages: int, blocks: int, factors: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of ``Weights``."""
    return {
        "items": (items, factors),
        "ages": (ages, factors),
        "norm": (blocks, 2, 2, factors),
        "attention": (blocks, 4, factors, factors),
        "attention_shift": (blocks, 4, factors),
        "inner": (blocks, factors, hidden),
        "inner_shift": (blocks, hidden),
        "outer": (blocks, hidden, factors),
        "outer_shift": (blocks, factors),
        "last_norm": (2, factors),
    }


@dataclass(frozen=True, slots=True, eq=False)
class SequenceModel:
    """A model of the order in which items follow each other. See ``ItemModel`` and ``top_n.FactorModel``."""

    vocabulary: ItemVocabulary
    weights: Weights
    heads: int
    """Parts in which each attention looks apart; divides d."""
    _mask: Real32 = field(init=False, repr=False)
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make what is added to what an item sees of later ones: minus infinity, (ages, ages); round the items."""
        count = len(self.weights.ages)
        later = np.triu(np.full((count, count), -np.inf, dtype=np.float32), 1)
        object.__setattr__(self, "_mask", later)
        object.__setattr__(self, "_halves", Halves.of(self.weights.items))

    def item_vectors(self) -> Score:
        """Return the vector of each item, (items, d)."""
        return self.weights.items

    def history_vectors(self, histories: Histories) -> Score:
        """Return the vector of the user of each history, (histories, d); zeros for an empty one.

        Of a longer history than there are ages the last items are read. Cost: a history of m items 4 m d² + m² d for
        each block but the last, which costs half: 0.1 to 0.4 ms, most of it for calling NumPy.
        """
        found = np.zeros((len(histories), self.weights.items.shape[1]), dtype=np.float32)
        for number in range(len(histories)):
            rows = histories.row[histories.start[number] : histories.start[number + 1]]
            if len(rows):
                found[number] = self._read(rows[-len(self.weights.ages) :])
        return found

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item; see ``ItemModel``. 0 for all of an empty history."""
        return inner_products(self.history_vectors(histories), self.weights.items)

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        if not len(history.row):
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        return self._halves.top_k(self.history_vectors(history)[0], k)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        found: dict[str, NDArray[np.generic]] = {f"sequence.{name}": getattr(self.weights, name) for name in NAMES}
        return {**found, "sequence.heads": np.array([self.heads], dtype=np.int64)}

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "SequenceModel":
        """Return the model whose ``arrays`` are among these.

        Raises:
            ArtifactInvalid: They are no sequence model of these items.
        """
        try:
            found = {name: arrays[f"sequence.{name}"] for name in NAMES}
            heads = arrays["sequence.heads"]
        except KeyError as error:
            message = f"a sequence model lacks {error}"
            raise ArtifactInvalid(message) from error
        if heads.dtype.str != "<i8" or heads.shape != (1,) or found["inner"].ndim != 3:  # noqa: PLR2004
            raise ArtifactInvalid("a sequence model has one number of heads, and a first layer for each block")
        blocks, factors, hidden = found["inner"].shape
        right = shapes(len(vocabulary), len(found["ages"]), blocks, factors, hidden)
        checked(arrays, "a sequence model", {f"sequence.{name}": ("<f4", right[name]) for name in NAMES})
        count = int(heads[0])
        if min(blocks, factors, hidden, len(found["ages"])) < 1 or count < 1 or factors % count:
            message = f"{count} heads do not divide {factors} numbers, or a sequence model is empty"
            raise ArtifactInvalid(message)
        plain = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in found.items()}
        return cls(vocabulary, Weights(**plain), count)

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")  # what comes out is looked at
    def _read(self, rows: Index) -> Real32:
        """Return the vector of the user of one history, (d,)."""
        weights, count = self.weights, len(rows)
        found = weights.items[rows] + weights.ages[:count][::-1]
        blocks = len(weights.inner)
        for block in range(blocks):
            kept = slice(-1, None) if block == blocks - 1 else slice(None)
            norm = weights.norm[block]
            found = found[kept] + self._attention(normalised(found, norm[BEFORE_ATTENTION]), block, kept)
            inner = normalised(found, norm[BEFORE_NETWORK]) @ weights.inner[block] + weights.inner_shift[block]
            found = found + np.maximum(inner, np.float32(0)) @ weights.outer[block] + weights.outer_shift[block]
        last: Real32 = normalised(found, weights.last_norm)[0]
        if not np.isfinite(last).all():
            message = "what the model makes of a history is no number"
            raise ScoresUnavailable(message)
        return last

    def _attention(self, given: Real32, block: int, kept: slice) -> Real32:
        """Return what the items that are kept see in those before them and themselves, (kept, d)."""
        matrix, shift = self.weights.attention[block], self.weights.attention_shift[block]
        query = self._parted(given[kept] @ matrix[QUERY] + shift[QUERY])
        key = self._parted(given @ matrix[KEY] + shift[KEY])
        value = self._parted(given @ matrix[VALUE] + shift[VALUE])
        like = query @ key.transpose(0, 2, 1) * np.float32(query.shape[2] ** -0.5)
        like += self._mask[: len(given), : len(given)][kept]
        like -= np.maximum.reduce(like, axis=2, keepdims=True)
        share = np.exp(like, out=like)
        share /= np.add.reduce(share, axis=2, keepdims=True)
        seen = (share @ value).transpose(1, 0, 2).reshape(query.shape[1], -1)
        found: Real32 = seen @ matrix[OUT] + shift[OUT]
        return found

    def _parted(self, rows: Real32) -> Real32:
        """Return rows (m, d) as those of each head, (heads, m, d / heads)."""
        return rows.reshape(len(rows), self.heads, -1).transpose(1, 0, 2)


def normalised(rows: Real32, norm: Real32) -> Real32:
    """Return rows (m, d) less their mean, in standard deviations, times a gain and plus a shift, (2, d)."""
    share = np.float32(1 / rows.shape[1])
    # Sums by the ufunc: of so few numbers ``mean`` takes three times as long, most of it to find out what it is given.
    mean: Real32 = np.add.reduce(rows, axis=1, keepdims=True)
    mean *= share
    apart: Real32 = rows - mean
    variance: Real32 = np.add.reduce(apart * apart, axis=1, keepdims=True)
    variance *= share
    variance += np.float32(SMALL)
    apart /= np.sqrt(variance, out=variance)
    apart *= norm[GAIN]
    apart += norm[SHIFT]
    return apart
