"""Routes of dead letters: list, detail, retry, removal."""

import asyncio
from collections.abc import Sequence

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.letters import DeadLetter, LetterPage, RetriedLetters
from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.ingest.dead_letter_retry import RETRY_MAX, chosen, missing_letter, remove, retry, retry_mended
from midstream.engine.requests.schema import PAGE
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.serving.access.audit_trail import name_target
from midstream.serving.admin.route_io import available, json_response, posted
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.http.responses import Scope
from midstream.serving.openapi.document import Document, json_body, parameter, plain_operation, read_operation

LETTERS_PATH = "/v1/dead-letters"
LIST_MAX = 1_000
"""Letters of one answer: 0.5 MB."""
LIST_DEFAULT = 50
RAW_SHOWN_MAX = 200
"""Characters of an event that a list shows."""
_NUMBER_DIGITS_MAX = 18
_QUERY = ("limit", "after")
_LIST: Document = {
    "parameters": [
        parameter("limit", {"type": "integer", "minimum": 1, "maximum": LIST_MAX}, f"Letters; {LIST_DEFAULT}."),
        parameter("after", {"type": "integer", "minimum": 1}, "Only letters older than the one of this number."),
    ]
}


_EVENT: Document = {"type": "object", "description": "Sent in place of the event of one letter."}


def _body(event: Document | None = None) -> Document:
    """Describe a body that names letters; ``event`` describes that of a retry."""
    properties: Document = {
        "numbers": {"type": "array", "items": {"type": "integer"}, "maxItems": RETRY_MAX},
        "all": {"type": "boolean", "description": "Every letter, in parts."},
        "after": {"type": "integer", "description": "With all: begin behind this number, last of the answer before."},
    } | ({} if event is None else {"event": event})
    return {"requestBody": json_body({"type": "object", "properties": properties, "additionalProperties": False})}


class LettersBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Letters by ``numbers``, or ``all`` of them, in parts."""

    numbers: tuple[int, ...] = ()
    all: bool = False
    after: int = 0
    """With ``all``: begin behind this number, ``last`` of the answer before."""


class RetryBody(LettersBody, frozen=True, forbid_unknown_fields=True):
    """Letters to send again."""

    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Sent in place of the event of one letter."""


_letters_body = msgspec.json.Decoder(LettersBody)
_retry_body = msgspec.json.Decoder(RetryBody)


def add_letter_routes(app: FastAPI, ingest: Ingest, limits: BodyLimits) -> None:
    """Add the routes of dead letters; where none are kept there are none."""

    @app.get(
        LETTERS_PATH,
        name="get dead letters",
        openapi_extra=plain_operation("A page of them.", answer="LetterPage") | _LIST,
    )
    async def get_letters(request: Request) -> Response:
        """Rejected events that are kept, the newest first, each with its reason and how it began."""
        limit, after = _page_asked(request.scope)
        return json_response(await _page(ingest.service.dead_letters, limit, after))

    # Before the route of one letter, whose path these have too.
    @app.post(
        f"{LETTERS_PATH}/retry",
        name="post dead letters retry",
        openapi_extra=plain_operation("What became of them.", 404, 503, 507, answer="RetriedLetters") | _body(_EVENT),
    )
    async def post_retry(request: Request) -> Response:
        """Send letters again, on the terms of today."""
        asked = await posted(request, _retry_body, limits)
        name_target(request.scope, " ".join(map(str, asked.numbers)))
        return json_response(await _retried(asked, ingest))

    @app.post(
        f"{LETTERS_PATH}/remove",
        name="post dead letters remove",
        openapi_extra=plain_operation("They are removed.", 404, 507, answer="RemovedLetters") | _body(),
    )
    async def post_remove(request: Request) -> Response:
        """Remove letters for good; their events are not sent any more."""
        asked = await posted(request, _letters_body, limits)
        kept = _kept(ingest)
        numbers = _numbers_of(asked, await _read(kept) if asked.all else ())
        name_target(request.scope, " ".join(map(str, numbers)))
        return json_response(await remove(ingest.service, kept, numbers))

    @app.get(
        f"{LETTERS_PATH}/{{number}}",
        name="get dead letter",
        openapi_extra=read_operation("letter", "number", "DeadLetter"),
    )
    async def get_letter(request: Request) -> Response:
        """One rejected event, whole."""
        query_fields(request.scope, ())
        return json_response(await _letter(ingest.service.dead_letters, str(request.path_params["number"])))


def _page_asked(scope: Scope) -> tuple[int, int | None]:
    """Return the limit and the number to begin behind, or raise ``RequestInvalid``."""
    query = query_fields(scope, _QUERY)
    limit, after = (_whole(name, single(query, name)) for name in _QUERY)
    if limit is not None and not 1 <= limit <= LIST_MAX:
        raise RequestInvalid((Fault("limit", f"{limit} came.", f"From 1 to {LIST_MAX}.", PAGE),))
    return LIST_DEFAULT if limit is None else limit, after


def _whole(name: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not _is_number(value):
        raise RequestInvalid((Fault(name, f'"{value[:60]}" came.', "A whole number.", PAGE),))
    return int(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS_MAX


async def _page(kept: DeadLetters | None, limit: int, after: int | None) -> LetterPage:
    """Return the newest letters, or the newest of those before a number."""
    if kept is None:
        return LetterPage([], 0, 0, None)
    letters = [each for each in await _read(kept) if after is None or each.number < after]
    page = letters[: -limit - 1 : -1]
    more = page[-1].number if len(letters) > limit else None
    return LetterPage([shortened(each) for each in page], kept.counts.kept, kept.counts.bytes_kept, more)


def shortened(letter: DeadLetter) -> DeadLetter:
    """Return a letter with the beginning of its event alone."""
    cut = max(len(letter.raw) - RAW_SHOWN_MAX, 0)
    raw = letter.raw[:RAW_SHOWN_MAX]
    return msgspec.structs.replace(letter, raw=raw, characters_cut=letter.characters_cut + cut)


async def _letter(kept: DeadLetters | None, number: str) -> DeadLetter:
    """Return the letter of a number, or raise ``NotFound``."""
    letters = [] if kept is None or not _is_number(number) else await _read(kept)
    found = next((each for each in letters if each.number == int(number)), None)
    if found is None:
        raise missing_letter(number)
    return found


async def _read(kept: DeadLetters) -> list[DeadLetter]:
    """Return all letters; the files are read on another thread, for they may have 32 MiB."""
    return await asyncio.to_thread(kept.read)


def _kept(ingest: Ingest) -> DeadLetters:
    """Return the letters of this server, or raise ``NotFound``."""
    return available(ingest.service.dead_letters, "No dead letters are kept here.")


def _numbers_of(asked: LettersBody, letters: Sequence[DeadLetter]) -> Sequence[int]:
    """Return the numbers that a request names, of all letters those of its part, or raise ``RequestInvalid``."""
    if asked.all == bool(asked.numbers) or len(asked.numbers) > RETRY_MAX:
        came = f"{len(asked.numbers)} numbers and all = {str(asked.all).lower()} came."
        raise RequestInvalid((Fault("/numbers", came, f"1 to {RETRY_MAX} numbers, or all = true.", PAGE),))
    return asked.numbers or [each.number for each in letters if each.number > asked.after][:RETRY_MAX]


async def _retried(asked: RetryBody, ingest: Ingest) -> RetriedLetters:
    """Send the requested letters again, or raise ``RequestInvalid``."""
    kept = _kept(ingest)
    letters = await _read(kept)
    numbers = _numbers_of(asked, letters)
    wanted, missing = chosen(letters, numbers)
    if asked.event is msgspec.UNSET:
        return await retry(ingest.service, kept, lambda: ingest.accept, wanted, missing)
    if len(asked.numbers) != 1:
        raise RequestInvalid((Fault("/event", "It came for several letters.", "One number with it.", PAGE),))
    if missing:
        raise missing_letter(missing[0])
    try:
        event = bytes(asked.event).decode()
    except UnicodeDecodeError as error:
        raise RequestInvalid((Fault("/event", "It is no UTF-8.", "One event, a JSON object.", PAGE),)) from error
    return await retry_mended(ingest.service, kept, ingest.accept, wanted[0], event)
