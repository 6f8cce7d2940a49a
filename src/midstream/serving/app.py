"""ASGI app: dispatches to the hot routes first and to FastAPI for the rest, and measures every answer.

Errors, limits and metrics, which FastAPI's middleware would handle, are here, because it does not see the hot routes.
FastAPI is imported and its routes are made in a thread once hot routes are answered: a fifth of a second that no start
waits for.
"""

import asyncio
import gc
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPMethod
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from midstream.core.errors import Fault, MidstreamError
from midstream.core.nearest import nearest
from midstream.engine.answer.warmup import warm_tables
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.listeners import Listener
from midstream.engine.requests.schema import PAGE
from midstream.events.wire import Accept
from midstream.monitoring.metrics import Metrics
from midstream.monitoring.tracing import Tracing, entered
from midstream.serving.events.bulk import Bulk
from midstream.serving.events.ingest import Ingest, limits_of
from midstream.serving.http.admission import FREE, Admission
from midstream.serving.http.loop_delay import Wait
from midstream.serving.http.problems import Disconnected, MethodNotAllowed, RouteUnknown, problem_reply
from midstream.serving.http.responses import (
    AT_ONCE,
    Handler,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
    send_reply,
    sent_path,
    to_response,
)
from midstream.serving.operation import ALONE, OtherProcesses, operation_routes
from midstream.serving.options import ServerOptions
from midstream.serving.slates.batch import Batches
from midstream.serving.slates.bulk_changes import bulk_routes
from midstream.serving.slates.hot_routes import BATCH_PATH, PAGES_PATH, RANK_PATH, body_limits, hot_routes
from midstream.serving.slates.pages import Pages
from midstream.serving.slates.rank import Rankings
from midstream.serving.slates.recommendations import Recommendations, recording

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

    from midstream.engine.engine import Engine
    from midstream.engine.erasure.eraser import Eraser
    from midstream.engine.experiments.experimenting import Experimenting
    from midstream.engine.experiments.live_report import ExperimentReports
    from midstream.engine.explain.explainer import Explainer
    from midstream.engine.explain.past_features import PastFeatures
    from midstream.engine.folder import DataFolder
    from midstream.engine.inputs.input_group import InputGroup
    from midstream.engine.models.champions import Champions
    from midstream.engine.online.figuring import OnlineFiguring
    from midstream.engine.outbox.output_group import OutputGroup
    from midstream.engine.placements.placing import Placing
    from midstream.engine.rebuild.rebuilder import Rebuilder
    from midstream.engine.replication.snapshot_shelf import SnapshotShelf
    from midstream.engine.sinks.sink_group import SinkGroup
    from midstream.engine.trainings.training_loop import TrainingLoop
    from midstream.serving.openapi.document import Document

UNKNOWN_ROUTE = "unknown"
"""Metric label of requests with an unknown path: paths that callers make up must not become time series."""
CLIENT_GONE = 499
"""Status in metrics of a request whose client disconnected; no client sees it."""
UNEXPECTED = 500
Outcome: TypeAlias = list[tuple[str, int]]
"""Template of a path and status of its answer: the last entry is right."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path of the app and its methods."""

    template: str
    pattern: re.Pattern[str]
    methods: frozenset[str]


class App:
    """The ASGI application. Use ``asgi`` to make one."""

    def __init__(
        self,
        hot: Mapping[str, Mapping[str, Handler]],
        cold: "Callable[[], FastAPI]",
        metrics: Metrics,
        admission: Admission,
        tracing: Tracing | None = None,
    ) -> None:
        """Dispatch to ``hot`` first, then to what ``cold`` makes; ``admission`` admits, ``tracing`` samples."""
        self._hot = hot
        self._make_cold = cold
        self._making: asyncio.Task[tuple[Path, ...]] | None = None
        self.metrics = metrics
        self._admission = admission
        self._tracing = tracing
        self.arrivals = admission.arrivals
        """To be told of each request that was read."""

    @cached_property
    def _cold(self) -> "FastAPI":
        return self._make_cold()

    @cached_property
    def _paths(self) -> tuple[Path, ...]:
        return _paths(self._hot, self._cold)

    async def _made(self) -> None:
        """Have the routes that are not hot made in a thread; return when they are."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(lambda: self._paths))
        await asyncio.shield(self._making)

    async def _make_behind(self) -> None:
        """Have them made behind a start, with what the first table needs, and look for no cycles in all of it."""
        await self._made()
        await asyncio.to_thread(warm_tables)
        gc.freeze()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] != "http":
            return self._take_part(scope, receive, send)
        if self._tracing is None:
            return self._answer(scope, receive, send, None)
        return self._answer_traced(self._tracing, scope, receive, send)

    async def _take_part(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take part in the lifespan; refuse a websocket."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            # Without an accept, closing refuses the handshake.
            await send({"type": "websocket.close"})

    async def _answer_traced(self, tracing: Tracing, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with a trace where it is sampled."""
        if scope["path"] in FREE or (trace := tracing.begin(scope["headers"])) is None:
            await self._answer(scope, receive, send, None)
            return
        leave = entered(trace)
        outcome = [(UNKNOWN_ROUTE, UNEXPECTED)]
        try:
            await self._answer(scope, receive, send, outcome)
        finally:
            leave()
            tracing.end(trace, scope["method"], *outcome[-1])

    def _answer(self, scope: Scope, receive: Receive, send: Send, outcome: Outcome | None) -> Coroutine[Any, Any, None]:
        """Answer a request; add the template of its path, and the status, to ``outcome``."""
        methods = self._hot.get(scope["path"])
        handler = methods.get(scope["method"]) if methods else None
        if handler is None:
            return self._answer_other(scope, receive, send, outcome)
        return self._answer_hot(handler, scope, receive, send, outcome)

    async def _answer_hot(
        self, handler: Handler, scope: Scope, receive: Receive, send: Send, outcome: Outcome | None
    ) -> None:
        """Answer a request of a hot route, in one frame: every further one is entered with each step of the answer."""
        began, route, status = perf_counter(), scope["path"], UNEXPECTED
        is_refused = False
        try:
            refusal = self._admission.enter_at_once(route, scope)
            if refusal is not None:
                refusal = await self._admission.turn(refusal) if isinstance(refusal, Wait) else refusal
            if refusal is not None:
                status, is_refused = refusal.status, True
                await send_reply(scope, send, refusal)
                return
            try:
                try:
                    reply = await handler(scope, receive)
                except MidstreamError as error:
                    reply = problem_reply(error)
                at_once = scope.get(AT_ONCE)
                if at_once is None or not at_once(scope, reply):
                    await send_reply(scope, send, reply)
                status = reply.status
            finally:
                self._admission.leave(route)
        except Disconnected:
            status = CLIENT_GONE
        finally:
            self._count(route, status, None if is_refused else began, outcome)

    async def _answer_other(self, scope: Scope, receive: Receive, send: Send, outcome: Outcome | None) -> None:
        """Answer a request that FastAPI answers, or nothing does."""
        began = perf_counter()
        if "_paths" not in self.__dict__:
            await self._made()
        path = self._path_of(scope)
        route, status, is_refused = UNKNOWN_ROUTE if path is None else path.template, UNEXPECTED, False
        try:
            refusal = await self._admission.enter(route, scope)
            if refusal is not None:
                status, is_refused = refusal.status, True
                await send_reply(scope, send, refusal)
                return
            try:
                status = await self._answer_cold(path, scope, receive, send)
            finally:
                self._admission.leave(route)
        except Disconnected:
            status = CLIENT_GONE
        finally:
            self._count(route, status, None if is_refused else began, outcome)

    def _count(self, route: str, status: int, began: float | None, outcome: Outcome | None) -> None:
        """Count an answered request; ``began`` None = it was refused, and its time would say nothing of the route's."""
        if began is None:
            self.metrics.count_request(route, status)
        else:
            self.metrics.observe_request(route, status, perf_counter() - began)
        if outcome is not None:
            outcome.append((route, status))

    def template_of(self, scope: Scope) -> str:
        """Return the template of a request's path, ``unknown`` when no route has it."""
        if scope["path"] in self._hot:
            return str(scope["path"])
        path = self._path_of(scope)
        return UNKNOWN_ROUTE if path is None else path.template

    def _path_of(self, scope: Scope) -> Path | None:
        sent = sent_path(scope)
        return next((each for each in self._paths if each.pattern.match(sent)), None)

    async def _answer_cold(self, path: Path | None, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer a request of FastAPI; return the status."""
        method: str = scope["method"]
        reply: Reply | None = None
        if path is None:
            reply = problem_reply(self._unknown(sent_path(scope)))
        elif method == HTTPMethod.OPTIONS:
            reply = Reply(200, b"", headers=((b"allow", ", ".join(sorted(path.methods)).encode()),))
        elif method not in path.methods:
            reply = problem_reply(MethodNotAllowed(method, path.methods))
        if reply is None:
            return await self._ask_fastapi({**scope, "path": sent_path(scope)}, receive, send)
        await send_reply(scope, send, reply)
        return reply.status

    async def _ask_fastapi(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Let FastAPI answer; HEAD is GET without the body. Return the status."""
        head = scope["method"] == HTTPMethod.HEAD
        status = UNEXPECTED

        async def passing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        await self._cold({**scope, "method": "GET"} if head else scope, receive, passing)
        return status

    def _unknown(self, sent: str) -> RouteUnknown:
        known = sorted(path.template for path in self._paths)
        came = f'"{sent[:60]}" is no path here.{nearest(sent, known)}'
        return RouteUnknown((Fault("path", came, "A path of /docs, or of /openapi.json for programs.", PAGE),))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """The engine is started before the app is made, and stopped by its owner."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        making = asyncio.create_task(self._make_behind())
        await receive()
        making.cancel()
        await send({"type": "lifespan.shutdown.complete"})


@dataclass(frozen=True, slots=True, eq=False)
class Maintenance:
    """Services that change configuration and history while a server runs."""

    rebuilder: "Rebuilder | None" = None
    """None = the configuration is never read again."""
    eraser: "Eraser | None" = None
    """None = there is no log in a folder."""
    champions: "Champions | None" = None
    """None = there is no folder of models."""
    explainer: "Explainer | None" = None
    """None = there is no log in a folder."""
    placing: "Placing | None" = None
    """None = placements are those of the file."""
    experimenting: "Experimenting | None" = None
    """As the placements."""
    shelf: "SnapshotShelf | None" = None
    """None = there is no log in a folder."""
    inputs: "InputGroup | None" = None
    """None = there is no log in a folder."""
    outputs: "OutputGroup | None" = None
    """As the inputs."""
    sinks: "SinkGroup | None" = None
    """None = there is no log in a folder."""
    trainings: "TrainingLoop | None" = None
    """None = this process trains nothing by itself."""
    online: "OnlineFiguring | None" = None
    """As the sinks."""
    reports: "ExperimentReports | None" = None
    """As the placements."""
    data: "DataFolder | None" = None
    """Data folder, which has the API keys; None = there is none."""
    tracing: Tracing | None = None
    """Traces of requests; None = there are none."""
    past: "PastFeatures | None" = None
    """As the explainer."""


NO_UPKEEP = Maintenance()


def asgi(
    engine: "Engine",
    accept: Callable[[], Accept],
    options: ServerOptions | None = None,
    service: IngestService | None = None,
    upkeep: Maintenance = NO_UPKEEP,
    elsewhere: OtherProcesses = ALONE,
) -> App:
    """Return the ASGI app of a started engine.

    Args:
        engine: Answers; its owner stops it, after the last request.
        accept: Returns the current settings of decoding.
        options: Sizes and waits; the defaults when None.
        service: Records events; one without dead letters when None.
        upkeep: Services that change configuration and history.
        elsewhere: Functions of other processes.
    """
    chosen = options or ServerOptions()
    limits = body_limits(chosen)
    ingest = Ingest(service or IngestService(engine, limits_of(chosen)), accept, engine.token, chosen.body_bytes_max)
    record = elsewhere.record or recording(ingest)
    recommendations = Recommendations(engine, record)
    operation = operation_routes(engine, elsewhere.metrics_text)
    cold = partial(_cold, engine, (ingest, recommendations), chosen, upkeep, operation, elsewhere)
    others = {
        RANK_PATH: Rankings(engine, record).from_body,
        PAGES_PATH: Pages(engine, record).from_body,
        BATCH_PATH: Batches(engine).from_body,
    }
    bulk = Bulk(engine, ingest, chosen)
    hot = {**hot_routes(ingest, bulk, recommendations, limits, others), **bulk_routes(bulk), **operation}
    admission = Admission(chosen, engine.metrics, engine.concerns, perf_counter, secrets.randbelow)
    engine.listeners.add(Listener(name="admission", gauges=admission.set_gauges))
    return App(hot, cold, engine.metrics, admission, upkeep.tracing)


def _cold(
    engine: "Engine",
    answering: tuple[Ingest, Recommendations],
    options: ServerOptions,
    upkeep: Maintenance,
    operation: Mapping[str, Mapping[str, Handler]],
    elsewhere: OtherProcesses,
) -> "FastAPI":
    """Return the app of all routes that are not hot, with the document of all."""
    from fastapi import FastAPI

    from midstream.serving.admin.catalogue import add_catalogue_routes
    from midstream.serving.admin.dead_letters import add_letter_routes
    from midstream.serving.admin.erasures import add_erasure_routes
    from midstream.serving.admin.experiments import add_experiment_routes
    from midstream.serving.admin.feature_values import add_setting_route
    from midstream.serving.admin.features import add_feature_routes
    from midstream.serving.admin.health import add_operation_routes
    from midstream.serving.admin.item_slates import add_item_slate_routes
    from midstream.serving.admin.job_routes import add_explanation_routes, add_past_routes
    from midstream.serving.admin.keys import add_key_routes
    from midstream.serving.admin.lists import add_list_routes
    from midstream.serving.admin.models import add_model_routes
    from midstream.serving.admin.online_metrics import add_online_routes
    from midstream.serving.admin.placements import add_placement_routes
    from midstream.serving.admin.rebuilds import add_rebuild_routes
    from midstream.serving.admin.trainings import add_training_routes
    from midstream.serving.admin.users import add_people_routes
    from midstream.serving.openapi.document import add_hot_routes

    ingest, recommendations = answering
    limits = body_limits(options)
    cold = FastAPI(
        title="midstream",
        version=version("midstream"),
        description="The next request sees the last click.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    cold.add_exception_handler(MidstreamError, _problem_response)
    cold.add_exception_handler(Disconnected, _no_response)
    add_item_slate_routes(cold, recommendations)  # before those of one item, whose path a search has too
    add_catalogue_routes(cold, engine, ingest, limits)
    add_people_routes(cold, engine, ingest, limits)
    add_list_routes(cold, engine, ingest)
    add_operation_routes(cold, engine, operation)
    add_past_routes(cold, upkeep.past, ingest)
    add_feature_routes(cold, engine, limits)
    add_setting_route(cold, engine, ingest, limits)
    add_letter_routes(cold, ingest, limits)
    add_rebuild_routes(cold, upkeep.rebuilder, limits)
    add_erasure_routes(cold, engine, upkeep.eraser, limits)
    add_model_routes(cold, upkeep.champions, limits)
    add_explanation_routes(cold, upkeep.explainer)
    add_placement_routes(cold, engine, upkeep.placing, limits)
    add_experiment_routes(cold, upkeep.experimenting, limits, upkeep.reports)
    add_online_routes(cold, upkeep.online)
    add_key_routes(cold, engine, upkeep.data, limits)
    add_training_routes(cold, upkeep.trainings, limits)
    _add_exchange(cold, upkeep, options)
    add_hot_routes(cold)
    _add_pages(cold, options, upkeep.data, engine, elsewhere)
    return cold


def _add_exchange(cold: "FastAPI", upkeep: Maintenance, options: ServerOptions) -> None:
    """Add the routes of what this server takes from other systems and gives to them."""
    from midstream.serving.admin.inputs import add_input_routes
    from midstream.serving.admin.outputs import add_output_routes
    from midstream.serving.admin.sinks import add_sink_routes
    from midstream.serving.admin.snapshots import add_snapshot_routes

    limits = body_limits(options)
    add_input_routes(cold, upkeep.inputs, limits)
    add_output_routes(cold, upkeep.outputs, limits)
    add_snapshot_routes(cold, upkeep.shelf)
    add_sink_routes(cold, upkeep.sinks, limits)


def _add_pages(
    cold: "FastAPI", options: ServerOptions, data: "DataFolder | None", engine: "Engine", elsewhere: OtherProcesses
) -> None:
    """Add what people read, the docs and the console, and the script for their pages."""
    from midstream.serving.access.key_file import KeyFile
    from midstream.serving.browser.demo_shop import add_shop_routes
    from midstream.serving.browser.script import add_script_route
    from midstream.serving.console.engine_samples import EngineSamples
    from midstream.serving.console.routes import add_console_routes
    from midstream.serving.openapi.document import add_docs_page

    add_docs_page(cold)
    add_script_route(cold)
    add_shop_routes(cold, is_shown=options.demo_shop)
    keys = None if data is None else KeyFile(data.root)
    samples = EngineSamples(engine) if elsewhere.metrics_text is None else None
    # Functions of it, as routes are described without an engine.
    add_console_routes(cold, keys, lambda: engine.clock(), lambda: engine.fold.settings.types, samples)  # noqa: PLW0108


def described() -> "Document":
    """Return the OpenAPI document of all routes, for an app that has to describe them before there is an engine."""
    none = cast("Any", None)  # handlers read it when they are called, and none of these ever is
    return _cold(none, (none, none), ServerOptions(), NO_UPKEEP, {}, ALONE).openapi()


async def _problem_response(_request: "Request", error: Exception) -> "Response":
    """FastAPI's face of the same failures; it is registered for ``MidstreamError`` alone."""
    if isinstance(error, MidstreamError):
        return to_response(problem_reply(error))
    raise error


async def _no_response(_request: "Request", _error: Exception) -> "Response":
    """FastAPI has to send something; the client that is gone does not get it."""
    return to_response(Reply(CLIENT_GONE, b""))


def _paths(hot: Mapping[str, Mapping[str, Handler]], cold: "FastAPI") -> tuple[Path, ...]:
    """Return every path with all of its methods; FastAPI has a route for each method, and HEAD for its GET."""
    from starlette.routing import Route

    methods: dict[str, set[str]] = {path: {"OPTIONS", *handlers} for path, handlers in hot.items()}
    patterns = {path: re.compile(re.escape(path) + "$") for path in hot}
    for route in cold.routes:
        if isinstance(route, Route):
            found = set(route.methods or ())
            methods.setdefault(route.path, {"OPTIONS"}).update(found, {"HEAD"} if "GET" in found else ())
            patterns[route.path] = route.path_regex
    return tuple(Path(template, patterns[template], frozenset(found)) for template, found in methods.items())
