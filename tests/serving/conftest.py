import json
from typing import Any, cast

import anyio
import httpx
import msgspec
import pytest

from midstream.engine.ingest.ingest_service import IngestService
from midstream.serving.app import Maintenance, asgi
from midstream.serving.events.ingest import limits_of
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import RequestOrigin
from tests.support.fakes.engine import FakeEngine, FakeEraser, FakeExplainer, FakePast, FakeRebuilder
from tests.support.fakes.experiments import FakeExperimenting
from tests.support.fakes.inputs import FakeInputs
from tests.support.fakes.live_reports import FakeReports
from tests.support.fakes.models import FakeChampions
from tests.support.fakes.online import FakeOnline
from tests.support.fakes.outputs import FakeOutputs
from tests.support.fakes.placements import FakePlacing
from tests.support.fakes.shelves import FakeShelf
from tests.support.fakes.sinks import FakeSinks
from tests.support.fakes.trainings import FakeTrainings


class Client:
    """Asks an app in process, one request after another."""

    def __init__(self, engine, options=None, dead_letters=None, rebuilder=None, data=None):
        self.engine = engine
        self.rebuilder = rebuilder or FakeRebuilder()
        self.eraser = FakeEraser()
        self.champions = FakeChampions()
        self.explainer = FakeExplainer()
        self.past = FakePast()
        self.placing = FakePlacing()
        self.experimenting = FakeExperimenting()
        self.inputs = FakeInputs()
        self.outputs = FakeOutputs()
        self.sinks = FakeSinks()
        self.shelf = FakeShelf()
        self.trainings = FakeTrainings()
        self.online = FakeOnline()
        own = options or ServerOptions()
        behind = asgi(
            engine,
            engine.accept,
            own,
            IngestService(engine, limits_of(own), dead_letters),
            Maintenance(
                cast("Any", self.rebuilder),
                cast("Any", self.eraser),
                cast("Any", self.champions),
                cast("Any", self.explainer),
                cast("Any", self.placing),
                cast("Any", self.experimenting),
                inputs=cast("Any", self.inputs),
                outputs=cast("Any", self.outputs),
                sinks=cast("Any", self.sinks),
                shelf=cast("Any", self.shelf),
                trainings=cast("Any", self.trainings),
                online=cast("Any", self.online),
                reports=cast("Any", FakeReports()),
                data=data,
                past=cast("Any", self.past),
            ),
        )
        self.app = RequestOrigin(behind, msgspec.structs.replace(own, allow_hosts=("test",)))

    def ask(self, method, path, *, raises=True, **options):
        if options.get("content"):
            options["headers"] = {"content-type": "application/json", **(options.get("headers") or {})}

        async def go():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=raises)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return anyio.run(go)

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body=None, **options):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, content=content, **options)


@pytest.fixture(scope="session")
def make_client():
    """Make an app in front of an engine, with options and dead letters."""
    return Client


@pytest.fixture
def engine():
    """An engine made of dicts."""
    return FakeEngine()


@pytest.fixture
def client(engine):
    """An app in front of it."""
    return Client(engine)
