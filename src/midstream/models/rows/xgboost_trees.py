"""Trees of XGBoost as ours: read from the JSON of ``Booster.save_raw("json")``, scored by our kernel.

XGBoost sends a value below a threshold to the left, compared as float32, and an unknown one to the side that its node
names; a value that is not above the next smaller float32 is the same. The sum is float64 here and float32 there, so
scores agree to about 1e-7 of the largest sum. The base score is a tree that asks nothing.

Reference: T. Chen, C. Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016;
https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html (the JSON).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from midstream.core.errors import ArtifactInvalid
from midstream.models.rows.tree_kernel import RIGHT
from midstream.models.rows.trees import LEAVES_MAX, TREES_MAX, Trees, in_order, joined

_SUMS = frozenset({
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror", "reg:linear",
    "binary:logitraw", "rank:ndcg", "rank:pairwise", "rank:map",
})  # fmt: skip
"""Objectives whose score is the sum of the leaves and the base score."""
_PROBABILITIES = frozenset({"binary:logistic", "reg:logistic"})
"""Objectives whose score is the logistic of the sum, and whose base score is a probability."""

_COUNTED = 1_000.0
"""Whole numbers of a unit of hessian, which XGBoost has where others count the rows of a leaf."""


def xgboost_trees(text: bytes, inputs: Sequence[str], rounds: int | None = None) -> Trees:
    """Return the trees of a model that XGBoost wrote as JSON.

    Args:
        text: All of it.
        inputs: Names of its features, in order.
        rounds: Boosting rounds that count, as early stopping chose; None = all.

    Raises:
        ArtifactInvalid: It is damaged, or has something that cannot be kept exactly: another booster than trees,
            categorical splits, more than 64 leaves, several classes or targets, an objective whose score is no sum.
    """
    try:
        return _read(msgspec.json.decode(text), inputs, rounds)
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError, OverflowError, AttributeError) as error:
        message = f"this is no model of XGBoost's: {type(error).__name__}: {error}"
        raise ArtifactInvalid(message) from error


def _read(told: Any, inputs: Sequence[str], rounds: int | None) -> Trees:  # noqa: ANN401  whatever the text holds
    learner = told["learner"]
    facts, booster = learner["learner_model_param"], learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise ArtifactInvalid(f"the booster {booster['name']} cannot be scored, only trees (gbtree)")
    if int(facts["num_class"]) > 1 or int(facts.get("num_target", "1")) > 1:
        raise ArtifactInvalid("several classes or targets cannot be scored, only one number a row")
    if int(facts["num_feature"]) != len(inputs):
        raise ArtifactInvalid(f"the model reads {facts['num_feature']} columns, and {len(inputs)} names came")
    objective = learner["objective"]["name"]
    if objective not in _SUMS | _PROBABILITIES:
        raise ArtifactInvalid(f'the objective "{objective}" cannot be scored: its score is no sum of leaves')
    base = float(str(facts["base_score"]).strip("[]"))
    if objective in _PROBABILITIES:
        base = math.log(base / (1.0 - base))
    model = booster["model"]
    trees = model["trees"]
    if rounds is not None and "iteration_indptr" in model:
        trees = trees[: model["iteration_indptr"][rounds]]
    if len(trees) >= TREES_MAX:
        raise ArtifactInvalid(f"{len(trees):,} trees came, fewer than {TREES_MAX:,} can be scored")
    names = ("feature", "threshold", "way", "first", "middle", "end")
    nothing: Mapping[str, Sequence[float]] = dict.fromkeys(names, ())
    parts = [{**nothing, "leaf_value": (base,), "leaf_count": (1,)}, *(_tree(each) for each in trees)]
    return joined(inputs, parts, 1.0 if objective in _PROBABILITIES else 0.0)


def _tree(told: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    """Return the columns of one tree, its nodes and leaves in our order; the library numbers both together."""
    if any(told.get("split_type", ())):
        raise ArtifactInvalid("categorical splits cannot be kept exactly: fit on numbers alone")
    if int(told["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise ArtifactInvalid("leaves of several numbers cannot be scored, only one number a row")
    left, right = np.array(told["left_children"]), np.array(told["right_children"])
    is_leaf = left < 0
    if int(is_leaf.sum()) > LEAVES_MAX:
        raise ArtifactInvalid(f"a tree has {int(is_leaf.sum())} leaves, at most {LEAVES_MAX} can be scored")
    number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    inner, ended = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    nodes, leaves, below = in_order(number[left[inner]].tolist(), number[right[inner]].tolist())
    split, ends = inner[nodes], ended[leaves]
    limit = np.array(told["split_conditions"], dtype=np.float32)
    to_left = np.array(told["default_left"], dtype=np.bool_)
    weight = np.array(told["sum_hessian"], dtype=np.float64)
    ranges = [below[node] for node in nodes]
    return {
        "feature": np.array(told["split_indices"])[split].tolist(),
        "threshold": np.nextafter(limit[split], np.float32(-np.inf)).tolist(),
        "way": np.where(to_left[split], 0, RIGHT).tolist(),
        **{name: [each[at] for each in ranges] for at, name in enumerate(("first", "middle", "end"))},
        "leaf_value": limit[ends].tolist(),
        "leaf_count": np.maximum(np.rint(_COUNTED * weight[ends]), 1).astype(np.int64).tolist(),
    }
