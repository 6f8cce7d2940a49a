"""Parsing of bodies and query strings to typed values; errors become faults with a pointer."""

from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.type_faults import shown_value
from midstream.engine.requests.faults import FAULTS_MAX, OUT_OF_RANGE, SHOWN_MAX, NameUnknown, reading, refusal_of
from midstream.engine.requests.schema import PAGE
from midstream.monitoring.tracing import current
from midstream.serving.http.responses import Scope

QUERY_BYTES_MAX = 8_192
"""Limit of common proxies."""
QUERY_FIELDS_MAX = 1_000
"""A field takes at least eight bytes of the 8,192, its name and value included."""
COLLECTED_BYTES_MAX = 16_384
"""16 KiB, all faults of which are found in 2 ms. Of a longer body the first fault is reported."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions of decoding: invalid JSON, another type, too deep nesting."""

T = TypeVar("T")


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return the typed value of a JSON body.

    Args:
        decoder: Of the body's type.
        body: The bytes.

    Raises:
        RequestInvalid: The body is not JSON or not of that type; each fault points to its place.
    """
    trace = current()
    began_s = 0.0 if trace is None else trace.clock()
    try:
        found = decoder.decode(body)
        if trace is not None:
            trace.add("decode", began_s, trace.clock(), {"midstream.bytes": len(body)})
        return found  # noqa: TRY300  an ``else`` would be behind the handlers, far from here
    except msgspec.ValidationError as error:
        raise _refusal(error, decoder, body) from error
    except UNREADABLE as error:
        came = f"The body is not JSON that can be read: {_why(error, body)}."
        raise _invalid("", came, "One JSON object in UTF-8.") from error


def _refusal(error: msgspec.ValidationError, decoder: msgspec.json.Decoder[T], body: bytes) -> RequestInvalid:
    """Return the refusal of a body of another type, with all of its faults where it is short."""
    document: object = ...
    with suppress(*UNREADABLE):
        document = msgspec.json.decode(body)
    faults_max = FAULTS_MAX if len(body) <= COLLECTED_BYTES_MAX else 1
    return refusal_of(error, document, decoder.type, reading(decoder.dec_hook), faults_max)


def decode_any(raw: msgspec.Raw, pointer: str) -> Any:  # noqa: ANN401  any JSON
    """Return the value of a part that was skipped when the body was decoded.

    Raises:
        RequestInvalid: It is no valid JSON: texts and numbers are checked only here.
    """
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE as error:
        came = OUT_OF_RANGE if isinstance(error, msgspec.ValidationError) else f"It cannot be read: {_why(error, raw)}."
        raise _invalid(pointer, came, "JSON in UTF-8, numbers up to 1.8e308.") from error


def _why(error: Exception, body: bytes | msgspec.Raw) -> str:
    """Return why some bytes are no JSON."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    try:
        bytes(body).decode()
    except UnicodeDecodeError as found:
        return f"it is not UTF-8 (byte {found.start})"
    return "it is not UTF-8"


def _invalid(where: str, came: str, right: str) -> RequestInvalid:
    return RequestInvalid((Fault(where, came, right, PAGE),))


def any_query_fields(scope: Scope) -> dict[str, list[str]]:
    """Return the fields of the query string, whatever their names, each with its values in order.

    Raises:
        RequestInvalid: Not UTF-8 once its percent signs are decoded.
        TooLarge: Longer than ``QUERY_BYTES_MAX``.
    """
    raw: bytes = scope["query_string"]
    if len(raw) > QUERY_BYTES_MAX:
        right = f"At most {QUERY_BYTES_MAX} bytes; POST takes more."
        raise TooLarge((Fault("query string", f"{len(raw)} bytes came.", right, PAGE),))
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        came = f"The query string cannot be read: {error}."
        raise _invalid("query string", came, "Percent-encoded UTF-8, at most 1,000 fields.") from error
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def query_fields(scope: Scope, allowed: tuple[str, ...], open_prefix: str | None = None) -> dict[str, list[str]]:
    """Return the fields of the query string, each with its values in order.

    Args:
        scope: Of the request.
        allowed: Allowed names.
        open_prefix: Names with this prefix are allowed as well.

    Raises:
        NameUnknown: Another name.
        RequestInvalid: Not UTF-8 once its percent signs are decoded.
        TooLarge: Longer than ``QUERY_BYTES_MAX``.
    """
    if not scope["query_string"]:
        return {}
    found = any_query_fields(scope)
    for name in found:
        if name not in allowed and not (open_prefix and name.startswith(open_prefix)):
            raise NameUnknown(name[:SHOWN_MAX], "query field of this route", name, allowed)
    return found


def single(fields: dict[str, list[str]], name: str) -> str | None:
    """Return the one value of a field, None when it did not come.

    Raises:
        RequestInvalid: It came more than once.
    """
    values = fields.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise _invalid(name, f"It came {len(values)} times.", "Once.")
    return values[0]


def flag(fields: dict[str, list[str]], name: str) -> bool:
    """Return whether a field is ``true``; False when it is missing.

    Raises:
        RequestInvalid: It is neither ``true`` nor ``false``.
    """
    value = single(fields, name)
    if value not in {None, "true", "false"}:
        raise _invalid(name, f"{shown_value(value)} came.", "true or false.")
    return value == "true"
