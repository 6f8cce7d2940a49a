"""Compiled plan: a program with the arrays of one state, asked question by question."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from midstream.core.types import Candidates, Index
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_cutoff import CUT, cut
from midstream.ranking.compiled.decision_kernel import ANSWERED, TOO_FEW
from midstream.ranking.compiled.program import (
    COVISITATION,
    OPERATION,
    OUTSIDE,
    PASSES,
    SESSION_KNN,
    NotCompiled,
    PlanProgram,
    obstacle_to_slates,
    program_of,
)
from midstream.ranking.compiled.room import (
    COUNTS,
    EXCLUDED,
    FOUND,
    ITEMS,
    LENGTHS,
    NOW,
    PAIR_EPOCH,
    PASSED,
    PROPOSED,
    QUESTION_BYTES_MAX,
    QUESTION_ITEMS_MAX,
    REQUEST_BYTES,
    SESSION_BYTES,
    SESSION_EPOCH,
    SHORTLIST,
    SIZE,
    SLATE,
    USER_BYTES,
    VERDICTS,
    WANTED,
    AnswerRoom,
)
from midstream.ranking.compiled.room import CUT as CUT_COUNT
from midstream.ranking.compiled.rooms import Rooms, oversize, sizes_of
from midstream.ranking.compiled.scarcity import Scarcity
from midstream.ranking.frame import take
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.pin import NO_PINS
from midstream.ranking.shortlist import Shortlist
from midstream.state.fold import Fold

if TYPE_CHECKING:
    from midstream.ranking.compiled.state_kernel import BoundState

TOO_LONG = -1
"""A question that the room cannot hold: the pipeline has to answer."""


class CompiledPlan:
    """A plan over one state. It is made anew with the state or the plan; one thread asks it."""

    def __init__(self, plan: Plan, fold: Fold, program: PlanProgram, room: AnswerRoom) -> None:
        """Bind a program to the arrays of a state.

        Args:
            plan: Of the program.
            fold: The state; its arrays stay the same for as long as it lives.
            program: As ``program_of`` gives it.
            room: Shared with other plans of the state.
        """
        from midstream.ranking.compiled.state_kernel import answer_question, make_state

        self.plan = plan
        self.fold = fold
        self.room = room
        self.columns = (
            fold.vocabulary.columns,
            fold.vocabulary.aliases.columns,
            fold.sessions.columns,
            fold.users.ring_columns,
            fold.items.hot_columns,
            fold.session_index.columns,
            fold.pairs.columns,
            program,
            self.room,
        )
        """Arguments of ``answer_of``, in its order."""
        self._state: BoundState = make_state(*self.columns)
        self._answer = answer_question
        operations: list[int] = program.sources[:, OPERATION].tolist()
        self._session_queries = operations.count(SESSION_KNN)
        self._pair_queries = operations.count(COVISITATION)
        codes: list[int] = program.filters[:, OPERATION].tolist()
        self._outside = [number for number, code in enumerate(codes) if code == OUTSIDE]
        self._own_texts = [number for number, code in enumerate(codes) if code == PASSES]
        self.obstacle = obstacle_to_slates(plan)
        """Why it makes shortlists alone; empty = it makes slates too."""
        self.source_names = tuple(each.name for each in (*plan.sources, *plan.floor))
        self.filter_names = tuple(each.name for each in plan.filters)
        self.scorer_name = plan.scorers[-1].name
        self.counts = self.room.counts.data
        self.text, self.record = self.room.text.data, self.room.record.data
        self._arena, self._ask = self.room.arena.data, self.room.ask.data
        self.scarcity = Scarcity()
        """Questions that are to skip it, as too few items will be proposed."""

    def ask(self, ids: Sequence[str], items: Sequence[str], exclude: Sequence[str], size: int, now_ms: int) -> int:
        """Answer a question; the answer is in the room.

        Args:
            ids: Of the user, the session and the request; empty = none.
            items: Of the session or basket, oldest first.
            exclude: Items that the slate may not have.
            size: Of the slate.
            now_ms: Log time of the question.

        Returns:
            As ``answer_of``, or ``TOO_LONG``. Anything but ``ANSWERED``: nothing was changed, and the pipeline has to
            answer.
        """
        if not self.put(ids, items, exclude, size, now_ms):
            return TOO_LONG
        code = self._answer(self._state)
        self.scarcity.note(size, too_few=code == TOO_FEW)
        return code

    def shortlist(self, run: PlanRun) -> Shortlist | None:
        """Return what ``ranking.shortlist`` does; None = the pipeline has to, and nothing was changed.

        Args:
            run: Of this plan, at a moment of this state.
        """
        query = run.moment.query
        if run.plan is not self.plan or run.account.failures or run.account.remaining_s() <= 0:
            return None
        if query.given or query.spare or self.scarcity.skips(query.rows_max):
            return None
        outside = [*self._outside, *(self._own_texts if query.filter is not None else ())]
        ids = (query.user_id or "", query.session_id or "", query.request_id)
        if not self.put(ids, query.items, query.exclude, query.rows_max, query.now_ms):
            return None
        self._ask[WANTED] = VERDICTS if outside else SHORTLIST
        if (code := self._answer(self._state)) != ANSWERED:
            self.scarcity.note(query.rows_max, too_few=code == TOO_FEW)
            return None
        counts = self.counts.tolist()
        proposed = self.room.distinct[: counts[FOUND]].copy()
        if outside:
            return self._sifted(run, sorted(outside), counts, proposed)
        self.scarcity.note(query.rows_max, too_few=False)
        candidates = self._candidates(counts, proposed, self.room.rows[: counts[PASSED]])
        retrieved, removed = self.told(counts)
        return Shortlist(candidates, NO_PINS, retrieved, counts[FOUND], removed, None, (proposed,), {})

    def _candidates(self, counts: list[int], proposed: Index, rows: Index) -> Candidates:
        """Return some rows of the merged proposals, copied."""
        columns = (len(self.source_names), counts[PROPOSED])
        cells = columns[0] * columns[1]
        return Candidates(
            proposed.take(rows),
            self.source_names,
            self.room.score[:cells].reshape(columns).take(rows, axis=1).T,
            self.room.rank[:cells].reshape(columns).take(rows, axis=1).T,
        )

    def _sifted(self, run: PlanRun, outside: list[int], counts: list[int], proposed: Index) -> Shortlist | None:
        """Return the shortlist after filters of which some are no operations; None = one failed, or too few pass.

        Then the pipeline asks them again, and their time here counts for nothing.

        Args:
            run: As of the shortlist.
            outside: Numbers of those filters in the plan, rising.
            counts: Of the room; the verdicts of the other filters are in it as well.
            proposed: The items.
        """
        plan, account = self.plan, Account((), run.account.remaining_s)
        verdict = self.room.verdict[: counts[FOUND]].copy()
        candidates = self._candidates(counts, proposed, np.arange(counts[FOUND], dtype=np.int32))
        found = sift(PlanRun(plan, run.moment, account), candidates, tuple(plan.filters[each] for each in outside))
        if found.is_closed:
            return None
        numbers = np.array([*outside, len(plan.filters)], dtype=np.int64)
        np.minimum(verdict, numbers[found.removed_by], out=verdict)
        kept = verdict == len(plan.filters)
        rows_max = run.moment.query.rows_max
        too_few = np.count_nonzero(kept) < rows_max
        self.scarcity.note(rows_max, too_few=bool(too_few))
        if too_few:
            return None
        removed = np.bincount(verdict, minlength=len(plan.filters) + 1).tolist()
        run.account.took_s.update(account.took_s)  # of this answer: they do not run again
        counts[COUNTS + len(self.source_names) :] = removed[: len(plan.filters)]
        counts[CUT_COUNT] = 0
        candidates, beyond = cut(plan, take(candidates, kept))
        retrieved, by_name = self.told(counts)
        return Shortlist(candidates, NO_PINS, retrieved, counts[FOUND], by_name | beyond, None, (proposed,), {})

    def told(self, counts: list[int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many candidates each source proposed, and how many each filter and the cut removed."""
        proposed = counts[COUNTS : COUNTS + len(self.source_names)]
        removed = dict(zip(self.filter_names, counts[COUNTS + len(proposed) :], strict=True))
        if counts[CUT_COUNT]:
            removed[CUT] = counts[CUT_COUNT]
        return dict(zip(self.source_names, proposed, strict=True)), removed

    def put(self, ids: Sequence[str], items: Sequence[str], exclude: Sequence[str], size: int, now_ms: int) -> bool:
        """Write a question into the room; return whether it fits."""
        texts = [each.encode() for each in (*ids, *items, *exclude)]
        arena = b"".join(texts)
        if len(arena) > QUESTION_BYTES_MAX or len(items) + len(exclude) > QUESTION_ITEMS_MAX:
            return False
        self._arena[: len(arena)] = arena
        ask, fold = self._ask, self.fold
        ask[NOW], ask[SIZE], ask[ITEMS], ask[EXCLUDED] = now_ms, size, len(items), len(exclude)
        ask[USER_BYTES], ask[SESSION_BYTES], ask[REQUEST_BYTES] = len(texts[0]), len(texts[1]), len(texts[2])
        ask[WANTED] = SLATE
        for place, text in enumerate(texts[len(ids) :], LENGTHS):
            ask[place] = len(text)
        ask[SESSION_EPOCH] = fold.session_index.epochs.take(self._session_queries)
        ask[PAIR_EPOCH] = fold.pairs.epochs.take(self._pair_queries)
        return True


def compiled_plan(plan: Plan, fold: Fold, rooms: Rooms | None = None) -> CompiledPlan | NotCompiled:
    """Return a plan bound to a state, or why it has no program.

    Args:
        plan: The plan.
        fold: The state.
        rooms: Of the state's plans; None = the plan gets room of its own.
    """
    program = program_of(plan, fold)
    if isinstance(program, NotCompiled):
        return program
    if reason := oversize(program, plan.slate_size_max):
        return NotCompiled(reason)
    room = (rooms or Rooms()).room_of(program, sizes_of(program, plan.slate_size_max, fold))
    return CompiledPlan(plan, fold, program, room)
