"""Trees of XGBoost from its JSON: each value takes the branch that it takes there, and what cannot be kept is refused.

Against the library itself: tests/integrations/test_model_registration.py.
"""

import copy
import json
import math

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid
from midstream.models.rows.xgboost_trees import xgboost_trees


def tree(threshold=1.5, default_left=1, column=0, weights=(-0.25, 0.5)):
    """Return one question as XGBoost writes it."""
    return {
        "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [column, 0, 0],
        "split_conditions": [threshold, *weights], "default_left": [default_left, 0, 0], "split_type": [0, 0, 0],
        "sum_hessian": [5.0, 2.0, 3.0], "tree_param": {"size_leaf_vector": "1"},
    }  # fmt: skip


def model(*trees, objective="rank:ndcg", base="[5E-1]", **facts):
    """Return a model as it writes one."""
    param = {"num_class": "0", "num_feature": "2", "num_target": "1", "base_score": base, **facts}
    booster = {"name": "gbtree", "model": {"trees": list(trees), "iteration_indptr": list(range(len(trees) + 1))}}
    return {"learner": {"learner_model_param": param, "objective": {"name": objective}, "gradient_booster": booster}}


def read(told, inputs=("a", "b"), rounds=None):
    """Return its trees."""
    return xgboost_trees(json.dumps(told).encode(), inputs, rounds)


def test_a_value_below_the_threshold_goes_left_and_the_threshold_itself_right():
    """Compared as float32, and the next smaller one is on the left."""
    limit = np.float32(0.1)
    values = np.array([[np.nextafter(limit, np.float32(-1))], [limit], [-np.inf], [np.inf]], dtype=np.float32)
    found = read(model(tree(float(limit)), num_feature="1"), ("a",)).score(values)
    assert found.tolist() == [0.25, 1.0, 0.25, 1.0]


@pytest.mark.parametrize("default_left, right", [(1, 0.25), (0, 1.0)])
def test_an_unknown_value_goes_where_its_node_says(default_left, right):
    """Of the column that it asks; one that is 0 is known."""
    found = read(model(tree(default_left=default_left, column=1))).score(
        np.array([[0.0, np.nan], [np.nan, 0.0], [np.nan, 2.0]], dtype=np.float32)
    )
    assert found.tolist() == [right, 0.25, 1.0]


def test_a_probability_is_the_logistic_of_the_sum_with_the_base_in_log_odds():
    """And of other objectives the base score is added as it is."""
    values = np.array([[0.0, 0.0]], dtype=np.float32)
    (found,) = read(model(tree(), objective="binary:logistic", base="2E-1")).score(values).tolist()
    assert found == pytest.approx(1 / (1 + math.exp(-(math.log(0.2 / 0.8) - 0.25))), abs=1e-7)
    assert read(model(tree(), objective="reg:squarederror", base="[-3E0]")).score(values).tolist() == [-3.25]


def test_rounds_after_the_best_one_do_not_count():
    """Where an early stop chose one."""
    values = np.array([[0.0, 0.0]], dtype=np.float32)
    told = model(tree(), tree(), tree(), base="0")
    assert [read(told, rounds=rounds).score(values).tolist() for rounds in (1, 2, None)] == [[-0.25], [-0.5], [-0.75]]


def _with(change):
    told = copy.deepcopy(model(tree()))
    change(told["learner"])
    return told


@pytest.mark.parametrize(
    "told, text",
    [
        (_with(lambda each: each["gradient_booster"].update(name="dart")), "booster dart"),
        (_with(lambda each: each["learner_model_param"].update(num_class="3")), "several classes"),
        (_with(lambda each: each["learner_model_param"].update(num_target="2")), "several classes or targets"),
        (_with(lambda each: each["learner_model_param"].update(num_feature="3")), "reads 3 columns, and 2 names came"),
        (_with(lambda each: each["objective"].update(name="count:poisson")), '"count:poisson" cannot be scored'),
        (model({**tree(), "split_type": [1, 0, 0]}), "categorical splits"),
        (model({**tree(), "tree_param": {"size_leaf_vector": "2"}}), "leaves of several numbers"),
        (model({**tree(), "left_children": [0, -1, -1]}), "no tree"),
        (model({**tree(), "split_indices": [7, 0, 0]}), "a feature that is none of the 2 inputs"),
        (model(tree(math.nan)), "no model of XGBoost's"),
        ({"learner": {}}, "no model of XGBoost's"),
        ([], "no model of XGBoost's"),
    ],
)
def test_what_cannot_be_kept_is_refused(told, text):
    """By name."""
    with pytest.raises(ArtifactInvalid, match=text):
        read(told)


def test_a_tree_of_more_than_64_leaves_is_refused():
    """A mask has 64 bits."""
    count = 65
    left, right = [-1] * (2 * count - 1), [-1] * (2 * count - 1)
    for at in range(count - 1):
        node = 0 if not at else 2 * at
        left[node], right[node] = 2 * at + 1, 2 * at + 2
    size = 2 * count - 1
    told = {
        **tree(), "left_children": left, "right_children": right, "split_indices": [0] * size,
        "split_conditions": [0.5] * size, "default_left": [0] * size, "split_type": [0] * size,
        "sum_hessian": [1.0] * size,
    }  # fmt: skip
    with pytest.raises(ArtifactInvalid, match="a tree has 65 leaves, at most 64 can be scored"):
        read(model(told))
