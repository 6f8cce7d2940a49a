"""Item models from a notebook to live answers: vectors of implicit, and encoders of PyTorch that read a history."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.operate.model_registry import is_unproven, registry_of
from midstream.core.errors import Invalid
from midstream.models.histories import Histories
from midstream.models.loading import load
from tests.app.operate.test_item_registration import IDS, ITEMS, PLACE, SAMPLE, VECTORS, WIDTH
from tests.integrations import test_network_registration as networks
from tests.support.libraries import library

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]
SEEN = [2, 30, 7, 12]
torch = networks.torch


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder whose placement is answered by ``taste``, with the acts of ann, and all items of bob."""
    library("onnxruntime")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "midstream.toml").write_text(PLACE)
    with midstream.open(folder) as opened:
        opened.record([{"type": "view", "user_id": "bob", "item_id": each} for each in IDS])
        opened.record([{"type": "view", "user_id": "ann", "item_id": IDS[each]} for each in SEEN])
    return folder


def encoders(torch: Any) -> dict[str, Any]:
    """Return encoders of a history by the form that they take."""
    layers = torch.nn

    class Tower(layers.Module):  # type: ignore[misc, name-defined]  # the package is not there where types are checked
        def __init__(self, shift: int) -> None:
            super().__init__()
            self.shift = shift
            self.read, self.dense = layers.Embedding(ITEMS + shift, WIDTH), layers.Linear(WIDTH, WIDTH)

        def forward(self, rows: Any) -> Any:
            return self.dense(self.read(rows + self.shift).mean(dim=-2))

    class Padded(layers.Module):  # type: ignore[misc, name-defined]
        """Trained over numbers from 1, which it does not make of rows itself."""

        def __init__(self) -> None:
            super().__init__()
            self.read = layers.Embedding(ITEMS + 1, WIDTH, padding_idx=0)

        def forward(self, numbers: Any) -> Any:
            return self.read(numbers).mean(dim=-2)

    class Attending(layers.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.place = layers.Parameter(torch.randn(50, WIDTH))
            self.inner = layers.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.3, batch_first=True)

        def forward(self, vectors: Any) -> Any:
            return self.inner(vectors + self.place[: vectors.shape[1]])[:, -1]

    class Wrapped(layers.Module):  # type: ignore[misc, name-defined]
        def __init__(self, told: Any) -> None:
            super().__init__()
            self.inner, self.told = Tower(0), told

        def forward(self, rows: Any) -> Any:
            return self.told(self.inner(rows))

    return {
        "rows": Tower(0),
        "rows behind a row of padding": Tower(1),
        "numbers from 1": Padded(),
        "vectors with places": Attending().train(),
        "half": Tower(0).bfloat16(),
        "tuple of one": Wrapped(lambda user: (user,)),
        "dict of one": Wrapped(lambda user: {"user": user}),
        "several": Wrapped(lambda user: (user, user)),
        "narrow": layers.Linear(3, 3),
    }


def scores_of(torch: Any, model: Any, rows: list[int], vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what a module says of a history by itself."""
    given = torch.from_numpy(VECTORS[rows]) if hasattr(model, "place") else torch.tensor(rows)
    with torch.no_grad():
        told = model.eval()(given[None])
    told = told[0] if isinstance(told, tuple) else told["user"] if isinstance(told, dict) else told
    scores: np.ndarray[Any, Any] = vectors.astype(np.float64) @ told.float().numpy().reshape(-1).astype(np.float64)
    return scores


def live(folder: Path, n: int = 5) -> list[str]:
    """Return the ids of a live slate of ann."""
    with midstream.open(folder) as opened:
        answer = opened.recommend("home", user_id="ann", n=n)
    assert (answer.tier, list(answer.models)) == ("full", ["taste"])
    return [each.id for each in answer.items]


def best(scores: np.ndarray[Any, Any], n: int = 5) -> list[str]:
    """Return the ids of the highest scores, without the history of ann."""
    left = scores.copy()
    left[SEEN] = -np.inf
    return [IDS[each] for each in np.argsort(-left)[:n]]


@pytest.mark.parametrize(
    "kind",
    ["rows", "rows behind a row of padding", "vectors with places", "half", "tuple of one", "dict of one"],
)
def test_an_encoder_answers_live_as_in_the_notebook(shop: Path, torch: Any, kind: str) -> None:
    """Over rows or vectors, in evaluation mode whatever mode it was left in; of bfloat16 as its numbers in float32."""
    model = encoders(torch)[kind]
    mode = model.training
    done = midstream.register_model(
        shop, midstream.ItemVectors(IDS, VECTORS, model), name="taste", sample=SAMPLE, promote=True
    )
    assert (done.kind, done.runner, done.rows) == ("onnx_items", "onnxruntime", 2)
    assert done.difference <= 1e-6
    assert model.training is mode
    assert is_unproven(shop, "taste", done.version) is ("vectors" not in kind)
    own = scores_of(torch, model.float() if kind == "half" else model, SEEN, VECTORS)
    assert live(shop) == best(own)
    read = load(registry_of(shop).read("taste", done.version))
    found = read.scores(Histories.of([SEEN]))[0]  # type: ignore[union-attr]
    assert np.abs(found - own).max() <= 1e-6 * np.abs(own).max()


def test_a_table_with_a_row_of_padding_is_refused_where_rows_are_not_shifted(shop: Path, torch: Any) -> None:
    """Each item would have the vector of the one before: the module itself gives the same, so no score tells."""
    with pytest.raises(Invalid, match="looks up a table of 41 rows, and there are 40 items") as caught:
        midstream.register_model(
            shop, midstream.ItemVectors(IDS, VECTORS, encoders(torch)["numbers from 1"]), name="taste", sample=SAMPLE
        )
    (fault,) = caught.value.faults
    assert fault.where.startswith("graph.initializer")
    assert "add to the rows within the graph" in fault.right
    assert registry_of(shop).names() == []


@pytest.mark.parametrize(
    "kind, text", [("several", "It gives a tuple of 2"), ("narrow", "shapes cannot be multiplied")]
)
def test_what_makes_no_vector_of_the_user_is_refused(shop: Path, torch: Any, kind: str, text: str) -> None:
    """With what came of each form of a history; nothing is published."""
    with pytest.raises(Invalid, match=f"makes no vector of 8 numbers of a history.*{text}"):
        midstream.register_model(shop, midstream.ItemVectors(IDS, VECTORS, encoders(torch)[kind]), name="taste")
    assert registry_of(shop).names() == []


def blocks() -> dict[str, str]:
    """Return the blocks of the page by name."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    return dict(re.findall(r"<!-- item notebook: (\w+) -->\n```python\n(.*?)```", page, re.DOTALL))


@pytest.mark.parametrize("kind", ["vectors", "encoder"])
def test_the_lines_of_the_page_lead_to_live_answers(
    shop: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: str
) -> None:
    """Each in under ten lines, as they stand there; the items are the best of the model in the notebook."""
    code = blocks()[kind]
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    monkeypatch.chdir(shop.parent)
    names: dict[str, Any] = {"ids": IDS, "histories": SAMPLE}
    if kind == "vectors":
        library("implicit")
        sparse = library("scipy.sparse")
        dice = np.random.default_rng(2)
        names["acts"] = sparse.csr_matrix((dice.random((60, ITEMS)) < 0.2).astype(np.float32))
    else:
        names["item_vectors"] = VECTORS
        names["user_tower"] = encoders(request.getfixturevalue("torch"))["rows"]
    exec(code, names)  # noqa: S102  the lines of our own page
    if kind == "vectors":
        factors = np.asarray(names["model"].item_factors)
        own = factors.astype(np.float64) @ factors[SEEN].astype(np.float64).mean(axis=0)
    else:
        own = scores_of(request.getfixturevalue("torch"), names["user_tower"], SEEN, VECTORS)
    assert live(Path("shop")) == best(own)
