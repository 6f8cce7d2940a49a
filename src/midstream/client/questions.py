"""Questions and changes with log positions: a question waits for what its visitor wrote by this client."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import msgspec

from midstream.client.client_errors import InvalidRequest
from midstream.client.exchange import ClientSession, Exchange, HttpRequest, T, answer_to
from midstream.client.positions import Visitor, visitors_of
from midstream.client.requests import (
    Event,
    Events,
    flat_context,
    path_of,
    posted,
    sent,
    target,
    with_event_id,
    with_event_ids,
    with_values,
)
from midstream.core.answers.events import BulkAnswer, EventsAnswer
from midstream.core.answers.slates import Page, Slate

_POSITION = "min_log_position"
_LINES = "application/x-ndjson"
RequestOf: TypeAlias = Callable[[Mapping[str, object]], HttpRequest]
"""Request of the fields of a question."""


def recorded(
    session: ClientSession, events: Events, query: Mapping[str, object], kind: str = "events"
) -> Exchange[EventsAnswer]:
    """Send events, or changes of items or users, and remember where they are in the log."""
    listed = with_event_ids(events, session.edge.new_id)
    answer = yield from answer_to(session, posted(target("v1", kind, query=query), listed), EventsAnswer)
    _note(session, answer, listed)
    return answer


def changed(
    session: ClientSession,
    method: str,
    steps: tuple[str, ...],
    document: Mapping[str, object] | None,
    change: Mapping[str, object],
) -> Exchange[EventsAnswer]:
    """Change one item or user, and remember where the change is in the log."""
    query = with_event_id(change, session.edge.new_id)
    body = None if document is None else msgspec.json.encode(document)
    answer = yield from answer_to(session, HttpRequest(method, path_of(*steps, query=query), body), EventsAnswer)
    _note(session, answer, [{"user_id": steps[1]} if steps[0] == "users" else {}])
    return answer


def streamed(
    session: ClientSession, method: str, kind: str, changes: Sequence[Mapping[str, object]]
) -> Exchange[BulkAnswer]:
    """Change any number of items or users in one stream of lines, and remember where the changes are in the log."""
    lines = b"".join(msgspec.json.encode(each) + b"\n" for each in with_event_ids(changes, session.edge.new_id))
    request = HttpRequest(method, target("v1", kind), lines, _LINES)
    answer = yield from answer_to(session, request, BulkAnswer)
    if answer.log_position is not None:
        session.positions.note(answer.log_position, ())
    return answer


def valued(session: ClientSession, name: str, values: Sequence[Mapping[str, object]]) -> Exchange[EventsAnswer]:
    """Set values of a feature, and remember where they are in the log: whether they are of users is not known here."""
    body = {"values": with_values(values, session.edge.new_id)}
    answer = yield from answer_to(session, posted(target("v1", "features", name), body), EventsAnswer)
    _note(session, answer, [{}])
    return answer


def asked(session: ClientSession, path: str, question: Mapping[str, object], kind: type[T]) -> Exchange[T]:
    """Ask a question in a body, with the events that came along."""
    fields = sent(question)
    events: list[dict[str, object]] = []
    if "events" in fields:
        events = with_event_ids(cast("Events", fields["events"]), session.edge.new_id)
        fields["events"] = events
    found = yield from _waiting(session, fields, lambda whole: posted(path, whole), kind)
    if isinstance(found, Slate | Page) and found.events is not None:
        _note(session, found.events, events)
    return found


def asked_by_query(session: ClientSession, steps: Sequence[str], question: Mapping[str, object]) -> Exchange[Slate]:
    """Ask a question in a query string."""
    return _waiting(
        session, flat_context(question), lambda whole: HttpRequest("GET", target(*steps, query=whole)), Slate
    )


def _waiting(session: ClientSession, fields: Mapping[str, object], request: RequestOf, kind: type[T]) -> Exchange[T]:
    """Ask with the remembered log position; without it where the server does not know it."""
    if _POSITION in fields or not session.options.read_your_writes:
        found = yield from answer_to(session, request(fields), kind)
        return found
    position = session.positions.wanted(_visitors(fields))
    if position is None:
        found = yield from answer_to(session, request(fields), kind)
        return found
    try:
        found = yield from answer_to(session, request({**fields, _POSITION: position}), kind)
    except InvalidRequest as error:
        if error.where.lstrip("/") != _POSITION:
            raise
        session.positions.forget(position)
        found = yield from answer_to(session, request(fields), kind)
    return found


def _note(session: ClientSession, answer: EventsAnswer, events: Sequence[Event]) -> None:
    """Remember the log position of an answer for the visitors of its events, or for all where one names nobody."""
    if answer.log_position is None:
        return
    named = [visitors_of(each) for each in events]
    session.positions.note(answer.log_position, [visitor for each in named for visitor in each])
    if not all(named):
        session.positions.note(answer.log_position, ())


def _visitors(fields: Mapping[str, object]) -> list[Visitor]:
    """Return the visitors of a question, or of each of many users."""
    many = cast("Sequence[str]", fields.get("users", ()))
    return [*visitors_of(fields), *(("user_id", each) for each in many)]
