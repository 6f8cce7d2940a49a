"""Fitting of tree ensembles by LightGBM: LambdaMART for the order within a request, or clicks as yes and no.

The library fits, ``trees.Trees`` answers. The number of trees is that at which the later requests were ranked best, so
a fit reads time as the service will: what comes after. With the same examples, options and number of threads a fit is
the same to the bit.

Reference: C. J. C. Burges, "From RankNet to LambdaRank to LambdaMART: an overview", MSR-TR-2010-82; positions: Z. Hu,
Y. Wang, Q. Peng, H. Li, "Unbiased LambdaMART: an unbiased pairwise learning-to-rank algorithm", WWW 2019; gains over
propensities: A. Agarwal, K. Takatsu, I. Zaitsev, T. Joachims, "A general framework for counterfactual
learning-to-rank", SIGIR 2019, equation 7.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ConfigInvalid, ExtraMissing, Fault, Invalid
from midstream.models.model import QUIET, Watch
from midstream.models.rows.examples import Examples
from midstream.models.rows.trees import LEAVES_MAX, TREES_MAX, Trees

PAGE = "/docs/models.md"
GRADES_MAX = 1_024
"""Distinct labels of one fit: each is a gain of its own in a table."""
_STEPS = 8.0
_LEAST = 1e-12
NDCG_AT = 10
"""Places that stopping looks at."""
Whole = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Part = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
RIDGE_MAX = 1e6
"""Of ``l2``: leaves of so many rows are a millionth of what they say; NaN and infinity are refused too."""
WEIGHT_MAX = 1e4
"""A row that counts as ten thousand is alone in the fit."""


class LambdaMartOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How trees are fitted."""

    objective: Literal["lambdarank", "binary"] = "lambdarank"
    """The order within each request by label, or the probability that a label is above 0."""
    trees_max: Annotated[int, msgspec.Meta(ge=1, le=TREES_MAX)] = 300
    leaves_max: Annotated[int, msgspec.Meta(ge=2, le=LEAVES_MAX)] = 31
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.05
    leaf_rows_min: Whole = 20
    l2: Annotated[float, msgspec.Meta(ge=0.0, le=RIDGE_MAX)] = 1.0
    column_share: Part = 1.0
    """Of the features, those that each tree may ask."""
    row_share: Part = 1.0
    """Of the rows, those that each tree is fitted on."""
    bins: Annotated[int, msgspec.Meta(ge=2, le=65_535)] = 255
    """Distinct values of a feature that are told apart."""
    truncation: Whole = 30
    """Places of a request in which a mistake counts; LambdaMART alone."""
    debias: Literal["none", "position", "propensity"] = "none"
    """``position``: what people click because it stood high is estimated beside and left out (LambdaMART alone; all
    ``trees_max`` trees are fitted, since later clicks, which hang on places too, cannot judge it).
    ``propensity``: what came of a row counts by 1 / propensity: as its gain, or with ``binary`` as its weight."""
    weight_max: Annotated[float, msgspec.Meta(ge=1.0, le=WEIGHT_MAX)] = 20.0
    """The most that a row counts by its propensity."""
    later_share: Share = 0.2
    """Of the requests, the latest, by which the number of trees is chosen and which are not fitted on."""
    patience: Whole = 30
    """Trees without gain on those after which no more are tried."""
    seed: int = 0
    threads: Whole = 1


def fit_lambdamart(examples: Examples, options: LambdaMartOptions | None = None, watch: Watch = QUIET) -> Trees:
    """Return trees over the features of the examples.

    With ``lambdarank`` scores order the rows of a request and mean nothing else; with ``binary`` they are
    probabilities. Where the later requests hold nothing to be ranked, all ``trees_max`` trees are fitted.

    Args:
        examples: At least one request; with ``lambdarank`` labels are gains, the lowest counting 0.
        options: How.
        watch: Told after each tree.

    Cost: with one thread 1 s for 100,000 rows of 40 features and 100 trees.

    Raises:
        ConfigInvalid: ``debias`` or the labels do not go with the objective.
        ExtraMissing: LightGBM is not installed.
        Invalid: Nothing was learned: no tree asks anything, so all rows would score the same. Such a model orders as
            none does, and hides that; it is not made. Or the library refused what it was given, and said why.
        FitStopped: The watch said so.
        MemoryError: There was not enough, for us or for the library.
    """
    options = options or LambdaMartOptions()
    library = _library()
    earlier, later = examples.split(options.later_share)
    is_judged = options.debias != "position" and len(earlier) > 0 and _has_order(later, options)
    if not is_judged:
        earlier = examples
    grades = _grades(examples, options)
    try:
        text = _fitted(library, (earlier, later if is_judged else None), options, grades, watch)
    except library.basic.LightGBMError as error:
        if "bad_alloc" in str(error):  # how the library says that memory ran out
            raise MemoryError from error
        right = "Features and options that LightGBM takes."
        raise Invalid((Fault("$.options", f"LightGBM refused the fit: {error}.", right, PAGE),)) from error
    found = Trees.of_lightgbm(text, examples.names)
    if not len(found.feature):
        came = f"Nothing was learned of {len(earlier):,} rows: no feature tells what is worth more from what is not."
        right = "Labels and features that differ, and more rows than leaf_rows_min on both sides of a split."
        raise Invalid((Fault("$.examples", came, right, PAGE),))
    return found


def _fitted(
    library: Any,  # noqa: ANN401  # as _library
    parts: tuple[Examples, Examples | None],
    options: LambdaMartOptions,
    grades: NDArray[np.float64],
    watch: Watch,
) -> str:
    """Return what the library fits on the first part, up to the best tree by the second where there is one."""
    earlier, later = parts
    first = _dataset(library, earlier, options, grades)
    callbacks: list[Any] = [_told(watch, options.trees_max)]
    judges: list[Any] = []
    if later is not None:
        judges = [_dataset(library, later, options, grades, first)]
        callbacks.append(library.early_stopping(options.patience, verbose=False))
    booster = library.train(
        _parameters(options, grades), first, options.trees_max, valid_sets=judges, callbacks=callbacks
    )
    text: str = booster.model_to_string()
    return text


def _library() -> Any:  # noqa: ANN401  # the package brings no types that fit
    """Return LightGBM."""
    try:
        import lightgbm
    except ImportError as error:
        message = "trees are fitted by LightGBM: install midstream[train]"
        raise ExtraMissing(message) from error
    return lightgbm


def _has_order(later: Examples, options: LambdaMartOptions) -> bool:
    """Return whether two rows that are compared have different labels."""
    if not len(later):
        return False
    if options.objective == "binary":
        clicked = later.label > 0
        return bool(clicked.any() and not clicked.all())
    starts = later.start[:-1]
    return bool((np.maximum.reduceat(later.label, starts) > np.minimum.reduceat(later.label, starts)).any())


def _grades(examples: Examples, options: LambdaMartOptions) -> NDArray[np.float64]:
    """Return the distinct labels, rising: the library takes whole numbers, and a gain for each.

    Raises:
        ConfigInvalid: There are too many, or the debiasing is none for the objective.
    """
    if options.objective == "binary":
        if options.debias == "position":
            came = 'debias = "position" came with objective = "binary".'
            raise ConfigInvalid((Fault("$.debias", came, 'objective = "lambdarank", or debias = "propensity".', PAGE),))
        return np.array([0.0, 1.0])
    grades = np.unique(_gains(examples, options))
    if len(grades) > GRADES_MAX:
        right = f"At most {GRADES_MAX:,}: rewards of few kinds."
        raise ConfigInvalid((Fault("$.examples.label", f"{len(grades):,} distinct labels came.", right, PAGE),))
    return grades


def _gains(examples: Examples, options: LambdaMartOptions) -> NDArray[np.float64]:
    """Return what each row was worth, over its propensity where that is asked for, (rows,)."""
    label = examples.label.astype(np.float64)
    if options.debias != "propensity":
        return label
    times = np.minimum(1.0 / np.where(np.isnan(examples.propensity), 1.0, examples.propensity), options.weight_max)
    # Eight steps a power of two: gains are a table, and propensities may all differ.
    return label * np.exp2(np.round(_STEPS * np.log2(times)) / _STEPS)


def _weights(examples: Examples, options: LambdaMartOptions) -> NDArray[np.float32]:
    """Return how much each row counts, (rows,); over its propensity where that is asked for, 1 on average.

    LambdaMART divides the gains of a request by the best that could be had there, and so loses that a request of
    unlikely clicks stands for many: all rows of a request get that back as their weight.
    """
    if options.debias != "propensity":
        return examples.weight if options.objective == "binary" else _pair_weights(examples)
    if options.objective == "binary":
        weight = examples.by_propensity(options.weight_max).astype(np.float64)
    else:
        starts = examples.start[:-1]
        plain = np.add.reduceat(np.maximum(examples.label, 0.0), starts)
        gained = np.add.reduceat(np.maximum(_gains(examples, options), 0.0), starts)
        times = np.where(plain > 0, gained / np.where(plain > 0, plain, 1.0), 1.0)
        weight = _pair_weights(examples) * np.repeat(times, examples.request_sizes)
    return (weight / max(float(weight.mean()), _LEAST)).astype(np.float32)


def _pair_weights(examples: Examples) -> NDArray[np.float32]:
    """Return how much the pairs of each row's request count, (rows,): the same for all rows of a request.

    A pair of rows of different labels stands for as many as the one row times the other, so for a label beside drawn
    candidates each stands for what a candidate stands for. The library multiplies what it adds up for a row by the
    weight of that row alone: with weights that differ within a request, a pair would push its two rows by different
    amounts, and rows of large sets of candidates up or down for nothing. So all rows of a request have the mean over
    its pairs; 1 where there is none, as of equal labels nothing is learned. Rows of weight 0
    stand for none, so the mean is without them.

    Cost: a sort of the rows.
    """
    requests, weight = len(examples.time_ms), examples.weight.astype(np.float64)
    request = np.repeat(np.arange(requests), examples.request_sizes)
    labels, label = np.unique(examples.label, return_inverse=True)
    groups, graded = np.unique(request * len(labels) + label, return_inverse=True)
    whose = groups // max(1, len(labels))

    def pairs_of(amount: NDArray[np.float64]) -> NDArray[np.float64]:
        alike = np.bincount(whose, np.bincount(graded, amount, len(groups)) ** 2, requests)
        return np.asarray(np.bincount(request, amount, requests) ** 2 - alike, dtype=np.float64)

    count = pairs_of((weight > 0).astype(np.float64))
    mean = np.where(count > 0, pairs_of(weight) / np.maximum(count, 1.0), 1.0)
    return mean[request].astype(np.float32)


def _dataset(
    library: Any,  # noqa: ANN401  # as _library
    examples: Examples,
    options: LambdaMartOptions,
    grades: NDArray[np.float64],
    reference: Any = None,  # noqa: ANN401  # another of these
) -> Any:  # noqa: ANN401  # as _library
    """Return examples as the library takes them."""
    is_ranked = options.objective == "lambdarank"
    label = np.searchsorted(grades, _gains(examples, options)) if is_ranked else examples.label > 0
    weight = _weights(examples, options)
    return library.Dataset(
        examples.values,
        label.astype(np.float32),
        weight=weight,
        group=examples.request_sizes if is_ranked else None,
        position=examples.position + 1 if options.debias == "position" else None,
        reference=reference,
        feature_name=[f"f{number}" for number in range(len(examples.names))],  # ours may hold what it refuses
        params=_parameters(options, grades),
        free_raw_data=False,
    )


def _parameters(options: LambdaMartOptions, grades: NDArray[np.float64]) -> Mapping[str, object]:
    """Return the library's own settings."""
    found: dict[str, object] = {
        "objective": options.objective,
        "metric": "ndcg" if options.objective == "lambdarank" else "binary_logloss",
        "num_leaves": options.leaves_max,
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": options.leaf_rows_min,
        "lambda_l2": options.l2,
        "feature_fraction": options.column_share,
        "bagging_fraction": options.row_share,
        "bagging_freq": int(options.row_share < 1.0),
        "max_bin": options.bins,
        "seed": options.seed,
        "num_threads": options.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    if options.objective == "lambdarank":
        found |= {
            "lambdarank_truncation_level": options.truncation,
            "label_gain": (grades - grades[0]).tolist() if len(grades) else [0.0],
            "eval_at": [NDCG_AT],
        }
    return found


def _told(watch: Watch, trees_max: int) -> Any:  # noqa: ANN401  # a callback of the library's
    """Return what is called after each tree."""

    def step(state: Any) -> None:  # noqa: ANN401  # the library's own
        watch.step(f"tree {state.iteration + 1}", (state.iteration + 1) / trees_max)

    return step
