"""Exports as ONNX: a file scores as the version that it was written from, and what cannot be written is named."""

import re
from pathlib import Path

import numpy as np
import pytest

from midstream.app.operate.model_registry import export_model
from midstream.core.errors import ExtraMissing, Invalid
from midstream.models.histories import Histories
from midstream.models.items.onnx_items import OnnxItems
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS
from midstream.models.loading import READ, READ_ROWS, load
from midstream.models.model import RowModel, is_item_model, is_row_model
from midstream.models.onnx.session import Session
from midstream.models.onnx_export import NO_OPERATOR, graph_of, onnx_of
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.rows.keras_ranker import KerasRanker
from midstream.models.rows.logistic_regression import LogisticRegressionOptions, fit_logistic_regression
from midstream.models.rows.onnx_ranker import ranker_of
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO
from midstream.models.rows.trees import Trees
from midstream.training.registry import Registry
from tests.support.small_models import EVERY_KIND, ITEMS, publish_small

DICE = np.random.default_rng(8)
COLUMNS = ("price", "views", "age")


@pytest.fixture(autouse=True)
def numbers() -> None:
    """Each test draws the same whatever ran before: of random networks one in sixty differs by more in float32."""
    global DICE  # noqa: PLW0603
    DICE = np.random.default_rng(8)


def rows_of(count: int) -> np.ndarray:
    """Return rows with unknown values, zeros, infinities, and numbers next to zero."""
    values = DICE.standard_normal((count, 3)).astype(np.float32) * 4
    values[:, 1] = np.round(values[:, 1])
    for odd in (np.nan, 0.0, np.inf, -np.inf, 1e-36, -1e-36):
        values[DICE.random(values.shape) < 0.04] = odd
    return values


def agrees(model: RowModel, rows: np.ndarray) -> bool:
    """Return whether the file of a model scores rows as the model does, to 1e-6 of the largest."""
    expected = model.score(rows)
    found = ranker_of(graph_of(model, None), model.inputs).score(rows)  # type: ignore[arg-type]  # none is looked at
    return bool(np.abs(found - expected).max() <= 1e-6 * max(1.0, float(np.abs(expected).max())))


def _some(count: int = 2_000) -> Examples:
    values = rows_of(count)
    return Examples.of_rows(COLUMNS, values, (np.nan_to_num(values[:, 0], posinf=9, neginf=-9) > 0).astype(np.float32))


@pytest.mark.parametrize("bins", [1, 16])
def test_linear_models_score_the_same(bins: int) -> None:
    """With bins and without, unknown values, zeros and infinities among the rows."""
    assert agrees(fit_ftrl(_some(), FtrlOptions(bins=bins, l1=0.0)), rows_of(500))
    assert agrees(fit_logistic_regression(_some(), LogisticRegressionOptions(bins=bins)), rows_of(500))


def _forest(ways: list[int], sigmoid: float) -> Trees:
    """Return trees of four leaves and of one, whose nodes treat what is missing in some ways."""
    count = 40
    way = DICE.choice(ways, 3 * count).astype(np.uint8)
    threshold = np.where(way & ALONE, 0.0, np.round(DICE.standard_normal(3 * count) * 4)).astype(np.float32)
    return Trees(
        inputs=COLUMNS,
        feature=DICE.integers(0, 3, 3 * count).astype(np.int32),
        threshold=threshold,
        way=way,
        first=np.tile(np.array([0, 0, 2], np.uint8), count),
        middle=np.tile(np.array([2, 1, 3], np.uint8), count),
        end=np.tile(np.array([4, 2, 4], np.uint8), count),
        start=np.append(np.arange(0, 3 * count + 1, 3), 3 * count).astype(np.int64),
        leaf_value=DICE.standard_normal(4 * count + 1) / 8,
        leaf_count=np.full(4 * count + 1, 9, dtype=np.int64),
        sigmoid=sigmoid,
    )


@pytest.mark.parametrize("sigmoid", [0.0, 1.0, 0.5])
@pytest.mark.parametrize(
    "ways", [[0], [RIGHT], [ZERO], [ZERO | RIGHT], [RIGHT | ALONE], [RIGHT | ZERO | ALONE], [0, 1, 2, 3, 5, 7]]
)
def test_trees_score_the_same(ways: list[int], sigmoid: float) -> None:
    """For each way in which a node treats unknown values and zeros, a tree that asks nothing among them."""
    assert agrees(_forest(ways, sigmoid), rows_of(600))


def test_trees_that_ask_nothing_are_refused() -> None:
    """A graph without a question orders nothing."""
    none, side = np.zeros(0, np.int32), np.zeros(0, np.uint8)
    trees = Trees(
        COLUMNS,
        none,
        np.zeros(0, np.float32),
        side,
        side,
        side,
        side,
        np.zeros(2, np.int64),
        np.ones(1),
        np.ones(1, int),
    )
    with pytest.raises(Invalid, match="No tree of it asks anything"):
        graph_of(trees, None)  # type: ignore[arg-type]  # none is looked at


def test_a_network_scores_the_same() -> None:
    """Of Keras' layers."""
    sizes = ((8, 6), (4, 8), (1, 4))
    layers = [
        (DICE.standard_normal(size).astype(np.float32), DICE.standard_normal(size[0]).astype(np.float32))
        for size in sizes
    ]
    assert agrees(KerasRanker(COLUMNS, np.zeros(3), np.array([1.0, 0.5, 0.0]), tuple(layers)), rows_of(500))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_each_kind_is_exported_or_named(tmp_path: Path, kind: str) -> None:
    """Through the registry and a file; a ranker's file may be imported again, the vectors of items give the scores."""
    registry = Registry(tmp_path / "data" / "models")
    try:
        version = publish_small(registry, kind, 1)
    except ExtraMissing as error:
        pytest.skip(str(error))
    target = tmp_path / "model.onnx"
    if kind in NO_OPERATOR:
        with pytest.raises(Invalid, match=f"A model of kind {kind} came: ONNX has no operator"):
            export_model(tmp_path, kind, version, target, as_onnx=True)
        assert not target.exists()
        return
    assert export_model(tmp_path, kind, version, target, as_onnx=True) == version
    model, content = load(registry.read(kind, version)), target.read_bytes()
    if kind == "sasrec":
        assert content == registry.read(kind, version).files["network.onnx"]
    elif isinstance(model, OnnxItems):
        assert content == model.graph.tobytes()
    elif is_row_model(model):
        rows = rows_of(200)[:, :1]
        assert np.abs(ranker_of(content, model.inputs).score(rows) - model.score(rows)).max() <= 1e-6
    elif is_item_model(model):
        vectors, ids = Session(content).run(["item_vectors", "item_ids"], {})
        assert list(ids) == model.vocabulary.ids
        histories = Histories.of([[0, 3], [ITEMS - 1]])
        users = model.history_vectors(histories)  # type: ignore[attr-defined]  # a model of factors
        expected = model.scores(histories)
        assert np.abs(users @ np.asarray(vectors).T - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())
    with pytest.raises(FileExistsError):
        export_model(tmp_path, kind, version, target, as_onnx=True)


def test_a_sequence_model_without_its_network_says_what_writes_it(tmp_path: Path) -> None:
    """PyTorch does, in a training."""
    registry = Registry(tmp_path)
    whole = registry.read("sasrec", publish_small(registry, "sasrec", 1))
    with pytest.raises(Invalid, match=r"published without network\.onnx"):
        onnx_of(type(whole)(whole.version, whole.manifest, whole.arrays, {}))


def test_every_kind_is_told_apart() -> None:
    """What is neither exported nor named would be a bug."""
    assert {*NO_OPERATOR} <= {*ITEM_KINDS, *READ}
    assert not NO_OPERATOR & {*ROW_KINDS, *READ_ROWS}


def test_the_page_says_of_every_kind_whether_it_is_exported() -> None:
    """A row of the table for each, once: yes where a file is written, no where it is refused."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    table = page.split("### What is exported as ONNX")[1].split("\n### ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    told = {kind: row[2].strip().startswith("yes") for row in rows for kind in re.findall(r"`(\w+)`", row[1])}
    assert told == {kind: kind not in NO_OPERATOR for kind in EVERY_KIND}
