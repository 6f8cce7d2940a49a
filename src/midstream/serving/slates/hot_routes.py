"""Hot routes in plain ASGI: events in, slates out. They precede FastAPI, which costs 42 µs a request.

Reference: measured on one core with an empty answer: plain ASGI 33,000 requests/s, a FastAPI route 8,800/s.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec

from midstream.core.answers.events import EventsAnswer
from midstream.engine.requests.faults import NameUnknown
from midstream.engine.requests.schema import PAGE
from midstream.serving.access.callers import CALLER, is_probe, refused_types
from midstream.serving.events.bulk import Bulk, BulkHow
from midstream.serving.events.ingest import Ingest, IngestOptions
from midstream.serving.http.body_reader import BodyLimits, body_at_hand, read_body
from midstream.serving.http.parsing import flag, query_fields, single
from midstream.serving.http.problems import PROBLEM_JSON
from midstream.serving.http.responses import JSON, NO_STORE, Handler, Receive, Reply, Scope
from midstream.serving.options import ServerOptions
from midstream.serving.slates.recommendations import Recommendations

EVENTS_PATH = "/v1/events"
BULK_PATH = "/v1/events/bulk"
RECOMMENDATIONS_PATH = "/v1/recommendations"
BATCH_PATH = "/v1/recommendations/batch"
RANK_PATH = "/v1/rank"
PAGES_PATH = "/v1/pages"
EVENTS_QUERY = ("dry_run", "results")
BULK_QUERY = ("dry_run",)
Answering = Callable[[bytes], Awaitable[Reply]]
"""Answers a body."""
_encode = msgspec.json.Encoder().encode
_AS_JSON = (b"content-type", JSON)
_JSON_ALONE = IngestOptions("application/json")


class NothingTaken(EventsAnswer, frozen=True, omit_defaults=True, kw_only=True):
    """Answer to a request none of whose events was recorded: a problem document with the same fields."""

    type: str = ""
    title: str = ""
    status: int = 0
    detail: str = ""
    page: str = ""


def body_limits(options: ServerOptions) -> BodyLimits:
    """Return the limits of a body."""
    return BodyLimits(options.body_bytes_max, options.body_wait_max.ms / 1_000)


def hot_routes(
    ingest: Ingest,
    bulk: Bulk,
    recommendations: Recommendations,
    limits: BodyLimits,
    others: Mapping[str, Answering],
) -> Mapping[str, Mapping[str, Handler]]:
    """Return path, method and handler of each hot route; ``others`` answer bodies that are posted, by path."""

    async def post_events(scope: Scope, receive: Receive) -> Reply:
        how = how_of(scope)
        body = body_at_hand(scope, limits)
        if body is None:
            body = await read_body(scope, receive, limits)
        return events_reply(await ingest.take(body, how))

    async def post_events_bulk(scope: Scope, receive: Receive) -> Reply:
        return await post_bulk(bulk, scope, receive, BulkHow())

    async def post_recommendations(scope: Scope, receive: Receive) -> Reply:
        query_fields(scope, ())
        body = body_at_hand(scope, limits)
        return await recommendations.from_body(await read_body(scope, receive, limits) if body is None else body)

    async def get_recommendations(scope: Scope, _receive: Receive) -> Reply:
        return await recommendations.from_query(scope)

    def posted(answer: Answering) -> Handler:
        async def post(scope: Scope, receive: Receive) -> Reply:
            query_fields(scope, ())
            body = body_at_hand(scope, limits)
            return await answer(await read_body(scope, receive, limits) if body is None else body)

        return post

    return {
        EVENTS_PATH: {"POST": post_events},
        BULK_PATH: {"POST": post_events_bulk},
        RECOMMENDATIONS_PATH: {"POST": post_recommendations, "GET": get_recommendations},
        **{path: {"POST": posted(answer)} for path, answer in others.items()},
    }


async def post_bulk(bulk: Bulk, scope: Scope, receive: Receive, how: BulkHow) -> Reply:
    """Record a stream, and answer with its outcomes: 200, or an error, which ends the connection.

    Raises:
        RequestInvalid: The query has other fields or values than these routes know.
    """
    dry_run = flag(query_fields(scope, BULK_QUERY), "dry_run")
    answer = await bulk.take(
        scope, receive, msgspec.structs.replace(how, dry_run=dry_run, refused_types=refused_types(scope))
    )
    if answer.status == HTTPStatus.OK:
        return Reply(answer.status, _encode(answer), headers=NO_STORE)
    headers = [*NO_STORE]
    if answer.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        headers.append((b"connection", b"close"))  # the rest of the body was not read
    if answer.retry_after:
        headers.append((b"retry-after", b"%d" % answer.retry_after))
    return Reply(answer.status, _encode(answer), PROBLEM_JSON, tuple(headers))


def how_of(scope: Scope) -> IngestOptions:
    """Return the ingest options of a request.

    Raises:
        RequestInvalid: Its query has other fields or values than these routes know.
    """
    if not scope["query_string"] and CALLER not in scope and _AS_JSON in scope["headers"]:
        return _JSON_ALONE  # as nearly every request
    query = query_fields(scope, EVENTS_QUERY)
    dry_run, all_results = flag(query, "dry_run"), wants_all(query)
    return IngestOptions(
        content_type(scope), dry_run, all_results, refused_types=refused_types(scope), is_probe=is_probe(scope)
    )


def wants_all(query: dict[str, list[str]]) -> bool:
    """Return whether the query has ``results=all``.

    Raises:
        NameUnknown: It has another value.
    """
    value = single(query, "results")
    if value not in {None, "all"}:
        raise NameUnknown("results", "choice of results", str(value), ("all",))
    return value == "all"


def content_type(scope: Scope) -> str:
    """Return the content type of a request in small letters, without its parameters; empty when none came."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1").partition(";")[0].strip().lower())
    return ""


def events_reply(answer: EventsAnswer) -> Reply:
    """Return 200, or 422 when events came and none of them is in the log."""
    if answer.recorded or not answer.nothing_taken:
        return Reply(200, _encode(answer), headers=NO_STORE)
    count = len({each.index for each in answer.rejected}) + answer.conflicts
    problem = NothingTaken(
        **msgspec.structs.asdict(answer),
        type="urn:midstream:nothing-taken",
        title="None of the events was taken",
        status=422,
        detail=f"{count} came; rejected and results say what is wrong with each.",
        page=PAGE,
    )
    return Reply(422, _encode(problem), PROBLEM_JSON, NO_STORE)
