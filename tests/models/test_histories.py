"""Vocabularies and histories: rows are found by hash, parts are views, damage is refused."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, FitStopped
from midstream.models import vocabulary
from midstream.models.histories import Histories
from midstream.models.model import Watch, best_of
from midstream.models.vocabulary import ItemVocabulary
from midstream.state.structures.hashing import id_hash, id_key_of
from tests.support.ids import KEY

IDS = st.lists(st.text(min_size=1, max_size=12).filter(lambda each: each.isprintable()), unique=True, max_size=30)


def vocabulary_of(ids: list[str]) -> ItemVocabulary:
    """Return a vocabulary with the state's hashes."""
    return ItemVocabulary.of(ids)


@given(IDS, st.randoms(use_true_random=False))
def test_each_id_is_found_in_its_row_and_no_other_is(ids: list[str], dice: st.DataObject) -> None:
    """Rows are found by the hash of the id, under each key; what is not known is -1; written and read is equal."""
    found = vocabulary_of(ids)
    asked = [*ids, "nobody knows this one"]
    dice.shuffle(asked)  # type: ignore[attr-defined]
    wanted = [ids.index(each) if each in ids else -1 for each in asked]
    for key in (KEY, id_key_of("5a" * 16)):
        hashes = np.array([id_hash(each, key) for each in asked], dtype=np.uint64)
        assert found.under(key).rows_of(hashes).tolist() == wanted
        assert found.under(key).hashes.tolist() == [id_hash(each, key) for each in ids]
    assert vocabulary_of(asked).rows_in(found).tolist() == wanted
    assert found.ids == ids
    assert [found.id_of(row) for row in range(len(found))] == ids
    again = ItemVocabulary.restore(found.arrays())
    assert again == found
    assert again.ids == ids


@given(IDS.filter(lambda ids: len(ids) > 1))
def test_another_order_is_another_vocabulary(ids: list[str]) -> None:
    """A row means the same item to two models only when all rows do."""
    assert vocabulary_of(ids) != vocabulary_of(ids[::-1])


def test_of_two_items_of_one_hash_the_first_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is no row of any item: a state has one of them at most, and nothing raises."""
    monkeypatch.setattr(vocabulary, "hashes_of", lambda *_: np.array([7, 5, 7, 9, 7], dtype=np.uint64))
    found = vocabulary_of(["a", "b", "c", "d", "e"]).under(KEY)
    assert found.hashes.tolist() == [7, 5, 0, 9, 0]
    assert found.rows_of(np.array([5, 7, 9, 0, 1], dtype=np.uint64)).tolist() == [1, 0, 3, -1, -1]


def test_what_is_no_vocabulary_is_refused() -> None:
    """An item twice, an id of no text, texts that do not end where they should, parts that lack."""
    with pytest.raises(ArtifactInvalid, match="twice"):
        ItemVocabulary.restore(vocabulary_of(["a", "b", "a"]).arrays())
    with pytest.raises(ArtifactInvalid, match="texts"):
        ItemVocabulary(b"ab", np.array([0, 2, 2]))
    with pytest.raises(ArtifactInvalid, match="texts"):
        ItemVocabulary(b"abc", np.array([0, 1, 2]))
    arrays = vocabulary_of(["a", "b"]).arrays()
    with pytest.raises(ArtifactInvalid, match="lacks"):
        ItemVocabulary.restore({name: array for name, array in arrays.items() if "text" not in name})
    with pytest.raises(ArtifactInvalid, match="types"):
        ItemVocabulary.restore({**arrays, "vocabulary.start": np.array([0.0, 1.0, 2.0])})


def test_a_part_is_what_it_was_among_all() -> None:
    """The matrix of a part is the rows of the matrix; acts on one item add up."""
    histories = Histories.of([[3, 1, 3], [], [0]])
    whole = histories.matrix(5).toarray()
    assert whole.tolist() == [[0, 1, 0, 2, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    for begin, end in ((0, 1), (1, 3), (2, 2)):
        assert (histories.part(begin, end).matrix(5).toarray() == whole[begin:end]).all()


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 1.0, 1.5, 2.0]), max_size=12), st.integers(0, 14))
def test_the_best_are_those_of_a_full_sort(values: list[float], k: int) -> None:
    """Ties go to the lower row, and what may never come does not."""
    scores = np.array(values, dtype=np.float32)
    order = sorted(range(len(values)), key=lambda row: (-values[row], row))
    assert best_of(scores, k).tolist() == [row for row in order if values[row] > -np.inf][:k]


def test_a_fit_tells_and_stops() -> None:
    """Each step is told with its share, and the one after the wish to stop raises."""
    told: list[tuple[str, float]] = []
    Watch(lambda text, share: told.append((text, share))).step("factors", 0.25)
    assert told == [("factors", 0.25)]
    with pytest.raises(FitStopped, match="50%"):
        Watch(stopped=lambda: True).step("factors", 0.5)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6), st.randoms(use_true_random=False))
def test_parts_of_histories_are_those_of_lists(rows: list[list[int]], dice: random.Random) -> None:
    """Marked acts stay in their histories, some histories keep their acts, and parts joined are the whole again."""
    acts = Histories.of(rows)
    acts = replace(acts, time_ms=np.arange(len(acts.row), dtype=np.int64) * 7)
    kept = [[dice.random() < 0.5 for _ in row] for row in rows]
    marked = acts.where(np.array([each for row in kept for each in row], dtype=np.bool_))
    pairs = [list(zip(row, marks, strict=True)) for row, marks in zip(rows, kept, strict=True)]
    assert told_of(marked) == [[item for item, is_kept in row if is_kept] for row in pairs]
    chosen = [number for number in range(len(rows)) if dice.random() < 0.5]
    taken = acts.take(np.array(chosen, dtype=np.intp))
    assert told_of(taken) == [rows[number] for number in chosen]
    assert taken.time_ms is not None
    assert taken.time_ms.tolist() == [at * 7 for at, who in enumerate(owners(rows)) if who in chosen]
    assert told_of(Histories.joined([acts.part(number, number + 1) for number in chosen])) == told_of(taken)
    assert told_of(Histories.joined([acts, taken])) == [*rows, *told_of(taken)]


def told_of(histories: Histories) -> list[list[int]]:
    """Return the items of each history."""
    return [histories.part(number, number + 1).row.tolist() for number in range(len(histories))]


def owners(rows: list[list[int]]) -> list[int]:
    """Return the history of each act."""
    return [number for number, row in enumerate(rows) for _ in row]
