"""Sample-ratio check: whether units came to the variants in the shares that were asked for.

A mismatch means that units are lost or counted twice in one variant (a slow page, a bot filter, a broken assignment),
and those are not like the others: no figure of such an experiment can be believed. Chi-square tests are shown, over all
and by day. They would alarm too often when a report is read every day, so a failure is decided by two tests that are
right at all looks together, each wrong in at most 0.05 % of experiments: over all by a Dirichlet mixture, which is a
martingale at every unit, and by day by chi-square of each day once, day k at the level divided by k (k + 1), which
together is no more than the level.

Reference: A. Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019 (0.0005).
M. Lindon, A. Malek, "Anytime-Valid Inference For Multinomial Count Data", NeurIPS 2022, eq. 5.
"""

from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.boundaries import best_rho
from midstream.evaluation.experiments.unit_sums import Real

Counts = NDArray[np.int64]
EXPECTED_MIN = 100
"""Expected units of each variant below which a chi-square is not taken. At a share of 1 % the exact binomial tail at
0.00025 is 1.1 times as heavy as chi-square says from 100 on, 1.5 times at 50, 2.6 times at 5."""


class SampleRatioRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Level of the check, and how it is read."""

    p_min: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.0005
    """Level of the test over all, and of all tests by day together."""
    is_any_time: bool = True
    """The report is read again and again; False = at one moment that was fixed before, then chi-square decides."""
    is_last_day_open: bool = False
    """The last day is still under way: it is not tested by itself yet."""
    tuned_units: Annotated[float, msgspec.Meta(ge=1.0)] = 10_000.0
    """Units at which the any-time test is most sensitive."""


class SampleRatio(msgspec.Struct, frozen=True):
    """Units by variant against their shares."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    """Units by the shares that were in force."""
    p_value: float
    """Of chi-square over all; NaN = a variant is expected to have fewer than ``EXPECTED_MIN``."""
    any_time_p_value: float
    """The least until now of the any-time test over all: once below the level, it stays there."""
    day_p_values: tuple[float, ...]
    """Of chi-square by day; NaN as above, and for a last day that is open."""
    is_failed: bool
    reason: str
    """In words; empty = nothing is wrong."""


def check_sample_ratio(counts: Counts, shares: Real, rule: SampleRatioRule | None = None) -> SampleRatio:
    """Compare units by variant with the shares of traffic.

    Args:
        counts: New units of each day by variant, (days, variants), in order of time, at least one day.
        shares: Of each variant, (variants,), or of each day, (days, variants); only their ratios count. Units where
            the share is 0 are a failure by themselves, and so are shares of which nothing can be expected.
        rule: Level of the check.
    """
    rule = rule or SampleRatioRule()
    with np.errstate(divide="ignore", invalid="ignore"):
        by_day = np.broadcast_to(shares / np.sum(shares, axis=-1, keepdims=True), counts.shape)
    expected_by_day = by_day * counts.sum(axis=1, keepdims=True)
    totals, expected = counts.sum(axis=0), expected_by_day.sum(axis=0)
    over_all = float(chi_square_p_values(totals, expected))
    # Not ``max`` of Python, which takes 0 and NaN for 0.
    any_time = float(np.exp(-log_evidence(counts, by_day, rule).max(initial=0.0)))
    days = chi_square_p_values(counts, expected_by_day)
    if rule.is_last_day_open:
        days[-1:] = np.nan
    levels = day_levels(len(days), rule)
    decisive = any_time if rule.is_any_time or np.isnan(over_all) else over_all
    reason = _impossible(counts, by_day, np.broadcast_to(shares, counts.shape))
    if not reason and not decisive >= rule.p_min:
        reason = f"units by variant are {_listed(totals)} where {_listed(expected)} are expected (p = {decisive:.1e})"
    elif not reason and (days < levels).any():
        at = int(np.argmax(days < levels))
        reason = (
            f"new units of day {at + 1} are {_listed(counts[at])} where {_listed(expected_by_day[at])} are expected "
            f"(p = {days[at]:.1e}, less than {levels[at]:.1e})"
        )
    return SampleRatio(
        counts=tuple(int(each) for each in totals),
        expected=tuple(float(each) for each in expected),
        p_value=over_all,
        any_time_p_value=any_time,
        day_p_values=tuple(float(each) for each in days),
        is_failed=bool(reason),
        reason=reason,
    )


def _impossible(counts: Counts, by_day: Real, shares: Real) -> str:
    """Return in words what no chance explains: shares that are none, and units where none can come; empty = neither."""
    wrong = ~(by_day >= 0.0).all(axis=1)
    if wrong.any():
        at = int(np.argmax(wrong))
        told = ", ".join(f"{each:g}" for each in shares[at])
        return f"shares of day {at + 1} are {told}: no units can be expected by them"
    days, variants = np.nonzero((by_day == 0.0) & (counts > 0))
    if not len(days):
        return ""
    day, variant = int(days[0]), int(variants[0])
    return (
        f"{counts[day, variant]:,} new units of day {day + 1} are in variant {variant + 1}, which has no share of "
        "traffic then"
    )


def chi_square_p_values(counts: Counts, expected: Real) -> Real:
    """Return the p-value of each row of counts, (..., variants) to (...,); NaN where too few are expected."""
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = ((counts - expected) ** 2 / expected).sum(axis=-1)
    known = (expected >= EXPECTED_MIN).all(axis=-1)
    return np.where(known, special.chdtrc(counts.shape[-1] - 1, np.where(known, statistic, 0.0)), np.nan)


def log_evidence(counts: Counts, shares: Real, rule: SampleRatioRule) -> Real:
    """Return the logarithm of the Dirichlet mixture after each day, (..., days).

    Shares may change, as with a ramp: the evidence of stretches of days with equal shares is multiplied.

    Args:
        counts: (..., days, variants).
        shares: (days, variants), each row adding up to 1. Units where the share is 0 are infinite evidence.
        rule: Level and tuning.
    """
    from scipy import special

    concentration = max(best_rho(rule.tuned_units, rule.p_min) - 1.0, 1.0)
    found, before = np.zeros(counts.shape[:-1]), np.zeros(counts.shape[:-2])
    changed = np.flatnonzero((np.diff(shares, axis=0) != 0.0).any(axis=1)) + 1
    edges = [0, *changed.tolist(), len(shares)]
    for start, stop in pairwise(edges):
        prior = concentration * shares[start]
        seen = np.cumsum(counts[..., start:stop, :], axis=-2)
        log_mixture = _log_gamma_ratio(prior, seen).sum(axis=-1) - _log_gamma_ratio(concentration, seen.sum(axis=-1))
        likelihood = np.asarray(special.xlogy(seen, shares[start]), dtype=np.float64)
        found[..., start:stop] = before[..., None] + log_mixture - likelihood.sum(axis=-1)
        before = found[..., stop - 1]
    return found


def _log_gamma_ratio(prior: Real | float, count: Counts) -> Real:
    from scipy import special

    known = np.where(np.equal(prior, 0.0), 1.0, prior)  # of a share of 0 the likelihood alone counts
    return np.asarray(special.gammaln(known + count) - special.gammaln(known), dtype=np.float64)


def day_levels(day_count: int, rule: SampleRatioRule) -> Real:
    """Return the level of each day's own test: p / (k (k + 1)), which add up to less than p over any number of days."""
    day = np.arange(1.0, day_count + 1.0)
    return rule.p_min / (day * (day + 1.0)) if rule.is_any_time else np.full(day_count, rule.p_min / max(day_count, 1))


def _listed(counts: Counts | Real) -> str:
    return ", ".join(f"{each:,.0f}" for each in counts)
