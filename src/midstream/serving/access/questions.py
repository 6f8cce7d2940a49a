"""Questions of limited keys: placements and events that a body or a query names, against what the key allows.

Only bodies of keys that lack a scope of events, or are limited to placements, are looked at. They are decoded by the
same library as the routes decode them, so a name that comes twice is read as the same one of the two.
"""

from typing import TYPE_CHECKING, Any, cast

import msgspec

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.callers import Caller
from midstream.serving.access.scopes import CATALOGUE, EVENTS, RECOMMEND
from midstream.serving.http.parsing import decode_any, decode_json
from midstream.serving.http.problems import ScopeMissing

if TYPE_CHECKING:
    from collections.abc import Iterable


class AskedBody(msgspec.Struct, frozen=True):
    """Parts of a question that are limited; the routes refuse what is of a wrong type."""

    placement: Any = None
    placements: Any = ()
    user_id: Any = None
    session_id: Any = None
    users: Any = ()
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(AskedBody)


def asked_body(body: bytes) -> AskedBody:
    """Return the parts of a body.

    Raises:
        RequestInvalid: It is no JSON object.
    """
    return decode_json(_decoder, body)


def events_within(told: object) -> list[dict[str, Any]]:
    """Return the events in one of the forms in which they may come: an object, a list, or ``{"events": [...]}``."""
    listed = entries_of(_enveloped(told)) or entries_of(told) or [told]
    return [cast("dict[str, Any]", each) for each in listed if isinstance(each, dict)]


def _enveloped(told: object) -> object:
    return cast("dict[str, object]", told).get("events") if isinstance(told, dict) else None


def entries_of(told: object) -> list[object]:
    """Return the entries of a list; none of what is no list, which the routes refuse."""
    return list(cast("Iterable[object]", told)) if isinstance(told, list) else []


def require_placements(caller: Caller, names: list[Any], where: str) -> None:
    """Refuse a question of another placement than those of the key, and one that names none.

    Raises:
        ScopeMissing: The placement is named.
    """
    if not caller.placements:
        return
    if not names or None in names:
        came = f"{caller.who} is limited to placements, and none was named."
        raise ScopeMissing((Fault(where, came, _right_placement(caller), PAGE),))
    for name in names:
        if not isinstance(name, str) or name not in caller.placements:
            came = f'{caller.who} lacks the scope {RECOMMEND}:{str(name)[:64]}, which "{str(name)[:64]}" needs.'
            raise ScopeMissing((Fault(where, came, _right_placement(caller), PAGE),))


def _right_placement(caller: Caller) -> str:
    return f"placement is one of: {', '.join(sorted(caller.placements))}; or a key with the scope {RECOMMEND}."


def require_question(caller: Caller, asked: AskedBody) -> None:
    """Refuse a body whose placements or events the key does not allow.

    Raises:
        ScopeMissing: The scope is named.
        RequestInvalid: The events are no JSON.
    """
    if page := entries_of(asked.placements):
        names = [cast("dict[str, Any]", each).get("placement") if isinstance(each, dict) else None for each in page]
        require_placements(caller, names, "/placements")
    else:
        require_placements(caller, [asked.placement], "/placement")
    if asked.events is not msgspec.UNSET:
        if not caller.has(EVENTS):
            raise scope_missing(caller, EVENTS, "/events")
        types = [each.get("type") for each in events_within(decode_any(asked.events, "/events"))]
        if any(isinstance(each, str) and each in caller.refused_types for each in types):
            raise scope_missing(caller, CATALOGUE, "/events")


def scope_missing(caller: Caller, scope: str, where: str = "authorization") -> ScopeMissing:
    """Return the refusal of a key that lacks a scope."""
    right = f"A key with the scope {scope}: midstream keys create NAME --scope {scope}"
    return ScopeMissing((Fault(where, f"{caller.who} lacks the scope {scope}.", right, PAGE),))
