"""Content: items as vectors of what they are, a history as the weighted mean of its items' vectors.

Two kinds of vectors, each of length 1:

- *terms*: the values of attributes (``category=shoes``) and the words of texts, weighted by TF-IDF:
  (1 + ln count) · (1 + ln((1 + n) / (1 + items with it)));
- *encoded texts*, where an encoder is given: any function of texts to float32 (n, d). The model keeps the vectors and
  not the encoder.

The score of an item is (1 − ``encoded_share``) · cosine of the terms + ``encoded_share`` · cosine of the encoded texts.

A new item needs nobody to act on it, and no fit: its vector is made of what is said of it when it is asked about
(``scores_beside``), with terms weighted as the fit weighted them. A term that the fit did not see is left out until the
next.

Reference: Salton and Buckley, "Term-weighting approaches in automatic text retrieval", Information Processing and
    Management 24(5), 1988 (tf-idf, cosine); Pazzani and Billsus, "Content-Based Recommendation Systems", The Adaptive
    Web 2007, section 3 (a profile as the mean of what was liked); Rocchio, "Relevance feedback in information
    retrieval", 1971.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Fault, Invalid
from midstream.core.types import Index, Score
from midstream.events.kernel import kernel
from midstream.models.descriptions import Description
from midstream.models.histories import Histories
from midstream.models.model import QUIET, Arrays, Watch, best_said
from midstream.models.vocabulary import ItemVocabulary

Encoder: TypeAlias = Callable[[Sequence[str]], Score]
"""Texts to vectors, (n, d): the same text always gets the same vector."""
_WORD = re.compile(r"[^\W_]+")
VECTORS_MAX = 4_096
"""Kept of items that a model does not know: four times what is new (``new_items_max``), 1.6 kB of 200 terms each."""
_TEXTS = 1024
"""Items between two looks at whether to stop."""
_TYPES = {
    "content.terms": "|u1",
    "content.term_start": "<i8",
    "content.rarity": "<f4",
    "content.start": "<i8",
    "content.term": "<i4",
    "content.weight": "<f4",
    "content.encoded": "<f4",
    "content.share": "<f8",
    "content.item_terms_max": "<i8",
}


class ContentOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What items are described by."""

    items_min: Annotated[int, Meta(ge=1)] = 2
    """Items that a term has to be of: what is one item's alone is like no other."""
    terms_max: Annotated[int, Meta(ge=1)] = 200_000
    """Terms that are kept, those of most items first: 4 bytes and the term each."""
    item_terms_max: Annotated[int, Meta(ge=1)] = 200
    """Terms of an item that are kept, those of most weight first: what an item costs a question."""
    encoded_share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Weight of the encoded texts beside the terms, 0 to 1, where an encoder is given."""


@dataclass(frozen=True, slots=True, eq=False)
class DescriptionTerms:
    """The terms that items are described by, as the fit weighted them."""

    text: bytes
    """UTF-8, end to end, in the order of Unicode."""
    start: NDArray[np.int64]
    """Where each begins in the text, and its length, (terms + 1,)."""
    rarity: Score
    """1 + ln((1 + items) / (1 + items with it)), (terms,)."""

    places: dict[str, int] = field(init=False, repr=False)
    """The place of each term: about 150 bytes each, 30 MB of 200,000. Made when it is read, 0.3 µs a term."""

    def __post_init__(self) -> None:
        """Look where each term begins."""
        ends = zip(self.start[:-1].tolist(), self.start[1:].tolist(), strict=True)
        places = {self.text[begin:end].decode(): place for place, (begin, end) in enumerate(ends)}
        object.__setattr__(self, "places", places)


Vector: TypeAlias = tuple[Index, Score]
"""Of an item: places of its terms, ascending, and their weights, of length 1 or none."""


@dataclass(frozen=True, slots=True, eq=False)
class UnknownActs:
    """Acts on items that a model does not know."""

    vectors: Sequence[Vector]
    """Of the items."""
    weight: Score
    """Of the acts, (acts,)."""


@dataclass(frozen=True, slots=True, eq=False)
class ContentModel:
    """Items by what they are."""

    vocabulary: ItemVocabulary
    terms: DescriptionTerms
    start: NDArray[np.int64]
    """Where the terms of each item begin, and their number, (items + 1,)."""
    term: Index
    """Place of each term of an item, ascending."""
    weight: Score
    """Its part of the item's vector; those of an item have length 1, or there are none."""
    encoded: Score
    """Vectors of the texts, (d, items), each of length 1 or 0; d is 0 without an encoder."""
    share: float
    """Weight of the encoded texts, 0 without an encoder."""
    item_terms_max: int
    """Terms of an item that the fit kept."""
    _made: dict[object, dict[bytes, Vector]] = field(default_factory=dict[object, dict[bytes, Vector]], init=False)
    """Vectors of items that the model does not know, by how texts are read and by text: each follows from the two, so
    it is made once and not for every request."""

    def vectors_of(
        self, texts: Sequence[bytes], reading: object, describe: Callable[[int], Description]
    ) -> list[Vector]:
        """Return the vectors of items that the model does not know. Cost: 0.1 µs each, 40 µs of one not seen before.

        Args:
            texts: What is said of each; equal texts have equal descriptions.
            reading: How they are read, such as which attributes are declared; hashable.
            describe: Returns the description of the item at a place of ``texts``.
        """
        if reading not in self._made or len(self._made[reading]) > VECTORS_MAX - len(texts):
            self._made.clear()
        made = self._made.setdefault(reading, {})
        for place, text in enumerate(texts):
            if text not in made:
                made[text] = self.vector_of(describe(place))
        return [made[text] for text in texts]

    def vector_of(self, description: Description) -> Vector:
        """Return the vector of the terms of an item as the fit would have made it, of the terms that it knows."""
        return _vector(terms_of(description), self.terms, self.item_terms_max)

    def scores(self, histories: Histories) -> Score:
        """Return the cosine of each history's mean vector and each item's, (histories, items), −1 to 1.

        0 where a history or an item has no vector. Cost: the terms of all items and d · items a history.
        """
        found = np.zeros((len(histories), len(self.vocabulary)), dtype=np.float32)
        asked = (histories.start, histories.row, histories.weight)
        if self.share < 1.0:
            profile = np.zeros(len(self.terms.rarity), dtype=np.float32)
            own = (self.start, self.term, self.weight)
            _add_terms(asked, own, own, profile, np.float32(1.0 - self.share), found)
        if len(self.encoded):
            profile = np.zeros(len(self.encoded), dtype=np.float32)
            _add_encoded(asked, self.encoded, profile, np.float32(self.share), found)
        return found

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history, less those of score 0: nothing in common."""
        return best_said(self.scores(history)[0], k)

    def scores_beside(self, history: Histories, acted: UnknownActs, others: Sequence[Vector]) -> tuple[Score, Score]:
        """Return what one history gives the model's items (items,), and others that it does not know (others,).

        Both as ``scores`` would give them if these were items of the model, without encoded texts: the profile is that
        of all acts, those on items that it does not know among them.

        Args:
            history: Acts on items that the model knows; one history, may be empty.
            acted: Further acts, on items that it does not know.
            others: Vectors of the items that are asked about, of ``vectors_of``.
        """
        own, found = np.zeros((1, len(self.vocabulary)), dtype=np.float32), np.zeros((1, len(others)), dtype=np.float32)
        known = [
            (self.term[begin:end], self.weight[begin:end])
            for begin, end in zip(self.start[history.row].tolist(), self.start[history.row + 1].tolist(), strict=True)
        ]
        told = _joined([*known, *acted.vectors])
        count = len(history.row) + len(acted.vectors)
        places = np.array([0, count], dtype=np.int64)
        asked = (places, np.arange(count, dtype=np.int32), np.concatenate([history.weight, acted.weight]))
        share, profile = np.float32(1.0 - self.share), np.zeros(len(self.terms.rarity), dtype=np.float32)
        _add_terms(asked, told, (self.start, self.term, self.weight), profile, share, own)
        _add_terms(asked, told, _joined(others), profile, share, found)
        if len(self.encoded):
            axes = np.zeros(len(self.encoded), dtype=np.float32)
            known_acts = (history.start, history.row, history.weight)
            _add_encoded(known_acts, self.encoded, axes, np.float32(self.share), own)
        return own[0], found[0]

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        return {
            "content.terms": np.frombuffer(self.terms.text, dtype=np.uint8),
            "content.term_start": self.terms.start,
            "content.rarity": self.terms.rarity,
            "content.start": self.start,
            "content.term": self.term,
            "content.weight": self.weight,
            "content.encoded": self.encoded,
            "content.share": np.array([self.share]),
            "content.item_terms_max": np.array([self.item_terms_max], dtype=np.int64),
        }

    @classmethod
    def read(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "ContentModel":
        """Return the model whose ``arrays`` these are.

        Raises:
            ArtifactInvalid: They are not those of such a model. Kernels check no index, so this does.
        """
        types = {name: arrays[name].dtype.str if name in arrays else "none" for name in _TYPES}
        axes = {name: arrays[name].ndim for name in _TYPES if name in arrays}
        if types != _TYPES or axes != dict.fromkeys(_TYPES, 1) | {"content.encoded": 2}:
            message = f"a content model has arrays {_TYPES} of one axis, and two of the encoded, not {types} of {axes}"
            raise ArtifactInvalid(message)
        start, term = arrays["content.start"].astype(np.int64), arrays["content.term"].astype(np.int32)
        weight, rarity = arrays["content.weight"].astype(np.float32), arrays["content.rarity"].astype(np.float32)
        text, term_start = arrays["content.terms"].tobytes(), arrays["content.term_start"].astype(np.int64)
        encoded, share = arrays["content.encoded"].astype(np.float32), arrays["content.share"].astype(np.float64)
        most = arrays["content.item_terms_max"].astype(np.int64)
        counts = (len(start), len(term_start), len(term), encoded.shape[1], share.shape, most.shape)
        if counts != (len(vocabulary) + 1, len(rarity) + 1, len(weight), len(vocabulary), (1,), (1,)) or most[0] < 1:
            raise ArtifactInvalid("the content is not that of the vocabulary's items")
        if not _begins(start, len(term)) or not _begins(term_start, len(text)) or not _within(term, len(rarity)):
            raise ArtifactInvalid("the content names terms that are not there")
        terms = DescriptionTerms(text, term_start, rarity)
        return cls(vocabulary, terms, start, term, weight, np.ascontiguousarray(encoded), float(share[0]), int(most[0]))


_PAGE = "/docs/models.md"


def fit_content(
    items: ItemVocabulary,
    described: Sequence[Description],
    options: ContentOptions,
    watch: Watch = QUIET,
    encoder: Encoder | None = None,
) -> ContentModel:
    """Return the items by what they are. Nobody's acts are read.

    Args:
        items: The items, by row.
        described: One a row.
        options: What they are described by.
        watch: How far it is.
        encoder: Makes vectors of texts; None for terms alone.

    Raises:
        FitStopped: The watch said so.
        Invalid: Not one description an item, or the encoder gives not one finite vector a text.
    """
    counted = _counted(described, items)
    watch.step("terms", 0.1)
    terms = _terms(counted, options)
    start, term, weight = _vectors(counted, terms, options, watch)
    watch.step("encoded texts", 0.7)
    encoded = _encoded(described, encoder)
    share = options.encoded_share if len(encoded) else 0.0
    return ContentModel(items, terms, start, term, weight, encoded, share, options.item_terms_max)


def terms_of(description: Description) -> Counter[str]:
    """Return how often an item has each term: values as they are, words of the text in lower case."""
    found = Counter(description.values)
    found.update(_WORD.findall(description.text.lower()))
    return found


def _counted(described: Sequence[Description], items: ItemVocabulary) -> list[Counter[str]]:
    """Return the terms of each item, once it is sure that each has a description."""
    if len(described) != len(items):
        came, right = f"{len(described)} descriptions", f"one for each of {len(items)} items"
        raise Invalid((Fault("$.described", came, right, _PAGE),))
    return [terms_of(each) for each in described]


def _terms(counted: Sequence[Counter[str]], options: ContentOptions) -> DescriptionTerms:
    """Return the terms of enough items, those of most items first where there are too many."""
    items: Counter[str] = Counter()
    for each in counted:
        items.update(each.keys())
    enough = [term for term, count in items.items() if count >= options.items_min]
    kept = sorted(sorted(enough, key=lambda term: (-items[term], term))[: options.terms_max])
    texts = [term.encode() for term in kept]
    start = np.concatenate([[0], np.cumsum([len(each) for each in texts], dtype=np.int64)]).astype(np.int64)
    with_it = np.array([items[term] for term in kept], dtype=np.float64)
    rarity = 1.0 + np.log((1.0 + len(counted)) / (1.0 + with_it))
    return DescriptionTerms(b"".join(texts), start, rarity.astype(np.float32))


def _vectors(
    counted: Sequence[Counter[str]], terms: DescriptionTerms, options: ContentOptions, watch: Watch
) -> tuple[NDArray[np.int64], Index, Score]:
    """Return start, term and weight of each item's vector, of length 1 where it has a known term."""
    found: list[Vector] = []
    for number, each in enumerate(counted):
        if number % _TEXTS == 0:
            watch.step("vectors", 0.2 + 0.5 * number / len(counted))
        found.append(_vector(each, terms, options.item_terms_max))
    return _joined(found)


def _vector(counted: Mapping[str, int], terms: DescriptionTerms, item_terms_max: int) -> Vector:
    """Return the vector of an item that has terms so many times each, of length 1 where one of them is known."""
    known = sorted((terms.places[term], count) for term, count in counted.items() if term in terms.places)
    place = np.array([place for place, _ in known], dtype=np.int32)
    weight = (1.0 + np.log(np.array([count for _, count in known], dtype=np.float64))) * terms.rarity[place]
    kept = np.sort(np.argsort(-weight, kind="stable")[:item_terms_max])
    length = np.sqrt((weight[kept] ** 2).sum())
    return place[kept], (weight[kept] / (length or 1.0)).astype(np.float32)


def _joined(vectors: Sequence[Vector]) -> tuple[NDArray[np.int64], Index, Score]:
    """Return where the terms of each vector begin, and their number; their places; their weights."""
    sizes = np.array([len(place) for place, _ in vectors], dtype=np.int64)
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    term = np.concatenate([np.empty(0, np.int32), *(place for place, _ in vectors)]).astype(np.int32)
    return start, term, np.concatenate([np.empty(0, np.float32), *(weight for _, weight in vectors)]).astype(np.float32)


def _encoded(described: Sequence[Description], encoder: Encoder | None) -> Score:
    """Return the vectors of the texts, (d, items), each of length 1; of an empty text, and of no text, 0."""
    if encoder is None:
        return np.zeros((0, len(described)), dtype=np.float32)
    vectors = np.asarray(encoder([each.text for each in described]), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(described) or not np.isfinite(vectors).all():  # noqa: PLR2004
        came, right = f"vectors of shape {vectors.shape}", f"({len(described)}, d), all finite"
        raise Invalid((Fault("$.encoder", came, right, _PAGE),))
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    written = np.array([bool(each.text) for each in described], dtype=np.bool_) & (length > 0)
    scale = np.where(written, 1.0 / np.where(length > 0, length, 1.0), 0.0)
    return np.ascontiguousarray((vectors * scale[:, None]).T, dtype=np.float32)


def _begins(start: NDArray[np.int64], count: int) -> bool:
    """Return whether parts begin one after another, from 0 to so many."""
    return int(start[0]) == 0 and int(start[-1]) == count and bool((np.diff(start) >= 0).all())


def _within(places: Index, count: int) -> bool:
    """Return whether all of some places are below a count."""
    return bool(((places >= 0) & (places < count)).all())


@kernel
def _add_terms(
    asked: tuple[NDArray[np.int64], Index, Score],
    told: tuple[NDArray[np.int64], Index, Score],
    items: tuple[NDArray[np.int64], Index, Score],
    profile: Score,
    share: np.float32,
    found: Score,
) -> None:
    """Add, for each history, share times the cosine of its profile and of each item, in one order of sums.

    ``profile`` (terms,) is 0 before and after; rows of ``asked`` are those of the vectors ``told``.
    """
    at, row, act = asked
    told_start, told_term, told_weight = told
    start, term, weight = items
    for number in range(len(at) - 1):
        for place in range(at[number], at[number + 1]):
            for entry in range(told_start[row[place]], told_start[row[place] + 1]):
                profile[told_term[entry]] += act[place] * told_weight[entry]
        square = np.float64(0.0)
        for value in profile:
            square += np.float64(value) * np.float64(value)
        if square > 0.0:
            scale = np.float64(share) / np.sqrt(square)
            for item in range(found.shape[1]):
                total = np.float64(0.0)
                for entry in range(start[item], start[item + 1]):
                    total += np.float64(profile[term[entry]]) * np.float64(weight[entry])
                found[number, item] += np.float32(total * scale)
            profile[:] = 0.0


@kernel
def _add_encoded(
    asked: tuple[NDArray[np.int64], Index, Score],
    encoded: Score,
    profile: Score,
    share: np.float32,
    found: Score,
) -> None:
    """Add, for each history, share times the cosine of its mean vector and of each item's, in one order of sums.

    ``encoded`` is (d, items), so that the inner loop goes along items: each sum in order, many sums at a time.
    """
    at, row, act = asked
    for number in range(len(at) - 1):
        profile[:] = 0.0
        for place in range(at[number], at[number + 1]):
            for axis in range(len(profile)):
                profile[axis] += act[place] * encoded[axis, row[place]]
        square = np.float64(0.0)
        for value in profile:
            square += np.float64(value) * np.float64(value)
        if square > 0.0:
            scale = np.float32(np.float64(share) / np.sqrt(square))
            for axis in range(len(profile)):
                along = profile[axis] * scale
                for item in range(found.shape[1]):
                    found[number, item] += along * encoded[axis, item]
