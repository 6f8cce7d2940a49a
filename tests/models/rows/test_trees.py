"""Trees score as LightGBM does: whatever is missing, zero or infinite, to the bit of a plain walk; else they refuse."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Score
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import row_content
from midstream.models.loading import load
from midstream.models.model import is_row_model
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, ZERO_MAX
from midstream.models.rows.trees import LEAVES_MAX, Trees, rounded_down
from midstream.testing.model_conformance import check_row_model
from tests.support.tree_shapes import random_shapes

lightgbm = pytest.importorskip("lightgbm")

SPECIAL = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-36, -1e-36, 3e38, -3e38, 1.0, -1.0, 1e-35], np.float32)


def rows_of(seed: int, count: int, features: int, special: float) -> Score:
    """Return rows in which a share of the values is special."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(count, features)).astype(np.float32).round(2)
    chosen = dice.random(values.shape) < special
    values[chosen] = dice.choice(SPECIAL, int(chosen.sum()))
    return values


def fitted(seed: int, parameters: Mapping[str, object], rounds: int = 4, special: float = 0.3):
    """Return a small model of LightGBM's, fitted on rows with special values."""
    values = rows_of(seed, 300, 4, special)
    known = np.clip(np.nan_to_num(values.astype(np.float64), nan=0.7), -3, 3)
    label = known @ [1.0, -1.0, 0.5, 0.0] + np.isnan(values[:, 0]) + np.sin(3 * known[:, 3])
    objective = parameters.get("objective", "regression")
    group = [100, 100, 100] if objective == "lambdarank" else None
    if objective == "binary":
        label = np.sign(label).clip(0)
    elif objective == "lambdarank":
        label = np.clip(label, 0, 3).round()
    settings = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_in_bin": 1, **parameters}
    return lightgbm.train(settings, lightgbm.Dataset(values, label, group=group), rounds)


def walked(trees: Trees, values: Score) -> Score:
    """Return the scores by walking down each tree, row by row: the kernel's plain twin."""
    found = np.empty(len(values), dtype=np.float32)
    for number, row in enumerate(values):
        total = 0.0
        for tree, (begin, end) in enumerate(pairwise(trees.start.tolist())):
            at, first, stop = begin, 0, end - begin + 1
            while stop - first > 1:
                middle = int(trees.middle[at])
                is_left = goes_left(trees, at, row[trees.feature[at]])
                at = at + 1 if is_left else at + middle - first
                first, stop = (first, middle) if is_left else (middle, stop)
            total += float(trees.leaf_value[begin + tree + first])
        found[number] = total if trees.sigmoid == 0 else 1 / (1 + np.exp(-trees.sigmoid * total))
    return found


def goes_left(trees: Trees, node: int, value: np.float32) -> bool:
    """Return where a node sends a value."""
    way = int(trees.way[node])
    if np.isnan(value) or (way & ZERO and abs(value) <= ZERO_MAX):
        return not way & RIGHT
    return bool(way & ALONE) or bool((value if abs(value) > ZERO_MAX else np.float32(0)) <= trees.threshold[node])


def drawn(seed: int, tree_count: int, leaves_max: int, features: int = 3) -> Trees:
    """Return trees of any shape, no library asked."""
    dice = np.random.default_rng(seed)
    nodes, start = random_shapes(dice, tree_count, leaves_max)
    below = np.array(nodes, dtype=np.uint8).reshape(-1, 3).T.copy()
    leaves = len(nodes) + tree_count
    return Trees(
        tuple("abcdefgh"[:features]),
        dice.integers(0, features, len(nodes)).astype(np.int32),
        dice.choice([0.0, -0.5, 0.25, 1.0, -3e38], len(nodes)).astype(np.float32),
        dice.integers(0, 8, len(nodes)).astype(np.uint8),
        below[0],
        below[1],
        below[2],
        np.array(start, dtype=np.int64),
        dice.normal(size=leaves),
        dice.integers(0, 99, leaves),
    )


@given(
    st.integers(0, 10_000),
    st.sampled_from([2, 5, 31, 33, 64]),
    st.sampled_from(["regression", "binary", "lambdarank", "cross_entropy", "regression_l1"]),
    st.booleans(),
    st.booleans(),
)
def test_scores_are_those_of_the_library(seed, leaves, objective, use_missing, zero_as_missing):
    """NaN, zeros of both signs, what counts as zero, infinities, in fitting and asking: equal to 1e-6."""
    parameters = {"num_leaves": leaves, "use_missing": use_missing, "zero_as_missing": zero_as_missing}
    if objective == "cross_entropy":
        parameters["sigmoid"] = 1.0
        booster = fitted(seed, {**parameters, "objective": "binary"})
    else:
        booster = fitted(seed, {**parameters, "objective": objective, "sigmoid": 0.7})
    trees = Trees.of_lightgbm(booster.model_to_string())
    asked = rows_of(seed + 1, 200, 4, 0.4)
    # On the thresholds and one step beside them.
    exact = rounded_down(np.array([float(each) for each in trees.threshold]))[:50]
    for step, column in ((-np.inf, 0), (np.inf, 1)):
        asked[: len(exact), column] = np.nextafter(exact, np.float32(step))
    asked[: len(exact), 2] = exact
    expected = booster.predict(asked)
    np.testing.assert_allclose(trees.score(asked), expected, rtol=1e-6, atol=1e-6)
    assert (trees.score(asked[:40]) == walked(trees, asked[:40])).all()


@given(st.integers(0, 10_000), st.integers(0, 6), st.sampled_from([1, 3, 32, 33, 64]), st.integers(1, 300))
def test_the_kernel_is_a_walk(seed, tree_count, leaves, rows):
    """Trees of any shape, constants too, any way of what is missing, blocks that are not full: to the bit."""
    trees = drawn(seed, tree_count, leaves)
    values = rows_of(seed, rows, 3, 0.5)
    found = trees.score(values)
    some = np.random.default_rng(seed).integers(0, rows, 20)
    assert (found[some] == walked(trees, values[some])).all()
    assert (trees.score(np.asfortranarray(values)) == found).all()


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_promises_of_row_models(objective):
    """One row alone as among others, written and read the same, nothing changed by asking."""
    trees = Trees.of_lightgbm(fitted(3, {"objective": objective, "num_leaves": 31}, 30).model_to_string())
    assert is_row_model(trees)
    check_row_model(trees, rows_of(4, 300, 4, 0.4), Trees.restore)
    assert len(trees) == 30
    assert trees.inputs == ("Column_0", "Column_1", "Column_2", "Column_3")


def test_what_is_published_is_loaded(tmp_path):
    """Written as an artifact, unknown values and infinite thresholds among it, and read with its golden rows."""
    trees = Trees.of_lightgbm(fitted(3, {"num_leaves": 31}).model_to_string())
    trees = replace(trees, threshold=np.where(trees.threshold < -1, -np.inf, trees.threshold).astype(np.float32))
    asked = rows_of(4, 50, 4, 0.4)
    path = tmp_path / write_artifact(
        tmp_path, Draft(name="ranker", kind="trees", inputs=trees.inputs), row_content(trees, asked)
    )
    found = load(read_artifact(path))
    assert isinstance(found, Trees)
    assert (found.score(asked) == trees.score(asked)).all()


@example([-3.4028235677973366e38], [0.0])
@given(st.lists(st.floats(allow_nan=False), min_size=1), st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_a_threshold_decides_alike_when_it_is_rounded_down(thresholds, values):
    """Every float32 is above the float32 exactly when it is above the float64."""
    exact, asked = np.array(thresholds), np.array(values, dtype=np.float32)
    rounded = rounded_down(exact)
    assert ((asked[:, None] > rounded) == (asked.astype(np.float64)[:, None] > exact)).all()


def test_ours_are_the_names_where_they_are_given():
    """LightGBM refuses some names and cuts others at spaces, so a caller may bring them; their number must fit."""
    text = fitted(1, {}).model_to_string()
    names = ("score.als", "views [7d]", "price", "é")
    trees = Trees.of_lightgbm(text, names)
    assert trees.inputs == names
    assert Trees.restore(trees.arrays()).inputs == names
    with pytest.raises(ArtifactInvalid, match="3 names came for 4 features"):
        Trees.of_lightgbm(text, names[:3])


def categorical() -> str:
    """Return a model that splits by categories."""
    values = np.random.default_rng(0).integers(0, 9, (300, 1)).astype(np.float32)
    data = lightgbm.Dataset(values, values[:, 0] % 3, categorical_feature=[0])
    return str(
        lightgbm.train({"verbosity": -1, "min_data_per_group": 5, "min_data_in_leaf": 2}, data, 2).model_to_string()
    )


def poisson() -> str:
    """Return a model whose score is the exponential of a sum."""
    data = lightgbm.Dataset(rows_of(1, 200, 2, 0.0), np.arange(200) % 5)
    return str(lightgbm.train({"objective": "poisson", "verbosity": -1}, data, 2).model_to_string())


@pytest.mark.parametrize(
    "text, named",
    [
        (categorical, "categorical splits"),
        (lambda: fitted(1, {"linear_tree": True}, special=0.0).model_to_string(), "linear leaves"),
        (lambda: fitted(1, {"num_leaves": 100, "min_data_in_leaf": 1}).model_to_string(), "at most 64"),
        (poisson, "poisson"),
        (lambda: fitted(1, {"reg_sqrt": True}).model_to_string(), "regression sqrt"),
        (
            lambda: fitted(1, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}).model_to_string(),
            "averaged output",
        ),
        (lambda: fitted(1, {}).model_to_string().replace("version=v4", "version=v9"), "v9"),
        (lambda: fitted(1, {}).model_to_string().replace("num_class=1", "num_class=3"), "3 classes"),
        (lambda: "", "no model|cut off"),
        (lambda: fitted(1, {}).model_to_string().replace("left_child=", "left_child=0 "), "numbers came"),
        (lambda: fitted(1, {}).model_to_string().replace("leaf_value=", "leaf_value=nan "), "values|no number"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused_by_name(text, named):
    """A model that would score otherwise than its library is no model."""
    told = text()
    with pytest.raises(ArtifactInvalid, match=named):
        Trees.of_lightgbm(told)


@given(st.data())
def test_damaged_text_is_refused_or_read(data):
    """Cut anywhere before its end it is refused; with a changed byte it is refused as such, or is another model."""
    text = TEXT
    cut = data.draw(st.integers(0, text.index("\nend of trees")))
    with pytest.raises(ArtifactInvalid):
        Trees.of_lightgbm(text[:cut])
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(codec="ascii")) + text[at + 1 :]
    try:
        trees = Trees.of_lightgbm(changed)
    except ArtifactInvalid:
        return
    assert np.isfinite(trees.score(rows_of(0, 5, len(trees.inputs), 0.5))).all()


TEXT = fitted(7, {"num_leaves": 8, "zero_as_missing": True}).model_to_string()


@given(st.integers(0, 1_000), st.data())
def test_arrays_that_are_no_trees_are_refused(seed, data):
    """No index leads outside: a part that lacks, of another type or length, a node below nothing."""
    arrays = dict(drawn(seed, 3, 9).arrays())
    name = data.draw(st.sampled_from(sorted(arrays)))
    broken = dict(arrays)
    del broken[name]
    with pytest.raises(ArtifactInvalid, match=name):
        Trees.restore(broken)
    with pytest.raises(ArtifactInvalid):
        Trees.restore({**arrays, name: arrays[name].astype(np.complex128)})
    if name != "inputs":
        with pytest.raises(ArtifactInvalid):
            Trees.restore({**arrays, name: np.append(arrays[name], arrays[name][:1] if len(arrays[name]) else [1])})
    if len(arrays["feature"]) and name in {"feature", "first", "middle", "end"}:
        at = data.draw(st.integers(0, len(arrays["feature"]) - 1))
        wrong = arrays[name].copy()
        wrong[at] = data.draw(st.sampled_from([100, 101, int(2 ** (8 * wrong.itemsize - 1) - 1)]))
        with pytest.raises(ArtifactInvalid):
            Trees.restore({**arrays, name: wrong})


def test_what_is_no_number_is_refused():
    """NaN in a leaf or a threshold, and a threshold that what is missing cannot be above."""
    trees = drawn(1, 3, 9)
    for name in ("leaf_value", "threshold"):
        wrong = getattr(trees, name).copy()
        wrong[0] = np.nan
        with pytest.raises(ArtifactInvalid, match="no number"):
            replace(trees, **{name: wrong})
    endless = np.full_like(trees.threshold, np.inf)
    with pytest.raises(ArtifactInvalid, match="no number"):
        replace(trees, threshold=endless, way=np.full_like(trees.way, RIGHT))
    with pytest.raises(ArtifactInvalid, match=str(LEAVES_MAX)):
        drawn(1, 40, LEAVES_MAX + 20)


def test_a_tree_that_asks_nothing_is_a_number():
    """LightGBM writes one leaf where it finds no split; alone that is a constant; without its value it is refused."""
    data = lightgbm.Dataset(np.zeros((40, 2)), label=np.arange(40) % 4 == 0)
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 3)
    text = booster.model_to_string()
    assert "num_leaves=1\n" in text
    trees = Trees.of_lightgbm(text)
    asked = rows_of(1, 9, 2, 0.3)
    assert trees.score(asked).tolist() == booster.predict(asked).astype(np.float32).tolist()
    check_row_model(trees, asked, Trees.restore)
    for damaged in ("leaf_value=\n", "leaf_value=x\n"):
        begin, _, rest = text.partition("leaf_value=")
        with pytest.raises(ArtifactInvalid):
            Trees.of_lightgbm(begin + damaged + rest.partition("\n")[2])
