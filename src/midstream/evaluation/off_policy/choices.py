"""Off-policy estimators of single choices: IPW, SNIPW, DM, DR, SNDR, Switch-DR, DRos.

A row is one choice of one item. With w = target probability / logged probability, r the reward and q a model's reward:

    IPW         mean(min(w, λ) r)
    SNIPW       Σ w r / Σ w
    DM          mean(Σ_a π(a) q(a))
    DR          DM + mean(w (r - q))
    SNDR        DM + Σ w (r - q) / Σ w
    Switch-DR   DM + mean(w (r - q) where w <= λ)
    DRos        DM + mean(λ w / (w² + λ) (r - q))

References:
    D. Horvitz, D. Thompson, "A Generalization of Sampling Without Replacement from a Finite Universe", JASA 47, 1952.
    A. Swaminathan, T. Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015, equation 9.
    M. Dudík, J. Langford, L. Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011, equation 3.
    N. Kallus, M. Uehara, "Intrinsically Efficient, Stable, and Bounded Off-Policy Evaluation", NeurIPS 2019 (SNDR).
    Y. Wang, A. Agarwal, M. Dudík, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits", ICML 2017
        (Switch).
    Y. Su, M. Dimakopoulou, A. Krishnamurthy, M. Dudík, "Doubly Robust Off-Policy Evaluation with Shrinkage", ICML 2020,
        section 3.1 (optimistic shrinkage).
"""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ShapeMismatch
from midstream.evaluation.off_policy.intervals import Terms, Users, Values

Actions: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceLog:
    """Logged choices, with what a target policy and a reward model say of them; a row is a choice."""

    users: Users
    """(n,): whose choice; rows of one user are one cluster."""
    reward: Values
    """(n,)"""
    logged: Values
    """(n,): probability with which the choice was made, above 0."""
    target: Values
    """(n,): the target's probability of the same choice."""
    missing: Values
    """(n,): the target's probability of all items that could not be logged there (logged probability 0)."""
    predicted: Values | None = None
    """(n,): a model's reward of the choice, fitted without the row; None = no model, so no DM and no DR."""
    expected: Values | None = None
    """(n,): the model's reward under the target: Σ_a target(a) q(a)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a log.

        Raises:
            ShapeMismatch: Lengths differ, a number is missing, or a probability is outside its range.
        """
        parts = {"reward": self.reward, "logged": self.logged, "target": self.target, "missing": self.missing}
        parts |= model_columns(self.predicted, self.expected)
        require_columns(parts, (len(self.users),))
        require_chances(self.logged, self.target, self.missing)

    @classmethod
    def of_matrices(
        cls, users: Users, action: Actions, reward: Values, logged: Values, target: Values, model: Values | None = None
    ) -> Self:
        """Return the log of whole distributions.

        Args:
            users: (n,)
            action: Index of the logged action, (n,).
            reward: (n,)
            logged: Probability of each action under the logging policy, (n, actions).
            target: Under the target policy, (n, actions); rows sum to 1.
            model: Predicted reward of each action, (n, actions), or None.
        """
        at = np.arange(len(action)), action
        return cls(
            users, reward.astype(np.float64), logged[at], target[at], np.where(logged > 0, 0.0, target).sum(axis=1),
            None if model is None else model[at], None if model is None else (target * model).sum(axis=1),
        )  # fmt: skip

    @property
    def weight(self) -> Values:
        """Importance weights, (n,)."""
        return self.target / self.logged

    @property
    def model(self) -> tuple[Values, Values]:
        """The model's reward of each choice, and under the target.

        Raises:
            ShapeMismatch: There is no model.
        """
        if self.predicted is None or self.expected is None:
            message = "the log has no rewards of a model"
            raise ShapeMismatch(message)
        return self.predicted, self.expected


def model_columns(predicted: Values | None, expected: Values | None) -> dict[str, Values]:
    """Return a reward model's columns by name, none without a model.

    Raises:
        ShapeMismatch: Only one of them is there.
    """
    if predicted is None and expected is None:
        return {}
    if predicted is None or expected is None:
        message = "predicted and expected rewards come together"
        raise ShapeMismatch(message)
    return {"predicted": predicted, "expected": expected}


def require_columns(parts: dict[str, Values], shape: tuple[int, ...]) -> None:
    """Refuse arrays of other shapes, or with numbers that are none.

    Raises:
        ShapeMismatch: The first such array, by name.
    """
    for name, each in parts.items():
        if each.shape != shape or not np.isfinite(each).all():
            message = f"{name} has shape {each.shape}, or numbers that are not finite: {shape} of finite ones is right"
            raise ShapeMismatch(message)


def require_chances(logged: Values, target: Values, missing: Values) -> None:
    """Refuse numbers that are no probabilities; a logged one is above 0, since it happened.

    Raises:
        ShapeMismatch: There is one.
    """
    slack = 1 + 1e-6  # of float32, as propensities are logged
    for name, each, least in (
        ("logged", logged, np.finfo(np.float32).tiny),
        ("target", target, 0),
        ("missing", missing, 0),
    ):
        if len(each) and (each.min() < least or each.max() > slack):
            message = f"{name} has {each.min()} to {each.max()}: a probability is right"
            raise ShapeMismatch(message)


def ipw(log: ChoiceLog, weight_max: float = np.inf) -> Terms:
    """Return weighted rewards; weights above ``weight_max`` count as that."""
    return Terms(np.zeros(len(log.reward)), (np.minimum(log.weight, weight_max) * log.reward)[:, None])


def snipw(log: ChoiceLog) -> Terms:
    """Return rewards weighted by their share of all weights: bounded by the rewards, and of lower variance."""
    weight = log.weight[:, None]
    return Terms(np.zeros(len(log.reward)), weight * log.reward[:, None], weight)


def dm(log: ChoiceLog) -> Terms:
    """Return the model's rewards under the target."""
    return Terms(log.model[1], np.zeros((len(log.reward), 0)))


def dr(log: ChoiceLog) -> Terms:
    """Return the model's rewards under the target, corrected by weighted errors of the model."""
    return switch_dr(log, np.inf)


def sndr(log: ChoiceLog) -> Terms:
    """Return the same with errors weighted by their share of all weights."""
    predicted, expected = log.model
    weight = log.weight[:, None]
    return Terms(expected, weight * (log.reward - predicted)[:, None], weight)


def switch_dr(log: ChoiceLog, weight_max: float) -> Terms:
    """Return the same as ``dr``, where weights above ``weight_max`` leave the model uncorrected."""
    predicted, expected = log.model
    return Terms(expected, (switched(log.weight, weight_max) * (log.reward - predicted))[:, None])


def switched(weight: Values, weight_max: float) -> Values:
    """Return the weights of Switch-DR, (n,): 0 in place of those above ``weight_max``."""
    return np.where(weight <= weight_max, weight, 0.0)


def dr_os(log: ChoiceLog, shrinkage: float) -> Terms:
    """Return the same as ``dr`` with shrunken weights: 0 = the model alone, infinity = ``dr``."""
    predicted, expected = log.model
    return Terms(expected, (shrunken(log.weight, shrinkage) * (log.reward - predicted))[:, None])


def shrunken(weight: Values, shrinkage: float) -> Values:
    """Return the weights of DRos, λ w / (w² + λ), (n,)."""
    return weight if np.isinf(shrinkage) else shrinkage * weight / np.maximum(weight**2 + shrinkage, 1e-300)
