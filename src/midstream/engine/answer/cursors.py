"""Signed cursors: request id and offset of the slate to continue, as text that callers carry and cannot forge."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Ask
from midstream.events.faults import shown
from midstream.experiments.names import arm_of
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import ServedRecord

PAGE = "/docs/http.md"
_PLACE = Struct(">24sHH")
_RIGHT = "The cursor of the answer before, unchanged; or true, to begin anew."
_TAKEN = ("items", "exclude", "filter", "context", "item_fields", "about")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of a slate."""

    request_id: str
    """Of the first slate of the sequence."""
    turn: int
    """Which of the slates after it comes next, from 1 on."""
    first_position: int
    """Items that were served of the order so far."""

    def token(self, ids: RequestIds) -> str:
        """Return the text of it: 48 characters."""
        return ids.sealed(_PLACE.pack(urlsafe_b64decode(self.request_id), self.turn, self.first_position))


def parse_cursor(token: str, ids: RequestIds) -> Cursor:
    """Return the place that a text names.

    Raises:
        RequestInvalid: This shop did not make it.
    """
    content = ids.unsealed(token)
    if content is None or len(content) != _PLACE.size:
        raise _refused(f"{shown(token)} is no cursor of this shop.")
    request, turn, first_position = _PLACE.unpack(content)
    return Cursor(urlsafe_b64encode(request).decode(), turn, first_position)


def gone(token: str) -> RequestInvalid:
    """Return the error of an unknown or expired slate."""
    return _refused(f"The slate that {shown(token)} continues is not kept any more, or not known yet.")


def require_same(ask: Ask, plan: Plan | None, record: ServedRecord) -> None:
    """Refuse a request that differs from the one that it continues; omitted fields keep their values.

    Args:
        ask: The request.
        plan: Of the placement that it names, None = it names none.
        record: Of the slate that it continues.

    Raises:
        RequestInvalid: It names another user, session, placement or size, or has a field that only a new request may
            have.
    """
    if faults := tuple(_differences(ask, plan, record)):
        raise RequestInvalid(faults)


def _differences(ask: Ask, plan: Plan | None, record: ServedRecord) -> Iterator[Fault]:
    then = record.query
    named = {
        "placement": (None if plan is None else plan.name, arm_of(then.placement).placement),
        "user_id": (ask.user_id, then.user_id),
        "session_id": (ask.session_id, then.session_id),
        "n": (ask.n, then.slate_size),
    }
    for name, (now, before) in named.items():
        if now is not None and now != before:
            yield Fault(f"/{name}", f"{shown(now)} came with a cursor of another.", "The same, or nothing.", PAGE)
    for name in ("explain", "reasons"):
        if getattr(ask, name):
            yield Fault(f"/{name}", "It came with a cursor.", "Nothing: it is said of a first request alone.", PAGE)
    for name in _TAKEN:
        if getattr(ask, name):
            yield Fault(f"/{name}", "It came with a cursor.", "Nothing: it is that of the first request.", PAGE)


def _refused(came: str) -> RequestInvalid:
    return RequestInvalid((Fault("/cursor", came, _RIGHT, PAGE),))
