"""Requests from arguments: paths with ids, query strings, JSON bodies, and event ids."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast
from urllib.parse import quote, urlencode

import msgspec

from midstream.client.exchange import HttpRequest, Repeat

Event = Mapping[str, object]
"""Fields of an event (docs/events.md)."""
Events = Event | Sequence[Event]


_ROUTES: Mapping[tuple[str, ...], str] = {("items", "search"): "%73earch", ("events", "bulk"): "%62ulk"}
_DOTS = {".": "%2E", "..": "%2E%2E"}


def target(*steps: str, query: Mapping[str, object] | None = None) -> str:
    """Return a path of steps, each percent-encoded, with a query string: lists repeated, None left out.

    Dots of the steps ``.`` and ``..`` are encoded too: as they are they would lead to another route.

    Example:
        >>> target("v1", "items", "a/b", query={"fields": ["price", "tags"], "explain": True, "limit": None})
        '/v1/items/a%2Fb?fields=price&fields=tags&explain=true'
    """
    path = "/" + "/".join(_DOTS.get(step) or quote(step, safe="") for step in steps)
    pairs = [(name, _text(each)) for name, value in (query or {}).items() for each in _values(value)]
    return f"{path}?{urlencode(pairs, quote_via=quote)}" if pairs else path


def path_of(kind: str, *steps: str, query: Mapping[str, object] | None = None) -> str:
    """Return the path of one thing below ``/v1``; ``items/search`` is a route, so the item of that id is quoted.

    So is the event of the id ``bulk``.

    Example:
        >>> path_of("items", "search"), path_of("events", "bulk")
        ('/v1/items/%73earch', '/v1/events/%62ulk')
    """
    path = target("v1", kind, *steps, query=query)
    quoted = _ROUTES.get((kind, *steps))
    return path if quoted is None else path.replace(f"/{steps[0]}", f"/{quoted}", 1)


def posted(path: str, document: object, repeat: Repeat = "always") -> HttpRequest:
    """Return a ``POST`` of a JSON document."""
    return HttpRequest("POST", path, msgspec.json.encode(document), repeat=repeat)


def sent(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields that have a value: None is the same as a field that is not sent."""
    return {name: value for name, value in fields.items() if value is not None}


def with_event_ids(events: Events, new_id: Callable[[], str]) -> list[dict[str, object]]:
    """Return events as a list, each with an id, so that a repetition is a duplicate; an empty id is none.

    Example:
        >>> with_event_ids({"type": "view", "item_id": "lamp", "event_id": ""}, lambda: "e1")
        [{'type': 'view', 'item_id': 'lamp', 'event_id': 'e1'}]
    """
    listed = [events] if isinstance(events, Mapping) else events
    return [with_event_id(each, new_id) for each in listed]


def with_event_id(fields: Mapping[str, object], new_id: Callable[[], str]) -> dict[str, object]:
    """Return the fields that have a value, with an id where they have none or an empty one."""
    found = sent(fields)
    return found if found.get("event_id", "") != "" else {**found, "event_id": new_id()}


def with_values(values: Sequence[Mapping[str, object]], new_id: Callable[[], str]) -> list[dict[str, object]]:
    """Return values of a feature, each with an id as ``with_event_ids`` gives it; a value of None takes one away.

    Example:
        >>> with_values([{"id": "lamp", "value": None}], lambda: "e1")
        [{'id': 'lamp', 'event_id': 'e1', 'value': None}]
    """
    return [with_event_id(each, new_id) | {"value": each.get("value")} for each in values]


def flat_context(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a question as those of a query string, which has a field for each entry of the context."""
    found = sent(fields)
    context = cast("Mapping[str, object]", found.pop("context", {}))
    return found | {f"context.{name}": value for name, value in context.items()}


def _values(value: object) -> Sequence[object]:
    if value is None:
        return ()
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
