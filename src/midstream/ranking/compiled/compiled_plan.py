"""Compiled plan: a program with the arrays of one state, asked question by question."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from midstream.core.types import Candidates, Index, Moment, Query
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import Account
from midstream.ranking.caller_items import GIVEN, UNKNOWN
from midstream.ranking.candidate_cutoff import CUT
from midstream.ranking.compiled.back_off import BackOff
from midstream.ranking.compiled.decision_kernel import ANSWERED, TOO_FEW, UNUSUAL
from midstream.ranking.compiled.program import (
    CALLER,
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
    CHOSEN,
    COUNTS,
    EXCLUDED,
    FOUND,
    GIVEN_MAX,
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
from midstream.ranking.compiled.room import GIVEN as GIVEN_COUNT
from midstream.ranking.compiled.rooms import Rooms, oversize, sizes_of
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
    """A plan over one state, of its slates or of its rankings. It is made anew with either; one thread asks it."""

    def __init__(self, plan: Plan, fold: Fold, program: PlanProgram, room: AnswerRoom) -> None:
        """Bind a program to the arrays of a state.

        A program that begins with the items of the caller makes rankings and no slates.

        Args:
            plan: Of the program.
            fold: The state; its arrays stay the same for as long as it lives.
            program: As ``program_of`` gives it.
            room: Shared with other plans of the state.
        """
        from midstream.ranking.compiled.state_kernel import answer_judged, answer_question, make_state

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
        self._answer, self._answer_judged = answer_question, answer_judged
        operations: list[int] = program.sources[:, OPERATION].tolist()
        self._session_queries = operations.count(SESSION_KNN)
        self._pair_queries = operations.count(COVISITATION)
        codes: list[int] = program.filters[:, OPERATION].tolist()
        self._outside = [number for number, code in enumerate(codes) if code == OUTSIDE]
        self._own_texts = [number for number, code in enumerate(codes) if code == PASSES]
        self.obstacle = obstacle_to_slates(plan)
        """Why it makes shortlists alone; empty = it makes slates too."""
        self.ranks = CALLER in operations
        """Whether the items of the caller are the only candidates of its questions."""
        self.source_names = (*((GIVEN,) if self.ranks else ()), *(each.name for each in (*plan.sources, *plan.floor)))
        self.filter_names = tuple(each.name for each in plan.filters)
        self.scorer_name = plan.scorers[-1].name
        self.counts = self.room.counts.data
        self.text, self.record = self.room.text.data, self.room.record.data
        self._arena, self._ask = self.room.arena.data, self.room.ask.data
        self.proposals = BackOff()
        """Questions that are to skip it, as it had no candidates for those before."""
        self.narrowed = BackOff()
        """The same of questions with a filter of their own: one that few items pass says nothing of the others."""
        self.texts = BackOff()
        """Questions for which it is to make shortlists alone, as slates before had ids or scores of other texts."""

    def misses(self, own_filter: str | None) -> BackOff:
        """Return the count of questions without candidates among those with a filter of their own, or without one."""
        return self.proposals if own_filter is None else self.narrowed

    def ask(self, ids: Sequence[str], items: Sequence[Sequence[str]], size: int, now_ms: int) -> int:
        """Answer a question; the answer is in the room.

        Args:
            ids: Of the user, the session and the request; empty = none.
            items: Those of the session or basket, oldest first; those that the slate may not have; and of a ranking
                those of the caller, in its order.
            size: Of the slate.
            now_ms: Log time of the question.

        Returns:
            As ``answer_of``, or ``TOO_LONG``. Anything but ``ANSWERED``: nothing was changed, and the pipeline has to
            answer.
        """
        if not self.put(ids, items, size, now_ms):
            return TOO_LONG
        code = self._answer(self._state)
        if code != UNUSUAL:
            self.proposals.note(size, answered=code != TOO_FEW)
        if code != TOO_FEW:
            self.texts.note(size, answered=code != UNUSUAL)
        return code

    def shortlist(self, run: PlanRun) -> Shortlist | None:
        """Return what ``ranking.shortlist`` does; None = the pipeline has to, and nothing was changed.

        Args:
            run: Of this plan, at a moment of this state.
        """
        query = run.moment.query
        if run.plan is not self.plan or run.account.failures or run.account.remaining_s() <= 0:
            return None
        if self.ranks or query.given or query.spare or self.misses(query.filter).skips(query.rows_max):
            return None
        ids = (query.user_id or "", query.session_id or "", query.request_id)
        if not self.put(ids, (query.items, query.exclude), query.rows_max, query.now_ms):
            return None
        timeline, account = run.account.timeline, Account((), run.account.remaining_s)
        account.timeline = None if timeline is None else []
        code = self._found(query, SHORTLIST, lambda: PlanRun(run.plan, run.moment, account))
        self.misses(query.filter).note(query.rows_max, answered=code == ANSWERED)
        if code != ANSWERED:
            return None  # the pipeline asks the filters again, and their time here counts for nothing
        run.account.took_s.update(account.took_s)
        if timeline is not None:
            timeline.extend(account.timeline or ())
        counts = self.counts.tolist()
        proposed = self.room.distinct[: counts[FOUND]].copy()
        candidates = self._candidates(counts, proposed, self.room.rows[: counts[PASSED]])
        retrieved, removed = self.told(counts)
        return Shortlist(candidates, NO_PINS, retrieved, counts[FOUND], removed, None, (proposed,), {})

    def gather(self, query: Query, wanted: int, account: Account) -> bool:
        """Find the candidates of a usual question behind the cut; False = the pipeline has to, and nothing was changed.

        Args:
            query: Complete; it has no page, and items of the caller where the program makes rankings.
            wanted: ``SHORTLIST`` or ``SCORED``.
            account: Gets the times of filters without an operation, and that one failed.
        """
        ids = (query.user_id or "", query.session_id or "", query.request_id)
        if not self.put(ids, (query.items, query.exclude, query.given), query.slate_size, query.now_ms):
            return False
        code = self._found(query, wanted, lambda: PlanRun(self.plan, self.moment(query), account))
        self.misses(query.filter).note(query.slate_size, answered=code == ANSWERED)
        return code == ANSWERED

    def _found(self, query: Query, wanted: int, run: Callable[[], PlanRun]) -> int:
        """Find the candidates of the question in the room; return what ``answer_question`` does.

        Filters without an operation are applied to all of them between two calls of the kernel.

        Args:
            query: That question.
            wanted: ``SHORTLIST`` or ``SCORED``.
            run: Makes that of the filters; its account is told of a failed one.
        """
        outside = self._outside_of(query)
        self._ask[WANTED] = VERDICTS if outside else wanted
        code = self._answer(self._state)
        if not outside or code != ANSWERED:
            return code
        if not self._judge(run(), outside):
            return UNUSUAL
        self._ask[WANTED] = wanted
        return self._answer_judged(self._state)

    def _outside_of(self, query: Query) -> list[int]:
        """Return the numbers of the plan's filters that no operation applies to a question, rising."""
        return self._outside if query.filter is None else sorted((*self._outside, *self._own_texts))

    def _judge(self, run: PlanRun, outside: list[int]) -> bool:
        """Complete verdicts and counts of the room by filters without an operation; return whether all of them could.

        Args:
            run: As of the question in the room.
            outside: Their numbers in the plan, rising.
        """
        plan, found = run.plan, self.counts[FOUND]
        candidates = self._candidates(self.counts, self.room.distinct, np.arange(found, dtype=np.int32))
        judged = sift(run, candidates, tuple(plan.filters[each] for each in outside))
        if judged.is_closed:
            return False
        verdict, numbers = self.room.verdict[:found], np.array([*outside, len(plan.filters)], dtype=np.int64)
        np.minimum(verdict, numbers[judged.removed_by], out=verdict)
        start = COUNTS + len(self.source_names)
        removed = np.bincount(verdict, minlength=len(plan.filters) + 1)
        self.room.counts[start : start + len(plan.filters)] = removed[: len(plan.filters)]
        return True

    def candidates(self) -> Candidates:
        """Return the candidates that are in the room."""
        return self._candidates(self.counts, self.room.distinct, self.room.rows[: self.counts[PASSED]])

    def items(self) -> Index:
        """Return the items of the candidates that are in the room."""
        return self.room.distinct.take(self.room.rows[: self.counts[PASSED]])

    def moment(self, query: Query) -> Moment:
        """Return what ``Fold.moment`` does, of a query that the room has just been asked; of what was found for it."""
        room, fold = self.room, self.fold
        _, session_hash, _, user_hash = room.hashes.tolist()
        session_number, recent, sent, user, _ = room.facts.tolist()
        return Moment(
            query=query,
            log_position=fold.log_position,
            user_index=user,
            user_hash=user_hash,
            session_hash=session_hash,
            recent_item_index=room.recent[:recent].copy(),
            tables=fold.tables,
            models=self.plan.models,
            session_number=session_number,
            sent_item_index=room.sent[:sent].copy(),
        )

    def _candidates(self, counts: Sequence[int] | memoryview, proposed: Index, rows: Index) -> Candidates:
        """Return some rows of the merged proposals, copied."""
        columns = (len(self.source_names), counts[PROPOSED])
        cells = columns[0] * columns[1]
        return Candidates(
            proposed.take(rows),
            self.source_names,
            self.room.score[:cells].reshape(columns).take(rows, axis=1).T,
            self.room.rank[:cells].reshape(columns).take(rows, axis=1).T,
        )

    def told(self, counts: list[int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many candidates each source proposed, and how many each filter and the cut removed."""
        proposed = counts[COUNTS : COUNTS + len(self.source_names)]
        removed = dict(zip(self.filter_names, counts[COUNTS + len(proposed) :], strict=True))
        if counts[CUT_COUNT]:
            removed[CUT] = counts[CUT_COUNT]
        if self.ranks:
            known, proposed[0] = proposed[0], self._ask[GIVEN_COUNT]
            removed = {UNKNOWN: proposed[0] - known, **removed}
        return dict(zip(self.source_names, proposed, strict=True)), removed

    def chosen(self) -> Index:
        """Return the items of the last slate, in its order, shape (items,), copied."""
        return self.room.distinct.take(self.room.rows[: self.counts[CHOSEN]])

    def gone(self) -> list[tuple[int, str]]:
        """Return the place and what removed it of each item of the caller that was, in the order of the caller."""
        names = (UNKNOWN, *self.filter_names)
        verdicts = self.room.given[: self._ask[GIVEN_COUNT]].tolist()
        return [(place, names[each]) for place, each in enumerate(verdicts) if each >= 0]

    def put(self, ids: Sequence[str], items: Sequence[Sequence[str]], size: int, now_ms: int) -> bool:
        """Write a question into the room, as ``ask`` has it; return whether it fits."""
        counts = [*map(len, items)]
        texts = [*ids]
        for part in items:
            texts += part
        whole = "".join(texts)
        arena = whole.encode()
        sizes = [*map(len, texts if whole.isascii() else [each.encode() for each in texts])]
        given = sum(counts[2:])
        if len(arena) > QUESTION_BYTES_MAX or counts[0] + counts[1] > QUESTION_ITEMS_MAX or given > GIVEN_MAX:
            return False
        self._arena[: len(arena)] = arena
        ask, fold = self._ask, self.fold
        ask[NOW], ask[SIZE], ask[ITEMS], ask[EXCLUDED], ask[GIVEN_COUNT] = now_ms, size, counts[0], counts[1], given
        ask[USER_BYTES], ask[SESSION_BYTES], ask[REQUEST_BYTES] = sizes[: len(ids)]
        ask[WANTED] = SLATE
        for place, length in enumerate(sizes[len(ids) :], LENGTHS):
            ask[place] = length
        ask[SESSION_EPOCH] = fold.session_index.epochs.take(self._session_queries)
        ask[PAIR_EPOCH] = fold.pairs.epochs.take(self._pair_queries)
        return True


def compiled_plan(
    plan: Plan, fold: Fold, rooms: Rooms | None = None, *, ranks: bool = False
) -> CompiledPlan | NotCompiled:
    """Return a plan bound to a state, or why it has no program.

    Args:
        plan: The plan.
        fold: The state.
        rooms: Of the state's plans; None = the plan gets room of its own.
        ranks: Its questions are about items of the caller; else none is.
    """
    program = program_of(plan, fold, ranks=ranks)
    if isinstance(program, NotCompiled):
        return program
    size_max = GIVEN_MAX if ranks else plan.slate_size_max
    if reason := oversize(program, size_max):
        return NotCompiled(reason)
    room = (rooms or Rooms()).room_of(program, sizes_of(program, size_max, fold))
    return CompiledPlan(plan, fold, program, room)
