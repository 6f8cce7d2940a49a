"""Content: TF-IDF and cosine by plain Python, encoders of one's own, and new items without a fit."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, FitStopped, Invalid
from midstream.models.descriptions import Description
from midstream.models.histories import Histories
from midstream.models.items import content
from midstream.models.items.content import ContentModel, ContentOptions, UnknownActs, Vector, fit_content, terms_of
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, some_questions, vocabulary_of

WORDS = ("red", "green", "blue", "Shoe", "boot", "hat", "wool")
DESCRIPTIONS = st.builds(
    lambda values, words: Description(tuple(values), " ".join(words)),
    st.lists(st.sampled_from(["category=a", "category=b", "tags=x", "tags=y"]), max_size=3, unique=True),
    st.lists(st.sampled_from(WORDS), max_size=6),
)
CATALOGUES = st.lists(DESCRIPTIONS, min_size=3, max_size=12)
EVERYTHING = ContentOptions(items_min=1)


def lengths(texts: Sequence[str]) -> NDArray[np.float32]:
    """Encode a text by how often it has some letters."""
    return np.array([[text.lower().count(letter) for letter in "aeorb"] for text in texts], dtype=np.float32)


def plain_terms(described: Sequence[Description], items_min: int) -> list[dict[str, float]]:
    """Return the vector of each item, one line a step."""
    words = [re.findall(r"[a-z]+", each.text.lower()) for each in described]
    terms = [[*each.values, *found] for each, found in zip(described, words, strict=True)]
    with_it = {term: sum(term in each for each in terms) for found in terms for term in found}
    vectors: list[dict[str, float]] = []
    for found in terms:
        vector = {
            term: (1 + math.log(found.count(term))) * (1 + math.log((1 + len(terms)) / (1 + with_it[term])))
            for term in set(found)
            if with_it[term] >= items_min
        }
        length = math.sqrt(sum(value**2 for value in vector.values()))
        vectors.append({term: value / length for term, value in vector.items()})
    return vectors


def plain_encoded(described: Sequence[Description]) -> list[dict[str, float]]:
    """Return the encoded text of each item at length 1."""
    found: list[dict[str, float]] = []
    for row in lengths([each.text for each in described]).tolist():
        length = math.sqrt(sum(value**2 for value in row)) or 1.0
        found.append({str(axis): value / length for axis, value in enumerate(row)})
    return found


def cosines(vectors: list[dict[str, float]], rows: Sequence[int], weights: Sequence[float]) -> list[float]:
    """Return the cosine of the weighted mean of some items' vectors and each item's, 0 where there is none."""
    profile: dict[str, float] = {}
    for row, weight in zip(rows, weights, strict=True):
        for term, value in vectors[row].items():
            profile[term] = profile.get(term, 0.0) + weight * value
    length = math.sqrt(sum(value**2 for value in profile.values())) or 1.0
    return [sum(profile.get(term, 0.0) * value for term, value in each.items()) / length for each in vectors]


@settings(max_examples=40)
@given(CATALOGUES, SEEDS, st.integers(1, 3), st.sampled_from([None, 0.0, 0.3, 1.0]))
def test_scores_are_the_cosines(described: list[Description], seed: int, items_min: int, share: float | None) -> None:
    """Both cosines, weighted, equal plain Python to rounding."""
    count, asked = len(described), some_questions(seed, len(described))
    options = ContentOptions(items_min=items_min, encoded_share=share or 0.0)
    model = fit_content(vocabulary_of(count), described, options, encoder=None if share is None else lengths)
    terms, encoded = plain_terms(described, items_min), plain_encoded(described)
    found = model.scores(asked)
    for number in range(len(asked)):
        one = asked.part(number, number + 1)
        rows, weights = one.row.tolist(), one.weight.tolist()
        parts = (cosines(terms, rows, weights), cosines(encoded, rows, weights))
        wanted = [(1 - (share or 0)) * first + (share or 0) * second for first, second in zip(*parts, strict=True)]
        assert np.allclose(found[number], wanted, atol=1e-5)
        assert np.abs(found[number]).max() <= 1.0 + 1e-5


@settings(max_examples=15)
@given(CATALOGUES, SEEDS, st.booleans())
def test_it_keeps_the_promises_of_an_item_model(described: list[Description], seed: int, encode: bool) -> None:
    """Conformance, with repeats, weights, an empty history and items without a description."""
    vocabulary = vocabulary_of(len(described) + 1)
    encoder = lengths if encode else None
    model = fit_content(vocabulary, [*described, Description()], EVERYTHING, encoder=encoder)
    check_item_model(model, some_questions(seed, len(vocabulary)), lambda arrays: ContentModel.read(vocabulary, arrays))


def enlarged(model: ContentModel, vectors: Sequence[Vector]) -> ContentModel:
    """Return the model as if it had these items too, in the rows after its own, without encoded texts."""
    sizes = [len(place) for place, _ in vectors]
    return ContentModel(
        vocabulary_of(len(model.vocabulary) + len(vectors)),
        model.terms,
        np.concatenate([model.start, model.start[-1] + np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        np.concatenate([model.term, *(place for place, _ in vectors)]).astype(np.int32),
        np.concatenate([model.weight, *(weight for _, weight in vectors)]).astype(np.float32),
        np.ascontiguousarray(np.pad(model.encoded, ((0, 0), (0, len(vectors))))),
        model.share,
        model.item_terms_max,
    )


@settings(max_examples=40)
@given(CATALOGUES, st.lists(DESCRIPTIONS, max_size=5), SEEDS, st.booleans())
def test_items_that_a_fit_did_not_see_score_as_if_it_had(
    described: list[Description], new: list[Description], seed: int, encode: bool
) -> None:
    """To the bit, theirs and those of all others, whichever of them were acted on; one like an old one scores as it."""
    count, encoder = len(described), lengths if encode else None
    model = fit_content(vocabulary_of(count), described, EVERYTHING, encoder=encoder)
    others = [*new, *described]
    vectors = [model.vector_of(each) for each in others]
    twin = enlarged(model, vectors)
    asked = some_questions(seed, len(twin.vocabulary))
    for number in range(len(asked)):
        one = asked.part(number, number + 1)
        is_old = one.row < count
        known = Histories(one.row[is_old], one.weight[is_old], np.array([0, np.count_nonzero(is_old)]))
        acted = UnknownActs([vectors[row - count] for row in one.row[~is_old].tolist()], one.weight[~is_old])
        own, found = model.scores_beside(known, acted, vectors)
        order = np.argsort(~is_old, kind="stable")  # acts on what it knows come first
        (expected,) = twin.scores(Histories(one.row[order], one.weight[order], one.start))
        assert (np.concatenate([own, found]) == expected).all()
        if not encode:
            assert (found[len(new) :] == own).all()


def test_vectors_of_new_items_are_made_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was asked before, a text and how it is read give one vector."""
    monkeypatch.setattr(content, "VECTORS_MAX", 4)
    described = [Description((), "red hat"), Description((), "blue hat"), Description((), "red boot")]
    model = fit_content(vocabulary_of(3), described, EVERYTHING)
    made: list[str] = []

    def vectors(*words: str, reading: str = "") -> list[tuple[list[int], list[float]]]:
        def describe(place: int) -> Description:
            made.append(words[place])
            return Description((), words[place] + reading)

        texts = [each.encode() for each in words]
        found = model.vectors_of(texts, reading, describe)
        assert sum(map(len, model._made.values())) <= 4
        return [(place.tolist(), weight.tolist()) for place, weight in found]

    plain = {word: vectors(word)[0] for word in ("red", "hat", "boot", "blue", "new")}
    assert plain["new"] == ([], [])
    assert made == ["red", "hat", "boot", "blue", "new"]
    assert vectors("new", "new") == [([], [])] * 2
    assert len(made) == 5
    assert vectors("red", "hat", "blue", "red") == [plain[each] for each in ("red", "hat", "blue", "red")]
    assert vectors("red", reading=" hat") == vectors("hat red")
    assert vectors("red") == [plain["red"]]


def test_what_is_fitted_is_checked() -> None:
    """A missing description, and an encoder that gives no numbers, are refused."""
    described = [Description(("tags=x",), "red hat"), Description(("tags=x",), "blue hat")]
    with pytest.raises(Invalid, match="all finite"):
        fit_content(vocabulary_of(2), described, EVERYTHING, encoder=lambda texts: lengths(texts) + np.float32(np.inf))
    with pytest.raises(Invalid, match="descriptions"):
        fit_content(vocabulary_of(3), described, EVERYTHING)


def test_terms_are_bounded() -> None:
    """Rare terms go first from the whole, light ones from an item; the words are of any script."""
    assert terms_of(Description(("tags=Rød sko",), "Rød SKO, 靴 x_2"))["rød"] == 1
    assert set(terms_of(Description((), "Rød SKO, 靴 x_2"))) == {"rød", "sko", "靴", "x", "2"}
    described = [Description((), "a b c"), Description((), "a b"), Description((), "a d d d")]
    two = fit_content(vocabulary_of(3), described, ContentOptions(items_min=1, terms_max=2))
    assert sorted(two.terms.places) == ["a", "b"]
    one = fit_content(vocabulary_of(3), described, ContentOptions(items_min=1, item_terms_max=1))
    names = {place: term for term, place in one.terms.places.items()}
    assert [names[place] for place in one.term.tolist()] == ["c", "b", "d"]
    assert np.allclose(one.weight, 1.0)
    assert [one.vector_of(each)[0].tolist() for each in described] == [[each] for each in one.term.tolist()]


def test_a_damaged_content_is_refused() -> None:
    """Kernels check no index, so terms outside, cut parts and other types never become a model."""
    described = [Description(("tags=x",), "red hat"), Description(("tags=x",), "blue hat")]
    model = fit_content(vocabulary_of(2), described, EVERYTHING, encoder=lengths)
    arrays = model.arrays()
    outside = arrays["content.term"].copy()
    outside[0] = 99
    damaged: dict[str, NDArray[np.generic]] = {
        "content.term": outside,
        "content.start": arrays["content.start"][:-1],
        "content.weight": arrays["content.weight"][:-1],
        "content.rarity": arrays["content.rarity"][:-1],
        "content.term_start": np.array([0, *arrays["content.term_start"][1:-1].tolist(), 10**6], dtype=np.int64),
        "content.encoded": np.zeros((5, 3), dtype=np.float32),
        "content.share": np.array([0.5, 0.5]),
        "content.terms": arrays["content.terms"].astype(np.int64),
    }
    for name, array in damaged.items():
        with pytest.raises(ArtifactInvalid, match="content"):
            ContentModel.read(model.vocabulary, {**arrays, name: array})
    with pytest.raises(ArtifactInvalid, match="content"):
        ContentModel.read(model.vocabulary, {name: array for name, array in arrays.items() if name != "content.term"})


def test_a_fit_tells_and_stops() -> None:
    """Shares go up, and the wish to stop is heard."""
    described = [Description((), "red hat")] * 3
    told: list[float] = []
    fit_content(vocabulary_of(3), described, EVERYTHING, Watch(lambda _, share: told.append(share)))
    assert told == sorted(told)
    assert len(told) == 3
    with pytest.raises(FitStopped):
        fit_content(vocabulary_of(3), described, EVERYTHING, Watch(stopped=lambda: True))
