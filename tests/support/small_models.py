"""One small model of each kind that can be read, and a shop in which each answers: to damage, carry and promote."""

from pathlib import Path

import numpy as np

from midstream.models.artifact.artifact import ARRAYS, Draft
from midstream.models.artifact.golden import item_content, made_histories, made_rows, row_content
from midstream.models.descriptions import Description
from midstream.models.histories import Histories, Interactions
from midstream.models.items import onnx_items
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.sequence import SequenceModel, Weights, shapes
from midstream.models.items.sequence_onnx import FILE
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS
from midstream.models.loading import READ, READ_ROWS, RUNNERS
from midstream.models.model import QUIET, ItemModel, RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.onnx_ranker import ranker_of
from midstream.models.rows.trees import Trees
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval.item_model import SERVES
from midstream.training.registry import Registry
from tests.support.fakes.models import CONFIG
from tests.support.small_graphs import mean_of_rows, stump

EVERY_KIND = tuple(sorted({*READ, *ITEM_KINDS, *ROW_KINDS, *READ_ROWS}))
"""Of a manifest."""
RANKERS = frozenset({*ROW_KINDS, *READ_ROWS})
ITEMS = 12
USERS = 40
ROWS = 240
INPUT = "carts"
"""What rankers read."""


def write_every_kind(folder: Path) -> None:
    """Write a configuration with a placement for each kind, named after it, which reads a model of that name."""
    told = [CONFIG.partition("[[placements]]")[0]]
    told.append(f'[[features]]\nname = "{INPUT}"\nkind = "count"\nscope = "item"\nactions = ["cart"]\n')
    for kind in EVERY_KIND:
        if kind in RANKERS:
            told.append(f'[[placements]]\nname = "{kind}"\nfeatures = ["{INPUT}"]')
            told.append(f'scorers = [{{ kind = "model", name = "{kind}" }}]\n')
            continue
        source = next((source for source, kinds in SERVES.items() if kind in kinds), "als")
        fitted = kind if kind in ITEM_KINDS else next(each for each in SERVES[source] if each in ITEM_KINDS)
        told.append(f'[[models]]\nname = "{kind}"\nkind = "{fitted}"\n')
        sources = f'[{{ kind = "{source}", model = "{kind}" }}, {{ kind = "trending" }}]'
        told.append(f'[[placements]]\nname = "{kind}"\nsources = {sources}\n')
    (folder / "midstream.toml").write_text("\n".join(told))


def publish_small(registry: Registry, kind: str, seed: int) -> str:
    """Publish a model of a kind under the kind's name; return its version.

    Raises:
        ExtraMissing: A library that fits this kind is not installed.
    """
    if kind in RANKERS:
        ranker = small_ranker(kind, seed)
        runner = RUNNERS.get(kind, ARRAYS)
        draft = Draft(name=kind, kind=kind, runner=runner, inputs=ranker.inputs, options={"seed": seed})
        return registry.publish(draft, row_content(ranker, made_rows(ranker, seed)))
    model = small_item_model(kind, seed)
    files = dict(ITEM_KINDS[kind].files(model)) if kind in ITEM_KINDS else dict[str, bytes]()
    if isinstance(model, SequenceModel):
        files = {FILE: b"A network that nothing runs: the arrays answer.", **files}
    hashed, runner = model.vocabulary.content_hash, RUNNERS.get(kind, ARRAYS)
    draft = Draft(name=kind, kind=kind, runner=runner, vocabulary_hash=hashed, options={"seed": seed})
    return registry.publish(draft, item_content(model, made_histories(ITEMS, seed), files))


def small_item_model(kind: str, seed: int) -> ItemModel:
    """Return an item model of a kind, fitted on few acts; of random weights where a fit would need an extra.

    Raises:
        ExtraMissing: A library that fits this kind is not installed.
    """
    dice = np.random.default_rng(seed)
    ids = [f"item-{number}" for number in range(ITEMS)]
    vocabulary = ItemVocabulary.of(ids)
    if kind == "sasrec":
        return _sequence(vocabulary, dice)
    if kind == onnx_items.KIND:
        return _encoded(vocabulary, dice)
    if kind not in ITEM_KINDS:
        return _near(vocabulary, dice)
    rows = [dice.choice(ITEMS, 4, replace=False).tolist() for _ in range(USERS)]
    fitted = ITEM_KINDS[kind]
    told = [Description((f"colour={dice.integers(3)}",), f"lamp {number % 4}") for number in range(ITEMS)]
    acts = Histories.of(rows)
    acts = Histories(acts.row, dice.integers(1, 6, len(acts.row)).astype(np.float32), acts.start)
    data = Interactions(vocabulary, acts, told if fitted.reads_items else ())
    return fitted.fit(data, fitted.decoded({}), QUIET)


def small_ranker(kind: str, seed: int) -> RowModel:
    """Return a row model of a kind that reads one feature; trees by hand, since their fit needs an extra.

    Raises:
        ExtraMissing: A library that fits this kind is not installed.
    """
    dice = np.random.default_rng(seed)
    if kind == "trees":
        return _stumps(dice)
    if kind == "onnx":
        return ranker_of(stump(float(dice.integers(0, 8)), column=0), (INPUT,))
    values = dice.integers(0, 8, (ROWS, 1)).astype(np.float32)
    label = (values[:, 0] > dice.integers(0, 8, ROWS)).astype(np.float32)
    fitted = ROW_KINDS[kind]
    return fitted.fit(Examples.of_rows((INPUT,), values, label), fitted.decoded({}), QUIET)


def _near(vocabulary: ItemVocabulary, dice: np.random.Generator) -> ItemToItem:
    start = np.arange(0, ITEMS**2 + 1, ITEMS, dtype=np.int64)
    row = np.tile(np.arange(ITEMS, dtype=np.int32), ITEMS)
    return ItemToItem(vocabulary, start, row, dice.random(ITEMS**2, dtype=np.float32))


def _encoded(vocabulary: ItemVocabulary, dice: np.random.Generator) -> ItemModel:
    vectors = dice.standard_normal((ITEMS, 4)).astype(np.float32)
    return onnx_items.item_model_of(mean_of_rows(vectors), vocabulary, vectors, 10)[0]


def _sequence(vocabulary: ItemVocabulary, dice: np.random.Generator) -> SequenceModel:
    drawn = shapes(ITEMS, ages=5, blocks=2, factors=8, hidden=8)
    weights = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in drawn.items()}
    return SequenceModel(vocabulary, Weights(**weights), heads=2)


def _stumps(dice: np.random.Generator, trees: int = 5) -> Trees:
    """Return trees of two leaves each."""
    zero, one = np.zeros(trees, dtype=np.uint8), np.ones(trees, dtype=np.uint8)
    return Trees(
        inputs=(INPUT,),
        feature=np.zeros(trees, dtype=np.int32),
        threshold=dice.integers(0, 8, trees).astype(np.float32),
        way=zero,
        first=zero,
        middle=one,
        end=one + one,
        start=np.arange(trees + 1, dtype=np.int64),
        leaf_value=dice.standard_normal(2 * trees),
        leaf_count=np.full(2 * trees, 9, dtype=np.int64),
    )
