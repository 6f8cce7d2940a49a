"""A linear model of clicks that learns one row at a time: FTRL-Proximal over features in bins.

A feature is told to the model as the bin that its value falls into and as the value itself, standardised; what is
unknown is a bin of its own, so that nothing is invented for it, and what no row had yet says nothing. Where bins begin
is found once, from the examples of the first fit. From then on ``learn`` goes over new rows in their order and returns
another model: each row is predicted first and learned then, so the log loss that comes with it is that of rows nobody
had seen.

Reference: H. B. McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1; progressive
validation: section 5.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ShapeMismatch
from midstream.core.types import Score
from midstream.events.kernel import kernel
from midstream.models.model import QUIET, Arrays, Watch
from midstream.models.rows.examples import Examples, names_of, names_text

POSITIONS = 64
"""Places of a slate that have a weight of their own; those behind share the last."""
BINS_MAX = 256
_STEP_ROWS = 65_536
"""Rows learned between two questions whether to stop: 30 ms at 40 features."""
FAR = 5.0
"""Standard deviations beyond which a value counts as so many: one wild value must not move the weight of all."""
_PROBABILITY_MIN = 1e-15
"""Probabilities below it, and as near to 1, count as it in the log loss, which is then finite."""
OPTION_MAX = 1e6
"""Of steps and penalties: beyond it weights are 0 or no numbers, and infinity is refused."""
Positive = Annotated[float, msgspec.Meta(gt=0.0, le=OPTION_MAX)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0, le=OPTION_MAX)]


class FtrlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a linear model learns."""

    alpha: Positive = 0.05
    """How far a row moves a weight at first."""
    beta: NotNegative = 1.0
    l1: NotNegative = 1.0
    """What a weight has to overcome to be other than 0."""
    l2: NotNegative = 1.0
    bins: Annotated[int, msgspec.Meta(ge=1, le=BINS_MAX)] = 16
    """Bins of a feature, of about equally many rows each; 1 = the value alone."""
    is_standardised: bool = True
    """Whether the value itself is a part beside its bin."""
    debias: Literal["none", "position", "propensity"] = "none"
    """``position``: each place has a weight that is learned and left out of scores. ``propensity``: rows count by
    1 / propensity."""
    weight_max: Positive = 20.0
    """The most that a row counts by its propensity."""
    passes: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Times that ``fit_ftrl`` goes over the examples."""


@dataclass(frozen=True, slots=True)
class ClickFigures:
    """How well probabilities foresaw clicks."""

    rows: int
    log_loss: float
    """Mean of −log(probability of what came), weighted; NaN = no rows."""
    calibration: float
    """Clicks expected over clicks seen, weighted: 1 is right; infinite = none were seen, NaN = no rows."""


NOTHING_SEEN = ClickFigures(0, math.nan, math.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Ftrl:
    """A linear model over named inputs, immutable: a row model whose scores are probabilities."""

    inputs: tuple[str, ...]
    """Names of the features that it reads, in order."""
    options: FtrlOptions
    edges: Score
    """A value above k of them is in bin k, rising, +infinity = there is no further bin, (inputs, bins − 1)."""
    mean: NDArray[np.float64]
    """Of the values that are known, (inputs,)."""
    scale: NDArray[np.float64]
    """1 / standard deviation, 0 = it is always the same, (inputs,)."""
    z: NDArray[np.float64]
    """Sums of gradients (the paper's z), (parts,): each input's bins, its unknown and its value; positions; bias."""
    n: NDArray[np.float64]
    """Sums of squared gradients (the paper's n), (parts,)."""
    figures: ClickFigures = NOTHING_SEEN
    """Of the rows that were learned last, each predicted before it was learned."""
    is_online: bool = False
    """Whether the sums are those of a state, which learns on: what it is asked goes into served records."""
    _weights: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check that the parts go together.

        Raises:
            ArtifactInvalid: They do not, or one is no number.
        """
        count, parts = len(self.inputs), _part_count(len(self.inputs), self.options.bins)
        shapes = (self.edges.shape, self.mean.shape, self.scale.shape, self.z.shape, self.n.shape)
        if shapes != ((count, self.options.bins - 1), (count,), (count,), (parts,), (parts,)):
            message = f"the parts of the linear model do not go together: {shapes}"
            raise ArtifactInvalid(message)
        finite = all(bool(np.isfinite(each).all()) for each in (self.mean, self.scale, self.z, self.n))
        rising = not np.isnan(self.edges).any() and bool((self.edges[:, 1:] >= self.edges[:, :-1]).all())
        if not finite or not rising or (self.n < 0).any():
            message = "a part of the linear model is no number, or out of order"
            raise ArtifactInvalid(message)
        rate = (self.options.beta + np.sqrt(self.n)) / self.options.alpha + self.options.l2
        kept = np.abs(self.z) > self.options.l1
        weights = np.where(kept, -(self.z - np.copysign(self.options.l1, self.z)) / rate, 0.0)
        # Of a part that a row had there is a gradient, and so a sum of squares above 0.
        object.__setattr__(self, "_weights", settled(weights, self.n, count, self.options.bins))

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each part, (parts,): exactly 0 where the gradients did not overcome ``l1``; see ``settled``."""
        return self._weights

    def score(self, values: Score) -> Score:
        """Return the probability of a click for each row of values (n, len(inputs)), NaN = unknown.

        Cost: about 0.2 µs a row for 40 inputs.
        """
        found = np.empty(len(values), dtype=np.float32)
        told = np.ascontiguousarray(values, dtype=np.float32)
        predict_rows(told, self.edges, self.mean, self.scale, self._weights, found)
        return found

    def learn(self, examples: Examples, watch: Watch = QUIET) -> "Ftrl":
        """Return the model after these rows too, in their order; a label above 0 is a click.

        Learning some rows and then others is learning all of them.

        Raises:
            ShapeMismatch: The examples have other features than the model.
            FitStopped: The watch said so.
        """
        if examples.names != self.inputs:
            message = f"features {examples.names} came where {self.inputs} are right"
            raise ShapeMismatch(message)
        z, n = self.z.copy(), self.n.copy()
        values = np.ascontiguousarray(examples.values, dtype=np.float32)
        clicked = (examples.label > 0).astype(np.float64)
        weight = self._weight(examples)
        place = np.where(examples.position < 0, -1, np.minimum(examples.position, POSITIONS - 1)).astype(np.int64)
        if self.options.debias != "position":
            place[:] = -1
        rates = np.array([getattr(self.options, name) for name in ("alpha", "beta", "l1", "l2")], dtype=np.float64)
        probability = np.empty(len(values), dtype=np.float64)
        for begin in range(0, len(values), _STEP_ROWS):
            watch.step("rows", begin / len(values))
            some = slice(begin, begin + _STEP_ROWS)
            rows = (values[some], clicked[some], weight[some], place[some])
            learn_rows(*rows, self.edges, self.mean, self.scale, rates, z, n, probability[some])
        return replace(self, z=z, n=n, figures=click_figures(probability, clicked, weight))

    def _weight(self, examples: Examples) -> NDArray[np.float64]:
        """Return how much each row counts."""
        weight = examples.weight
        if self.options.debias == "propensity":
            weight = examples.by_propensity(self.options.weight_max)
        return weight.astype(np.float64)

    def arrays(self) -> Arrays:
        """Return what ``restore`` makes the same model of."""
        return {
            "inputs": names_text(self.inputs),
            "options": np.frombuffer(msgspec.json.encode(self.options), dtype=np.uint8),
            **{name: getattr(self, name) for name in ("edges", "mean", "scale", "z", "n")},
        }

    @classmethod
    def restore(cls, arrays: Arrays) -> "Ftrl":
        """Return the model whose ``arrays`` these are, without its figures.

        Raises:
            ArtifactInvalid: They are no linear model.
        """
        types = {"inputs": "|u1", "options": "|u1", "edges": "<f4"} | dict.fromkeys(("mean", "scale", "z", "n"), "<f8")
        for name, kind in types.items():
            if name not in arrays or arrays[name].dtype.str != kind:
                message = f"{name} of the linear model is missing, or not {kind}"
                raise ArtifactInvalid(message)
        try:
            options = msgspec.json.decode(arrays["options"].tobytes(), type=FtrlOptions)
        except msgspec.MsgspecError as error:
            message = f"the options of the linear model cannot be read: {error}"
            raise ArtifactInvalid(message) from error
        edges = np.ascontiguousarray(arrays["edges"], dtype=np.float32)
        mean, scale, z, n = (
            np.ascontiguousarray(arrays[name], dtype=np.float64) for name in ("mean", "scale", "z", "n")
        )
        return cls(names_of(arrays["inputs"]), options, edges, mean, scale, z, n)


def fit_ftrl(examples: Examples, options: FtrlOptions | None = None, watch: Watch = QUIET) -> Ftrl:
    """Return a model that has learned these rows in their order, ``passes`` times; bins are those of these rows.

    Its figures are those of the last pass; with one pass, of rows it had not seen. Cost: 0.5 µs a row of 40 features,
    and sorting each feature once.

    Raises:
        FitStopped: The watch said so.
    """
    options = options or FtrlOptions()
    edges, mean, scale = bins_of(examples, options.bins, is_standardised=options.is_standardised)
    parts = _part_count(len(examples.names), options.bins)
    model = Ftrl(examples.names, options, edges, mean, scale, np.zeros(parts), np.zeros(parts))
    for _ in range(options.passes):
        model = model.learn(examples, watch)
    return model


def bins_of(
    examples: Examples, bins: int, *, is_standardised: bool
) -> tuple[Score, NDArray[np.float64], NDArray[np.float64]]:
    """Return ``edges``, ``mean`` and ``scale`` as ``Ftrl`` has them: bins of about equally many rows each."""
    edges = np.full((len(examples.names), bins - 1), np.inf, dtype=np.float32)
    mean, scale = np.zeros(len(examples.names)), np.zeros(len(examples.names))
    for column in range(len(examples.names)):
        known = examples.values[:, column]
        known = np.sort(known[np.isfinite(known)])
        if not len(known):
            continue
        at = (np.arange(1, bins) * len(known)) // bins
        found = np.unique(known[at])
        found = found[found < known[-1]]  # nothing is above the last
        edges[column, : len(found)] = found
        if is_standardised:
            mean[column] = known.mean(dtype=np.float64)
            deviation = known.std(dtype=np.float64)
            scale[column] = 1.0 / deviation if deviation > 0 else 0.0
    return edges, mean, scale


def settled(weights: NDArray[np.float64], learned: NDArray[np.float64], inputs: int, bins: int) -> NDArray[np.float64]:
    """Return weights by which a feature that is known where it never was, or unknown where it never was, says nothing.

    The bins of a feature and its unknown are as one with the bias: of each row they are 1 together, so they share what
    all rows have in common. Where all rows had one of these parts, its share is put to the bias and it weighs 0, as do
    those that no row had. Where rows had several bins and none was unknown, unknown weighs what they do on average.
    Otherwise each such part would take away a share of the bias, of clicks that are rare a large one, and a feature
    that comes to be known, or is missing for once, would move its items to the top.

    Args:
        weights: Of each input's bins, its unknown and its value; behind these any others, last the bias.
        learned: How much each part was learned from, (parts,), 0 or more; 0 = no row had it.
        inputs: How many.
        bins: Of each.
    """
    found = weights.copy()
    own, much = (each[: inputs * (bins + 2)].reshape(inputs, -1)[:, : bins + 1] for each in (found, learned))
    had = much > 0
    count = np.count_nonzero(had, axis=1)[:, np.newaxis]
    total = np.where(count > 1, much.sum(axis=1, keepdims=True), 1.0)
    mean = np.where(had, own * much, 0.0).sum(axis=1, keepdims=True) / total
    found[-1] += float(own[had & (count == 1)].sum())
    own[~had & (count > 1)] = np.broadcast_to(mean, own.shape)[~had & (count > 1)]
    own[np.broadcast_to(count == 1, own.shape)] = 0.0
    return found


def click_figures(
    probability: Sequence[float] | NDArray[np.floating], clicked: NDArray[np.floating], weight: NDArray[np.floating]
) -> ClickFigures:
    """Return how well probabilities (n,) foresaw clicks (n,), 1 or 0, each row counting by its weight (n,)."""
    p = np.clip(np.asarray(probability, dtype=np.float64), _PROBABILITY_MIN, 1.0 - _PROBABILITY_MIN)
    total = float(weight.sum())
    if total <= 0:
        return NOTHING_SEEN
    loss = -(clicked * np.log(p) + (1.0 - clicked) * np.log1p(-p))
    seen = float((weight * clicked).sum())
    expected = float((weight * p).sum())
    return ClickFigures(len(p), float((weight * loss).sum()) / total, expected / seen if seen > 0 else math.inf)


def _part_count(inputs: int, bins: int) -> int:
    """Return the number of weights: bins, unknown and value of each input, positions, bias."""
    return inputs * (bins + 2) + POSITIONS + 1


@kernel
def predict_rows(
    values: NDArray[np.float32],
    edges: NDArray[np.float32],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    weights: NDArray[np.float64],
    found: NDArray[np.float32],
) -> None:
    """Fill ``found`` (n,) with the probability of each row of values (n, inputs); positions count nothing."""
    width = edges.shape[1] + 3
    bias = len(weights) - 1
    for row in range(len(values)):
        total = weights[bias]
        for column in range(values.shape[1]):
            part = bin_of(values[row, column], edges[column])
            total += weights[column * width + part]
            if part != width - 2:
                total += weights[column * width + width - 1] * standard(
                    values[row, column], mean[column], scale[column]
                )
        found[row] = 1.0 / (1.0 + math.exp(-total))


@kernel
def learn_rows(
    values: NDArray[np.float32],
    clicked: NDArray[np.float64],
    weight: NDArray[np.float64],
    place: NDArray[np.int64],
    edges: NDArray[np.float32],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    rates: NDArray[np.float64],
    z: NDArray[np.float64],
    n: NDArray[np.float64],
    probability: NDArray[np.float64],
) -> None:
    """Predict each row and learn it then: ``z`` and ``n`` are changed, ``probability`` (n,) is filled.

    Args:
        values: (n, inputs), NaN = unknown.
        clicked: 1 or 0, (n,).
        weight: (n,).
        place: Position whose weight takes part, −1 = none, (n,).
        edges: Of the bins, (inputs, bins − 1).
        mean: (inputs,).
        scale: (inputs,).
        rates: alpha, beta, l1, l2.
        z: (parts,).
        n: (parts,).
        probability: Of a click, before the row was learned, positions counted.
    """
    width = edges.shape[1] + 3
    inputs = values.shape[1]
    parts = np.empty(2 * inputs + 2, dtype=np.int64)
    much = np.empty(2 * inputs + 2, dtype=np.float64)
    weights = np.empty(2 * inputs + 2, dtype=np.float64)
    alpha, beta, l1, l2 = rates[0], rates[1], rates[2], rates[3]
    for row in range(len(values)):
        count = 0
        parts[count], much[count] = len(z) - 1, 1.0
        count += 1
        for column in range(inputs):
            part = bin_of(values[row, column], edges[column])
            parts[count], much[count] = column * width + part, 1.0
            count += 1
            if part != width - 2:
                value = standard(values[row, column], mean[column], scale[column])
                if value != 0.0:
                    parts[count], much[count] = column * width + width - 1, value
                    count += 1
        if place[row] >= 0:
            parts[count], much[count] = inputs * width + place[row], 1.0
            count += 1
        total = 0.0
        for each in range(count):
            at = parts[each]
            weights[each] = 0.0
            if abs(z[at]) > l1:
                weights[each] = -(z[at] - math.copysign(l1, z[at])) / ((beta + math.sqrt(n[at])) / alpha + l2)
            total += weights[each] * much[each]
        expected = 1.0 / (1.0 + math.exp(-total))
        probability[row] = expected
        for each in range(count):
            at = parts[each]
            gradient = (expected - clicked[row]) * much[each] * weight[row]
            moved = (math.sqrt(n[at] + gradient * gradient) - math.sqrt(n[at])) / alpha
            z[at] += gradient - moved * weights[each]
            n[at] += gradient * gradient


@kernel
def bin_of(value: float, edges: NDArray[np.float32]) -> int:
    """Return the number of edges below a value; NaN has a bin behind all."""
    if value != value:  # noqa: PLR0124  NaN
        return len(edges) + 1
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def standard(value: float, mean: float, scale: float) -> float:
    """Return how many standard deviations a value is from the mean, within ``FAR``."""
    if scale == 0.0:
        return 0.0
    return min(max((value - mean) * scale, -FAR), FAR)
