"""Any-time sign test: a confidence sequence of a share of votes, valid at every look and at any stopping time.

For votes x of [0, 1] (1 = the first won, 0 = the second, 1/2 = a tie) with mean p, and w and l the sums of x and of
1 - x, the mixture over q ~ Beta(a, a) of the likelihood ratios of q against p,

    M(p) = B(w + a, l + a) / B(a, a) / (p^w (1 - p)^l),

is a nonnegative supermartingale that begins at 1: a martingale for votes of 0 and 1, and for votes between, since each
factor is convex in x. By Ville's inequality it ever exceeds 1 / alpha with a probability of alpha at most, so
{p: M(p) < 1 / alpha} holds the mean at all times together, and 1 / M(1/2) is a p value at any stopping time.

A vote may be counted once it cannot change any more, and no vote may be left out for what it is: votes that are still
open would be looked at before they are decided.

Reference: H. Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", Annals of Mathematical
    Statistics 41, 1970; S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform, nonparametric, nonasymptotic
    confidence sequences", Annals of Statistics 49(2), 2021, section 3.2 (beta-binomial mixture).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
TUNED_AT: Final = 200
"""Votes at which the least preference is found: one of 61 %."""
_BEST_AT: Final = 16.4
"""Votes for each pseudo vote of a side, at a level of 95 %: a normal mixture finds most where its prior variance is
(x - 1) times that of the mean, with x - ln x = 1 - 2 ln alpha, so x = 9.2; Beta(a, a) has the variance 1 / 4 (2a + 1),
so a is about n / 2 (x - 1)."""
HALF: Final = 0.5
"""Share of a vote that a tie gives each side."""
_FAR: Final = 500.0
"""Log-odds that no share reaches: 1e-217."""


@dataclass(frozen=True, slots=True)
class AnytimeShare:
    """Share of votes for the first of two, with an interval and a p value that hold at every look."""

    share: float
    """NaN without votes."""
    low: float
    high: float
    p_value: float
    """Of no preference."""


def prior_of(tuned_at: float = TUNED_AT) -> float:
    """Return the pseudo votes of each side with which the least preference is found at a number of votes."""
    return max(0.5, tuned_at / _BEST_AT)


def log_mixture(won: Real, lost: Real, share: float, prior: float) -> Real:
    """Return log M of a share from the sums of votes, (n,), which may be of any shape.

    Args:
        won: Sums of votes for the first, ties as halves.
        lost: The same of the second.
        share: The mean that is tested, of (0, 1).
        prior: Pseudo votes of each side.
    """
    from scipy.special import betaln

    mixture = np.asarray(betaln(won + prior, lost + prior) - betaln(prior, prior), dtype=np.float64)
    return np.asarray(mixture - won * math.log(share) - lost * math.log1p(-share), dtype=np.float64)


def sign_sequence(won: float, lost: float, alpha: float = 0.05, prior: float | None = None) -> AnytimeShare:
    """Return the any-time interval of the share of votes for the first.

    Args:
        won: Sum of the votes for it: 1 a win, 1/2 a tie, if ties are counted.
        lost: The same of the other.
        alpha: Probability with which the interval may ever miss, of (0, 1).
        prior: Pseudo votes of each side, chosen before the first look; None = ``prior_of()``.

    Returns:
        Without votes: from 0 to 1.

    Raises:
        ValueError: Sums below 0, or a level outside (0, 1).
    """
    if not (won >= 0 and lost >= 0 and 0 < alpha < 1):
        message = f"votes {won} and {lost} at alpha {alpha}: sums from 0 on, and alpha between 0 and 1"
        raise ValueError(message)
    if won + lost == 0:
        return AnytimeShare(math.nan, 0.0, 1.0, 1.0)
    pseudo = prior_of() if prior is None else prior
    share = won / (won + lost)
    against = _log_mixture(won, lost, pseudo)
    bounds = _bounds(won, lost, -math.log(alpha) - against + (won + lost) * math.log(2))
    return AnytimeShare(share, *bounds, math.exp(-max(0.0, against)))


def _log_mixture(won: float, lost: float, prior: float) -> float:
    return float(log_mixture(np.array(won, dtype=np.float64), np.array(lost, dtype=np.float64), 0.5, prior))


def _bounds(won: float, lost: float, level: float) -> tuple[float, float]:
    """Return the shares at which the log likelihood falls to ``-level``, on both sides of the best one."""
    from scipy.optimize import brentq

    def beyond(logit: float) -> float:
        return float(won * np.logaddexp(0.0, -logit) + lost * np.logaddexp(0.0, logit)) - level

    best = math.log(won / lost) if won and lost else math.copysign(_FAR, won - lost)
    low = _expit(brentq(beyond, -_FAR - level / max(won, HALF), best)) if won else 0.0
    high = _expit(brentq(beyond, best, _FAR + level / max(lost, HALF))) if lost else 1.0
    return low, high


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))
