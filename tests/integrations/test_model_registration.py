"""A fitted model of another library from a notebook to live answers: the library's own scores to 1e-6."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midstream
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid, ExtraMissing, Invalid
from tests.support.fakes.models import write_ranked
from tests.support.libraries import library

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]
FEATURES = ("carts", "views")
DICE = np.random.default_rng(4)
ROWS = DICE.normal(size=(3_000, 2)).astype(np.float32) * np.array([3.0, 40.0], dtype=np.float32)
CLICKED = (ROWS[:, 0] + ROWS[:, 1] / 20 + DICE.normal(size=3_000) > 0).astype(int)
UNKNOWN = np.where(DICE.random(ROWS.shape) < 0.1, np.nan, ROWS)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder whose placement is ranked by ``ranker``, with events."""
    library("onnxruntime")
    write_ranked(tmp_path, FEATURES)
    with midstream.open(tmp_path) as opened:
        opened.record(
            [
                {"type": kind, "user_id": f"u{number % 3}", "item_id": f"item-{number % 4}"}
                for number, kind in enumerate(["view", "cart", "view", "view", "cart", "view", "view"] * 3)
            ]
        )
    return tmp_path


def live(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the features of a live slate's items and their scores."""
    with midstream.open(folder) as opened:
        answer = opened.recommend("home", user_id="ann", n=4)
        read = opened.features([each.id for each in answer.items], features=list(FEATURES))
    assert (answer.tier, list(answer.models)) == ("full", ["ranker"])
    columns = dict(zip(read.names, np.array(read.values, dtype=np.float32).T, strict=True))
    return np.stack([columns[name] for name in FEATURES], axis=1), np.array([each.score for each in answer.items])


def estimators() -> dict[str, Any]:
    """Return fitted estimators of scikit-learn, by name."""
    pipeline, linear, ensemble = (
        library("sklearn.pipeline"),
        library("sklearn.linear_model"),
        library("sklearn.ensemble"),
    )
    scale, fill = library("sklearn.preprocessing").StandardScaler, library("sklearn.impute").SimpleImputer
    dense = library("sklearn.neural_network").MLPClassifier
    found = {
        "pipeline": pipeline.make_pipeline(scale(), linear.LogisticRegression()),
        "regression": pipeline.make_pipeline(scale(), linear.Ridge()),
        "forest": ensemble.RandomForestClassifier(30, max_depth=6, random_state=1),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=30, random_state=1),
        "network": pipeline.make_pipeline(scale(), dense((16, 8), max_iter=20, random_state=1)),
    }
    for each in found.values():
        each.fit(ROWS, CLICKED)
    found["filled"] = pipeline.make_pipeline(fill(), scale(), linear.LogisticRegression()).fit(UNKNOWN, CLICKED)
    return found


@pytest.mark.parametrize("kind", ["pipeline", "regression", "forest", "boosting", "network", "filled"])
def test_scikit_learn_scores_live_as_in_the_notebook(shop: Path, kind: str) -> None:
    """Pipelines, forests, networks, and one that fills in what is unknown."""
    library("skl2onnx")
    model = estimators()[kind]
    sample = UNKNOWN if kind == "filled" else ROWS
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=sample, promote=True)
    assert (done.kind, done.runner, done.rows) == ("onnx", "onnxruntime", 3_000)
    assert done.difference <= 1e-6
    values, scores = live(shop)
    own = model.predict(values) if kind == "regression" else model.predict_proba(values)[:, 1]
    assert np.abs(scores - own).max() <= 1e-6 * max(1.0, np.abs(own).max())
    told = registry_of(shop).manifest("ranker", done.version).options
    assert str(told["library"]).startswith("scikit-learn ")
    assert told["unknown_values"] == ("read" if kind in {"filled", "forest", "boosting"} else "no number")


XGBOOST: dict[str, tuple[str, dict[str, Any]]] = {
    "ranker": ("XGBRanker", {"n_estimators": 80}),
    "pairs": ("XGBRanker", {"n_estimators": 20, "objective": "rank:pairwise", "max_depth": 3}),
    "clicks": ("XGBClassifier", {"n_estimators": 60, "scale_pos_weight": 2.0}),
    "values": ("XGBRegressor", {"n_estimators": 40, "max_leaves": 20, "grow_policy": "lossguide"}),
}


@pytest.mark.parametrize("kind", XGBOOST)
def test_xgboost_scores_live_as_in_the_notebook(shop: Path, kind: str) -> None:
    """Rankers, classifiers and regressors, as estimator and as booster, unknown values included; in our own kernel."""
    xgboost = library("xgboost")
    name, options = XGBOOST[kind]
    model = getattr(xgboost, name)(**options)
    model.fit(UNKNOWN, CLICKED, **({"group": [20] * 150} if name == "XGBRanker" else {}))
    for each in (model.get_booster(), model):
        done = midstream.register_model(shop, each, name="ranker", columns=FEATURES, sample=UNKNOWN, promote=True)
        assert (done.kind, done.runner, done.rows) == ("trees", "arrays", 3_000)
        assert done.difference <= 1e-6
    values, scores = live(shop)
    own = model.predict_proba(values)[:, 1] if name == "XGBClassifier" else model.predict(values)
    assert np.abs(scores - own).max() <= 1e-6 * max(1.0, np.abs(own).max())


def test_xgboost_counts_the_rounds_that_an_early_stop_chose(shop: Path) -> None:
    """As its estimator does, and its booster does not."""
    xgboost = library("xgboost")
    model = xgboost.XGBClassifier(n_estimators=300, learning_rate=0.5, early_stopping_rounds=3)
    model.fit(ROWS[:2_000], CLICKED[:2_000], eval_set=[(ROWS[2_000:], CLICKED[2_000:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    for each in (model, model.get_booster()):
        assert midstream.register_model(shop, each, name="ranker", columns=FEATURES, sample=ROWS).difference <= 1e-6


@pytest.mark.parametrize("name", ["LGBMRanker", "LGBMClassifier", "LGBMRegressor"])
def test_lightgbm_scores_live_as_in_the_notebook(shop: Path, name: str) -> None:
    """As estimator and as booster."""
    lightgbm = library("lightgbm")
    model = getattr(lightgbm, name)(n_estimators=40, verbosity=-1)
    model.fit(UNKNOWN, CLICKED, **({"group": [20] * 150} if name == "LGBMRanker" else {}))
    for each in (model.booster_, model):
        done = midstream.register_model(shop, each, name="ranker", columns=FEATURES, sample=UNKNOWN, promote=True)
        assert (done.kind, done.runner) == ("trees", "arrays")
    values, scores = live(shop)
    own = model.predict_proba(values)[:, 1] if name == "LGBMClassifier" else model.predict(values)
    assert np.abs(scores - own).max() <= 1e-6 * max(1.0, np.abs(own).max())


def test_a_model_that_was_fitted_on_a_frame_knows_its_columns(shop: Path) -> None:
    """They are asked by name, in any order; another name is refused, and so is a sample without one of them."""
    library("skl2onnx")
    pandas, pipeline = library("pandas"), library("sklearn.pipeline")
    scale, linear = library("sklearn.preprocessing").StandardScaler, library("sklearn.linear_model")
    frame = pandas.DataFrame(ROWS, columns=list(FEATURES))
    model = pipeline.make_pipeline(scale(), linear.LogisticRegression()).fit(frame, CLICKED)
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES[::-1], sample=frame, promote=True)
    assert done.difference <= 1e-6
    values, scores = live(shop)
    own = model.predict_proba(pandas.DataFrame(values, columns=list(FEATURES)))[:, 1]
    assert np.abs(scores - own).max() <= 1e-6
    turned = midstream.register_model(shop, model, name="ranker", columns=FEATURES[::-1], sample=ROWS[:, ::-1])
    assert turned.difference <= 1e-6
    with pytest.raises(Invalid, match=r'fitted on "views", which is not among the columns\. Nearest: "veiws"'):
        midstream.register_model(shop, model, name="ranker", columns=("carts", "veiws"), sample=frame)
    with pytest.raises(Invalid, match='has no column "views"'):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=frame[["carts"]])


def torch_scores(model: Any, rows: Any) -> Any:
    """Return the scores of a module, which is left in the mode that it was in."""
    torch = library("torch")
    mode = model.training
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(np.array(rows))).numpy()
    model.train(mode)
    return found if found.ndim == 1 else found[:, -1]


NOTEBOOKS: dict[str, tuple[tuple[str, ...], Callable[[Any, Any], Any]]] = {
    "pipeline": (("skl2onnx",), lambda model, rows: model.predict_proba(rows)[:, 1]),
    "xgboost": (("xgboost",), lambda model, rows: model.predict(rows)),
    "torch": (("torch", "onnxscript"), torch_scores),
    "keras": (("tensorflow", "tf2onnx"), lambda model, rows: model.predict(rows, verbose=0)[:, 0]),
}
"""Of each block of the page: libraries, and how its model scores by itself."""


def torch_train(model: Any, rows: Any, clicked: Any) -> None:
    """Train a module on clicks, as a notebook would."""
    torch = library("torch")
    torch.manual_seed(3)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    given, wanted = torch.from_numpy(np.array(rows)), torch.from_numpy(np.array(clicked, dtype=np.float32))
    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(given)[:, 0], wanted)
        adam.zero_grad()
        loss.backward()
        adam.step()


def test_the_page_has_a_block_for_each_library() -> None:
    """And no other one."""
    assert sorted(notebook_blocks()) == sorted(NOTEBOOKS)


def notebook_blocks() -> dict[str, str]:
    """Return the blocks of the page by name."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    return dict(re.findall(r"<!-- notebook: (\w+) -->\n```python\n(.*?)```", page, re.DOTALL))


@pytest.mark.parametrize("kind", NOTEBOOKS)
def test_the_lines_of_the_page_lead_to_live_answers(shop: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Each in under ten lines, as they stand there; the live scores are those of the model in the notebook."""
    libraries, score = NOTEBOOKS[kind]
    for each in libraries:
        library(each)
    code = notebook_blocks()[kind]
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    place = shop.parent / f"notebook-{kind}"
    place.mkdir()
    shop.rename(place / "shop")
    monkeypatch.chdir(place)
    names: dict[str, Any] = {"rows": ROWS, "clicked": CLICKED, "sizes": [20] * 150, "train": torch_train}
    exec(code, names)  # noqa: S102  the lines of our own page
    values, scores = live(Path("shop"))
    own = score(names["model"], values)
    assert np.abs(scores - own).max() <= (1e-5 if kind == "keras" else 1e-6) * max(1.0, np.abs(own).max())


def refusals() -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Return models or samples that are refused, and what is said of each."""
    linear, xgboost = library("sklearn.linear_model"), library("xgboost")
    lightgbm, cluster = library("lightgbm"), library("sklearn.gaussian_process")
    fitted = linear.LogisticRegression().fit(ROWS, CLICKED)
    three = linear.LogisticRegression().fit(ROWS, DICE.integers(0, 3, len(ROWS)))
    deep = xgboost.XGBClassifier(n_estimators=2, max_depth=10).fit(ROWS, CLICKED)
    counts = xgboost.XGBRegressor(n_estimators=2, objective="count:poisson").fit(ROWS, CLICKED)
    wide = lightgbm.LGBMClassifier(n_estimators=2, num_leaves=200, min_child_samples=1, verbosity=-1).fit(ROWS, CLICKED)
    return {
        "unknown": (fitted, {"sample": UNKNOWN}, "The model itself does not score it: Input X contains NaN"),
        "narrow": (fitted, {"sample": ROWS[:, :1]}, "Its shape is (3000, 1)."),
        "text": (fitted, {"sample": [["a", "b"]]}, "It holds no numbers"),
        "name": (fitted, {"name": "No"}, "'No' came."),
        "three": (three, {}, "the graph gives float32 (16, 3) for 16 rows"),
        "deep": (deep, {}, "leaves, at most 64 can be scored"),
        "counts": (counts, {}, 'the objective "count:poisson" cannot be scored'),
        "wide": (wide, {}, "leaves, at most 64 can be scored"),
        "unfitted": (linear.LogisticRegression(), {}, "LogisticRegression cannot be converted."),
        "other": (object(), {}, "builtins.object came."),
        "no scores": (cluster.kernels.RBF(), {}, "cannot be converted."),
    }


@pytest.mark.parametrize(
    "kind",
    ["unknown", "narrow", "text", "name", "three", "deep", "counts", "wide", "unfitted", "other", "no scores"],
)
def test_what_cannot_be_registered_is_refused_in_four_parts(shop: Path, kind: str) -> None:
    """Nothing of it is published."""
    library("skl2onnx")
    model, how, text = refusals()[kind]
    with pytest.raises(ArtifactInvalid if kind == "three" else Invalid, match=re.escape(text)):
        midstream.register_model(shop, model, **{"name": "ranker", "columns": FEATURES, "sample": ROWS, **how})
    assert registry_of(shop).names() == []


def test_a_conversion_that_scores_otherwise_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By more than 1e-6 of the largest score: the row and both numbers are named."""
    xgboost = library("xgboost")
    model = xgboost.XGBRegressor(n_estimators=5).fit(ROWS, CLICKED)
    own = xgboost.Booster.predict
    for part, is_right in ((1 + 5e-7, True), (1 + 1e-5, False)):
        monkeypatch.setattr(xgboost.Booster, "predict", lambda *told, part=part, **how: own(*told, **how) * part)
        if is_right:
            assert midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS).rows == 3_000
            continue
        with pytest.raises(Invalid, match=r"Row \d+: the model gives .* what it was converted to"):
            midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS)


@pytest.mark.parametrize("missing, words", [("skl2onnx", "pip install skl2onnx"), ("onnxruntime", "midstream[onnx]")])
def test_a_missing_library_is_named(shop: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str) -> None:
    """With the line that installs it."""
    library("skl2onnx")
    model = library("sklearn.linear_model").LogisticRegression().fit(ROWS, CLICKED)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExtraMissing, match=re.escape(words)):
        midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS)


def test_without_a_sample_rows_are_made_up_and_a_version_holds_no_row_of_one(shop: Path) -> None:
    """Golden rows lie around mean and deviation of the sample's columns, and none of them is a row of it."""
    library("skl2onnx")
    model = library("sklearn.linear_model").LogisticRegression().fit(ROWS + 1_000, CLICKED)
    registry = registry_of(shop)
    made = midstream.register_model(shop, model, name="made", columns=FEATURES)
    assert made.rows == 256
    done = midstream.register_model(shop, model, name="ranker", columns=FEATURES, sample=ROWS + 1_000)
    asked = registry.read("ranker", done.version).arrays["golden.values"].astype(np.float64)
    assert (np.abs(np.nanmedian(asked, axis=0) - 1_000) < 40).all()
    given = {tuple(row) for row in (ROWS + 1_000).tolist()}
    assert not given & {tuple(row) for row in asked.tolist()}
