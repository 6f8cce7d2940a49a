"""Events to test with: seeded streams as a shop sends them, and Hypothesis strategies of short nasty ones.

Both hold everything that a fold has to cope with: duplicates with the same and with other content, events
that come late, much too late or from the future, shuffled ones, every kind, actions that are not
configured, ids that are missing. All are stamped with log time as the log would do it: never going back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, IndexedBatch, LogPosition
from midstream.events.schema import Event, build
from midstream.events.served_body import RECORD_VERSION, ServedBody, encode_body
from midstream.state.control.placements import encode_placement, placement_body
from midstream.state.control.promotions import ALIASES, promotion_body
from midstream.state.control.retractions import RetractedAct, retraction_body
from midstream.state.ids.erased_users import blanked_body
from midstream.state.ids.event_ids import EventAdmission, EventIds
from midstream.state.ids.retraction_event import ACTS, retraction_of
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.ids import hash_of

START_MS = 1_700_000_000_000
"""Log time of the first event: November 2023."""
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_ACTIONS = ("view", "click", "cart", "purchase", "dismiss", "wave")
"""``wave`` is not configured by default."""
_CATEGORIES = ("shoes", "coats", "hats", "books", "toys", "garden")
_TAGS = ("red", "blue", "new", "sale", "wool", "café")


def tiny_settings() -> FoldSettings:
    """Return settings whose every maximum is reached within some hundred events of ``random_events``."""
    return FoldSettings(
        attributes={
            "price": "number",
            "category": "category",
            "brand": "category",
            "tags": "tags",
            "fresh": "boolean",
            "look": "vector:3",
        },
        session_gap=Duration("2m"),
        half_lives=(Duration("10m"), Duration("1h")),
        pair_half_life=Duration("10m"),
        outcome_window=Duration("5m"),
        segment="user.plan",
        limits=StateLimits(
            users_max=13,
            items_max=24,
            click_items_max=7,
            sessions_max=6,
            session_items_max=5,
            index_sessions_max=17,
            index_items_max=4,
            index_entries_max=5,
            user_ring_max=4,
            event_ids_max=64,
            requests_max=9,
            outcome_slates_max=9,
            outcome_items_max=30,
            outcomes_waiting_max=5,
            hot_items_max=6,
            new_items_max=5,
            pair_neighbours_max=3,
            pair_items_max=3,
            segment_values_max=4,
            attribute_values_max=8,
            item_tags_max=3,
            document_bytes_max=4_096,
            aliases_max=5,
            erased_max=7,
        ),
    )


@dataclass(frozen=True, slots=True)
class Stream:
    """How a seeded stream looks."""

    users: int = 200
    items: int = 150
    sessions: int = 80
    """Session ids in use at a time; they are renewed as the stream goes on."""
    step_ms: int = 4_000
    """Mean log time between events."""
    duplicate_share: float = 0.05
    late_share: float = 0.1
    future_share: float = 0.03
    catalogue_share: float = 0.08
    """Item and user events."""
    other_share: float = 0.12
    """Impressions, served slates, ticks."""
    people_share: float = 0.0
    """Merges of two users, and a quarter as many erasures."""
    retraction_share: float = 0.0
    """Acts and impressions that are taken back, among the last 60 events, some of them twice."""
    feedback_share: float = 0.0
    """Slates as they are served, and what follows them: seen and acted on, sometimes before, late, or of no slate."""


def served_body(request_id: str, ids: Sequence[str], placement: str = "home", plan: str = "p1") -> bytes:
    """Return the body of a served event with these items; what is of no matter to a fold is empty."""
    return encode_body(
        ServedBody(
            version=RECORD_VERSION,
            log_position=0,
            request_id=request_id,
            placement=placement,
            user_id=None,
            session_id=None,
            slate_size=len(ids),
            now_ms=START_MS,
            seed=0,
            items=(),
            exclude=(),
            filter=None,
            context={},
            fetched={},
            config_hash=plan,
            fold_version="",
            scorer="blend",
            tier="full",
            retrieved_count=len(ids),
            candidate_count=len(ids),
            source_names=(),
            retrieved={},
            removed={},
            failures=(),
            ids=tuple(ids),
            scores=b"",
            propensities=b"",
            source_bits=(),
        )
    )


def random_events(count: int, seed: int, stream: Stream | None = None) -> EventBatch:
    """Return ``count`` stamped events of a shop, the same for the same seed.

    Cost: about 15 µs an event.
    """
    return build(random_event_list(count, seed, stream))


def random_event_list(count: int, seed: int, stream: Stream | None = None) -> list[Event]:
    """Return the events of ``random_events`` one by one."""
    return _Generator(np.random.default_rng(seed), stream or Stream()).events(count)


def stamp(events: Sequence[Event], log_times_ms: Sequence[int]) -> EventBatch:
    """Return the events as a batch with these log times."""
    pairs = zip(events, log_times_ms, strict=True)
    return build([event._replace(log_time_ms=time_ms) for event, time_ms in pairs])


def indexed(batch: EventBatch, settings: FoldSettings) -> IndexedBatch:
    """Return a whole log as the tables are given it: deduplicated and with indices, from an empty state."""
    ids = EventIds(settings.limits.event_ids_max, settings.hash_key())
    found = ids.admit(ids.fingerprints(batch), batch.rows["log_time_ms"].copy())
    return Vocabulary(settings).index(LogPosition(0), batch, found == EventAdmission.NEW)


class _Generator:
    """Draws the events of a stream one after another."""

    def __init__(self, rng: np.random.Generator, stream: Stream) -> None:
        self._rng = rng
        self._stream = stream
        self._now_ms = START_MS
        self._sent: list[Event] = []
        self._slates: list[tuple[str, list[str]]] = []

    def events(self, count: int) -> list[Event]:
        """Return the next ``count`` events; some neighbours have changed places before they were stamped."""
        found = [self._event(number) for number in range(count)]
        for index in range(1, count):
            if self._chance(0.1):
                other = max(0, index - int(self._rng.integers(1, 20)))
                found[index], found[other] = found[other], found[index]
        times = sorted(event.log_time_ms for event in found)
        stamped = [event._replace(log_time_ms=time) for event, time in zip(found, times, strict=True)]
        for index, event in enumerate(stamped):
            if event.kind == Kind.RETRACTION:
                stamped[index] = self._retraction(stamped, index)
        return stamped

    def _retraction(self, stamped: Sequence[Event], index: int) -> Event:
        """Return the event that takes back an act before a place, a tick when there is none."""
        acts = [at for at in range(max(0, index - 60), index) if stamped[at].kind in ACTS]
        if not acts:
            return Event(Kind.TICK, log_time_ms=stamped[index].log_time_ms)
        at = acts[int(self._rng.integers(len(acts)))]
        return retraction_of(LogPosition(at), stamped[at])._replace(log_time_ms=stamped[index].log_time_ms)

    def _event(self, number: int) -> Event:
        self._now_ms += self._gap_ms()
        draw = self._rng.random()
        stream = self._stream
        if self._sent and draw < stream.duplicate_share:
            return self._duplicate()
        draw -= stream.duplicate_share
        if stream.retraction_share and self._chance(stream.retraction_share):
            return Event(Kind.RETRACTION, log_time_ms=self._now_ms)
        if stream.people_share and self._chance(stream.people_share):
            event = self._person()
        elif stream.feedback_share and self._chance(stream.feedback_share):
            event = self._slate(number) if self._chance(0.3) else self._outcome(number)
        elif draw < stream.catalogue_share:
            event = self._item() if self._chance(0.75) else self._user()
        elif draw < stream.catalogue_share + stream.other_share:
            event = self._other(number)
        else:
            event = self._interaction()
        event = event._replace(event_id=self._event_id(number), log_time_ms=self._now_ms)
        self._sent.append(event)
        return event

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def _gap_ms(self) -> int:
        """Mostly short steps, sometimes none, rarely a silence longer than a session gap or a day."""
        if self._chance(0.2):
            return 0
        if self._chance(0.997):
            return int(self._rng.exponential(self._stream.step_ms))
        return int(self._rng.choice([20 * _MINUTE_MS, 45 * _MINUTE_MS, 3 * _HOUR_MS, 26 * _HOUR_MS]))

    def _event_id(self, number: int) -> str:
        return "" if self._chance(0.2) else f"e{number}"

    def _duplicate(self) -> Event:
        """One of the last 400 events again, sometimes with other content under the same id."""
        recent = self._sent[-400:]
        event = recent[int(self._rng.integers(len(recent)))]
        if self._chance(0.15):
            event = event._replace(value=float(self._rng.integers(100)))
        return event._replace(log_time_ms=self._now_ms)

    def _sent_ms(self) -> int | None:
        """Event time as a client would send it."""
        if self._chance(0.2):
            return None
        stream = self._stream
        draw = self._rng.random()
        if draw < stream.late_share:
            behind = self._rng.choice([6 * _MINUTE_MS, _HOUR_MS, 20 * _HOUR_MS, 25 * _HOUR_MS, 900 * _HOUR_MS])
            return self._now_ms - int(behind * self._rng.uniform(0.9, 1.1))
        if draw < stream.late_share + stream.future_share:
            return self._now_ms + int(self._rng.integers(_MINUTE_MS, 48 * _HOUR_MS))
        return self._now_ms - int(self._rng.integers(0, 3_000))

    def _zipf(self, count: int) -> int:
        """A number below ``count``, small ones more often: uniform in the logarithm."""
        return int((count + 1) ** self._rng.random()) - 1

    def _user_id(self) -> str:
        return "" if self._chance(0.1) else f"user-{self._zipf(self._stream.users)}"

    def _session_id(self) -> str:
        if self._chance(0.3):
            return ""
        generation = (self._now_ms - START_MS) // (10 * _MINUTE_MS)
        return f"session-{generation}-{int(self._rng.integers(self._stream.sessions))}"

    def _item_id(self) -> str:
        return "" if self._chance(0.02) else f"item-{self._zipf(self._stream.items)}"

    def _interaction(self) -> Event:
        rng = self._rng
        shares = (0.5, 0.28, 0.1, 0.05, 0.05, 0.02)
        return Event(
            Kind.INTERACTION,
            action=_ACTIONS[int(rng.choice(len(_ACTIONS), p=shares))],
            user_id=self._user_id(),
            item_id=self._item_id(),
            session_id=self._session_id(),
            body=b'{"page":"%d"}' % (self._now_ms // 1_000 % 6) if self._chance(0.3) else b"",
            event_time_ms=self._sent_ms(),
            value=float(rng.integers(1, 9_000)) / 100 if self._chance(0.2) else float("nan"),
        )

    def _item(self) -> Event:
        operation = Operation(int(self._rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])))
        body = b"" if operation == Operation.DELETE else json.dumps(self._attributes()).encode()
        item_id = f"item-{self._zipf(self._stream.items)}"
        return Event(Kind.ITEM, operation, item_id=item_id, body=body, event_time_ms=self._sent_ms())

    def _attributes(self) -> dict[str, object]:
        rng = self._rng
        possible: dict[str, object] = {
            "price": float(rng.integers(1, 10_000)) / 100,
            "category": _CATEGORIES[self._zipf(len(_CATEGORIES))],
            "brand": f"brand-{self._zipf(9)}",
            "tags": [_TAGS[int(each)] for each in rng.integers(0, len(_TAGS), size=int(rng.integers(0, 5)))],
            "fresh": bool(self._chance(0.5)),
            "available": bool(self._chance(0.8)),
            "title": f"No. {int(rng.integers(1_000))}",
        }
        names = [name for name in possible if self._chance(0.6)]
        found = {name: None if self._chance(0.08) else possible[name] for name in names}
        cents = round(cast("float", possible["price"]) * 100)
        return found | _look(cents)

    def _user(self) -> Event:
        operation = Operation(int(self._rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1])))
        body = b"" if operation == Operation.DELETE else b'{"plan":"%d"}' % int(self._rng.integers(9))
        user_id = f"user-{self._zipf(self._stream.users)}"
        return Event(Kind.USER, operation, user_id=user_id, body=body, event_time_ms=self._sent_ms())

    def _person(self) -> Event:
        user_id, other = (f"user-{self._zipf(self._stream.users)}" for _ in range(2))
        if self._chance(0.2):
            return Event(Kind.ERASE, user_id=user_id)
        body = json.dumps({"from": other}).encode()
        return Event(Kind.USER, Operation.MERGE, user_id=user_id, body=body, event_time_ms=self._sent_ms())

    def _slate(self, number: int) -> Event:
        """A slate of up to eight distinct items; one in 20 has a body that nobody can read."""
        rng = self._rng
        chosen = {self._zipf(self._stream.items): None for _ in range(int(rng.integers(0, 9)))}
        request_id, ids = f"r{number}", [f"item-{each}" for each in chosen]
        self._slates.append((request_id, ids))
        placement, plan = f"place-{self._zipf(4)}", f"plan-{self._zipf(3)}"
        body = b"?" if self._chance(0.05) else served_body(request_id, ids, placement, plan)
        return Event(Kind.SERVED, user_id=self._user_id(), request_id=request_id, body=body)

    def _outcome(self, number: int) -> Event:
        """An impression or act that names one of the last 30 slates, mostly with one of its items, or one to come."""
        event = self._interaction()
        if self._chance(0.5):
            event = event._replace(kind=Kind.IMPRESSION, action="")
        event = event._replace(quantity=float(self._rng.integers(1, 4)) if self._chance(0.2) else float("nan"))
        if not self._slates or self._chance(0.15):
            return event._replace(request_id=f"r{number + int(self._rng.integers(1, 6))}")
        recent = self._slates[-30:]
        request_id, ids = recent[int(self._rng.integers(len(recent)))]
        if ids and self._chance(0.85):
            event = event._replace(item_id=ids[int(self._rng.integers(len(ids)))])
        return event._replace(request_id=request_id)

    def _other(self, number: int) -> Event:
        if self._chance(0.7):
            return Event(
                Kind.IMPRESSION,
                user_id=self._user_id(),
                item_id=self._item_id(),
                session_id=self._session_id(),
                position=int(self._rng.integers(10)),
                event_time_ms=self._sent_ms(),
            )
        if self._chance(0.7):
            return Event(Kind.SERVED, user_id=self._user_id(), request_id=f"r{number}", body=b"{}")
        return Event(Kind.TICK)


_IDS = ("", "a", "b", "c", "d", "é", "a-longer-identifier-of-more-than-32-bytes")
_BODIES = (
    *(b"", b"{}", b'{"category":"hats"}', b'{"category":null,"price":3}', b'{"category":"toys","available":false}'),
    *(b'{"plan":"a"}', b'{"plan":2,"page":true}', b'{"plan":[],"page":"a"}'),
)
_STEPS_MS = (0, 0, 1, 1_000, 61_000, 150_000, 40 * _MINUTE_MS, 23 * _HOUR_MS, 25 * _HOUR_MS)
"""What a day ends for one of two events that are 40 minutes apart, 23 hours and twice as much do not for the other."""
_BEHIND_MS = (0, 1_000, 3 * _MINUTE_MS, _HOUR_MS, 24 * _HOUR_MS, 24 * _HOUR_MS + 1, 2_000 * _HOUR_MS)
_AHEAD_MS = (5 * _MINUTE_MS, 5 * _MINUTE_MS + 1, 30 * _HOUR_MS)
_SHIFTS_MS = (*(-each for each in _BEHIND_MS), *_AHEAD_MS)


def event_lists(size_max: int = 60, *, people: bool = False) -> st.SearchStrategy[list[Event]]:
    """Return lists of stamped events over very few ids, so that everything meets everything.

    Args:
        size_max: Events at most.
        people: Whether users are merged and erased among them, acts taken back, models promoted and placements set.
    """
    drafts = st.one_of(_drafts(), _drafts(), _drafts(), _people(), _retractions(), _control()) if people else _drafts()
    return st.lists(drafts, max_size=size_max).map(_stamped)


def event_batches(size_max: int = 60, *, people: bool = False) -> st.SearchStrategy[EventBatch]:
    """Return batches of what ``event_lists`` draws."""
    return event_lists(size_max, people=people).map(build)


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Return sorted places at which to cut ``size`` events."""
    return st.lists(st.integers(0, size), max_size=6).map(sorted)


def _drafts() -> st.SearchStrategy[tuple[int, int | None, Event]]:
    """Return the step of log time, the shift of event time (None = not sent), and the event."""
    event = st.builds(
        Event,
        kind=st.sampled_from([1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]),
        operation=st.integers(1, 3),
        event_id=st.sampled_from(["", "", "e1", "e2", "e3", "e4", "e5", "e6", "e7"]),
        action=st.sampled_from(_ACTIONS),
        user_id=st.sampled_from(_IDS),
        item_id=st.sampled_from(_IDS),
        session_id=st.sampled_from(_IDS),
        request_id=st.sampled_from(_IDS),
        body=st.sampled_from(_BODIES),
        event_time_ms=st.none(),
        value=st.sampled_from([float("nan"), 1.0, -0.0, 7.5]),
        quantity=st.sampled_from([float("nan"), 2.0]),
        log_time_ms=st.just(0),
        position=st.integers(-1, 2),
    )
    shift = st.none() | st.sampled_from(_SHIFTS_MS)
    return st.tuples(st.sampled_from(_STEPS_MS), shift, event)


def _people() -> st.SearchStrategy[tuple[int, int | None, Event]]:
    """Return merges, erasures, and what is left of an erasure when the log was rewritten, as ``_drafts`` does.

    Some have an event id, so that there are copies of them, which the fold drops.
    """
    bodies = [b"{}", *(json.dumps({"from": each}).encode() for each in _IDS)]
    pairs = st.tuples(st.sampled_from(_IDS), st.sampled_from(bodies))
    merge = pairs.map(lambda pair: Event(Kind.USER, Operation.MERGE, user_id=pair[0], body=pair[1]))
    erase = st.sampled_from(_IDS[1:]).map(lambda each: Event(Kind.ERASE, user_id=each))
    blanked = st.sampled_from(_IDS[1:4]).map(blanked_erase)
    shift = st.none() | st.sampled_from(_SHIFTS_MS)
    event_id = st.sampled_from(["", "", "e1", "e2", "m1", "m2"])
    event = st.builds(_with_event_id, merge | merge | erase | blanked, event_id)
    return st.tuples(st.sampled_from(_STEPS_MS), shift, event)


def _retractions() -> st.SearchStrategy[tuple[int, int | None, Event]]:
    """Return retractions of anything, which need not be what stands at that place, as ``_drafts`` does."""
    told = st.builds(
        RetractedAct,
        log_position=st.integers(-1, 60),
        log_time=st.integers(START_MS, START_MS + 50 * _HOUR_MS),
        time=st.integers(START_MS, START_MS + 50 * _HOUR_MS),
        type=st.sampled_from([*_ACTIONS, "impression", "", "x"]),
    )
    body = told.map(retraction_body) | st.sampled_from([b"", b"{}", b"\xff"])
    ids = st.sampled_from(_IDS)
    event = st.tuples(ids, ids, ids, body).map(
        lambda told: Event(Kind.RETRACTION, user_id=told[0], item_id=told[1], session_id=told[2], body=told[3])
    )
    return st.tuples(st.sampled_from(_STEPS_MS), st.none(), event)


def blanked_erase(*user_ids: str) -> Event:
    """Return what a rewrite of the log leaves of an erase of users, under the key of a state without a log."""
    return Event(Kind.ERASE, body=blanked_body(sorted(map(hash_of, user_ids))))


def random_erasures(seed: int) -> EventBatch:
    """Return a log of erases of two users, again and again and mostly blanked, and of ticks for some days after."""
    rng = np.random.default_rng(seed)
    drafts: list[tuple[int, int | None, Event]] = []
    for _ in range(int(rng.integers(5, 40))):
        user_id = _IDS[int(rng.integers(1, 3))]
        erase = blanked_erase(user_id) if rng.random() < 0.8 else Event(Kind.ERASE, user_id=user_id)
        step_ms = int(rng.choice([40 * _MINUTE_MS, _HOUR_MS, 2 * _HOUR_MS, 6 * _HOUR_MS]))
        drafts.append((step_ms, None, erase if rng.random() < 0.4 else Event(Kind.TICK)))
    return build(_stamped(drafts))


def _with_event_id(event: Event, event_id: str) -> Event:
    return event._replace(event_id=event_id)


def _control() -> st.SearchStrategy[tuple[int, int | None, Event]]:
    """Return promotions of models, versions of placements, and control events that say something else."""
    names, versions = st.sampled_from(["als", "near"]), st.sampled_from(["", "0001-aa", "0002-bb"])
    aliases = st.sampled_from([*ALIASES, "king"])
    body = st.builds(promotion_body, names, aliases, versions, versions) | st.sampled_from([b"", b"{}", b"\xff"])
    words = st.sampled_from(["", "a", "é" * 9])
    placement = st.builds(placement_body, st.sampled_from(["", "home", "cart"]), st.integers(0, 4), words, words, words)
    event = (body | placement.map(encode_placement)).map(lambda each: Event(Kind.CONTROL, body=each))
    return st.tuples(st.sampled_from(_STEPS_MS), st.none(), event)


def _stamped(drafts: Sequence[tuple[int, int | None, Event]]) -> list[Event]:
    now_ms = START_MS
    events: list[Event] = []
    for step_ms, shift_ms, draft in drafts:
        now_ms += step_ms
        operation = draft.operation if draft.kind in {Kind.ITEM, Kind.USER} else Operation.NONE
        action = draft.action if draft.kind == Kind.INTERACTION else ""
        sent_ms = None if shift_ms is None else now_ms + shift_ms
        user_id = "" if draft.kind == Kind.CONTROL else draft.user_id  # what an operator says is no user's
        event = draft._replace(operation=operation, action=action, user_id=user_id)
        events.append(event._replace(event_time_ms=sent_ms, log_time_ms=now_ms))
    return events


def _look(number: int) -> dict[str, object]:
    """Return a vector, null, nothing, or a list that is none, by a number that was drawn anyway."""
    if number % 3 == 0:
        return {}
    if number % 7 == 0:
        return {"look": None}
    length = 2 if number % 11 == 0 else 3
    return {"look": [(number * (place + 1) % 997 - 498) / 100 for place in range(length)]}
