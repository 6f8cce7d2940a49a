"""Grammar of valid HTTP requests: every route of a server, with the headers and the body that it takes.

A request that this makes is answered with a status below 400, or with 404 where it asks for what may not be there.
"""

import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote
from zlib import crc32

from tests.support.dice import Dice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

USERS, ITEMS, SESSIONS = 50, 200, 500
ACTIONS = ("view", "view", "view", "cart", "purchase", "dismiss")
JSON = "application/json"
LINES = "application/x-ndjson"


@dataclass
class Request:
    """One request before it is bytes."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    event_ids: tuple[str, ...] = ()
    """Of the events that it records when it is answered with success."""
    framing: str = "length"
    """``length``, ``chunked``, or ``own``: the headers say it already."""
    statuses: frozenset[int] = frozenset({200})
    """Of the answer while the request is as the grammar made it."""
    hidden_ids: tuple[str, ...] = ()
    """Of the events of a request that is hidden in the body: never recorded."""
    must_be_refused: bool = False
    """A mutation made it one that no server may obey."""
    version: str = "HTTP/1.1"
    trailers: bytes = b""
    """Between the last chunk and the empty line."""


class Grammar:
    """Makes requests; its dice decide which, and the numbers that it gives to events never come twice."""

    def __init__(self, dice: Dice, host: str, name: str) -> None:
        """Begin with event 0 of ``name``."""
        self.dice = dice
        self.host = host
        self._name = name
        self._events = 0
        self._made: Mapping[Callable[[], Request], float] = {
            self.events: 30,
            self.ask: 15,
            self.question_in_target: 5,
            self.item: 6,
            self.items: 3,
            self.user: 5,
            self.merge: 1,
            self.lookup: 14,
            self.rank: 4,
            self.page: 3,
            self.batch: 2,
            self.features: 3,
            self.bulk: 3,
            self.placement: 0.3,
            self.operation: 4,
        }

    def request(self) -> Request:
        """Return a request to one of the routes."""
        return self.dice.weighted(self._made)()

    def event_id(self) -> str:
        """Return an id that no event had, and that none gets by a changed digit: the last part checks the others."""
        self._events += 1
        name = f"{self._name}-{self._events}"
        return f"{name}-{crc32(name.encode()):08x}"

    def event(self) -> dict[str, object]:
        """Return an interaction as a client sends it."""
        dice = self.dice
        made: dict[str, object] = {
            "type": dice.choice(ACTIONS),
            "event_id": self.event_id(),
            "session_id": f"s{dice.below(SESSIONS)}",
            "item_id": f"i{dice.few(ITEMS)}",
        }
        if dice.chance(0.6):
            made["user_id"] = f"u{dice.few(USERS)}"
        if dice.chance(0.2):
            made["value"] = round(dice.between(0, 100), 2)
        if dice.chance(0.2):
            made["context"] = {"device": dice.choice(("phone", "desk")), "depth": dice.below(9)}
        if dice.chance(0.1):
            del made["item_id"]
            made.pop("value", None)  # of an event with items each has its own
            made["items"] = [{"item_id": f"i{dice.few(ITEMS)}", "quantity": 1} for _ in range(1 + dice.few(20))]
        return made

    def events(self) -> Request:
        """Events one at a time, as a list, in an envelope, a line each, or packed."""
        made = [self.event() for _ in range(1 + self.dice.few(10))]
        # Each item of an event is a row, whose id has its number behind it.
        ids = tuple(
            f"{each['event_id']}#{number}" if "items" in each else str(each["event_id"])
            for each in made
            for number in range(len(each.get("items", (0,))))  # type: ignore[arg-type]
        )
        shape = self.dice.choice(("one", "list", "envelope", "lines", "gzip"))
        headers = [("content-type", LINES if shape == "lines" else JSON)]
        match shape:
            case "one" if len(made) == 1:
                body = json.dumps(made[0]).encode()
            case "envelope":
                body = json.dumps({"events": made}).encode()
            case "lines":
                body = b"\n".join(json.dumps(each).encode() for each in made)
            case "gzip":
                body = gzip.compress(json.dumps(made).encode(), 1)
                headers.append(("content-encoding", "gzip"))
            case _:
                body = json.dumps(made).encode()
        return self._made_of("POST", "/v1/events", headers, body, event_ids=ids)

    def question(self) -> dict[str, object]:
        """Return what a recommendation is asked with."""
        dice = self.dice
        made: dict[str, object] = {"n": 1 + dice.below(10), "session_id": f"s{dice.below(SESSIONS)}"}
        if dice.chance(0.5):
            made["user_id"] = f"u{dice.few(USERS)}"
        if dice.chance(0.2):
            made["items"] = [f"i{dice.few(ITEMS)}" for _ in range(1 + dice.below(5))]
        if dice.chance(0.2):
            made["exclude"] = [f"i{dice.few(ITEMS)}"]
        if dice.chance(0.1):
            made["filter"] = "item.available"
        if dice.chance(0.1):
            made["cursor"] = True
        return made

    def ask(self) -> Request:
        """A slate, at times with events that come along."""
        asked = self.question()
        ids: tuple[str, ...] = ()
        if self.dice.chance(0.3):
            event = self.event()
            if "items" not in event:
                asked["events"] = [event]
                ids = (str(event["event_id"]),)
        return self._with_json("POST", "/v1/recommendations", asked, event_ids=ids)

    def question_in_target(self) -> Request:
        """A slate that is asked for in a query string."""
        target = f"/v1/recommendations?session_id=s{self.dice.below(SESSIONS)}&n={1 + self.dice.below(9)}"
        return self._made_of("GET", f"{target}&context.budget=20" if self.dice.chance(0.3) else target)

    def item(self) -> Request:
        """One item is set, changed or taken away."""
        target = f"/v1/items/{quote(self.dice.choice(('i1', 'a/b c', 'ü', 'i7')), safe='')}"
        match self.dice.choice(("PUT", "PATCH", "DELETE")):
            case "DELETE":
                return self._made_of("DELETE", f"{target}-gone")
            case method:
                return self._with_json(method, target, {"price": self.dice.below(100), "available": True})

    def items(self) -> Request:
        """Several items at once."""
        made = [{"item_id": f"i{self.dice.few(ITEMS)}", "attributes": {"price": 1.5}} for _ in range(3)]
        return self._with_json("POST", "/v1/items", made)

    def user(self) -> Request:
        """A profile."""
        method = self.dice.choice(("PUT", "PATCH"))
        return self._with_json(method, f"/v1/users/u{self.dice.few(USERS)}", {"language": "en"})

    def merge(self) -> Request:
        """A visitor becomes a known user."""
        target = f"/v1/users/u{self.dice.few(USERS)}/merge"
        return self._with_json(
            "POST", target, {"user_id": f"v{self.dice.below(20)}"}, statuses=frozenset({200, 400, 409})
        )

    def lookup(self) -> Request:
        """What is known of something that may be there or not."""
        target = self.dice.choice(
            (
                f"/v1/items/i{self.dice.few(ITEMS)}",
                f"/v1/items/i{self.dice.few(ITEMS)}/similar?n=3",
                f"/v1/users/u{self.dice.few(USERS)}",
                "/v1/requests/nobody",
                "/v1/placements",
                "/v1/placements/home",
                "/v1/features",
                "/v1/features/mine",
                "/v1/dead-letters?limit=2",
                "/v1/rebuild",
                "/v1/models",
                "/v1/erasures",
            )
        )
        return self._made_of("GET", target, statuses=frozenset({200, 404}))

    def rank(self) -> Request:
        """Items of the caller's in a new order."""
        items = [f"i{self.dice.few(ITEMS)}" for _ in range(1 + self.dice.below(30))]
        asked = {"items": sorted(set(items)), "session_id": f"s{self.dice.below(SESSIONS)}"}
        return self._with_json("POST", "/v1/rank", asked)

    def page(self) -> Request:
        """Several slates of one page."""
        placements = [{"placement": "home", "n": 3}, {"placement": "home", "n": 2}]
        return self._with_json("POST", "/v1/pages", {"placements": placements, "session_id": "s1"})

    def batch(self) -> Request:
        """The same question for several users."""
        return self._with_json("POST", "/v1/recommendations/batch", {"users": ["u1", "u2"], "n": 2})

    def features(self) -> Request:
        """Features of items."""
        return self._with_json("POST", "/v1/features/read", {"user_id": "u1", "items": ["i1", "i2"]})

    def bulk(self) -> Request:
        """A stream of events."""
        made = [event for _ in range(1 + self.dice.few(30)) if "items" not in (event := self.event())]
        body = b"".join(json.dumps(each).encode() + b"\n" for each in made)
        ids = tuple(str(each["event_id"]) for each in made)
        found = self._made_of("POST", "/v1/events/bulk", [("content-type", LINES)], body, event_ids=ids)
        found.statuses = frozenset({200, 400, 422}) if not made else found.statuses
        return found

    def placement(self) -> Request:
        """A preview, which changes nothing."""
        body = {"placement": {"sources": [{"kind": "popular"}]}, "question": {"session_id": "s1"}}
        return self._with_json("POST", "/v1/placements/home/preview", body)

    def operation(self) -> Request:
        """What operators ask."""
        method = self.dice.choice(("GET", "GET", "HEAD", "OPTIONS"))
        target = self.dice.choice(("/health/live", "/health/live", "/health/ready", "/docs", "/metrics"))
        return self._made_of(method, target, statuses=frozenset({200, 204}))

    def _with_json(self, method: str, target: str, body: object, **more: object) -> Request:
        return self._made_of(method, target, [("content-type", JSON)], json.dumps(body).encode(), **more)

    def _made_of(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes = b"", **more: object
    ) -> Request:
        framing = "chunked" if body and self.dice.chance(0.2) else "length"
        own = [("Host", self.host), *(headers or [])]
        if self.dice.chance(0.2):
            own.append(("User-Agent", "fuzz/1"))
        return Request(method, target, own, body, framing=framing, **more)  # type: ignore[arg-type]


def wire(request: Request, dice: Dice) -> bytes:
    """Return the bytes of a request, its body framed as it says."""
    headers = list(request.headers)
    body = request.body
    if request.framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        pieces: list[bytes] = []
        at = 0
        while at < len(body):
            size = 1 + dice.few(max(1, len(body) - at))
            piece = body[at : at + size]
            pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
            at += size
        body = b"".join([*pieces, b"0\r\n", request.trailers, b"\r\n"])
    elif request.framing == "length" and (body or request.method in {"POST", "PUT", "PATCH"}):
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{request.method} {request.target} {request.version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body
