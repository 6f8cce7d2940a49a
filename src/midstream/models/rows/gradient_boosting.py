"""Gradient boosting by scikit-learn, scored by our kernel: each tree is fitted on the residuals of those before.

Trees are read from what the library documents (``estimators_[n, 0].tree_``), so the ensemble is its
``GradientBoostingClassifier``. The histogram ensemble of the library is faster to fit, and shows its trees nowhere but
in private parts; ``lambdamart`` fits such trees, on large data. What is unknown is fitted as a number below all others
and goes left at every node, so a tree may tell it apart, and what it does with it was learned.

Reference: J. H. Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 29(5),
2001, algorithm 5; "Stochastic Gradient Boosting", Computational Statistics & Data Analysis 38(4), 2002 (``row_share``).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from midstream.core.errors import ExtraMissing, Fault, Invalid
from midstream.core.types import Score
from midstream.models.model import QUIET, Watch
from midstream.models.rows.clicks import Debias, clicks_of
from midstream.models.rows.examples import Examples
from midstream.models.rows.tree_kernel import ZERO_MAX
from midstream.models.rows.trees import LEAVES_MAX, TREES_MAX, Trees, in_order, joined, rounded_down

HIGH = float(np.finfo(np.float32).max)
"""Minus it is what is unknown while fitting: a threshold is half-way between two values, so it is a number too."""
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class GradientBoostingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How trees are fitted."""

    trees_max: Annotated[int, msgspec.Meta(ge=1, le=TREES_MAX - 1)] = 100
    leaves_max: Annotated[int, msgspec.Meta(ge=2, le=LEAVES_MAX)] = 8
    """Of a tree; the best split is made first."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    leaf_rows_min: Annotated[int, msgspec.Meta(ge=1)] = 20
    row_share: Share = 1.0
    """Of the rows that each tree looks at, drawn for each."""
    column_share: Share = 1.0
    """Of the features that each split looks at, drawn for each."""
    debias: Debias = "none"
    """``propensity``: rows count by 1 / propensity."""
    weight_max: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 20.0
    """The most that a row counts by it."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    """Of what is drawn, and of the order in which equal splits are looked at."""


def fit_gradient_boosting(examples: Examples, options: GradientBoostingOptions, watch: Watch = QUIET) -> Trees:
    """Return trees over the features of the examples, whose score is the probability of a click (a label above 0).

    The same for the same examples and options. Cost: trees × rows × features × the depth, each feature sorted at each
    node: 30 s for 20,000 rows of 40 features and 100 trees, on one thread.

    Raises:
        ExtraMissing: scikit-learn is not installed.
        Invalid: Nothing was learned: all rows are alike, or no split leaves enough rows on both sides.
        FitStopped: ``watch`` said so, after a tree.
    """
    try:
        import sklearn.ensemble  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        message = "trees of clicks are fitted by scikit-learn: install midstream[train]"
        raise ExtraMissing(message) from error
    clicked, weight = clicks_of(examples, options.debias, options.weight_max)
    package: Any = sklearn
    library = package.ensemble.GradientBoostingClassifier(
        n_estimators=options.trees_max,
        max_leaf_nodes=options.leaves_max,
        max_depth=None,
        learning_rate=options.learning_rate,
        min_samples_leaf=options.leaf_rows_min,
        subsample=options.row_share,
        max_features=options.column_share,
        random_state=options.seed,
    )

    def told(number: int, _fitted: object, _inner: object) -> bool:
        watch.step(f"tree {number + 1} of {options.trees_max}", (number + 1) / options.trees_max)
        return False

    library.fit(filled(examples.values), clicked, sample_weight=weight, monitor=told)
    prior = library.init_.class_prior_
    parts = [_constant(float(np.log(prior[1] / prior[0])), len(examples))]
    parts += [_columns(each.tree_, options.learning_rate) for each in library.estimators_[:, 0]]
    found = joined(examples.names, parts, 1.0)
    if not len(found.feature):
        came = f"Nothing was learned of {len(examples):,} rows: no feature tells clicks from what was not clicked."
        right = "Features that differ, and more rows than leaf_rows_min on both sides of a split."
        raise Invalid((Fault("$.examples", came, right, "/docs/models.md"),))
    return found


def filled(values: Score) -> Score:
    """Return values as they are fitted: what is unknown below all numbers, what the kernel takes for 0 as 0."""
    found: Score = np.nan_to_num(values.astype(np.float32), nan=-HIGH, neginf=-HIGH, posinf=HIGH)
    found[np.abs(found) <= ZERO_MAX] = 0.0
    return found


def _constant(value: float, rows: int) -> Mapping[str, Sequence[float]]:
    """Return the columns of a tree that asks nothing."""
    nothing: dict[str, Sequence[float]] = dict.fromkeys(("feature", "threshold", "way", "first", "middle", "end"), ())
    return {**nothing, "leaf_value": (value,), "leaf_count": (rows,)}


def _columns(tree: Any, learning_rate: float) -> Mapping[str, Sequence[float]]:  # noqa: ANN401  # the library's own
    """Return the columns of one tree, its nodes and leaves in our order; the library numbers both together."""
    is_leaf = tree.children_left < 0
    number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    inner = np.flatnonzero(~is_leaf)
    left, right = (number[each[inner]].tolist() for each in (tree.children_left, tree.children_right))
    nodes, leaves, below = in_order(left, right)
    split, ended = inner[nodes], np.flatnonzero(is_leaf)[leaves]
    ranges = [below[node] for node in nodes]
    return {
        "feature": tree.feature[split].tolist(),
        "threshold": rounded_down(tree.threshold[split]).tolist(),
        "way": [0] * len(nodes),
        **{name: [each[at] for each in ranges] for at, name in enumerate(("first", "middle", "end"))},
        "leaf_value": (learning_rate * tree.value[ended, 0, 0]).tolist(),
        "leaf_count": tree.n_node_samples[ended].tolist(),
    }
