"""Off-policy estimators of slates: SIPS, IIPS, RIPS, its self-normalised form, and Cascade-DR.

A row is a slate. What is logged at place k is the probability of its item given the items above it, so the weight of a
prefix is an exact product:

    w_1:k       Π_{j <= k} target_j / logged_j
    SIPS        mean(w_1:K Σ_k r_k): right whatever places do to each other
    RIPS        mean(Σ_k w_1:k r_k): what happens at a place depends on it and the places above
    SNRIPS      Σ_k (Σ w_1:k r_k / Σ w_1:k): each place by its own sum of weights
    Cascade-DR  mean(Σ_k w_1:k (r_k - Q_k) + w_1:k-1 Σ_a target(a | above) Q_k(a)), with Q_k a model of the rewards of
                place k and of all below it
    IIPS        mean(Σ_k m_k r_k), m_k the ratio of the marginal probabilities of the item at place k: what happens at a
                place depends on it alone. Marginals are not logged; where they are known this has the least variance.

References:
    A. Swaminathan and others, "Off-policy Evaluation for Slate Recommendation", NeurIPS 2017 (SIPS).
    S. Li and others, "Offline Evaluation of Ranking Policies with Click Models", KDD 2018 (IIPS).
    J. McInerney and others, "Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions",
        KDD 2020 (RIPS, and its normalised form).
    H. Kiyohara and others, "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade Behavior Model",
        WSDM 2022, equation 7.
"""

from dataclasses import dataclass, replace

import numpy as np

from midstream.core.errors import ShapeMismatch
from midstream.evaluation.off_policy.choices import model_columns, require_chances, require_columns
from midstream.evaluation.off_policy.intervals import Terms, Users, Values


@dataclass(frozen=True, slots=True, eq=False)
class SlateLog:
    """Logged slates, place by place; a row is a slate, a place beyond its end has probabilities 1 and no reward."""

    users: Users
    """(n,): whose slate; rows of one user are one cluster."""
    reward: Values
    """(n, places)"""
    logged: Values
    """(n, places): probability of the item given those above it, above 0."""
    target: Values
    """(n, places): the target's, given the same items above."""
    missing: Values
    """(n, places): the target's probability, given the same above, of all items that could not be logged there."""
    predicted: Values | None = None
    """(n, places): a model's reward of this place and all below it, given its item; fitted without the user."""
    expected: Values | None = None
    """(n, places): the same under the target: Σ_a target(a | above) Q(a)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a log.

        Raises:
            ShapeMismatch: Shapes differ, a number is missing, or a probability is outside its range.
        """
        parts = {"reward": self.reward, "logged": self.logged, "target": self.target, "missing": self.missing}
        parts |= model_columns(self.predicted, self.expected)
        if self.reward.ndim != 2:  # noqa: PLR2004  (slates and places)
            message = f"reward has {self.reward.ndim} axes: slates and places are right"
            raise ShapeMismatch(message)
        require_columns(parts, (len(self.users), self.reward.shape[1]))
        require_chances(self.logged, self.target, self.missing)

    @property
    def places(self) -> int:
        """Number of places."""
        return int(self.reward.shape[1])

    @property
    def weight(self) -> Values:
        """Importance weight of each prefix, (n, places)."""
        return np.asarray(np.cumprod(self.target / self.logged, axis=1), dtype=np.float64)

    @property
    def weight_above(self) -> Values:
        """That of the places above each, (n, places): 1 at the first."""
        return np.concatenate((np.ones((len(self.users), 1)), self.weight[:, :-1]), axis=1)

    def first(self, places: int) -> "SlateLog":
        """Return the log of the first places; a model's rewards then lack those below the last."""
        if places >= self.places:
            return self
        cut = {name: getattr(self, name)[:, :places] for name in ("reward", "logged", "target", "missing")}
        return replace(self, predicted=None, expected=None, **cut)

    def with_model(self, predicted: Values, expected: Values) -> "SlateLog":
        """Return the log with a model's rewards."""
        return replace(self, predicted=predicted, expected=expected)


def sips(log: SlateLog) -> Terms:
    """Return the reward of each slate times the weight of the whole slate."""
    return _plain(log.weight[:, -1:] * log.reward.sum(axis=1, keepdims=True))


def iips(log: SlateLog, marginal_logged: Values, marginal_target: Values) -> Terms:
    """Return each place's reward times the ratio of the marginal probabilities of its item there.

    Args:
        log: Of the rewards.
        marginal_logged: Probability of this item at this place, whatever is above, (n, places), above 0.
        marginal_target: The target's.
    """
    require_columns({"marginal_logged": marginal_logged, "marginal_target": marginal_target}, log.reward.shape)
    require_chances(marginal_logged, marginal_target, log.missing)
    return _plain(marginal_target / marginal_logged * log.reward)


def rips(log: SlateLog, weight_max: float = np.inf) -> Terms:
    """Return each place's reward times the weight of the slate down to it, at most ``weight_max``."""
    return _plain(np.minimum(log.weight, weight_max) * log.reward)


def snrips(log: SlateLog) -> Terms:
    """Return the same, each place divided by its own sum of weights."""
    weight = log.weight
    return Terms(np.zeros(len(log.users)), weight * log.reward, weight)


def cascade_dr(log: SlateLog) -> Terms:
    """Return a model's rewards under the target, corrected place by place.

    Raises:
        ShapeMismatch: The log has no model.
    """
    if log.predicted is None or log.expected is None:
        message = "the log has no rewards of a model"
        raise ShapeMismatch(message)
    return Terms(
        log.expected[:, 0],
        log.weight * (log.reward - log.predicted)
        + np.concatenate((log.weight[:, :-1] * log.expected[:, 1:], np.zeros((len(log.users), 1))), axis=1),
    )


def _plain(weighted: Values) -> Terms:
    return Terms(np.zeros(len(weighted)), weighted)
