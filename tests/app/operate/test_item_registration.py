"""Vectors of items from a notebook: published as they score in NumPy, and refused by name where they do not."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.operate import item_registration
from midstream.app.operate.model_registry import is_unproven, registry_of
from midstream.core.errors import Invalid
from midstream.integrations.model_conversion.converted_model import ConvertedEncoder
from midstream.integrations.model_conversion.history_encoders import of_mean
from midstream.models.loading import load
from tests.support.small_graphs import mean_of_rows

ITEMS, WIDTH = 40, 8
IDS = [f"item-{number}" for number in range(ITEMS)]
VECTORS = np.random.default_rng(3).standard_normal((ITEMS, WIDTH)).astype(np.float32)
SAMPLE = [["item-3", "item-9"], [*IDS, "nobody", *IDS[:30]], ["nobody"], [], "item-1"]
"""With unknown items, more than are read, and what is no history."""
PLACE = """
[[models]]
name = "taste"
kind = "onnx_items"

[[placements]]
name = "home"
sources = [{ kind = "als", model = "taste" }]
"""


def test_vectors_go_from_a_notebook_to_live_answers(tmp_path: Path) -> None:
    """The items of the largest products with the mean of the history's vectors, none of the history among them."""
    (tmp_path / "midstream.toml").write_text(PLACE)
    seen = [2, 30, 7, 7, 12]
    done = midstream.register_model(
        tmp_path, midstream.ItemVectors(IDS, VECTORS), name="taste", sample=SAMPLE, promote=True
    )
    assert (done.kind, done.runner, done.rows) == ("onnx_items", "onnxruntime", 2)
    assert 0 < done.difference <= 1e-6
    with midstream.open(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "bob", "item_id": each} for each in IDS])
        shop.record([{"type": "view", "user_id": "ann", "item_id": IDS[each]} for each in seen])
        answer = shop.recommend("home", user_id="ann", n=5)
    assert (answer.tier, list(answer.models)) == ("full", ["taste"])
    scores = VECTORS.astype(np.float64) @ VECTORS[seen].astype(np.float64).mean(axis=0)
    scores[seen] = -np.inf
    assert [each.id for each in answer.items] == [IDS[each] for each in np.argsort(-scores)[:5]]


def test_a_version_says_how_it_was_compared_and_holds_no_history_of_the_sample(tmp_path: Path) -> None:
    """Its golden histories are drawn, with the scores of the library."""
    sample = [[f"item-{number}"] * 21 for number in range(ITEMS)]
    done = midstream.register_model(tmp_path, midstream.ItemVectors(IDS, VECTORS), name="taste", sample=sample)
    read = registry_of(tmp_path).read("taste", done.version)
    told = read.manifest.options
    assert (told["library"], told["source"], told["last"]) == ("numpy", "the mean of the vectors", 50)
    assert (told["compared_histories"], told["compared_difference"]) == (ITEMS, done.difference)
    assert not is_unproven(tmp_path, "taste", done.version)
    assert np.diff(read.arrays["golden.start"]).max() <= 20
    row, start = read.arrays["golden.row"], read.arrays["golden.start"].tolist()
    expected = np.stack([VECTORS[row[a:b]].mean(axis=0) @ VECTORS.T for a, b in pairwise(start)])
    assert np.allclose(read.arrays["golden.scores"], expected, atol=1e-5)
    assert load(read).vocabulary.ids == IDS  # type: ignore[union-attr]


def test_ids_and_vectors_may_be_of_any_library(tmp_path: Path) -> None:
    """Whole numbers of NumPy, a list, text of an array; vectors as lists or float64."""
    for items, vectors in (
        (np.arange(ITEMS), VECTORS.astype(np.float64)),
        (list(range(ITEMS)), VECTORS.tolist()),
        (np.array(IDS), VECTORS),
        (np.array(IDS, dtype=object), VECTORS),
    ):
        done = midstream.register_model(tmp_path, midstream.ItemVectors(items, vectors), name="taste")
        assert done.rows == 16
        ids = load(registry_of(tmp_path).read("taste", done.version)).vocabulary.ids  # type: ignore[union-attr]
        assert ids == [str(each) for each in items]


REFUSED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "name": ((IDS, VECTORS), {"name": "No"}, "name", "'No' came."),
    "columns": ((IDS, VECTORS), {"columns": ["carts"]}, "columns", "carts came beside vectors of items."),
    "twice": (([*IDS[:-1], IDS[0]], VECTORS), {}, "ids", 'The id "item-0" comes 2 times.'),
    "mixed": (([*IDS[:-1], 7], VECTORS), {}, "ids", "ids is object (40,)."),
    "no list": ((7, VECTORS), {}, "ids", "int came."),
    "table of ids": ((np.array(IDS).reshape(20, 2), VECTORS), {}, "ids", "ndarray (20, 2) came."),
    "count": ((IDS, VECTORS[1:]), {}, "vectors", "vectors is float32 (39, 8), and there are 40 ids."),
    "text": ((IDS, "vectors"), {}, "vectors", "vectors is <U7 ()"),
    "ragged": ((IDS, [[1.0], [1.0, 2.0]]), {}, "vectors", "list came: "),
    "long": ((IDS, np.full((ITEMS, 2), 1e19)), {}, "vectors", "The vector of row 0 has a length of 1.41e+19."),
    "same": ((IDS, np.ones((ITEMS, 2))), {}, "graph.output", "have one vector"),
    "sample": ((IDS, VECTORS), {"sample": [["nobody"]]}, "sample", "No history has an item that is known."),
    "sample, a number": ((IDS, VECTORS), {"sample": 7}, "sample", "int came, whose history 0 has no ids: 'int' object"),
    "sample, nothing": ((IDS, VECTORS), {"sample": [["cup"], None]}, "sample", "list came, whose history 1 has no ids"),
    "sample, rows": ((IDS, VECTORS), {"sample": np.ones((2, 2, 2))}, "sample", "ndarray came, whose history 0 has no"),
    "other": ((IDS, VECTORS, object()), {}, "encoder", "builtins.object came."),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_item_model_is_refused_in_four_parts(tmp_path: Path, kind: str) -> None:
    """Where, what came, what is right, and the page; nothing is published."""
    told, more, where, text = REFUSED[kind]
    with pytest.raises(Invalid) as caught:
        midstream.register_model(tmp_path, midstream.ItemVectors(*told), **{"name": "taste", **more})
    (fault,) = caught.value.faults
    assert fault.where == where
    assert text in fault.came
    assert fault.right
    assert fault.page.startswith("/docs/models.md")
    assert registry_of(tmp_path).names() == []


def test_a_ranker_without_columns_is_refused(tmp_path: Path) -> None:
    """And told what an item model is given as."""
    with pytest.raises(Invalid, match=r"of an item model midstream\.ItemVectors as the model"):
        midstream.register_model(tmp_path, VECTORS, name="taste")


@pytest.mark.parametrize("is_padded", [True, False])
def test_the_scores_of_an_encoder_say_nothing_of_the_order_of_its_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_padded: bool
) -> None:
    """One with a row of padding is refused, though the module itself scores so; of one as long nothing is proven."""
    table = np.random.default_rng(8).standard_normal((ITEMS + is_padded, WIDTH)).astype(np.float32)

    def module(model: Any, vectors: Any) -> ConvertedEncoder:
        del model, vectors
        return ConvertedEncoder("other", mean_of_rows(table), lambda rows: table[rows].astype(np.float64).mean(axis=0))

    monkeypatch.setattr(item_registration, "converted_encoder", module)
    given = midstream.ItemVectors(IDS, VECTORS, object())
    if not is_padded:
        done = midstream.register_model(tmp_path, given, name="taste")
        assert is_unproven(tmp_path, "taste", done.version)
        return
    with pytest.raises(Invalid, match="looks up a table of 41 rows, and there are 40 items"):
        midstream.register_model(tmp_path, given, name="taste")
    assert registry_of(tmp_path).names() == []


@pytest.mark.parametrize("part, is_right", [(1 + 4e-7, True), (1 + 1e-5, False)])
def test_a_conversion_that_scores_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float, is_right: bool
) -> None:
    """By more than 1e-6 of the largest score: the history, the item and both numbers are named."""

    def other(vectors: Any) -> ConvertedEncoder:
        right = of_mean(vectors)
        return ConvertedEncoder("other", right.content, lambda rows: right.read(rows) * part)

    monkeypatch.setattr(item_registration, "of_mean", other)
    if is_right:
        assert midstream.register_model(tmp_path, midstream.ItemVectors(IDS, VECTORS), name="taste").difference > 1e-7
        return
    with pytest.raises(Invalid, match=r'After history \d+ the model gives "item-\d+" .* what it was converted to'):
        midstream.register_model(tmp_path, midstream.ItemVectors(IDS, VECTORS), name="taste")
    assert registry_of(tmp_path).names() == []
