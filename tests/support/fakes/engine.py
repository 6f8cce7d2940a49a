"""An engine made of dicts, for tests of what stands in front of an engine.

It keeps the promises that a caller sees (each id once, acknowledged means visible, the newest items come first) and
none of those that need a disk. ``failure`` makes it refuse the way a real one does.
"""

import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from midstream.core.answers.events import RetractedEvent, RetractionAnswer
from midstream.core.answers.explanations import ItemWhy, SlateWhy
from midstream.core.answers.features import ItemValues, PastFeaturesAnswer
from midstream.core.errors import ActUnknown, Fault, ItemUnknown, MidstreamError, NotFound, RequestInvalid
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.answer.page_queries import require_count, require_items
from midstream.engine.answer.query_mapping import require_rankable
from midstream.engine.erasure.eraser import RewriteView
from midstream.engine.explain.child_jobs import ChildJob
from midstream.engine.explain.explainer import ExplainOrder
from midstream.engine.explain.past_features import PastOrder, PastQuestion
from midstream.engine.listeners import Listeners
from midstream.engine.pending_erasures import DAY_MS, erase_event
from midstream.engine.requests.schema import (
    PAGE_PLACEMENTS_MAX,
    USERS_MAX,
    BatchBody,
    FeatureAsk,
    RecommendationQuestion,
)
from midstream.engine.retractions.act_search import ActQuestion
from midstream.engine.tokens import RequestIds, parse_position, position_token
from midstream.engine.types import (
    Answer,
    AnswerItem,
    Ask,
    Change,
    ErasureDue,
    FeatureRead,
    FeatureView,
    Health,
    Liveness,
    Outcome,
    PageAnswer,
    RebuildView,
    Recorded,
    Removal,
    SlateRefused,
)
from midstream.events.schema import Event, event_at
from midstream.events.values import merged_id
from midstream.events.wire import Accept
from midstream.features.declarations import Declarations
from midstream.features.kinds.kinds import Boolean, Category, Count, Number
from midstream.monitoring.facts import Facts
from midstream.monitoring.metrics import EventOutcome, Metrics
from midstream.ranking.plan import SEARCH, SIMILAR
from tests.support.fakes.lists import FakeLists

Document: TypeAlias = dict[str, object]
ACTIONS = frozenset({"view", "click", "cart", "purchase"})
NOW_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: the fake's clock stands still."""


SETTABLE = Declarations(
    (
        Count(name="item_views", actions=("view",)),
        Number(name="price"),
        Boolean(name="is_member", scope="user", attribute="member"),
        Category(name="brand", form="hashed", buckets=1_024),
    ),
    (("price", "number"), ("brand", "category")),
)
"""Declared features that can be set, and one that cannot."""


@dataclass(frozen=True, slots=True)
class FakePlan:
    """What is shown of a plan."""

    name: str
    config_hash: str = "fake"
    sources: tuple[()] = ()
    floor: tuple[()] = ()
    filters: tuple[()] = ()
    scorers: tuple[()] = ()
    slate_size: int = 20
    deadline_ms: int = 50
    declared: Declarations = SETTABLE
    fetches: tuple[()] = ()
    pins: None = None


FEATURE = FeatureView(
    name="item_views",
    kind="count",
    scope="item",
    columns=("item_views",),
    used_by=("default",),
    declaration={"actions": ["view"]},
    last_counted=None,
    age_ms=None,
    complete_since=None,
    bytes_now=0,
    bytes_max=0,
)
_PLANS: Mapping[str, FakePlan] = {name: FakePlan(name) for name in ("default", SIMILAR, SEARCH)}


@dataclass(slots=True)
class FakeFold:
    """How far the fake has come."""

    log_position: LogPosition = field(default=LogPosition(0))


@dataclass(slots=True)
class FakeEngine:
    """Events in, the newest items out."""

    failure: MidstreamError | None = None
    """Raised by ``record`` while it is set."""
    unknown_items_are_refused: bool = False
    plans: Mapping[str, FakePlan] = field(
        default_factory=lambda: {each: FakePlan(each) for each in ("default", SIMILAR, SEARCH)}
    )
    liveness: Liveness = field(default_factory=lambda: Liveness("live"))
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    fold: FakeFold = field(default_factory=FakeFold)
    events: list[Event] = field(default_factory=list[Event])
    facts: Facts = field(default_factory=lambda: Facts(time.monotonic))
    """What is to be in the log of the process."""
    concerns: dict[str, str] = field(default_factory=dict[str, str])
    """What health names beside ``failure``."""
    listeners: Listeners = field(default_factory=Listeners)
    lists: FakeLists = field(default_factory=FakeLists)
    _by_id: dict[str, Event] = field(default_factory=dict[str, Event])
    _documents: dict[tuple[int, str], dict[str, object]] = field(
        default_factory=dict[tuple[int, str], dict[str, object]]
    )
    _taken_back: set[int] = field(default_factory=set[int])
    _erasures: list[ErasureDue] = field(default_factory=list[ErasureDue])
    _served: dict[str, Answer] = field(default_factory=dict[str, Answer])

    async def record(self, batch: EventBatch, _guard: object = None, *, within_s: float | None = None) -> Recorded:
        """Take each event once."""
        if self.failure is not None:
            raise self.failure
        outcome = [self._take(event_at(batch, row)) for row in range(len(batch))]
        for each, count in Counter(outcome).items():
            self.metrics.count_events(_NAMES[each], count)
        self.fold.log_position = LogPosition(len(self.events))
        return Recorded(self.fold.log_position, np.array(outcome, np.uint8))

    def check(self, ask: Ask) -> None:
        """Refuse what ``recommend`` would refuse."""
        if ask.placement not in self.plans:
            message = f"placement {ask.placement!r} is not configured"
            raise NotFound(message)
        if ask.filter is not None and "item." not in ask.filter:
            raise RequestInvalid((Fault("/filter", "It reads no item.", "item.price < 20", "/docs/language.md"),))
        if ask.min_log_position is not None:
            parse_position(ask.min_log_position, 1, len(self.events))

    def encoded_slate(self, _question: RecommendationQuestion, _placement: str) -> None:
        """Compile no plan."""

    async def recommend(self, ask: Ask, _stamp: None = None) -> Answer:
        """Return the newest items that are known, less those that are not wanted."""
        self.check(ask)
        plan = self.plans[ask.placement]
        newest = dict.fromkeys(each.item_id for each in reversed(self.events) if each.item_id)
        if ask.about is not None and ask.about not in newest:
            raise ItemUnknown((Fault("item_id", f"{ask.about!r} came.", "An item that is known.", "/docs/http.md"),))
        removed: tuple[Removal, ...] = ()
        if ask.given is not None:
            require_rankable(ask.given)
            removed = tuple(Removal(each, "unknown") for each in ask.given if each not in newest)
            newest = dict.fromkeys(each for each in ask.given if each in newest)
        size = ask.n or (plan.slate_size if ask.given is None else len(ask.given))
        left = [each for each in newest if each not in (*ask.exclude, ask.about)]
        ids = left[:size]
        request_id, _ = _IDS.make()
        answer = Answer(
            request_id=request_id,
            placement=plan.name,
            items=tuple(self._answer_item(each, place, ask) for place, each in enumerate(ids)),
            tier="full",
            applied_log_position=self.token(self.fold.log_position),
            read_your_writes=None if ask.min_log_position is None else True,
            state_age_ms=0,
            config_hash="fake",
            failures=(),
            removed=removed,
            not_selected=0 if ask.given is None else len(left) - len(ids),
            explanation=_why(request_id, ids) if ask.explain else None,
        )
        self._served[request_id] = answer
        self.metrics.observe_answer(plan.name, answer.tier, len(ids))
        return answer

    @property
    def retractor(self) -> "FakeEngine":
        """Take acts back itself."""
        return self

    async def by_id(self, event_id: str, user_id: str | None = None) -> RetractionAnswer:
        """Take back the act with an id."""
        return self._take_back(lambda each: each.event_id == event_id and user_id in (None, each.user_id))

    async def newest(self, asked: ActQuestion) -> RetractionAnswer:
        """Take back the newest act of a user with an item."""
        wanted = (asked.user_id, asked.type, asked.item_id)
        return self._take_back(lambda each: (each.user_id, each.action, each.item_id) == wanted)

    def _take_back(self, is_it: Callable[[Event], bool]) -> RetractionAnswer:
        if self.failure is not None:
            raise self.failure
        found = next((at for at in reversed(range(len(self.events))) if is_it(self.events[at])), None)
        if found is None:
            raise ActUnknown((Fault("event_id", "No act came.", "An act.", "/docs/http.md"),))
        is_new = found not in self._taken_back
        self._taken_back.add(found)
        each = self.events[found]
        told = RetractedEvent(each.action, each.item_id, each.event_time_ms or NOW_MS, each.event_id)
        return RetractionAnswer(int(is_new), int(not is_new), (told,), self.token(self.fold.log_position))

    async def recommend_many(self, asks: Sequence[Ask]) -> tuple[Answer | MidstreamError, ...]:
        """Answer one after another."""
        require_count("users", len(asks), USERS_MAX)
        return tuple([await self.recommend(ask) for ask in asks])

    async def encoded_slates(self, body: BatchBody, placement: str) -> AsyncIterator[Answer | MidstreamError]:
        """Answer as ``recommend_many``, without any compiled plan."""
        for each in await self.recommend_many(body.asks(placement)):
            yield each

    async def page(self, asks: Sequence[Ask]) -> PageAnswer:
        """Answer one after another, each without what the ones before it have."""
        self.check_page(asks)
        slates: list[Answer | SlateRefused] = []
        taken: list[str] = []
        for ask in asks:
            try:
                answer = await self.recommend(msgspec.structs.replace(ask, exclude=(*ask.exclude, *taken)))
            except MidstreamError as error:
                slates.append(SlateRefused(ask.placement, error))
                continue
            taken.extend(item.id for item in answer.items)
            slates.append(answer)
        return PageAnswer(next(each.request_id for each in slates if isinstance(each, Answer)), tuple(slates))

    def check_page(self, asks: Sequence[Ask]) -> None:
        """Refuse what ``page`` would refuse as a whole."""
        require_count("placements", len(asks), PAGE_PLACEMENTS_MAX)
        refused: list[MidstreamError] = []
        sizes: list[tuple[int, int]] = []
        for place, ask in enumerate(asks):
            try:
                self.check(ask)
            except MidstreamError as error:
                refused.append(error)
            else:
                sizes.append((place, ask.n or self.plans[ask.placement].slate_size))
        if len(refused) == len(asks):
            raise refused[0]
        require_items(sizes)

    def swap(self, fold: FakeFold, plans: Mapping[str, FakePlan]) -> None:
        """Answer by other plans."""
        self.fold, self.plans = fold, plans

    def served(self, request_id: str) -> Answer | None:
        """Return an answer given before."""
        return self._served.get(request_id)

    def item(self, item_id: str) -> Mapping[str, object] | None:
        """Return an item's attributes, and no acts."""
        view = self._view(Kind.ITEM, "item_id", item_id)
        return view and {**view, "available": True, "in_catalogue": True, "counts": {}}

    def user(self, user_id: str) -> Mapping[str, object] | None:
        """Return a user's attributes, and no acts."""
        view = self._view(Kind.USER, "user_id", user_id)
        acts: dict[str, object] = {"counts": {}, "first_seen": None, "last_seen": None, "recent": [], "impressions": []}
        return view and {**view, **acts, "leanings": {}, "sessions": [], "merged_ids_count": 0}

    async def read_features(self, ask: FeatureAsk) -> FeatureRead:
        """Return how many events named each item, of the one feature there is."""
        if unheard := [name for name in ask.features if name != FEATURE.name]:
            raise RequestInvalid((Fault("/features/0", f"{unheard[0]!r} came.", FEATURE.name, "/docs/features.md"),))
        if ask.min_log_position is not None:
            parse_position(ask.min_log_position, 1, len(self.events))
        counts = Counter(each.item_id for each in self.events)
        values = np.array([[counts.get(each, np.nan)] for each in ask.items], dtype=np.float32).reshape(-1, 1)
        position = self.token(self.fold.log_position)
        return FeatureRead((FEATURE.name,), ask.items, values, position, None, 0, {FEATURE.name: 0})

    def features(self) -> Sequence[FeatureView]:
        """Return the one there is."""
        return [FEATURE]

    def feature(self, name: str) -> FeatureView | None:
        """Return it by its name."""
        return FEATURE if name == FEATURE.name else None

    async def erase(self, user_id: str) -> ErasureDue:
        """Drop a user's attributes."""
        if self.failure is not None:
            raise self.failure
        erase = erase_event(user_id, NOW_MS)
        due = ErasureDue(LogPosition(len(self.events)), TimestampMs(NOW_MS), 1, TimestampMs(NOW_MS + 7 * DAY_MS))
        self.events.append(erase)
        self.fold.log_position = LogPosition(len(self.events))
        self._documents.pop((int(Kind.USER), user_id), None)
        self._erasures.append(due)
        return due

    def erasures(self) -> Sequence[ErasureDue]:
        """Return every erasure: the fake rewrites no log."""
        return self._erasures

    def token(self, position: LogPosition) -> str:
        """Return the text of a log position."""
        return position_token(1, position)

    def request_id_is_ours(self, request_id: str) -> bool:
        """Return whether the tag is right."""
        return _IDS.are_ours(request_id)

    def health(self) -> Health:
        """Return what the fake can do."""
        position = self.fold.log_position
        return Health(
            ready=not (waits := self.listeners.waits()),
            accepts_events=self.failure is None,
            reason="; ".join((*([str(self.failure)] if self.failure else []), *waits, *self.concerns.values())),
            log_position=position,
            applied_log_position=position,
            queued_events=0,
        )

    def refresh_metrics(self) -> None:
        """Set the positions, and what others set."""
        self.listeners.set_gauges()
        self.refresh_event_gauges()

    def refresh_event_gauges(self) -> None:
        """Set the positions."""
        self.metrics.set_positions(self.fold.log_position, self.fold.log_position)

    def refreshing_table_bytes(self) -> Iterator[None]:
        """Set nothing: it has no tables."""
        yield from ()

    def clock(self) -> TimestampMs:
        """Return the time at which the fake's clock stands."""
        return TimestampMs(NOW_MS)

    def accept(self) -> Accept:
        """Return the terms on which events are taken."""
        return Accept(ACTIONS, NOW_MS, attributes={"price": "number", "available": "boolean"})

    def _take(self, event: Event) -> Outcome:
        if event.event_id in self._by_id:
            same = self._by_id[event.event_id] == event or repr(self._by_id[event.event_id]) == repr(event)
            return Outcome.DUPLICATE if same else Outcome.CONFLICT
        if self.unknown_items_are_refused and event.kind == Kind.INTERACTION and self.item(event.item_id) is None:
            return Outcome.REFUSED
        if event.event_id:
            self._by_id[event.event_id] = event
        self.events.append(event)
        if event.kind in {Kind.ITEM, Kind.USER}:
            self._change(event)
        return Outcome.RECORDED

    def _change(self, event: Event) -> None:
        key = (event.kind, event.item_id or event.user_id)
        if event.operation == Operation.MERGE:
            other = self._documents.pop((event.kind, merged_id(event.body)), {})
            self._documents[key] = other | self._documents.get(key, {})
            return
        before = self._documents.pop(key, {}) if event.operation == Operation.PATCH else {}
        if event.operation == Operation.DELETE:
            self._documents.pop(key, None)
            return
        after = before | msgspec.json.decode(event.body or b"{}", type=dict[str, object])
        self._documents[key] = {name: value for name, value in after.items() if value is not None}

    def _view(self, kind: Kind, id_field: str, name: str) -> Mapping[str, object] | None:
        document = self._documents.get((kind, name))
        return None if document is None else {id_field: name, "attributes": document}

    def _answer_item(self, item_id: str, place: int, ask: Ask) -> AnswerItem:
        known = self._documents.get((Kind.ITEM, item_id), {})
        fields = {name: known[name] for name in ask.fields if name in known} if ask.fields else None
        reason = None if ask.reasons is None else f"{item_id} in {ask.reasons}"
        return AnswerItem(item_id, float(np.float32(1 / (60 + place))), place, fields, reason)


@dataclass(slots=True)
class FakeRebuilder:
    """A configuration file that never changes, unless ``failure`` says what is wrong with it."""

    failure: MidstreamError | None = None
    change: Change = "nothing"
    compacted: bool = False
    """Whether the last order asked for it."""

    async def order(self, *, compact: bool = False) -> RebuildView:
        """Find what was said beforehand."""
        if self.failure is not None:
            raise self.failure
        self.compacted = compact
        return self.view()

    def view(self) -> RebuildView:
        """Return what an order found."""
        return RebuildView(change=self.change, fold_version="fake", config_hash="fake")


class FakeExplainer:
    """Explains every request with nothing at once, unless ``is_slow``, or ``failure`` says why it cannot."""

    failure: MidstreamError | None = None
    is_slow = False

    def __init__(self) -> None:
        """Begin without a job."""
        self.asked: list[tuple[str, tuple[str, ...], float]] = []
        """Request, items and seconds that were waited."""

    def begin(self, request_id: str, items: Sequence[str] = ()) -> ChildJob:
        """Return a job that is done, or is not."""
        self.asked.append((request_id, tuple(items), 0.0))
        job = ChildJob(
            ExplainOrder("", 0, request_id, tuple(items)), stage="folding", progress=0.25, error=self.failure
        )
        if not self.is_slow:
            job.state, job.result = "done", b'{"identical":true}'
        return job

    async def wait(self, job: ChildJob, timeout_s: float) -> bool:
        """Note how long would be waited."""
        self.asked[-1] = (*self.asked[-1][:2], timeout_s)
        return not self.is_slow


class FakePast:
    """Features as of any moment, unless ``failure`` says why there are none, or ``is_slow``."""

    failure: MidstreamError | None = None
    is_slow = False

    def __init__(self) -> None:
        """Begin without a question."""
        self.asked: list[PastQuestion] = []

    def begin(self, asked: PastQuestion) -> ChildJob:
        """Return a job that is done, or is not."""
        self.asked.append(asked)
        job = ChildJob(PastOrder("", asked.time_ms, asked.items), stage="folding", progress=0.25, error=self.failure)
        if not self.is_slow:
            items = [ItemValues(each, [1.0]) for each in asked.items]
            job.state = "done"
            job.result = msgspec.json.encode(PastFeaturesAnswer(asked.time_ms, ("views",), items, 3))
        return job

    async def wait(self, _job: ChildJob, _timeout_s: float) -> bool:
        """Wait for nothing."""
        return not self.is_slow


class FakeEraser:
    """Files that nobody's name is in, unless ``failure`` says why they cannot be looked at."""

    failure: MidstreamError | None = None
    view = RewriteView()

    def begin(self) -> None:
        """Do at once all that there is to do, or fail as was said beforehand."""
        if self.failure is not None:
            raise self.failure
        self.view = RewriteView("done", 1.0)

    def receipts(self) -> list[object]:
        """Return none."""
        return []


def _why(request_id: str, ids: Sequence[str]) -> SlateWhy:
    """Return an explanation that says no more than which items there are."""
    return SlateWhy(
        request_id=request_id,
        placement="default",
        log_position=0,
        config_hash="fake",
        tier="full",
        scorer="fake",
        recent=(),
        retrieved={},
        removed={},
        candidate_count=len(ids),
        items=tuple(ItemWhy(id=each, outcome="served", because="it is new") for each in ids),
    )


_entropy = itertools.count(1)
_IDS = RequestIds(b"fake" * 8, lambda size: next(_entropy).to_bytes(size, "big"))
_NAMES: Mapping[Outcome, EventOutcome] = {
    Outcome.RECORDED: "recorded",
    Outcome.DUPLICATE: "duplicate",
    Outcome.CONFLICT: "conflict",
    Outcome.REFUSED: "refused",
}
