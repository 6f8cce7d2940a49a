"""What a model holds is what was taken for it, and at most so many times its files as is said."""

import gc
import mmap
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from midstream.models.artifact.artifact import Draft
from midstream.models.artifact.golden import item_content, made_histories
from midstream.models.artifact.memory import HELD_TIMES_MAX, held_bytes
from midstream.models.histories import Histories
from midstream.models.items import bpr, svd
from midstream.models.items.als import AlsModel, AlsOptions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.kernels import bf16_index
from midstream.models.kernels.top_k import top_k
from midstream.models.model import ItemModel, is_item_model
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.registry import Registry
from tests.support.ids import KEY

ITEMS = bf16_index.HALVES_MIN + 5


def vocabulary_of(count: int) -> ItemVocabulary:
    """Return so many items."""
    ids = [f"item-{number}" for number in range(count)]
    return ItemVocabulary.of(ids)


def als_of(items: ItemVocabulary) -> AlsModel:
    """Return random factors."""
    drawn = np.random.default_rng(1).standard_normal((len(items), 64)).astype(np.float32)
    return AlsModel(items, AlsOptions(factors=64), drawn, np.ones(64), np.ones(len(items), dtype=np.float32))


def svd_of(items: ItemVocabulary) -> svd.Svd:
    """Return random factors and biases."""
    drawn = np.random.default_rng(1).standard_normal((len(items), 64))
    return svd.Svd(items, drawn, np.array([3.0, 1.0, 5.0, 0.1]))


def bpr_of(items: ItemVocabulary) -> bpr.Bpr:
    """Return random factors and biases."""
    drawn = np.random.default_rng(1).standard_normal((len(items), 64)).astype(np.float32)
    return bpr.Bpr(items, drawn, np.zeros(64), np.eye(64), 0.01)


def near_of(items: ItemVocabulary) -> ItemToItem:
    """Return random weights from item to item, some 40 an item."""
    return ItemToItem.of(items, csr_matrix(random_array((len(items), len(items)), density=0.005, rng=1)))


Made = Callable[[ItemVocabulary], ItemModel]
FACTORS: dict[str, Made] = {"als": als_of, "svd": svd_of, "bpr": bpr_of}


@pytest.mark.parametrize("kind", [*FACTORS, "item_to_item"])
def test_a_model_holds_what_was_taken_to_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Within 5 %; more than its files by what the scan needs, less their golden answers."""
    made = {**FACTORS, "item_to_item": near_of}[kind]
    registry, model = Registry(tmp_path), made(vocabulary_of(ITEMS))
    draft = Draft(name="near", kind=kind, vocabulary_hash=model.vocabulary.content_hash)
    version = registry.publish(draft, item_content(model, made_histories(ITEMS, 0)))
    del model
    # What is read goes into mappings, which nothing traces.
    monkeypatch.setattr(mmap, "mmap", lambda _, size: bytearray(size))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        loaded = registry.load("near", version)
        assert is_item_model(loaded.model)
        loaded.model.vocabulary.under(KEY)  # as who serves it does
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    held = held_bytes(loaded.model)
    assert held == pytest.approx(taken, rel=0.05)
    files = registry.manifest("near", version).bytes
    assert held < HELD_TIMES_MAX * files
    assert held > {"als": 1.35, "bpr": 1.35, "svd": 1.6, "item_to_item": 0.9}[kind] * files


def test_what_several_parts_share_is_held_once() -> None:
    """As the parts of a blend share their vocabulary; and what looks into an array is that array."""
    array = np.zeros(1_000)
    assert 8_100 > held_bytes((array, array[10:], array.reshape(10, 100))) == held_bytes((array, array, array))
    assert held_bytes({"a": array, "b": b"12"}) > held_bytes(array) == 8_000


@pytest.mark.parametrize("kind", FACTORS)
def test_the_best_are_those_of_all_numbers_to_the_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From half of the bytes of the items' vectors, however few there are."""
    monkeypatch.setattr(bf16_index, "HALVES_MIN", 1)
    model = FACTORS[kind](vocabulary_of(300))
    history = Histories.of([[3, 7, 200, 41]])
    vectors = partial(top_k, model.history_vectors(history)[0], model.item_vectors())  # type: ignore[attr-defined]
    for k in (1, 20, 300, 400):
        rows, scores = model.best(history, k)
        expected = vectors(k)
        assert (rows.tolist(), scores.tolist()) == (expected[0].tolist(), expected[1].tolist())
    assert len(model.best(Histories.of([[]]), 5)[0]) == 0
