"""Networks from a notebook: as they answer, PyTorch's to 1e-6, Keras' to 1e-5, or refused by name."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid, ExtraMissing, Invalid
from tests.integrations import test_model_registration as registration
from tests.integrations.test_model_registration import CLICKED, FEATURES, ROWS, live, torch_scores, torch_train
from tests.support.libraries import library

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]
shop = registration.shop


@pytest.fixture
def torch() -> Any:
    """Return PyTorch, where all that writes its networks is installed."""
    for each in ("onnx", "onnxscript"):
        library(each)
    found = library("torch")
    found.manual_seed(5)
    return found


@pytest.fixture
def keras() -> Any:
    """Return Keras, where all that writes its networks is installed."""
    library("tensorflow")
    library("tf2onnx")
    found = library("keras")
    found.utils.set_random_seed(5)
    return found


def modules(torch: Any) -> dict[str, Any]:
    """Return modules by name, one with what a fit does otherwise than an answer."""
    layers = torch.nn
    norm, dense, wide = layers.BatchNorm1d(2), layers.Linear(2, 16), layers.Linear(16, 1)
    return {
        "dropout": layers.Sequential(norm, dense, layers.GELU(), layers.Dropout(0.5), wide, layers.Sigmoid()),
        "exact": layers.Sequential(layers.Linear(2, 8), layers.Tanh(), layers.Linear(8, 1)).double(),
        "classes": layers.Sequential(layers.Linear(2, 2), layers.Softmax(dim=1)),
        "flat": layers.Sequential(layers.LayerNorm(2), layers.Linear(2, 1), layers.Flatten(0)),
    }


@pytest.mark.parametrize("kind", ["dropout", "exact", "classes", "flat"])
def test_a_module_scores_live_as_in_the_notebook(shop: Path, torch: Any, kind: str) -> None:
    """In evaluation mode whatever mode it was left in, in which it stays; float64 too; of two classes the second."""
    model = modules(torch)[kind]
    if kind == "dropout":
        torch_train(model, ROWS, CLICKED)
    model.train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS, promote=True)
    assert (done.kind, done.runner, done.rows) == ("onnx", "onnxruntime", 3_000)
    assert done.difference <= 1e-6
    assert all(each.training for each in model.modules())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.requires_grad for each in model.parameters())
    values, scores = live(shop)
    own = torch_scores(model, values.astype(np.float64) if kind == "exact" else values)
    assert np.abs(scores - own).max() <= 1e-6 * max(1.0, np.abs(own).max())
    told = registry_of(shop).manifest("ranker", done.version).options
    assert str(told["library"]).startswith("torch ")


def networks(keras: Any) -> dict[str, Any]:
    """Return networks by name."""
    layers = keras.layers
    given = keras.Input((2,))
    inner = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(16, "swish")(given)))
    return {
        "functional": keras.Model(given, layers.Dense(1, "sigmoid")(inner)),
        "classes": keras.Sequential([keras.Input((2,)), layers.Dense(2, "softmax")]),
    }


@pytest.mark.parametrize("kind", ["functional", "classes"])
def test_a_network_of_keras_scores_live_as_in_the_notebook(shop: Path, keras: Any, kind: str) -> None:
    """Functional or sequential; of two classes the second."""
    model = networks(keras)[kind]
    loss = "binary_crossentropy" if kind == "functional" else "sparse_categorical_crossentropy"
    model.compile("adam", loss)
    model.fit(ROWS, CLICKED, epochs=2, verbose=0)
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS, promote=True)
    assert (done.kind, done.runner, done.rows) == ("onnx", "onnxruntime", 3_000)
    values, scores = live(shop)
    own = model.predict(values, verbose=0)[:, -1]
    assert np.abs(scores - own).max() <= 1e-5 * max(1.0, np.abs(own).max())
    told = registry_of(shop).manifest("ranker", done.version).options
    assert str(told["library"]).startswith("keras ")


def refused(torch: Any) -> dict[str, tuple[Any, type[Exception], str]]:
    """Return modules that are refused, and what is said of each."""
    layers = torch.nn

    class Branching(layers.Module):  # type: ignore[misc, name-defined]  # the package is not there where types are checked
        def forward(self, rows: Any) -> Any:
            return rows[:, 0] if float(rows.sum()) > 0 else rows[:, 1]

    class Mixing(layers.Module):  # type: ignore[misc, name-defined]
        def forward(self, rows: Any) -> Any:
            return (rows - rows.mean(dim=0)).sum(dim=1)

    class Drawing(layers.Module):  # type: ignore[misc, name-defined]
        def forward(self, rows: Any) -> Any:
            return rows.sum(dim=1) + torch.rand(rows.shape[0])

    return {
        "branching": (Branching(), Invalid, "Branching cannot be converted."),
        "drawing": (Drawing(), Invalid, "RandomUniform"),
        "mixing": (Mixing(), Invalid, "what it was converted to"),
        "three": (layers.Linear(2, 3), Invalid, "No output is a number a row"),
        "two": (layers.Linear(2, 2), Invalid, "nothing says that they are probabilities"),
        "wide": (layers.Linear(5, 1), Invalid, "Linear cannot be converted."),
    }


@pytest.mark.parametrize("kind", ["branching", "drawing", "mixing", "three", "two", "wide"])
def test_what_is_no_ranker_is_refused(shop: Path, torch: Any, kind: str) -> None:
    """A branch on values, random numbers, rows that depend on each other, and other shapes; nothing is published."""
    model, error, text = refused(torch)[kind]
    with pytest.raises(error, match=re.escape(text)):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS[:, :2])
    assert registry_of(shop).names() == []


def test_a_network_that_scores_otherwise_than_its_graph_is_refused(shop: Path, torch: Any) -> None:
    """By more than 1e-5 of the largest score: here the graph has what a module read of its own, which then changed."""
    layers, calls = torch.nn, []

    class Changing(layers.Module):  # type: ignore[misc, name-defined]
        def forward(self, rows: Any) -> Any:
            if not torch.compiler.is_exporting():
                calls.append(1)
                return rows.sum(dim=1) * (1 + 3e-5)
            return rows.sum(dim=1)

    with pytest.raises(Invalid, match=r"Row \d+: the model gives .* what it was converted to"):
        midstream.register_model(shop, Changing(), name="ranker", columns=FEATURES, sample=ROWS)
    assert calls


def test_a_network_without_an_input_is_refused(shop: Path, keras: Any) -> None:
    """It was never built, so nobody knows what it reads."""
    model = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises((Invalid, ArtifactInvalid), match="Sequential cannot be converted"):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS)


def test_what_tf2onnx_has_no_operator_for_is_refused_by_name(shop: Path, keras: Any) -> None:
    """The exact GELU of Keras 3 is one with Erfc, which ONNX has not."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "gelu"), keras.layers.Dense(1)])
    model.predict(ROWS[:8], verbose=0)
    with pytest.raises(Invalid, match='The operator "Erfc" is called once'):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS)


@pytest.mark.parametrize("missing, words", [("onnxscript", "midstream[torch]"), ("onnxruntime", "midstream[onnx]")])
def test_what_is_missing_for_a_module_is_named(
    shop: Path, torch: Any, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExtraMissing, match=re.escape(words)):
        midstream.register_model(shop, torch.nn.Linear(2, 1), name="ranker", columns=FEATURES, sample=ROWS)


def test_what_is_missing_for_keras_is_named(shop: Path, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    model = networks(keras)["classes"]
    with pytest.raises(ExtraMissing, match="pip install tf2onnx"):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS)


def wrapped(torch: Any, told: Any, kind: Any = None) -> Any:
    """Return a module that gives something made of one number a row."""
    layers = torch.nn

    class Wrapped(layers.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Linear(2, 1)

        def forward(self, rows: Any) -> Any:
            return told(self.dense(rows))

    return Wrapped() if kind is None else Wrapped().to(kind)


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "bfloat16", "float16"])
def test_one_tensor_is_taken_however_it_is_given(shop: Path, torch: Any, kind: str) -> None:
    """In a tuple, list or dict of one; of half numbers as these numbers in float32."""
    shapes = {"tuple": lambda one: (one,), "list": lambda one: [one], "dict": lambda one: {"score": one}}
    model = wrapped(torch, shapes.get(kind, lambda one: one), getattr(torch, kind, None) if "float" in kind else None)
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS, promote=True)
    assert (done.rows, done.difference <= 1e-6) == (3_000, True)
    values, scores = live(shop)
    own = model.dense.float()(torch.from_numpy(np.array(values))).detach().numpy()[:, 0]
    assert np.abs(scores - own).max() <= 1e-6 * max(1.0, np.abs(own).max())


NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "two": (lambda one: (one, one), "It gives a tuple of 2."),
    "named": (lambda one: {"a": one, "b": one}, "It gives a dict of 2."),
    "none": (lambda _one: (), "It gives a tuple of 0."),
    "nested": (lambda one: ((one,),), "It gives a tuple of 1."),
    "nothing": (lambda _one: None, "It gives a NoneType."),
    "sum": (lambda one: one.sum(), "Wrapped gives float32 [] for 2 rows."),
    "deep": (lambda one: one[None], "Wrapped gives float32 [1, 2, 1] for 2 rows."),
    "whole": (lambda one: one.int(), "Wrapped gives int32 [2, 1] for 2 rows."),
    "halved": (lambda one: one.bfloat16(), "Wrapped gives bfloat16 [2, 1] for 2 rows."),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_gives_no_number_a_row_is_refused_in_four_parts(shop: Path, torch: Any, kind: str) -> None:
    """Before anything is converted: what came, and one tensor of floats as what is right."""
    told, came = NO_NUMBERS[kind]
    with pytest.raises(Invalid) as caught:
        midstream.register_model(shop, wrapped(torch, told), name="ranker", columns=FEATURES, sample=ROWS)
    (fault,) = caught.value.faults
    assert (fault.where, fault.came, fault.page) == ("model", came, "/docs/models.md#from-a-notebook")
    assert fault.right.startswith("One tensor of float")
    assert registry_of(shop).names() == []


def test_what_a_library_raises_over_a_sample_is_told(shop: Path, torch: Any) -> None:
    """Whatever class it has: here of a module that looks at the rows."""

    def choosy(one: Any) -> Any:
        if one.shape[0] > 100 and not torch.compiler.is_exporting():
            raise RuntimeError("no more than 100 rows")
        return one

    with pytest.raises(Invalid, match="The model itself does not score it: no more than 100 rows"):
        midstream.register_model(shop, wrapped(torch, choosy), name="ranker", columns=FEATURES, sample=ROWS)
