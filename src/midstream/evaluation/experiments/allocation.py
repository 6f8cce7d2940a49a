"""Thompson sampling over variants: the probability of each to be the best, and shares of traffic by it.

Probabilities are integrals over posteriors, to ten digits up to 16 arms and by seeded draws for more. Shares that
follow the outcomes make the units of a variant depend on its luck: a verdict of an experiment must not be read from
them, so this module has no p-value and no interval, and an experiment has either shares by allocation or a verdict.

Reference: W. R. Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of
two samples", Biometrika 25, 1933. S. L. Scott, "A modern Bayesian look at the multi-armed bandit", 2010, eq. 4.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid

Real = NDArray[np.float64]
ARMS_EXACT_MAX = 16
"""Arms times panels times points: 16 * 600 * 16 evaluations of each distribution, some 20 ms."""
ARMS_MAX = 1_000
"""Items of a shelf; at 100,000 draws they take 800 MB."""
DRAWS_MAX = 1_000_000
FAULTS_MAX = 40
PAGE = "/docs/experiment-reports.md"
_POINTS = 16
_NORMAL_TAILS: Real = np.linspace(-9.0, 9.0, 37, dtype=np.float64)
"""Standard scores whose places divide the line: beyond the last, less than 10^-18 is left."""


class RateArm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant of which each unit succeeds or not; before it is seen, every rate is as likely."""

    successes: Annotated[float, msgspec.Meta(ge=0.0)]
    failures: Annotated[float, msgspec.Meta(ge=0.0)]


class MeanArm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant with a mean over units, which is nearly normal."""

    mean: float
    standard_error: Annotated[float, msgspec.Meta(gt=0.0)]


class Allocation(msgspec.Struct, frozen=True):
    """Shares of traffic by the probability to be the best."""

    best: tuple[float, ...]
    """Probability of each arm, in order; together 1."""
    shares: tuple[float, ...]
    """The same, with the least share for each."""
    loss: tuple[float, ...]
    """Expected value that is lost a unit if this arm were chosen for good."""


def allocate(
    arms: Sequence[RateArm] | Sequence[MeanArm], *, share_min: float = 0.01, seed: int = 1, draws: int = 100_000
) -> Allocation:
    """Return the shares of arms, all of one kind, of which the highest value is the best.

    Args:
        arms: At least one.
        share_min: Of each arm, so that one with a bad start is not given up; at most 1 / arms counts.
        seed: Of the draws when there are more arms than are integrated over.
        draws: Number of draws then: probabilities are right to 0.5 / sqrt(draws).

    Raises:
        Invalid: Nothing can be shared by these figures; each fault is named.
    """
    if faults := tuple(islice(_faults(arms, share_min, draws), FAULTS_MAX)):
        raise Invalid(faults)
    if len(arms) > ARMS_EXACT_MAX:
        best, loss = _by_draws(arms, seed, draws)
    else:
        best, loss = _by_quadrature(arms)
    least = min(share_min, 1.0 / len(arms))
    shares = least + (1.0 - least * len(arms)) * best
    return Allocation(*(tuple(float(each) for each in found) for found in (best, shares, loss)))


def _faults(arms: Sequence[RateArm] | Sequence[MeanArm], share_min: float, draws: int) -> Iterator[Fault]:
    """Yield what no arms or shares are. NaN is in no range."""
    if not 1 <= len(arms) <= ARMS_MAX:
        yield Fault("/arms", f"{len(arms)} came.", f"1 to {ARMS_MAX}.", PAGE)
        return
    if len({type(each) for each in arms}) > 1:
        yield Fault("/arms", "Rates came beside means.", "All of one kind: they are compared.", PAGE)
    if not 0.0 <= share_min <= 1.0:
        yield Fault("/share_min", f"{share_min:g} came.", "0 to 1.", PAGE)
    if not 1 <= draws <= DRAWS_MAX:
        yield Fault("/draws", f"{draws} came.", f"1 to {DRAWS_MAX:,}.", PAGE)
    any_arms: Sequence[RateArm | MeanArm] = arms
    for number, each in enumerate(any_arms):
        if isinstance(each, RateArm):
            told = (("successes", each.successes), ("failures", each.failures))
            figures = [(name, value, 0.0 <= value < math.inf) for name, value in told]
        else:
            figures = [("mean", each.mean, math.isfinite(each.mean))]
            figures.append(("standard_error", each.standard_error, 0.0 < each.standard_error < math.inf))
        for name, value, is_right in figures:
            if not is_right:
                right = "Above 0." if name == "standard_error" else "A number." if name == "mean" else "From 0 on."
                yield Fault(f"/arms/{number}/{name}", f"{value:g} came.", right, PAGE)


def _by_quadrature(arms: Sequence[RateArm] | Sequence[MeanArm]) -> tuple[Real, Real]:
    """Integrate over panels between places of all arms, 16 points of Gauss and Legendre in each.

    With f_i the density and F_j the distribution of arm j, arm i is the best with probability ∫ f_i Π F_j (j != i), and
    the best value is expected to be ∫ x d(Π F_j) = top - ∫ Π F_j.
    """
    density, distribution, mean, edges = _posteriors(arms)
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    half = np.diff(edges)[:, None] / 2
    places = ((edges[:-1] + edges[1:])[:, None] / 2 + half * nodes).ravel()
    weight = (half * weights).ravel()
    below = distribution(places)
    others = np.stack([np.prod(np.delete(below, at, axis=0), axis=0) for at in range(len(arms))])
    best = (density(places) * others) @ weight
    highest = float(edges[-1] - np.prod(below, axis=0) @ weight)
    return best / best.sum(), np.maximum(highest - mean, 0.0)


_Posterior = tuple[Callable[[Real], Real], Callable[[Real], Real], Real, Real]


def _posteriors(arms: Sequence[RateArm] | Sequence[MeanArm]) -> _Posterior:
    """Return density and distribution of all arms at places, (arms, places), their means and the edges of panels."""
    from scipy import special

    if isinstance(arms[0], RateArm):
        first, second = _shapes(arms)
        log_scale = special.betaln(first, second)[:, None]
        tails = special.betaincinv(first[:, None], second[:, None], special.ndtr(_NORMAL_TAILS))
        rate_edges = np.append(np.asarray(tails, dtype=np.float64).ravel(), np.linspace(0.0, 1.0, 9))

        def rate_density(places: Real) -> Real:
            inside = special.xlogy(first[:, None] - 1, places) + special.xlog1py(second[:, None] - 1, -places)
            return np.asarray(np.exp(inside - log_scale), dtype=np.float64)

        def rate_distribution(places: Real) -> Real:
            return np.asarray(special.betainc(first[:, None], second[:, None], places), dtype=np.float64)

        return rate_density, rate_distribution, first / (first + second), np.unique(rate_edges)
    mean, error = _normals(arms)

    def mean_density(places: Real) -> Real:
        score = (places - mean[:, None]) / error[:, None]
        return np.asarray(np.exp(-score * score / 2) / (error[:, None] * math.sqrt(2 * math.pi)), dtype=np.float64)

    def mean_distribution(places: Real) -> Real:
        return np.asarray(special.ndtr((places - mean[:, None]) / error[:, None]), dtype=np.float64)

    edges = (mean[:, None] + error[:, None] * _NORMAL_TAILS).ravel()
    return mean_density, mean_distribution, mean, np.unique(edges)


def _by_draws(arms: Sequence[RateArm] | Sequence[MeanArm], seed: int, draws: int) -> tuple[Real, Real]:
    """Draw values of all arms, and count how often each is the highest."""
    rng = np.random.default_rng(seed)
    if isinstance(arms[0], RateArm):
        first, second = _shapes(arms)
        mean, drawn = first / (first + second), rng.beta(first, second, (draws, len(arms)))
    else:
        mean, error = _normals(arms)
        drawn = rng.normal(mean, error, (draws, len(arms)))
    best = np.bincount(drawn.argmax(axis=1), minlength=len(arms)) / draws
    return best, np.maximum(drawn.max(axis=1).mean() - mean, 0.0)


def _shapes(arms: Sequence[RateArm] | Sequence[MeanArm]) -> tuple[Real, Real]:
    rates = [each for each in arms if isinstance(each, RateArm)]
    return np.array([1.0 + each.successes for each in rates]), np.array([1.0 + each.failures for each in rates])


def _normals(arms: Sequence[RateArm] | Sequence[MeanArm]) -> tuple[Real, Real]:
    means = [each for each in arms if isinstance(each, MeanArm)]
    return np.array([each.mean for each in means]), np.array([each.standard_error for each in means])
