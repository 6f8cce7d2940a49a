"""The text index finds what a plain scan of the documents finds, scored by the formula, after any changes."""

import math
import re
import tracemalloc
import unicodedata
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.search import sorted_words, text_index
from midstream.state.search.text_index import TextIndex, text_index_bytes, words_of
from tests.support.frozen_shop import SMALL, START_MS, StillShop

SETTINGS = replace(SMALL, search=("title", "tags"))
WORDS = ["brass", "lamp", "lampshade", "desk", "Désk", "straße", "lamb", "x1", "ＢＲＡＳＳ"]


def change(shop, item, operation="put", **attributes):
    """Fold a change of the catalogue."""
    body = b"" if operation == "delete" else msgspec.json.encode(attributes)
    shop.record((Event(Kind.ITEM, Operation[operation.upper()], item_id=item, body=body),))


def plain(text):
    """Return the words of a text, by other means."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return [each for each in re.split(r"[\W_]+", text) if each]


def bm25(documents, query, *, prefix=True):
    """Return the score of each item that matches, by the formula, item by item."""
    counts = {item: Counter(plain(" ".join(texts))) for item, texts in documents.items() if plain(" ".join(texts))}
    lengths = {item: sum(each.values()) for item, each in counts.items()}
    asked = list(dict.fromkeys(plain(query)))
    found: dict[Any, Any] = {}
    for place, word in enumerate(asked):
        is_open = prefix and place == len(asked) - 1
        has = {}
        for item, own in counts.items():
            parts = [each for each in own if is_open and each != word and each.startswith(word)]
            fits = [own[word]] * (word in own) + [own[each] * 0.5 for each in parts]
            if fits:
                has[item] = max(fits)
        for item, count in has.items():
            idf = math.log2(1 + (len(counts) - len(has) + 0.5) / (len(has) + 0.5))
            mean = sum(lengths.values()) / len(lengths)
            worth = idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * lengths[item] / mean))
            found[item] = found.get(item, 0.0) + worth
    return found


def searched(shop, query, **more):
    """Return the score of each item that the index finds."""
    found = shop.fold.text_index.matches(query, shop.fold.items.available, **more)
    ids = shop.fold.vocabulary.item_ids(found.item_index)
    return dict(zip(ids, found.score.tolist(), strict=True))


changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "patch", "delete"]),
        st.sampled_from([f"i{n}" for n in range(6)]),
        st.lists(st.sampled_from(WORDS), max_size=5),
        st.none() | st.lists(st.sampled_from(WORDS), max_size=3),
    ),
    max_size=25,
)


@given(changes, st.lists(st.sampled_from([*WORDS, "la", "br", "none"]), min_size=1, max_size=3))
def test_it_equals_a_scan_after_any_changes(events, query):
    """Puts, patches and deletions in any order: matches and scores of the documents as they are now."""
    shop = StillShop(SETTINGS)
    documents: dict[str, Any] = {}
    for operation, item, title, tags in events:
        if operation == "delete":
            change(shop, item, operation="delete")
            documents.pop(item, None)
            continue
        attributes = {"title": " ".join(title)} | ({} if tags is None else {"tags": tags})
        change(shop, item, operation=operation, **attributes)
        before = documents.get(item, {}) if operation == "patch" else {}
        documents[item] = {**before, **attributes}
    texts = {item: [each.get("title", ""), *each.get("tags", [])] for item, each in documents.items()}
    expected = bm25(texts, " ".join(query))
    assert searched(shop, " ".join(query)) == pytest.approx(expected, rel=1e-6)


@given(changes)
def test_a_snapshot_has_all_of_it(events):
    """Arrays and back: the same arrays, the same matches; and the digest is that of the state it was taken of."""
    shop = StillShop(SETTINGS)
    for operation, item, title, tags in events:
        change(shop, item, operation=operation, title=" ".join(title), tags=tags or [])
    other = Fold(shop.fold.settings)
    other.restore(shop.fold.arrays())
    assert other.digest() == shop.fold.digest()
    for query in ("lamp", "la", "brass desk"):
        mine, theirs = (each.text_index.matches(query, shop.fold.items.available) for each in (shop.fold, other))
        assert mine.item_index.tolist() == theirs.item_index.tolist()
        assert mine.score.tolist() == theirs.score.tolist()


@given(changes, st.integers(1, 4))
def test_it_is_the_same_however_the_log_is_cut(events, size):
    """Words that an item had for one event alone have their numbers in any batches."""
    log = []
    for n, (operation, item, title, tags) in enumerate(events, START_MS):
        body = msgspec.json.encode({"title": " ".join(title), "tags": tags or []})
        what = Operation[operation.upper()]
        log.append(Event(Kind.ITEM, what, item_id=item, event_time_ms=n, log_time_ms=n, body=body))
    whole, cut = Fold(SETTINGS), Fold(SETTINGS)
    whole.apply(LogPosition(0), build(log))
    for start in range(0, len(log), size):
        cut.apply(LogPosition(start), build(log[start : start + size]))
    assert whole.digest() == cut.digest()


def test_words_are_normalized():
    """Case, compatibility forms, accents that are one or two characters; punctuation and _ end a word."""
    assert words_of("De\u0301sk DÉSK désk") == ["désk"] * 3
    assert words_of("ＢＲＡＳＳ straße ﬁne") == ["brass", "strasse", "fine"]
    assert words_of("a_b-c.d/e'f 日本語 x1") == ["a", "b", "c", "d", "e", "f", "日本語", "x1"]
    assert words_of("") == words_of("—!?") == []


def test_the_last_word_may_be_a_beginning():
    """Unless something follows it; a whole word counts more than one that only begins so."""
    shop = StillShop(SETTINGS)
    for item, title in (("a", "lamp"), ("b", "lampshade"), ("c", "desk lamp oak"), ("d", "oak")):
        change(shop, item, title=title)
    assert set(searched(shop, "lam")) == {"a", "b", "c"}
    assert searched(shop, "lam ") == {}
    assert searched(shop, "lam oak").keys() == {"c", "d"}
    assert searched(shop, "lam", prefix=False) == {}
    scores = searched(shop, "lamp")
    assert scores["a"] > scores["b"] > 0
    change(shop, "a", available=False, operation="patch")
    assert set(searched(shop, "lamp")) == {"b", "c"}


def test_room_has_an_end(monkeypatch):
    """Words and entries beyond the maxima are left out and counted; what is there stays right."""
    monkeypatch.setattr(text_index, "WORDS_MAX", 3)
    monkeypatch.setattr(text_index, "ENTRIES_MAX", 5)
    shop = StillShop(SETTINGS)
    change(shop, "a", title="one two three four")
    assert shop.fold.counts()["search_word_refused"] == 1
    change(shop, "b", title="one two three")
    assert shop.fold.counts()["search_word_refused"] == 2
    assert searched(shop, "four", prefix=False) == searched(shop, "none", prefix=False) == {}
    assert set(searched(shop, "two", prefix=False)) == {"a", "b"}
    change(shop, "a", operation="delete")
    change(shop, "c", title="three three")
    assert set(searched(shop, "three", prefix=False)) == {"c"}
    assert shop.fold.text_index.bytes_now <= shop.fold.text_index.bytes_max


def test_of_many_words_the_most_common_come_first(monkeypatch):
    """Whatever the order in which they came, and where chunks of words begin."""
    monkeypatch.setattr(sorted_words, "CHUNK_WORDS_MAX", 4)
    monkeypatch.setattr(text_index, "PREFIX_WORDS_MAX", 3)
    shop = StillShop(SETTINGS)
    for number in range(30):
        change(shop, f"i{number}", title=f"w{number} w{number % 3}x")
        assert f"i{number}" in searched(shop, f"w{number}")
    assert len(searched(shop, "w")) == 30  # w0x, w1x and w2x have all of them


def test_common_words_of_a_long_query_are_passed_by(monkeypatch):
    """The rarest words are read as far as entries allow, the first of them always."""
    monkeypatch.setattr(text_index, "QUERY_ENTRIES_MAX", 4)
    shop = StillShop(SETTINGS)
    for number in range(9):
        change(shop, f"i{number}", title=f"common {'rare' if number < 3 else 'other'}")
    found = shop.fold.text_index.matches("common rare ", shop.fold.items.available)
    assert (found.asked, len(found.item_index)) == (1, 3)
    assert set(searched(shop, "common ")) == {"i5", "i6", "i7", "i8"}  # the newest


def test_a_beginning_reads_no_more_entries_than_a_query_may(monkeypatch):
    """Of words that begin so the most common count, as far as entries allow; a whole word counts before them."""
    monkeypatch.setattr(text_index, "QUERY_ENTRIES_MAX", 4)
    shop = StillShop(SETTINGS)
    for number in range(20):
        change(shop, f"i{number}", title=f"s{number // 2}")
    change(shop, "i20", title="s9")
    change(shop, "whole", title="s")
    assert set(searched(shop, "s")) == {"whole", "i18", "i19", "i20"}
    assert len(searched(shop, "s1")) == 2
    for number in range(9):
        change(shop, f"z{number}", title="zoo")
    assert len(searched(shop, "z")) == 4


def test_answers_are_those_of_a_restored_state():
    """Popular words behind thousands of rare ones that begin alike are found, before and after a restore."""
    shop = StillShop(SETTINGS)
    index, other = shop.fold.text_index, TextIndex(SETTINGS)
    for number in range(4_200):
        index.put(number % 30, {"title": " ".join(f"sa{k:05d}" for k in range(number, number + 30))})
    for number in range(30, 50):
        index.put(number, {"title": "szz"})
    other.restore(index.arrays())
    eligible = np.ones(SMALL.limits.items_max, dtype=np.bool_)
    mine, theirs = index.matches("s", eligible), other.matches("s", eligible)
    assert mine.item_index.tolist() == theirs.item_index.tolist()
    assert mine.score.tolist() == theirs.score.tolist()
    assert set(range(30, 50)) <= set(mine.item_index.tolist())


def test_one_answer_serves_equal_queries_until_a_document_changes(monkeypatch):
    """Source, filter and explanation of a slate ask the same; a change of words or availability counts at once."""
    shop, read = StillShop(SETTINGS), []
    entries_of = TextIndex._entries_of

    def noted(self, word, numbers):
        read.append(word)
        return entries_of(self, word, numbers)

    monkeypatch.setattr(TextIndex, "_entries_of", noted)
    change(shop, "a", title="lamp")
    assert [set(searched(shop, "lamp")) for _ in range(3)] == [{"a"}] * 3
    assert read == ["lamp"]
    change(shop, "b", title="lamp")
    assert set(searched(shop, "lamp")) == {"a", "b"}
    change(shop, "a", operation="patch", available=False)
    assert set(searched(shop, "lamp")) == {"b"}
    assert searched(shop, "lam", prefix=False) == {}
    change(shop, "c", title="oak")
    assert set(searched(shop, "la")) == {"b"}
    change(shop, "c", title="lampoon")  # takes the number that "oak" gave back
    assert set(searched(shop, "la")) == {"b", "c"}


def test_numbers_of_words_that_no_item_has_are_given_again(monkeypatch):
    """Any number of titles passes through few words; a fold from a snapshot numbers on as the one before it."""
    monkeypatch.setattr(text_index, "WORDS_MAX", 12)
    shop, other = StillShop(SETTINGS), None
    for number in range(60):
        title = f"sku{number} lamp"
        change(shop, f"i{number % 5}", title=title)
        if other is not None:
            other.text_index.put(number % 5, {"title": title})
        if number == 33:
            change(shop, "i3", operation="delete")
            other = Fold(shop.fold.settings)
            other.restore(shop.fold.arrays())
        assert f"i{number % 5}" in searched(shop, f"sku{number} ") or number == 33
        assert not searched(shop, f"sku{number - 5} ")
    assert shop.fold.counts()["search_word_refused"] == 0
    assert other is not None
    mine, theirs = shop.fold.text_index.arrays(), other.text_index.arrays()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert len(mine["text_length"]) <= 12


def test_words_that_stay_are_not_touched(monkeypatch):
    """Of a changed title only the difference is taken out and put in."""
    shop, moved = StillShop(SETTINGS), []
    take, enter = TextIndex._take, TextIndex._enter

    def taking(self, *row):
        moved.append("take")
        return take(self, *row)

    def entering(self, *row):
        moved.append("enter")
        return enter(self, *row)

    monkeypatch.setattr(TextIndex, "_take", taking)
    monkeypatch.setattr(TextIndex, "_enter", entering)
    change(shop, "a", title="brass lamp for a desk")
    moved.clear()
    change(shop, "a", title="steel lamp for a desk desk")
    assert sorted(moved) == ["enter", "enter", "take"]
    assert set(searched(shop, "steel")) == set(searched(shop, "desk")) == {"a"}
    assert not searched(shop, "brass")


def test_its_size_is_the_memory_that_it_takes():
    """Within 10 % of what the interpreter has given, at 8,000 items of 20 words."""
    shop = StillShop(SETTINGS)
    index = TextIndex(replace(SETTINGS, limits=replace(SETTINGS.limits, items_max=8_000)))
    index.matches("none", shop.fold.items.available)
    tracemalloc.start()
    try:
        for number in range(8_000):
            index.put(number, {"title": " ".join(f"word{number * 7 * k % 12_001:08d}" for k in range(20))})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.bytes_now - index._length.nbytes == pytest.approx(taken, rel=0.1)


def test_without_attributes_it_costs_nothing():
    """No room, no words, no matches."""
    shop = StillShop(SMALL)
    change(shop, "a", title="lamp")
    index = shop.fold.text_index
    assert (text_index_bytes(SMALL), index.bytes_now, index.item_count, index.is_declared) == (0, 0, 0, False)
    assert isinstance(index, TextIndex)
    assert not len(index.matches("lamp", shop.fold.items.available).item_index)
    assert np.array_equal(index.arrays()["item"], [])
