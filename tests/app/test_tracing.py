"""Traces of a served folder: a span for each part of the way, answers that are the same, and nothing where off."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from midstream.app.opening import config_of, open_running
from midstream.app.server.opened_engine import open_with_groups, opened_engine
from midstream.core.errors import ConfigInvalid
from midstream.engine.stores.online_store import StoreRefused
from midstream.monitoring import tracing as tracing_module
from midstream.monitoring.tracing import RequestTrace, trace_headers
from midstream.serving.app import App, asgi
from tests.support.fakes.rebuilds import write_config
from tests.support.traces import KeptTraces, collecting, names, span, tracing

T = TypeVar("T")
PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
OTHER = {"request_id", "state_age_ms", "applied_log_position"}
CONFIG = """
[[placements]]
deadline = "10s"
[[placements]]
name = "slow"
deadline = "10s"
filter = "item.price < 50"
sources = [{ kind = "session_knn" }, { kind = "custom", path = "own:Broken" }]
[[placements]]
name = "scored"
deadline = "10s"
scorers = [{ kind = "custom", path = "own:Told" }]
features = ["views"]
[items.attributes]
price = "number"
[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]
"""
OWN = """
import msgspec
import numpy as np
from midstream.monitoring.tracing import trace_headers

SEEN = []

class Broken(msgspec.Struct, frozen=True):
    name: str = "broken"

    def retrieve(self, moment):
        raise KeyError("a secret")

class Told(msgspec.Struct, frozen=True):
    name: str = "told"

    async def score(self, query, features, models):
        SEEN.append(dict(trace_headers()))
        return np.ones(len(features.values), dtype=np.float32)
"""


class Client:
    """Requests to an app in process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    async def ask(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
        if body is None:
            return await self._http.get(path, headers=headers)
        return await self._http.post(path, json=body, headers=headers)


def shop(folder: Path, work: Callable[[Client, KeptTraces], Awaitable[T]], *, traced: bool = True) -> T:
    """Open a folder with some events, and do work with its app, which keeps a trace of each request."""

    async def main() -> T:
        running = open_running(folder, config_of(folder))  # with machine code for all kernels
        kept = KeptTraces()
        async with running:
            opened = opened_engine(folder, running)
            upkeep = replace(opened.upkeep, tracing=tracing(kept) if traced else None)
            app = asgi(opened.engine, opened.accept, running.config.server, opened.ingest, upkeep)
            client = Client(app)
            items = [{"type": "item", "item_id": f"i{n}", "attributes": {"price": 10 * n}} for n in range(60)]
            acts = [
                {"type": "view", "session_id": f"s{n % 12}", "item_id": f"i{n * n % 59}", "event_id": f"e{n}"}
                for n in range(240)
            ]
            answer = await client.ask("/v1/events", {"events": [*items, *acts]})
            assert answer.status_code == 200
            kept.traces.clear()
            return await work(client, kept)

    if not (folder / "midstream.toml").exists():
        write_config(folder, CONFIG)
        (folder / "own.py").write_text(OWN)
    return asyncio.run(main())


def test_a_slate_of_a_kernel(tmp_path: Path) -> None:
    """One span is the kernel's; the counts of its sources and filters are in that of the request."""

    async def work(client: Client, kept: KeptTraces) -> RequestTrace:
        answer = await client.ask("/v1/recommendations", {"session_id": "s1", "n": 3}, PARENT)
        trace = kept.only()
        found = trace.attributes
        assert found["midstream.request_id"] == answer.json()["request_id"]
        return trace

    trace = shop(tmp_path, work)
    assert names(trace) == ["POST /v1/recommendations", "decode", "kernel"]
    told = trace.attributes
    assert (told["midstream.placement"], told["midstream.tier"], told["midstream.items"]) == ("default", "full", 3)
    assert int(told["midstream.retrieved.session_knn"]) > 0
    request, kernel = span(trace, "POST /v1/recommendations"), span(trace, "kernel")
    assert request.begin_s <= kernel.begin_s < kernel.end_s <= request.end_s
    assert (f"{trace.trace_id:032x}", f"{request.parent_id:016x}") == tuple(PARENT["traceparent"].split("-")[1:3])
    assert not any("s1" in str(value) for value in told.values())


def test_a_slate_of_the_pipeline(tmp_path: Path) -> None:
    """Each source, filter and the selection have theirs, in their order; one that raised has the type, not the text."""

    async def work(client: Client, kept: KeptTraces) -> RequestTrace:
        await client.ask("/v1/recommendations?placement=slow&session_id=s1&explain=true", headers=PARENT)
        return kept.only()

    trace = shop(tmp_path, work)
    found = names(trace)
    assert found[0] == "GET /v1/recommendations"
    for name in ("source session_knn", "source broken", "source popular", "filter available", "filter filter"):
        assert name in found, found
    assert found.index("source session_knn") < found.index("filter filter") < found.index("selection")
    assert span(trace, "source broken").error == "KeyError"
    assert "secret" not in str(trace.spans)
    assert trace.attributes["midstream.tier"] == "reduced"
    assert trace.attributes["midstream.failures"] == 1
    request = span(trace, "GET /v1/recommendations")
    assert all(request.begin_s <= each.begin_s <= each.end_s <= request.end_s for each in trace.spans)


def test_features_and_a_scorer_of_ones_own(tmp_path: Path) -> None:
    """The scorer can take the trace on to what it calls."""

    async def work(client: Client, kept: KeptTraces) -> RequestTrace:
        await client.ask("/v1/recommendations", {"placement": "scored", "session_id": "s1", "explain": True}, PARENT)
        return kept.only()

    trace = shop(tmp_path, work)
    found = names(trace)
    assert found.index("feature block features") < found.index("scorer told") < found.index("selection")


def test_events_and_their_way_into_the_state(tmp_path: Path) -> None:
    """Decoding, queue, append with its sync, fold, one behind the other; also of events that come with a question."""

    async def work(client: Client, kept: KeptTraces) -> tuple[RequestTrace, RequestTrace]:
        event = {"type": "view", "session_id": "s9", "item_id": "i1"}
        await client.ask("/v1/events", event, PARENT)
        one = kept.only()
        await client.ask("/v1/recommendations", {"session_id": "s9", "events": [event]}, PARENT)
        return one, kept.only()

    for trace in shop(tmp_path, work):
        found = [each for each in names(trace) if each in {"decode", "queue", "log append and sync", "fold"}]
        assert found[-4:] == ["decode", "queue", "log append and sync", "fold"]
        ends = [span(trace, name) for name in ("queue", "log append and sync", "fold")]
        assert all(one.end_s <= two.begin_s for one, two in itertools.pairwise(ends))
        assert ends[1].attributes["midstream.frame_events"] == 1


def test_refusals_and_other_routes(tmp_path: Path) -> None:
    """A route has its template, a path that nobody has is unknown; health and metrics have no traces."""

    async def work(client: Client, kept: KeptTraces) -> list[tuple[str, object]]:
        paths = [
            "/v1/items/i1",
            "/v1/items/nothing",
            "/nowhere",
            "/health/ready",
            "/metrics",
            "/v1/recommendations?n=x",
        ]
        for path in paths:
            await client.ask(path)
        return [(each.spans[-1].name, each.spans[-1].attributes["http.response.status_code"]) for each in kept.traces]

    assert shop(tmp_path, work) == [
        ("GET /v1/items/{item_id}", 200),
        ("GET /v1/items/{item_id}", 404),
        ("GET unknown", 404),
        ("GET /v1/recommendations", 400),
    ]


@pytest.mark.parametrize("placement", ["default", "slow", "scored"])
def test_answers_are_the_same(tmp_path: Path, placement: str) -> None:
    """Traced and not, by the same state, but for what each request has of its own."""

    async def work(client: Client, kept: KeptTraces) -> None:
        made, found = client.app._tracing, list[list[dict[str, Any]]]()
        for number in range(2):  # a part that failed five times is left out
            answers: list[dict[str, Any]] = []
            for each in (made, None):
                client.app._tracing = each
                question = {"placement": placement, "session_id": f"s{number}", "n": 3 + 9 * number}
                content = (await client.ask("/v1/recommendations", question)).json()
                answers.append({name: content[name] for name in content if name not in OTHER})
            found.append(answers)
        assert len(kept.traces) == 2
        for traced, plain in found:
            assert traced == plain
        assert all(each["items"] for answers in found for each in answers)

    shop(tmp_path, work)


def test_nothing_is_made_where_traces_are_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace, no span and no header, whatever the caller sends."""

    class Forbidden:
        def __init__(self, *_: object, **__: object) -> None:
            raise AssertionError

    monkeypatch.setattr(tracing_module, "RequestTrace", Forbidden)
    monkeypatch.setattr(tracing_module, "SpanRecord", Forbidden)

    async def work(client: Client, kept: KeptTraces) -> None:
        for body in ({"session_id": "s1"}, {"session_id": "s1", "explain": True}, {"placement": "scored"}):
            assert (await client.ask("/v1/recommendations", body, PARENT)).status_code == 200
        event = {"type": "view", "session_id": "s9", "item_id": "i1"}
        assert (await client.ask("/v1/events", event, PARENT)).status_code == 200
        assert kept.traces == []
        assert trace_headers() == {}

    shop(tmp_path, work, traced=False)


def test_a_folder_brings_its_exporter(tmp_path: Path) -> None:
    """By its configuration: spans reach the collector, and metrics count them; a token that is missing is named."""
    with collecting() as collector:
        write_config(tmp_path / "on", f'[tracing]\nendpoint = "{collector.url}"\nsample_ratio = 1.0\n')
        config = config_of(tmp_path / "on")

        async def main() -> str:
            running, inputs, outputs = open_with_groups(tmp_path / "on", config)
            async with running:
                opened = opened_engine(tmp_path / "on", running, inputs, outputs)
                assert opened.upkeep.tracing is running.tracing is not None
                app = asgi(opened.engine, opened.accept, config.server, opened.ingest, opened.upkeep)
                await Client(app).ask("/v1/recommendations", {"n": 3})
            return running.engine.metrics.text().decode()

        text = asyncio.run(main())
        assert {"POST /v1/recommendations", "decode"} <= {each.name for each in collector.spans()}
        assert f'midstream_trace_spans_total{{outcome="exported"}} {float(len(collector.spans()))}' in text
    missing = msgspec.structs.replace(
        config, tracing=msgspec.structs.replace(config.tracing, token_env="NO_SUCH_TOKEN")
    )
    for _ in range(2):  # the folder is let go of
        with pytest.raises(StoreRefused, match="NO_SUCH_TOKEN"):
            open_with_groups(tmp_path / "on", missing)


def test_a_bad_endpoint_is_named(tmp_path: Path) -> None:
    """Before anything is opened."""
    write_config(tmp_path, '[tracing]\nendpoint = "localhost:4318"\n')
    with pytest.raises(ConfigInvalid, match=r"tracing\.endpoint"):
        config_of(tmp_path)
