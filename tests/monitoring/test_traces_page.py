"""The program and the table of docs/traces.md: the call of a component belongs to the request that is answered."""

import ast
import asyncio
import inspect
from types import FunctionType
from typing import Any

import httpx

from midstream.app.config.reader import parse_config
from midstream.monitoring.tracing import entered
from tests.support.pages import ROOT, blocks
from tests.support.traces import KeptTraces, tracing

PAGE = ROOT / "docs" / "traces.md"


def block_of(language: str) -> str:
    """Return the only block of a language."""
    (found,) = [block.text for block in blocks(PAGE) if block.language == language]
    return found


def test_a_call_of_a_component_has_the_headers_of_its_request() -> None:
    """The program of the page, which stands within a coroutine of a component."""
    came: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        came.append(request)
        return httpx.Response(200)

    async def call() -> None:
        code = compile(block_of("python"), PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            given: dict[str, Any] = {"client": client, "url": "http://scores.example/v1", "rows": [{"id": "lamp"}]}
            found = FunctionType(code, given)()
            assert inspect.isawaitable(found)
            await found

    trace = tracing(KeptTraces()).begin([])
    assert trace is not None
    leave = entered(trace)
    asyncio.run(call())
    leave()
    asyncio.run(call())
    within, without = came
    assert within.headers["traceparent"].split("-")[2] == f"{trace.span_id:016x}"
    assert within.content == b'[{"id":"lamp"}]'
    assert "traceparent" not in without.headers


def test_the_table_is_a_configuration() -> None:
    """With the endpoint and the share of the page."""
    found = parse_config(block_of("toml")).tracing
    assert (found.endpoint, found.sample_ratio) == ("http://127.0.0.1:4318/v1/traces", 0.01)
