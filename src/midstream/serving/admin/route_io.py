"""Input and output of a FastAPI route: a step of its path, the JSON that is posted to it, and the JSON that answers."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from fastapi import Request, Response

from midstream.core.errors import Fault, NotFound, RequestInvalid
from midstream.engine.placements.control_changes import Said
from midstream.engine.requests.schema import PAGE
from midstream.events.rows import time_of
from midstream.events.wire import Accept, Refused
from midstream.serving.access.callers import caller_of
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_json, query_fields, single
from midstream.serving.http.responses import NO_STORE, Reply, to_response

T = TypeVar("T")
DIGITS_MAX = 15
"""Of a number in a query."""


def path_value(request: Request, name: str) -> str:
    """Return a value in a path. Paths are matched as they were sent, so ``%2F`` in an id is part of it.

    Raises:
        RequestInvalid: Its percent signs do not decode to UTF-8.
    """
    sent = str(request.path_params[name])
    try:
        return unquote(sent, errors="strict")
    except UnicodeDecodeError as error:
        raise RequestInvalid((Fault(name, f'"{sent[:60]}" came.', "Percent-encoded UTF-8.", PAGE),)) from error


async def posted(request: Request, decoder: msgspec.json.Decoder[T], limits: BodyLimits, empty: bytes = b"") -> T:
    """Return the body of a request that has no query; ``empty`` stands for one without bytes.

    Raises:
        RequestInvalid: It is something else.
    """
    query_fields(request.scope, ())
    return decode_json(decoder, await read_body(request.scope, request.receive, limits) or empty)


def said_by(request: Request, author: str, note: str, if_version: int | None = None) -> Said:
    """Return author and note of a change: behind the name of the caller's key, where a key is asked for.

    A history says by that whose key made a change. A text of the request alone could name anybody.
    """
    caller = caller_of(request.scope)
    return Said(author if caller is None else caller.sign(author), note, if_version)


def available(part: T | None, why_not: str) -> T:
    """Return a part of this server.

    Raises:
        NotFound: It has none.
    """
    if part is None:
        raise NotFound(why_not)
    return part


def json_response(found: object, status: int = 200, enc_hook: Callable[[object], object] | None = None) -> Response:
    """Return what was found, as an answer that nobody keeps."""
    return to_response(Reply(status, msgspec.json.encode(found, enc_hook=enc_hook), headers=NO_STORE))


def time_value(fields: dict[str, list[str]], name: str, accept: Accept) -> int | None:
    """Return a time of a query in milliseconds, None = it did not come, or raise ``RequestInvalid``."""
    text = single(fields, name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX
    try:
        return time_of(int(text) if is_number else text, accept)
    except Refused as refused:
        came = refused.came or f'"{text[:60]}" came.'
        raise RequestInvalid((Fault(name, came, refused.right, "/docs/events.md"),)) from refused
