"""Traffic of a shop's clients: acts, impressions, changes of items and users; late, early, repeated and broken ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from midstream.core.kinds import Kind, Operation
from midstream.events.schema import Event
from midstream.serving.slates.bulk_changes import ITEM, USER, CatalogueSubject
from tests.support.dice import Dice

Face: TypeAlias = tuple[str, str, str, str]
"""What can be seen of a row from outside: type (with the operation), user, item, session."""
SentEvent: TypeAlias = dict[str, object]
ITEMS = 24
"""Items of the catalogue; ``x`` items are never put into it."""
USERS = 20
_ACTIONS = {"view": 10.0, "click": 5.0, "cart": 2.0, "purchase": 1.0, "dismiss": 1.0}
_CATEGORIES = ("shoes", "coats", "hats", "books")
_MINUTE_MS = 60_000
_BEHIND_MS = (6 * _MINUTE_MS, 20 * 60 * _MINUTE_MS, 25 * 60 * _MINUTE_MS, 900 * 60 * _MINUTE_MS)
_AHEAD_MS = (4 * _MINUTE_MS, 6 * _MINUTE_MS, 48 * 60 * _MINUTE_MS)
_OPERATIONS = {Operation.PUT: "put", Operation.PATCH: "patch", Operation.DELETE: "delete"}


@dataclass(slots=True, eq=False)
class TrafficBatch:
    """One request's events."""

    events: list[SentEvent]
    is_bad: bool = False
    """Some of it is to be rejected."""
    is_whole: bool = False
    """No event of it was ever sent in another batch: all are in one commit, or none is in the log."""
    form: int = 0
    """How it is written down: a list, an object of events, or lines."""
    broken: bytes | None = None
    """Instead of events: a body that nobody can read."""
    noun: CatalogueSubject | None = None
    """Of the route for many items or users that takes it as a stream; None = the one for events."""
    is_noted: bool = False
    """It was sent at least once."""
    acknowledged: bool = False

    def body(self) -> bytes:
        """Return the bytes that are sent."""
        if self.broken is not None:
            return self.broken
        if self.form == 0:
            return json.dumps(self.events).encode()
        if self.form == 1:
            return json.dumps({"events": self.events}).encode()
        return "\n".join(json.dumps(event) for event in self.events).encode()

    def lines(self) -> bytes:
        """Return the bytes of a stream, without what its route says itself."""
        said = () if self.noun is None else (("type", self.noun.kind), ("operation", "put"))
        lines = ({name: value for name, value in event.items() if (name, value) not in said} for event in self.events)
        return "\n".join(json.dumps(line) for line in lines).encode()


@dataclass(slots=True)
class Traffic:
    """Makes one client's events."""

    number: int
    dice: Dice
    now_ms: Callable[[], int]
    request_ids: list[tuple[str, tuple[str, ...]]] = field(default_factory=list[tuple[str, tuple[str, ...]]])
    """Answers that this client got: request id and items, newest last."""
    _count: int = 0
    _session: int = 0

    def user(self) -> str:
        """Return a user, few of them often."""
        return f"u{self.dice.few(USERS)}"

    def item(self) -> str:
        """Return an item; one in ten is not in the catalogue."""
        return f"x{self.dice.below(9)}" if self.dice.chance(0.1) else f"i{self.dice.few(ITEMS)}"

    def session(self) -> str:
        """Return the session that this client is in; a new one begins now and then."""
        self._session += self.dice.chance(0.1)
        return f"s{self.number}-{self._session}"

    def acts(self, count: int) -> TrafficBatch:
        """Return interactions and impressions."""
        return TrafficBatch([self._act() for _ in range(count)], form=self.dice.below(3), is_whole=True)

    def outcomes(self, count: int) -> TrafficBatch:
        """Return what followed a slate, mostly one of the last: items of it were seen, some were acted on."""
        request_id, items = self.request_ids[-1 - self.dice.few(len(self.request_ids))]
        seen = [self._seen(request_id, item) for item in items[:count]]
        acts = [{**self._act(), "request_id": request_id} for _ in range(count)]
        for act in acts:
            if items and "items" not in act:
                act["item_id"] = self.dice.choice(items)
        return TrafficBatch([*seen, *acts], form=self.dice.below(3), is_whole=True)

    def changes(self, count: int) -> TrafficBatch:
        """Return changes of the catalogue and of profiles."""
        make = (self._item_change, self._item_change, self._item_change, self._user_change)
        return TrafficBatch([self.dice.choice(make)() for _ in range(count)], is_whole=True)

    def merge(self) -> TrafficBatch:
        """Return an event that makes two users one."""
        event = self._begun("user")
        event |= {"user_id": self.user(), "operation": "merge", "attributes": {"from": self.user()}}
        return TrafficBatch([event], is_whole=True)

    def opening(self) -> TrafficBatch:
        """Return the catalogue as a shop begins with it."""
        return TrafficBatch([self._item_change(f"i{n}", Operation.PUT) for n in range(0, ITEMS, 2)], is_whole=True)

    def stream(self, count: int) -> TrafficBatch:
        """Return acts, or changes of items or of profiles alone; some of them cannot be used now and then."""
        makes = ((None, self._act), (ITEM, self._item_change), (USER, self._user_change))
        noun, make = self.dice.choice(makes)
        batch = TrafficBatch([make() for _ in range(count)], is_bad=self.dice.chance(0.3), noun=noun)
        if batch.is_bad:
            self.dice.choice(batch.events).update(self.dice.choice(_MISTAKES))
        return batch

    def bad(self, count: int) -> TrafficBatch:
        """Return events of which some, or the body as a whole, cannot be used."""
        batch = self.acts(count)
        batch.is_bad, batch.is_whole = True, False
        if self.dice.chance(0.3):
            batch.broken = self.dice.choice((b"", b"{", b'{"events":3}', b"\xff\xfe", b"[[[]]]", b'{"events":[]}'))
        for event in batch.events:
            if self.dice.chance(0.5):
                event.update(self.dice.choice(_MISTAKES))
        return batch

    def _act(self) -> SentEvent:
        dice = self.dice
        event = self._begun("impression" if dice.chance(0.15) else dice.weighted(_ACTIONS))
        if dice.chance(0.9):
            event["user_id"] = self.user()
        if dice.chance(0.7) or "user_id" not in event:
            event["session_id"] = self.session()
        event["item_id"] = self.item()
        if self.request_ids and dice.chance(0.3):
            request_id, items = dice.choice(self.request_ids[-5:])
            event["request_id"] = request_id
            if items:
                event["item_id"] = dice.choice(items)
        if dice.chance(0.1):
            event["items"] = [{"item_id": event.pop("item_id")}, {"item_id": self.item(), "quantity": 2}]
        if dice.chance(0.2):
            event["context"] = {"page": dice.choice(("home", "list", "cart")), "depth": dice.below(9)}
        if event["type"] in _ACTIONS and "items" not in event and dice.chance(0.3):
            event |= {"value": dice.below(50) / 3, "quantity": 1 + dice.below(3)}
        return event

    def _seen(self, request_id: str, item: str) -> SentEvent:
        return {**self._begun("impression"), "user_id": self.user(), "request_id": request_id, "item_id": item}

    def _item_change(self, item: str = "", operation: Operation | None = None) -> SentEvent:
        event = self._begun("item")
        event["item_id"] = item or f"i{self.dice.few(ITEMS)}"
        event |= self._change(operation, self._attributes)
        return event

    def _user_change(self) -> SentEvent:
        event = self._begun("user")
        event["user_id"] = self.user()
        event |= self._change(None, lambda: {"plan": str(self.dice.below(9))})
        return event

    def _change(self, operation: Operation | None, attributes: Callable[[], SentEvent]) -> SentEvent:
        weights = {Operation.PUT: 5.0, Operation.PATCH: 4.0, Operation.DELETE: 1.5}
        chosen = operation or self.dice.weighted(weights)
        found: SentEvent = {"operation": _OPERATIONS[chosen]}
        if chosen == Operation.DELETE:
            return found
        sent = attributes()
        if chosen == Operation.PATCH:
            sent = {name: None if self.dice.chance(0.1) else value for name, value in sent.items()}
        return {**found, "attributes": sent}

    def _attributes(self) -> SentEvent:
        dice = self.dice
        possible: SentEvent = {
            "price": float(dice.below(100)),
            "category": dice.choice(_CATEGORIES),
            "tags": [dice.choice(("red", "blue", "new")) for _ in range(dice.below(4))],
            "fresh": dice.chance(0.5),
            "available": dice.chance(0.7),
        }
        found = {name: value for name, value in possible.items() if dice.chance(0.6)}
        price = found.get("price", 0.0)
        return {**found, "look": [price, -price / 7.0]} if isinstance(price, float) and price % 2.0 else found

    def _begun(self, kind: str) -> SentEvent:
        self._count += 1
        event: SentEvent = {"type": kind}
        if self.dice.chance(0.9):
            event["event_id"] = f"e{self.number}-{self._count}"
        draw = self.dice.share()
        if draw < 0.6:
            event["time"] = self.now_ms() - self.dice.below(3_000)
        elif draw < 0.7:
            event["time"] = self.now_ms() - self.dice.choice(_BEHIND_MS) - self.dice.below(1_000)
        elif draw < 0.74:
            event["time"] = self.now_ms() + self.dice.choice(_AHEAD_MS) + self.dice.below(1_000)
        return event


_MISTAKES: tuple[SentEvent, ...] = (
    {"item_id": 7},
    {"type": "served"},
    {"type": "nonsense"},
    {"time": 1_750_000_000},
    {"value": "much"},
    {"request_id": "forged"},
    {"unknown": 1},
    {"user_id": ""},
    {"position": -3},
)


def rows_of(event: Mapping[str, object]) -> list[tuple[str, Face]]:
    """Return the id (empty = none) and the face of each row that an event becomes."""
    kind = str(event["type"])
    if kind in {"item", "user"}:
        kind = f"{kind} {event.get('operation')}"
    who = str(event.get("user_id", ""))
    session = str(event.get("session_id", ""))
    event_id = str(event.get("event_id", ""))
    several = event.get("items")
    if isinstance(several, list):
        items = [str(each["item_id"]) for each in several]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        names = [f"{event_id}#{number}" if event_id else "" for number in range(len(items))]
        return [(name, (kind, who, item, session)) for name, item in zip(names, items, strict=True)]
    return [(event_id, (kind, who, str(event.get("item_id", "")), session))]


def face_of(event: Event) -> Face:
    """Return the face of a row of the log."""
    kind = event.action if event.kind == Kind.INTERACTION else Kind(event.kind).name.lower()
    if event.kind in {Kind.ITEM, Kind.USER}:
        kind = f"{kind} {Operation(event.operation).name.lower()}"
    return (kind, event.user_id, event.item_id, event.session_id)
