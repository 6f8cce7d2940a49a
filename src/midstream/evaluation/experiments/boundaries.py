"""Time-uniform boundaries: how far a sum may stray from its mean at any of infinitely many looks.

A mixture of exponential supermartingales exceeds 1/alpha ever with a probability of at most alpha (Ville's inequality),
so the sum at which it does is a boundary that holds at all times at once. Each mixture is tuned to be narrowest at one
intrinsic time, and holds at all others too.

Reference: S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49, 2021: theorem 1 (stitching), propositions 5 to 10 (mixtures).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
_HALVINGS = 60
"""Of an interval in search of a root: 2^-60 of its length is below the rounding of its ends."""
_DOUBLINGS = 50


@dataclass(frozen=True, slots=True)
class NormalMixture:
    """Mixture over a normal (two-sided) or half-normal (one-sided) distribution: sub-Gaussian sums (prop. 5 and 6)."""

    rho: float
    """Precision of the mixing distribution, in units of intrinsic time."""
    is_one_sided: bool = False

    @classmethod
    def tuned(cls, time: float, alpha: float, *, is_one_sided: bool = False) -> Self:
        """Return the mixture whose boundary at this level is narrowest at this intrinsic time."""
        return cls(best_rho(time, 2 * alpha if is_one_sided else alpha), is_one_sided)

    def log_mixture(self, total: float, time: float) -> float:
        """Return the logarithm of the mixture at a sum and an intrinsic time."""
        from scipy import special

        spread = time + self.rho
        two_sided = 0.5 * math.log(self.rho / spread) + total * total / (2 * spread)
        if not self.is_one_sided:
            return two_sided
        return two_sided + math.log(2) + float(special.log_ndtr(total / math.sqrt(spread)))

    def bound(self, time: float, alpha: float) -> float:
        """Return the sum that is exceeded at any time with a probability of at most alpha."""
        if self.is_one_sided:
            return crossing(lambda total: self.log_mixture(total, time), alpha, time)
        return math.sqrt((time + self.rho) * (math.log1p(time / self.rho) - 2 * math.log(alpha)))


@dataclass(frozen=True, slots=True)
class BetaBinomialMixture:
    """Mixture over a beta distribution: sums of increments in [-below, above] (prop. 7 and 8)."""

    precision: float
    below: float
    above: float
    is_one_sided: bool = False

    @classmethod
    def tuned(cls, time: float, alpha: float, below: float, above: float, *, is_one_sided: bool = False) -> Self:
        """Return the mixture whose boundary at this level is narrowest near this intrinsic time."""
        rho = best_rho(time, 2 * alpha if is_one_sided else alpha)
        return cls(max(rho - below * above, 1e-3 * below * above), below, above, is_one_sided)

    def log_mixture(self, total: float, time: float) -> float:
        """Return the logarithm of the mixture at a sum and an intrinsic time."""
        return float(
            beta_binomial_log_mixture(
                np.float64(total), np.float64(time), self.precision, (self.below, self.above), self.is_one_sided
            )
        )

    def bound(self, time: float, alpha: float) -> float:
        """Return the sum that is exceeded at any time with a probability of at most alpha."""
        most = time / self.below
        if self.log_mixture(most, time) < -math.log(alpha):
            return most
        return crossing(lambda total: self.log_mixture(total, time), alpha, most, is_highest=True)


@dataclass(frozen=True, slots=True)
class GammaPoissonMixture:
    """Mixture over a gamma distribution: sums of counts less their rates, scale c (prop. 10)."""

    rho: float
    scale: float

    @classmethod
    def tuned(cls, time: float, alpha: float, scale: float) -> Self:
        """Return the mixture whose boundary at this level is narrowest near this intrinsic time."""
        return cls(best_rho(time, 2 * alpha), scale)

    def log_mixture(self, total: float, time: float) -> float:
        """Return the logarithm of the mixture at a sum and an intrinsic time."""
        from scipy import special

        square = self.scale * self.scale
        first, spread = self.rho / square, (time + self.rho) / square
        shape = total / self.scale + spread
        leading = first * math.log(first) - math.lgamma(first) - math.log(float(special.gammaincc(first, first)))
        tail = math.log(float(special.gammaincc(shape, spread)))
        return leading + math.lgamma(shape) + tail - shape * math.log(spread) + time / square

    def bound(self, time: float, alpha: float) -> float:
        """Return the sum that is exceeded at any time with a probability of at most alpha."""
        return crossing(lambda total: self.log_mixture(total, time), alpha, time)


@dataclass(frozen=True, slots=True)
class PolynomialStitching:
    """Boundary of closed form that grows as the iterated logarithm demands (theorem 1)."""

    time_min: float
    """Intrinsic time from which on it is tight; before, it stays where it is there."""
    scale: float = 0.0
    """Of sub-gamma sums: 0 = sub-Gaussian."""
    power: float = 1.4
    growth: float = 2.0

    def bound(self, time: float, alpha: float) -> float:
        """Return the sum that is exceeded at any time with a probability of at most alpha."""
        from scipy import special

        used = max(time, self.time_min)
        constant = math.log(float(special.zeta(self.power, 1)) / math.log(self.growth) ** self.power)
        looks = self.power * math.log(math.log(self.growth * used / self.time_min)) + constant - math.log(alpha)
        first = (self.growth**0.25 + self.growth**-0.25) / math.sqrt(2)
        second = (math.sqrt(self.growth) + 1) / 2 * self.scale * looks
        return math.sqrt(first * first * used * looks + second * second) + second


def best_rho(time: float, alpha: float) -> float:
    """Return the precision of the two-sided normal mixture that is narrowest at an intrinsic time (section 3.5).

    That of the one-sided mixture is the same at twice the level.
    """
    log_level = -2 * math.log(alpha)
    return time / (log_level + math.log1p(log_level))


def beta_binomial_log_mixture(
    total: np.float64 | Real,
    time: np.float64 | Real,
    precision: float | Real,
    bounds: tuple[float | Real, float | Real],
    is_one_sided: bool,  # noqa: FBT001  one of five parts of a formula
) -> Real:
    """Return the logarithm of the beta-binomial mixture, element by element (prop. 7 and 8).

    Args:
        total: The sum.
        time: Intrinsic time: below * above * number of increments.
        precision: Of the mixing distribution.
        bounds: Below and above: increments are in [-below, above].
        is_one_sided: Only sums above count.
    """
    below, above = bounds
    width = np.asarray(below + above)
    share = above / width if is_one_sided else np.float64(1.0)
    prior = (precision / (below * width), precision / (above * width))
    now = ((precision + time - below * total) / (below * width), (precision + time + above * total) / (above * width))
    likelihood = (
        time / (below * above) * np.log(width)
        - (time + above * total) / (above * width) * np.log(below)
        - (time - below * total) / (below * width) * np.log(above)
    )
    log_ratio = _log_incomplete_beta(*now, share) - _log_incomplete_beta(*prior, share)
    return np.asarray(likelihood + log_ratio, dtype=np.float64)


def _log_incomplete_beta(first: float | Real, second: float | Real, share: np.float64 | Real) -> Real:
    """Return the logarithm of the incomplete beta function that is not normalized."""
    from scipy import special

    return np.asarray(special.betaln(first, second) + np.log(special.betainc(first, second, share)), dtype=np.float64)


def crossing(log_mixture: Callable[[float], float], alpha: float, first: float, *, is_highest: bool = False) -> float:
    """Return the sum, from 0 up, at which the logarithm of a mixture reaches that of 1/alpha.

    Args:
        log_mixture: Of a sum; increasing where it is positive.
        alpha: The level.
        first: A sum from which on a higher end is looked for by doubling.
        is_highest: No sum is above ``first``.

    Raises:
        ArithmeticError: No sum up to 2^50 times the first reaches it.
    """
    threshold, high = -math.log(alpha), first
    for _ in range(_DOUBLINGS):
        if is_highest or log_mixture(high) > threshold:
            break
        high *= 2
    else:
        raise ArithmeticError(f"no sum up to {high} reaches the level {alpha}")
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if log_mixture(middle) > threshold else (middle, high)
    return (low + high) / 2
