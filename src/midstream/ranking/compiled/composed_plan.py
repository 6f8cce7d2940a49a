"""Compiled plan with conditions, features, models and rules: a kernel up to the cut, columns and scores, one to texts.

Filters without an operation are applied between two calls of the first kernel. Between the kernels are the parts that
the pipeline has there, called the same way: the reader of the columns, the first scorer that gives numbers, and where
they are no numbers for the second kernel the selector and the rules of the slate. Where any part fails or is late the
pipeline answers from the start, since what a failure leaves behind is its.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from midstream.core.errors import ScoresUnavailable
from midstream.core.types import Candidates, FeatureFrame, Index, Models, Query, Score
from midstream.ranking.boundary import Account, PartTime, boundary
from midstream.ranking.compiled.compiled_plan import CompiledPlan
from midstream.ranking.compiled.decision_kernel import ANSWERED
from midstream.ranking.compiled.program import NotCompiled
from midstream.ranking.compiled.room import CHOSEN, GIVEN_MAX, SCORED, SHORTLIST
from midstream.ranking.compiled.slate_program import SlateProgram, slate_program_of
from midstream.ranking.compiled.slate_room import BY_RULE, END, RULES, make_slate_room
from midstream.ranking.decision import Decision, usable
from midstream.ranking.frame import FeatureReader, declared_of
from midstream.ranking.pipeline import facts_of
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.arrangement import DECIDED_MAX
from midstream.ranking.rules.pin import NO_PINS
from midstream.ranking.rules.traces import packed
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.scorers.online_models import bins_read, models_at
from midstream.ranking.selectors.thompson import Thompson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from midstream.ranking.compiled.bound_slate import BoundSlate

_encoded = msgspec.msgpack.Encoder().encode
CANDIDATES_KERNEL, SELECTION_KERNEL = "candidates kernel", "selection kernel"
"""Names of the two kernels in the times of an answer."""
_NO_COLUMNS: Final = FeatureFrame((), np.empty((0, 0), dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSlate:
    """What is known of a slate beside its texts, which are in the room."""

    scorer: str
    features: FeatureFrame | None
    """Columns of the candidates; None = the plan reads none."""
    read_s: float
    """Time of reading them."""
    longest_s: float
    """Time of the part that took longest."""
    bins: tuple[bytes, ...] = ()
    """What models that go on learning read of the slate's items."""


class _Read(NamedTuple):
    """What is read of the candidates between the kernels."""

    items: Index
    features: FeatureFrame | None
    until_s: float
    """Remaining time behind it."""
    candidates: Candidates | None = None
    frame: FeatureFrame = _NO_COLUMNS
    """With the columns of the sources; both where anything is asked of them."""
    models: Models | None = None
    """Those of the scorer with what they have learned by now; None = none of them goes on learning."""


class _Chosen(NamedTuple):
    """What rules did that chose between the kernels."""

    rules: tuple[str, ...] = ()
    """Those that have actions in the record."""
    counts: Mapping[str, int] = MappingProxyType({})
    """Actions of each rule, those of no record as well."""


class ComposedPlan:
    """What lies behind the cut of a plan, over one state. One thread asks it, and nothing is awaited within."""

    def __init__(self, compiled: CompiledPlan, program: SlateProgram) -> None:
        """Bind a program to the room and the arrays of a compiled plan.

        Args:
            compiled: The plan up to the cut.
            program: Of the same plan.
        """
        from midstream.ranking.compiled.bound_slate import finish_bound, make_slate

        plan, room = compiled.plan, compiled.room
        self._compiled = compiled
        self._program = program
        known = plan.models.by_name.keys()
        named = ((each, frozenset[str](getattr(each, "model_names", ()))) for each in plan.scorers)
        self._scorer = next(each for each, names in named if not names or known & names)
        """The first that has its models, as ``Decision.scored`` asks them; the last one reads none."""
        self._wanted = SCORED if type(self._scorer) is Blend else SHORTLIST
        """Of the first kernel: a blend it gives itself."""
        chooses_by_scores = plan.arrangement is None and not any(type(each) is Thompson for each in plan.selectors)
        chooses_by_columns = program.chooses_between and not chooses_by_scores
        self._reads = bool(plan.features) or self._wanted != SCORED or chooses_by_columns
        """Whether anything is read of the candidates between the kernels."""
        rows, most = min(len(room.rows), plan.candidates_max), plan.slate_size_max
        if compiled.ranks:
            rows, most = GIVEN_MAX, DECIDED_MAX if program.has_rules else GIVEN_MAX
        self.size_max = most
        """Of a slate: the rules of a longer one decide about its first items alone, which is left to the pipeline."""
        self.slate = make_slate_room(program.rules, len(program.attributes), rows, most)
        self.columns = (compiled.fold.vocabulary.columns, room, self.slate, program.rules)
        """Arguments of ``finish_slate``, in its order."""
        self._bound: BoundSlate = make_slate(*self.columns)
        self._finish = finish_bound
        self._chosen = _Chosen()
        """Of the last slate; nothing where the second kernel chooses."""
        self._told, self._rules, self._text = self.slate.told.data, self.slate.rules.data, self.slate.text.data

    def ask(self, query: Query, account: Account) -> ScoredSlate | None:
        """Answer a query; the texts of the answer are in the room.

        Args:
            query: Complete, of a usual question.
            account: New; gets the times of the parts.

        Returns:
            What else there is to tell; None = the pipeline has to answer, and nothing was changed.
        """
        compiled, began_s = self._compiled, account.remaining_s()
        if not compiled.gather(query, self._wanted, account):
            return None
        read = _Read(compiled.items(), None, found_s := account.remaining_s())
        if self._reads:
            read = self._read(query, account)
            if account.failures:
                return None
        if self._program.chooses_between and not self._choose(query, read, account):
            return None
        scored_s = account.remaining_s()
        items, slate = compiled.fold.items, self.slate
        for number, name in enumerate(self._program.attributes):
            slate.attributes[number, : len(read.items)] = items.codes(name).take(read.items)
        is_answered = self._finish(self._bound) == ANSWERED
        compiled.texts.note(query.slate_size, answered=is_answered)
        if not is_answered:
            return None
        if account.timeline is not None:
            account.timeline.append(PartTime(CANDIDATES_KERNEL, began_s, found_s))
            account.timeline.append(PartTime(SELECTION_KERNEL, scored_s, account.remaining_s()))
        kernels_s = max(began_s - found_s, scored_s - account.remaining_s())
        longest_s = max((kernels_s, *account.took_s.values()))
        bins: tuple[bytes, ...] = ()
        if read.models is not None:
            bins = bins_read(self._scorer, read.models, read.frame, self.picked(), query.first_position)
        return ScoredSlate(self._scorer.name, read.features, found_s - read.until_s, longest_s, bins)

    def _choose(self, query: Query, read: _Read, account: Account) -> bool:
        """Let selector and rules choose, as in the pipeline; return whether the room has the slate and its actions."""
        compiled, slate, facts = self._compiled, self.slate, None
        if read.candidates is not None:
            facts = facts_of(PlanRun(compiled.plan, compiled.moment(query), account), read.candidates, NO_PINS)
        score = compiled.room.blended[: len(read.items)]
        made = Decision(compiled.plan, query, read.frame, facts, account).choose(score)
        told = packed(made.traces, read.items.take(made.chosen).tolist(), compiled.fold.vocabulary)
        text = _encoded(told.actions) + _encoded(told.ids)
        if len(text) > len(slate.text):
            compiled.texts.note(query.slate_size, answered=False)
        if account.failures or len(text) > len(slate.text):
            return False
        count = len(made.chosen)
        slate.order[:count] = made.chosen
        compiled.room.propensity[:count] = made.propensity
        slate.text[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        slate.drawn[:] = count, bool((made.propensity != 1.0).any()), len(text)
        self._chosen = _Chosen(told.rules, Counter(each.rule for each in made.traces))
        return True

    def _read(self, query: Query, account: Account) -> _Read:
        """Read the columns of the candidates, and write their scores where the kernel has none; failures are noted."""
        compiled = self._compiled
        plan, candidates = compiled.plan, compiled.candidates()
        moment = compiled.moment(query)
        reader, models = FeatureReader(moment, account, plan.declared), models_at(moment, plan.models)
        frame = reader.frame(plan.features, candidates)
        until_s = account.remaining_s()
        if self._wanted != SCORED and (score := self._score(query, frame, models, account)) is not None:
            compiled.room.blended[: len(candidates)] = score
        own = declared_of(frame, len(candidates.source_names)) if plan.features else None
        learned = None if models is plan.models else models
        return _Read(candidates.item_index, own, until_s, candidates, frame, learned)

    def _score(self, query: Query, frame: FeatureFrame, models: Models, account: Account) -> Score | None:
        """Return the scores of the candidates; None = the scorer failed, or is late, which is in the account."""
        scorer, plan = self._scorer, self._compiled.plan
        if scorer is not plan.scorers[-1] and account.remaining_s() <= 0:
            account.late(scorer.name)
            return None
        with boundary(scorer.name, account):
            step = scorer.score(query, frame, models)
            try:
                step.send(None)
            except StopIteration as done:
                return usable(done.value, frame)
            step.close()
            message = "a scorer waits that promised not to"
            raise ScoresUnavailable(message)
        return None

    def picked(self) -> "NDArray[np.int64]":
        """Return the rows of the slate's items among the candidates."""
        return self.slate.picked[: self._compiled.counts[CHOSEN]]

    def rules_told(self) -> tuple[str, ...]:
        """Return the names of the rules of which the record has actions, in the order of their numbers there."""
        if self._program.chooses_between:
            return self._chosen.rules
        names = self._program.names
        return tuple(names[each] for each in self._rules[: self._told[RULES]])

    def actions(self) -> memoryview:
        """Return what the record has of the actions. Valid until the next question."""
        return self._text[: self._told[END]]

    def counts_by_rule(self) -> list[tuple[str, int]]:
        """Return how many actions each rule took, of those that took any."""
        if self._program.chooses_between:
            return list(self._chosen.counts.items())
        counts = self._told[BY_RULE:].tolist()
        return [(name, count) for name, count in zip(self._program.names, counts, strict=True) if count]


def composed_plan(compiled: CompiledPlan | NotCompiled) -> ComposedPlan | None:
    """Return what lies behind the cut of a compiled plan, or None; the obstacle of the plan then says why.

    None as well where the first kernel makes whole slates.
    """
    if isinstance(compiled, NotCompiled) or not compiled.obstacle:
        return None
    program = slate_program_of(compiled.plan, compiled.fold.items)
    compiled.obstacle = program.reason if isinstance(program, NotCompiled) else ""
    return None if isinstance(program, NotCompiled) else ComposedPlan(compiled, program)
