"""Decision over gathered candidates: fallback ladders of scorers and selectors; the first valid result counts.

A component that fails is in the account, and the next one of its ladder runs; the last ones cannot fail.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ScoresUnavailable, ShapeMismatch
from midstream.core.protocols import Selector
from midstream.core.traits import traits_of
from midstream.core.types import FeatureFrame, Mask, Order, Query, Score, Selection
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.frame import lent, lent_frame, of_array, of_type
from midstream.ranking.plan import SELECTOR, Plan
from midstream.ranking.record.order import order_after
from midstream.ranking.record.outside_scores import RecordedScores
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.timeout import awaited

SHARE = 0.1
"""Of the placement's deadline, whatever deadline the request has."""
_NONE_CHOSEN: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Scorers, selector and rules that turn candidates into a slate; reads no state."""

    plan: Plan
    query: Query
    features: FeatureFrame
    facts: CandidateFacts | None
    """Columns of the candidates for the slate rules; None = there are no rules, or they could not be read."""
    account: Account
    recorded: RecordedScores | None = None
    """Of a rerun: what a server said then, which is not asked again."""

    async def scored(self) -> tuple[str, Score]:
        """Return the name and the scores of the first scorer that returns valid scores in time.

        A scorer without a single number has failed. The last scorer runs whatever the time. A scorer whose models have
        no version in service is skipped without a failure: the shop is new, and the answer of the next one is full.
        """
        plan, features, account, recorded = self.plan, self.features, self.account, self.recorded
        last = plan.scorers[-1]
        for scorer in plan.scorers:
            if recorded is not None and scorer.name == recorded.scorer:
                return scorer.name, recorded.score
            named: tuple[str, ...] = getattr(scorer, "model_names", ())  # as ``ReadsModels`` has them
            if named and not plan.models.by_name.keys() & named:
                continue
            traits = traits_of(scorer)
            is_instant = not traits.waits
            own_s_max = plan.remote.get(scorer.name, math.inf)
            wait_s_max = min(own_s_max, account.remaining_s() - (0.0 if is_instant else share_s(plan)))
            if scorer is not last and wait_s_max <= 0:
                account.late(scorer.name)
                continue
            frame = features if traits.bounded else lent_frame(features)
            begin = partial(scorer.score, self.query, frame, plan.models)
            with boundary(scorer.name, account, waits=not is_instant):
                if is_instant:
                    numbers = await begin()
                else:
                    numbers = await awaited(scorer.name, begin, wait_s_max, min(own_s_max, share_s(plan)), account)
                score = usable(numbers, features)
                return scorer.name, score if traits.bounded else score.copy()  # a component may keep what it returned
        message = f"none of {', '.join(scorer.name for scorer in plan.scorers)} gave scores"
        raise ScoresUnavailable(message)

    def slates(self, score: Score) -> tuple[Selection, Order | None]:
        """Return the slate and, where the query asks for it, the slates after it, all by the same components.

        A component that fails at one of them is left out of all, since a rerun leaves it out from the first one on.
        """
        failures = self.account.failures
        before = len(failures)
        selection = self.choose(score)
        if not self.query.order_max:
            return selection, None

        def further(each: Query, keep: Mask) -> Selection:
            """Choose among the rows that are left; nothing where all are chosen again."""
            if len(failures) > before:
                return Selection(_NONE_CHOSEN, np.empty(0, dtype=np.float32))
            rules, facts = self.plan.arrangement, self.facts
            left = None if facts is None or rules is None else facts.less(rules.caps, keep)
            frame = FeatureFrame(self.features.names, self.features.values.T[:, keep].T)
            return replace(self, query=each, features=frame, facts=left).choose(score[keep])

        order = order_after(selection, self.query, len(score), further)
        if len(failures) == before:
            return selection, order
        known = self.plan.less(failures)
        return replace(self, plan=known, facts=None if known.arrangement is None else self.facts).slates(score)

    def choose(self, score: Score) -> Selection:
        """Return the choice of the first selector that makes a proper one, by the rules of the slate if any are."""
        *others, last = self.plan.selectors
        for selector in others:
            with boundary(SELECTOR, self.account):
                return self._chosen_by(selector, score)
        if self.facts is not None:
            with boundary(ARRANGEMENT, self.account):
                return self._chosen_by(last, score)
        return last.select(self.query, self.features, score)

    def _chosen_by(self, selector: Selector, score: Score) -> Selection:
        """Return the valid choice of a selector; by the slate rules where these were read.

        Raises:
            ShapeMismatch: A custom selector chooses nothing although rows have scores, or returns no valid selection.
        """
        facts = self.facts
        pinned = frozenset[int]() if facts is None else frozenset(row for row, _ in facts.pins.values())
        if not isinstance(selector, Choosing):
            made = _own_choice(selector, self.query, self.features, score)
        elif facts is None or self.plan.arrangement is None:
            made = selector.select(self.query, self.features, score)
        else:
            made = self.plan.arrangement.select(selector, self.query, self.features, score, facts)
        return proper(made, self.query.slate_size, score, pinned)


def share_s(plan: Plan) -> float:
    """Return the minimum time of a step, in seconds.

    A component that waits and had less time is not counted as slow, and it leaves as much for the selection and the
    response.
    """
    return SHARE * plan.deadline_ms / 1_000


def _own_choice(selector: Selector, query: Query, features: FeatureFrame, score: Score) -> Selection:
    """Return the choice of a custom selector, without traces; its arguments are read-only."""
    made = selector.select(query, lent_frame(features), lent(score))
    of_type(made, Selection, "a Selection")
    of_array(made.chosen, "an array of rows")
    if not len(made.chosen) and np.isfinite(score).any():
        message = f"nothing was chosen of {len(score)} candidates"
        raise ShapeMismatch(message)
    return Selection(made.chosen, made.propensity)  # rules alone leave traces


def usable(score: Score, features: FeatureFrame) -> Score:
    """Return the scores as float32, one a row, at least one of them a number.

    Raises:
        ShapeMismatch: Another length or type.
        ScoresUnavailable: No score is a number.
    """
    of_array(score, "an array of scores")
    features.row_for_row(score)
    if score.dtype.kind != "f":
        message = f"scores came as {score.dtype}: float32 is right"
        raise ShapeMismatch(message)
    if score.dtype != np.float32:
        with np.errstate(over="ignore"):  # what is beyond it is no number
            score = score.astype(np.float32)
    if len(score) and not np.count_nonzero(np.isfinite(score)):
        message = "no candidate got a number"
        raise ScoresUnavailable(message)
    return score


def proper(selection: Selection, slate_size: int, score: Score, pinned: frozenset[int] = frozenset()) -> Selection:
    """Return a selection that keeps the Protocol's promise, or raise ``ShapeMismatch``; pinned rows need no score."""
    of_array(selection.chosen, "an array of rows")
    of_array(selection.propensity, "an array of propensities")
    if selection.chosen.dtype.kind not in "iu" or selection.propensity.dtype.kind != "f":
        message = f"rows came as {selection.chosen.dtype}, propensities as {selection.propensity.dtype}"
        raise ShapeMismatch(message)
    # As the record keeps them: what is no number above 0 there is none here.
    chosen, propensity = selection.chosen.astype(np.intp), selection.propensity.astype(np.float32)
    rows = set(chosen.tolist())
    if len(chosen) > slate_size or len(rows) < len(chosen) or propensity.shape != chosen.shape:
        message = f"{len(chosen)} rows, {len(rows)} distinct, {len(propensity)} propensities: at most {slate_size}"
        raise ShapeMismatch(message)
    if rows and (min(rows) < 0 or max(rows) >= len(score) or not np.isfinite(score[list(rows - pinned)]).all()):
        message = "a chosen row is no candidate, or has no score"
        raise ShapeMismatch(message)
    if not all(0 < each <= 1 for each in propensity.tolist()):
        message = "a propensity outside (0, 1]"
        raise ShapeMismatch(message)
    return Selection(chosen, propensity, selection.traces)
