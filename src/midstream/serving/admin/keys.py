"""Routes of API keys: list, make, rotate, revoke."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault, KeysUnreadable, RequestInvalid
from midstream.serving.access.api_keys import KEYS_MAX, ORIGINS_MAX, ApiKey, KeyWish, MadeKey
from midstream.serving.access.audit_trail import name_target
from midstream.serving.access.callers import caller_of
from midstream.serving.access.key_file import KeyFile, read_or_changed
from midstream.serving.access.key_turns import KeyTurns
from midstream.serving.access.key_uses import uses_of
from midstream.serving.access.key_views import KeyList, NewKey, key_views
from midstream.serving.access.scopes import SCOPES
from midstream.serving.admin.route_io import available, json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import Document, json_body, read_operation, ref, responses
from midstream.state.settings import read_duration

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.folder import DataFolder

KEYS_PATH = "/v1/keys"
_ONE = f"{KEYS_PATH}/{{name}}"
_RATE = msgspec.Meta(ge=0, le=1_000_000)
_PLACES = {"NAME": "name", "--scope": "/scopes", "--origin": "/origins", "--expires": "/expires", "--grace": "/grace"}
"""Places of a wish on the command line, and in a request."""


class KeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/keys/{name}``."""

    scopes: tuple[str, ...]
    expires: Duration | None = None
    quota_per_second: Annotated[float, _RATE] = 0.0
    quota_burst: Annotated[int, _RATE] = 0
    origins: tuple[str, ...] = ()


class RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/keys/{name}/rotate``."""

    grace: Duration = Duration("24h")


_key = msgspec.json.Decoder(KeyBody, dec_hook=read_duration)
_rotate = msgspec.json.Decoder(RotateBody, dec_hook=read_duration)
_TEXT: Document = {"type": "string"}
_DURATION: Document = {**_TEXT, "description": "Such as 90d, 12h or 30m."}
_BODY: Document = {
    "type": "object",
    "properties": {
        "scopes": {"type": "array", "items": _TEXT, "minItems": 1, "description": f"Of {', '.join(SCOPES)}."},
        "expires": {**_DURATION, "description": "Its life; without one it does not end by itself."},
        "quota_per_second": {"type": "number", "minimum": 0, "maximum": 1_000_000},
        "quota_burst": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
        "origins": {
            "type": "array",
            "items": _TEXT,
            "maxItems": ORIGINS_MAX,
            "description": "Of the pages of a browser key, which is public.",
        },
    },
    "required": ["scopes"],
    "additionalProperties": False,
}
_ROTATING: Document = {"type": "object", "properties": {"grace": _DURATION}, "additionalProperties": False}


def add_key_routes(app: FastAPI, engine: "Engine", data: "DataFolder | None", limits: BodyLimits) -> None:
    """Add the routes.

    Args:
        app: Takes them.
        engine: Has the clock.
        data: The data folder, which has the file of keys; None = this server has no folder.
        limits: Of bodies.
    """
    turns, lists = KeyTurns(), KeyTurns()

    @app.get(KEYS_PATH, name="get keys", openapi_extra=_listing())
    async def get_keys(request: Request) -> Response:
        """All keys in the order in which they were made, without their secrets; revoked and expired ones among them."""
        query_fields(request.scope, ())
        stored, uses = await lists.changed(lambda: _read(data))
        return json_response(KeyList(tuple(key_views(stored, engine.clock(), uses))))

    @app.post(_ONE, name="create key", openapi_extra=_making(_BODY))
    async def create_key(request: Request) -> Response:
        """Make a key; the answer is the only one that has its text."""
        told, name = await posted(request, _key, limits), path_value(request, "name")
        life_ms = 0 if told.expires is None else told.expires.ms
        wish = KeyWish(name, told.scopes, life_ms, told.quota_per_second, told.quota_burst, told.origins)
        file, now_ms, who = _file(data), engine.clock(), _who(request)
        made = await _of_request(turns, lambda: file.create(wish, now_ms, who))
        return _made(request, made, now_ms)

    @app.post(f"{_ONE}/rotate", name="rotate key", openapi_extra=_making(_ROTATING))
    async def rotate_key(request: Request) -> Response:
        """Make a new key in place of a name's or an id's; the old one ends after the grace."""
        told, name = await posted(request, _rotate, limits, b"{}"), path_value(request, "name")
        file, now_ms, who = _file(data), engine.clock(), _who(request)
        made = await _of_request(turns, lambda: file.rotate(name, told.grace.ms, now_ms, who))
        return _made(request, made, now_ms)

    @app.delete(_ONE, name="revoke key", openapi_extra=_revoking())
    async def revoke_key(request: Request) -> Response:
        """Revoke the key of an id, or all live keys of a name."""
        query_fields(request.scope, ())
        name, who = path_value(request, "name"), _who(request)
        file, now_ms = _file(data), engine.clock()
        gone = await turns.changed(lambda: file.revoke(name, now_ms, who))
        name_target(request.scope, _named(gone))
        return json_response(KeyList(tuple(key_views(gone, now_ms))))


def _file(data: "DataFolder | None") -> KeyFile:
    return KeyFile(available(data, "this server has no data folder, and so no keys").root)


def _read(data: "DataFolder | None") -> tuple[Sequence[ApiKey], Mapping[str, int]]:
    """Return the keys of the file, and when each was last used; a disk that stalls holds its thread up."""
    stored = read_or_changed(_file(data).read)
    return () if stored is None else stored.keys, {} if data is None else uses_of(data.root)


def _who(request: Request) -> str:
    """Return who changes a key, as audits name callers."""
    caller = caller_of(request.scope)
    return "anonymous" if caller is None else caller.who


def _named(keys: Sequence[ApiKey]) -> str:
    """Return name and ids of changed keys, as ``midstream audit`` names those of the file."""
    return " ".join((keys[0].name, *(each.id for each in keys)))


def _made(request: Request, made: MadeKey, now_ms: int) -> Response:
    name_target(request.scope, _named((made.stored,)))
    (view,) = key_views([made.stored], now_ms)
    return json_response(NewKey(made.key, view, made.user_secret))


async def _of_request(turns: KeyTurns, make: Callable[[], MadeKey]) -> MadeKey:
    """Return a new key, made in a turn.

    Raises:
        RequestInvalid: The wish cannot be fulfilled; each fault stands by its place in the request.
        KeysUnreadable: The file of keys cannot be read, or not be written.
        Overloaded: Another change has the file for too long.
    """
    try:
        return await turns.changed(make)
    except KeysUnreadable:
        raise
    except ConfigInvalid as error:
        faults = (Fault(_PLACES.get(each.where, each.where), each.came, each.right, each.page) for each in error.faults)
        raise RequestInvalid(tuple(faults)) from error


def _listing() -> Document:
    return {"responses": responses(f"Up to {KEYS_MAX:,} keys.", ref("KeyList"), 400, 404, 413, 503)}


def _making(body: Document) -> Document:
    answered = responses("The key, once.", ref("NewKey"), 400, 403, 404, 408, 413, 415, 503)
    return read_operation("key", "name") | {"responses": answered, "requestBody": json_body(body)}


def _revoking() -> Document:
    answered = responses("The keys that are revoked now.", ref("KeyList"), 400, 403, 404, 413, 503)
    return read_operation("key", "name") | {"responses": answered}
