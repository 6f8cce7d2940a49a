"""Any-time test of whether two variants share a quantile, such as the 95th percentile of a latency.

A mean says nothing about the slowest answers. The test needs no assumption on the distributions; observations of a
variant must be independent of each other, so of a unit with many slates one is taken, or its own quantile.

Reference: S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28, 2022, section 5.
"""

import math

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.boundaries import BetaBinomialMixture, beta_binomial_log_mixture

Real = NDArray[np.float64]
_SHARES = 66
_NARROWINGS = 8
"""Of the interval that holds the least value of a convex function, by 2/65 each: to 1e-12."""


def quantile_p_value(
    control: Real, treated: Real, quantile: float, tuned_observations: float = 100.0, tuned_alpha: float = 0.05
) -> float:
    """Return the any-time p-value of the hypothesis that a quantile is the same in both.

    Args:
        control: Observations, (n,), any order, at least one.
        treated: The same, (m,).
        quantile: Between 0 and 1: 0.5 = the median.
        tuned_observations: Number at which the test is most sensitive.
        tuned_alpha: Level at which it is.

    Cost: sorting both.
    """
    variance = quantile * (1.0 - quantile)
    mixture = BetaBinomialMixture.tuned(tuned_observations * variance, tuned_alpha, quantile, 1.0 - quantile)
    arms = (_Arm(np.sort(control), quantile, mixture), _Arm(np.sort(treated), quantile, mixture))
    # At the true quantile the evidence of both together is a martingale; the least over all values is below it.
    left = min(arm.flat_low for arm in arms)
    right = max(arm.flat_high for arm in arms)
    values = np.concatenate([arm.values for arm in arms])
    places = np.unique(np.append(values[(values >= left) & (values <= right)], [arm.flat_high for arm in arms]))
    least = float((arms[0].log_evidence(places) + arms[1].log_evidence(places)).min())
    return min(1.0, math.exp(-least))


class _Arm:
    """Sorted observations of a variant, and the evidence against each value as the quantile."""

    def __init__(self, values: Real, quantile: float, mixture: BetaBinomialMixture) -> None:
        self.values, self._quantile, self._mixture = values, quantile, mixture
        count = len(values)
        self._least_share = self._least()
        self.flat_low = float(values[max(math.ceil(self._least_share * count), 1) - 1])
        self.flat_high = float(values[min(math.floor(self._least_share * count), count - 1)])

    def log_evidence(self, places: Real) -> Real:
        """Return the logarithm of the mixture if the quantile were at each place."""
        upto = np.searchsorted(self.values, places, side="right") / len(self.values)
        before = np.searchsorted(self.values, places, side="left") / len(self.values)
        share = np.where(places < self.flat_low, upto, np.where(places > self.flat_high, before, self._least_share))
        return self._of_share(share)

    def _of_share(self, share: Real) -> Real:
        count = len(self.values)
        total = (share - self._quantile) * count
        time = np.full_like(total, self._quantile * (1.0 - self._quantile) * count)
        bounds = (self._mixture.below, self._mixture.above)
        return beta_binomial_log_mixture(total, time, self._mixture.precision, bounds, is_one_sided=False)

    def _least(self) -> float:
        """Return the share below a value at which there is least evidence against it: near the quantile itself."""
        low, high = 0.0, 1.0
        for _ in range(_NARROWINGS):
            shares = np.linspace(low, high, _SHARES)
            least = int(self._of_share(shares[1:-1]).argmin()) + 1
            low, high = float(shares[least - 1]), float(shares[least + 1])
        return (low + high) / 2
