"""The engine in a FastAPI application: mounted and as routes, behind the application's own auth, with its lifespan."""

import asyncio
import contextlib
import json
import threading

import msgspec
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.testclient import TestClient

import midstream
import midstream.fastapi
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, FolderLocked
from midstream.engine.requests.faults import NameUnknown
from midstream.engine.snapshots import snapshotter
from midstream.serving.app import described
from midstream.serving.http.mounting import below
from midstream.serving.http.problems import RouteUnknown
from midstream.serving.http.responses import MOUNTED_AT
from midstream.serving.options import ServerOptions
from tests.support.libraries import library
from tests.support.rig import SMALL

KEY = {"x-key": "right"}
JSON = {"content-type": "application/json"}
ACTS = [
    {"type": "view", "session_id": session, "item_id": item, "event_id": f"{session}{item}"}
    for session in ("s1", "s2", "s3")
    for item in ("lamp", "a/b")
]
URL = "http://localhost"
FORMS = ("mounted", "routed")


@pytest.fixture(autouse=True)
def framework():
    """Say which release of it the tests of this file meet."""
    return library("fastapi")


def require_key(request: Request, response: Response, after: BackgroundTasks):
    """What an application has in front of its routes."""
    if request.headers.get("x-key") != "right":
        raise HTTPException(401, "no key")
    response.headers["x-seen"] = "yes"
    after.add_task(request.app.state.done.append, request.url.path)


def made_app(engine, form, own=None):
    """An application that has the engine below /shop, in one of two forms."""
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine, own))
    app.state.done = []

    @app.get("/own")
    async def own_route():
        return {"thread": threading.get_ident()}

    if form == "routed":
        app.include_router(midstream.fastapi.router(engine), prefix="/shop", dependencies=[Depends(require_key)])
        return app

    @app.middleware("http")
    async def keyed(request, answer):
        if request.url.path.startswith("/shop") and request.headers.get("x-key") != "right":
            return Response(status_code=401)
        return await answer(request)

    app.mount("/shop", engine)
    return app


def client_of(app, **options):
    """A client with the key, whose requests are JSON."""
    return TestClient(app, base_url=URL, headers={**KEY, **JSON}, raise_server_exceptions=False, **options)


@pytest.fixture(params=FORMS)
def client(request, tmp_path):
    """A client of an application that runs."""
    with client_of(made_app(midstream.asgi(tmp_path, SMALL), request.param)) as found:
        yield found


def test_an_event_is_in_the_next_answer(client):
    """By its token, with request ids that events may name, as over HTTP; the application's own routes stay."""
    done = client.post("/shop/v1/events", json=ACTS)
    assert (done.status_code, done.json()["recorded"]) == (200, len(ACTS))
    asked = {"session_id": "s9", "items": ["lamp"], "min_log_position": done.json()["log_position"]}
    slate = client.post("/shop/v1/recommendations", json=asked).json()
    assert (slate["read_your_writes"], [each["id"] for each in slate["items"]]) == (True, ["a/b"])
    shown = {"type": "impression", "session_id": "s9", "item_id": "a/b", "request_id": slate["request_id"]}
    lines = "\n".join(json.dumps(each) for each in (shown, {**shown, "request_id": "made-up"}))
    told = client.post("/shop/v1/events", content=lines, headers={"content-type": "application/x-ndjson"}).json()
    assert (told["recorded"], [each["index"] for each in told["rejected"]]) == (1, [1])
    assert client.get(f"/shop/v1/requests/{slate['request_id']}").status_code == 200
    assert client.get("/shop/v1/recommendations?session_id=s9&n=1").json()["items"][0]["id"] in {"lamp", "a/b"}
    assert client.get("/own").status_code == 200
    assert client.get("/shop/health/ready").json()["ready"]


def test_an_id_with_a_slash_is_one_step_of_the_path(client):
    """As it was sent, also where the host's own router decodes it."""
    client.post("/shop/v1/events", json=ACTS)
    assert client.get("/shop/v1/items/a%2Fb").json()["item_id"] == "a/b"
    assert [each["id"] for each in client.get("/shop/v1/items/a%2Fb/similar").json()["items"]] == ["lamp"]
    assert client.put("/shop/v1/items/x%2Fsimilar", json={"available": False}).status_code == 200
    assert client.get("/shop/v1/items/x%2Fsimilar").json()["item_id"] == "x/similar"
    assert client.get("/shop/v1/items/a/b").status_code == 404


def test_nobody_comes_in_without_the_key_of_the_application(client):
    """Neither to a route nor to a page, and nothing of it is recorded."""
    without = {"x-key": ""}
    for method, path in (("POST", "/shop/v1/events"), ("GET", "/shop/v1/items/lamp"), ("GET", "/shop/docs/http.md")):
        assert client.request(method, path, json=ACTS, headers=without).status_code == 401
    assert client.get("/shop/v1/items/lamp").status_code == 404


@pytest.mark.parametrize(
    "status,method,path,sent",
    [
        (400, "POST", "/shop/v1/recommendations", {"json": {"uzer_id": "ann"}}),
        (404, "GET", "/shop/v1/items/nothing", {}),
        (413, "POST", "/shop/v1/events", {"content": b" " * 300_000}),
        (415, "POST", "/shop/v1/events", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (403, "GET", "/shop/v1/items/lamp", {"headers": {"origin": "http://evil.example"}}),
        (403, "GET", "/shop/v1/items/lamp", {"headers": {"sec-fetch-site": "cross-site"}}),
        (421, "GET", "/shop/v1/items/lamp", {"headers": {"host": "rebound.example"}}),
    ],
)
def test_refusals_are_those_of_a_server(client, status, method, path, sent):
    """A problem document with its parts and a page that leads somewhere, and the headers of every answer."""
    sent = {**sent, "headers": {**JSON, **sent.get("headers", {})}}
    refused = client.request(method, path, **sent)
    document = refused.json()
    assert (refused.status_code, document["status"]) == (status, status)
    assert refused.headers["content-type"] == "application/problem+json"
    assert document["type"].startswith("urn:midstream:")
    assert document["detail"]
    assert client.get(f"/shop{document['page'].partition('#')[0]}").status_code == 200
    assert refused.headers["cross-origin-resource-policy"] == "same-origin"
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_host_may_check_names_itself(tmp_path):
    """Then any name is let in, and no header is set for it; a folder's file names further ones otherwise."""
    with client_of(made_app(midstream.asgi(tmp_path, SMALL, checks_origin=False), "mounted")) as client:
        found = client.get("/shop/v1/placements", headers={"host": "shop.example", "origin": "https://other.example"})
        assert found.status_code == 200
        assert "cross-origin-resource-policy" not in found.headers
    named = msgspec.structs.replace(SMALL, server=ServerOptions(allow_hosts=("shop.example",)))
    with client_of(made_app(midstream.asgi(tmp_path, named), "mounted")) as client:
        for host, status in (("shop.example", 200), ("other.example", 421)):
            assert client.get("/shop/v1/placements", headers={"host": host}).status_code == status


@pytest.mark.parametrize("form", FORMS)
def test_limits_of_the_file_hold(tmp_path, form):
    """Of bytes, and of requests of a caller."""
    options = ServerOptions(body_bytes_max=1_024, quota_per_second=0.001, quota_burst=2)
    with client_of(made_app(midstream.asgi(tmp_path, msgspec.structs.replace(SMALL, server=options)), form)) as client:
        found = [client.post("/shop/v1/events", content=b" " * size).status_code for size in (1_025, 1_000, 1_000)]
        assert found == [413, 400, 429]


def test_answers_in_progress_are_bounded(tmp_path):
    """More questions than may wait are refused while one is being answered."""
    options = ServerOptions(answers_max=1, answers_waiting_max=0)
    config = msgspec.structs.replace(SMALL, server=options)

    async def ask(engine):
        statuses = []

        async def question(position):
            body = json.dumps({"min_log_position": position, "deadline": "500ms"} if position else {}).encode()
            scope = {"type": "http", "method": "POST", "path": "/v1/recommendations", "query_string": b""}
            scope["headers"] = [(b"host", b"localhost"), (b"content-type", b"application/json")]

            async def receive():
                await asyncio.sleep(0.01)
                return {"type": "http.request", "body": body}

            async def send(message):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            await engine(scope, receive, send)

        await asyncio.gather(question(None), question(None))
        return statuses

    async def run():
        async with midstream.asgi(tmp_path, config) as engine:
            return await ask(engine)

    assert sorted(asyncio.run(run())) == [200, 503]


def test_the_engine_lives_on_the_loop_of_the_host(tmp_path):
    """No thread is between them: what the host's handlers see is the thread that owns the state."""
    engine = midstream.asgi(tmp_path, SMALL)
    with client_of(made_app(engine, "routed")) as client:
        assert client.get("/own").json()["thread"] != threading.get_ident()
        assert [each.name for each in threading.enumerate() if each.name == "midstream"] == []
        assert engine.is_open
    assert not engine.is_open


def test_the_lifespan_of_the_application_is_inside(tmp_path):
    """It begins when the engine is open and ends before it closes; its state is the application's."""
    engine = midstream.asgi(tmp_path, SMALL)
    seen = []

    @contextlib.asynccontextmanager
    async def own(app):
        seen.append((app.title, engine.is_open))
        yield {"name": "kept"}
        seen.append(("end", engine.is_open))

    app = made_app(engine, "routed", own)

    @app.get("/state")
    async def state(request: Request):
        return request.state.name

    with client_of(app) as client:
        assert client.get("/state").json() == "kept"
    assert seen == [("FastAPI", True), ("end", True)]
    assert not engine.is_open


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path, monkeypatch):
    """The same application starts again; a snapshot was written at the stop, and a second opening is refused."""
    monkeypatch.setattr(snapshotter, "AT_STOP_EVENTS_MIN", 1)
    app = made_app(midstream.asgi(tmp_path, SMALL), "routed")
    with client_of(app) as client:
        client.post("/shop/v1/events", json=ACTS)
        with pytest.raises(FolderLocked, match=r"one owner.*one worker.*midstream serve"):
            midstream.open(tmp_path, SMALL)
    assert [*(tmp_path / "data" / "snapshots").iterdir()]
    with client_of(app) as client:
        assert client.get("/shop/v1/items/lamp").status_code == 200
        again = client.post("/shop/v1/events", json=ACTS).json()
        assert (again["recorded"], again["duplicates"]) == (0, len(ACTS))


def test_an_engine_that_is_not_open_says_so(tmp_path):
    """503 with what to do, before any lifespan and after it; a second start is a mistake of the program."""
    engine = midstream.asgi(tmp_path, SMALL)
    for form in FORMS:
        client = client_of(made_app(engine, form))  # outside of a with block no lifespan runs
        refused = client.get("/shop/v1/items/lamp")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:midstream:unavailable")
        assert "lifespan" in refused.json()["detail"]

    async def twice():
        async with engine, engine:
            raise AssertionError

    with pytest.raises(RuntimeError, match="open already"):
        asyncio.run(twice())
    assert not engine.is_open


def test_an_engine_served_by_itself_takes_part_in_the_lifespan(tmp_path):
    """Without any framework; a start that fails is told to the server with its reason."""
    with TestClient(midstream.asgi(tmp_path, SMALL), base_url=URL) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.get("/docs").status_code == 200
        told = []

        async def start():
            async def receive():
                return {"type": "lifespan.startup"}

            async def send(message):
                told.append(message)

            with contextlib.suppress(FolderLocked):
                await midstream.asgi(tmp_path, SMALL)({"type": "lifespan"}, receive, send)

        asyncio.run(start())
        (message,) = told
        assert message["type"] == "lifespan.startup.failed"
        assert "one worker" in message["message"]


def test_what_only_a_server_can_do_is_refused(tmp_path):
    """Followers, and names that are none, with their place in the file."""
    options = ServerOptions(followers=1, allow_hosts=("*",))
    engine = midstream.asgi(tmp_path, msgspec.structs.replace(SMALL, server=options))

    async def enter():
        await engine.__aenter__()

    with pytest.raises(ConfigInvalid) as caught:
        asyncio.run(enter())
    assert [each.where for each in caught.value.faults] == ["$.server.allow_hosts[0]", "$.server.followers"]


def test_routes_are_in_the_document_of_the_application(tmp_path):
    """Each operation with its parameters, bodies and answers, below the prefix, without a type of another document."""
    app = made_app(midstream.asgi(tmp_path), "routed")
    document = app.openapi()
    ours = described()["paths"]
    found = {path.removeprefix("/shop"): each for path, each in document["paths"].items() if path.startswith("/shop")}
    assert {path: set(each) for path, each in found.items()} == {path: set(each) for path, each in ours.items()}
    assert "/own" in document["paths"]
    for path, methods in ours.items():
        for method, operation in methods.items():
            mine = found[path][method]
            assert set(mine["responses"]) == set(operation["responses"]), (path, method)
            names = [each["name"] for each in operation.get("parameters", [])]
            assert [each["name"] for each in mine.get("parameters", [])] == names, (path, method)
            assert ("requestBody" in mine) == ("requestBody" in operation)
            assert mine["summary"]
    text = json.dumps(found)
    assert "$ref" not in text
    identifiers = [each["operationId"] for methods in found.values() for each in methods.values()]
    assert len(text) < 4_500 * len(identifiers)
    assert len(set(identifiers)) == len(identifiers)
    slate = found["/v1/recommendations"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert slate["properties"]["request_id"] == {"type": "string"}


def test_a_router_has_the_paths_that_were_chosen(tmp_path):
    """No other operation is reached through it, whatever a path decodes to; each router has its own dependencies."""
    engine = midstream.asgi(tmp_path, SMALL)
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    open_paths = ["/v1/recommendations", "/v1/events", "/v1/items/{item_id}/similar"]
    app.include_router(midstream.fastapi.router(engine, open_paths))
    app.state.done = []
    app.include_router(midstream.fastapi.router(engine), prefix="/admin", dependencies=[Depends(require_key)])
    with TestClient(app, base_url=URL, headers=JSON) as client:
        client.post("/v1/events", json=[*ACTS, {"type": "view", "session_id": "s", "item_id": "x/similar"}])
        assert client.get("/v1/items/a%2Fb/similar").json()["items"]
        assert client.get("/v1/recommendations").status_code == 200
        assert client.get("/v1/items/lamp").status_code == 404
        assert client.get("/admin/v1/items/x%2Fsimilar").status_code == 401
        assert client.get("/admin/v1/items/x%2Fsimilar", headers=KEY).json()["item_id"] == "x/similar"
        assert client.get("/v1/items/x%2Fsimilar").status_code == 404
        assert client.delete("/v1/items/x%2Fsimilar").status_code in {404, 405}
    with pytest.raises(NameUnknown, match="/v1/events"):
        midstream.fastapi.router(engine, ["/v1/event"])


def test_what_dependencies_do_to_an_answer_is_kept(tmp_path):
    """Headers that they set, tasks that they add, and a body that one of them has read."""

    async def signed(request: Request):
        if await request.body() == b"{}":
            raise HTTPException(401, "not signed")

    engine = midstream.asgi(tmp_path, SMALL)
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    app.state.done = []
    both = [Depends(require_key), Depends(signed)]
    app.include_router(midstream.fastapi.router(engine), prefix="/api/shop", dependencies=both)
    with client_of(app) as client:
        told = client.post("/api/shop/v1/events", json=ACTS)
        assert (told.status_code, told.json()["recorded"], told.headers["x-seen"]) == (200, len(ACTS), "yes")
        assert app.state.done == ["/api/shop/v1/events"]
        assert client.post("/api/shop/v1/events", content=b"{}").status_code == 401


def test_a_mount_below_a_mount_and_a_proxy(tmp_path):
    """The path of the host is left out however deep it is; links of the page are relative."""
    engine = midstream.asgi(tmp_path, SMALL)
    inner = FastAPI()
    inner.mount("/shop", engine)
    outer = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    outer.mount("/api", inner)
    with TestClient(outer, base_url=URL, root_path="/proxy", headers=JSON) as client:
        client.post("/proxy/api/shop/v1/events", json=ACTS)
        assert client.get("/proxy/api/shop/v1/items/a%2Fb").json()["item_id"] == "a/b"
        page = client.get("/proxy/api/shop/docs")
        assert "href=openapi.json" in page.text
        assert client.get("/proxy/api/shop/openapi.json").json()["servers"] == [{"url": "/proxy/api/shop"}]
        assert "servers" not in described()
        assert client.get("/proxy/api/shop/nowhere").json()["came"].startswith('"/nowhere"')


def test_a_path_without_the_steps_of_the_host():
    """Decoded and as it was sent, and what was left out."""
    scope = {"path": "/api/shop/v1/items/a/b", "raw_path": b"/api/shop/v1/items/a%2Fb?x=1", "root_path": "/api/shop"}
    found = below(scope, "/api/shop")
    assert (found["path"], found["raw_path"]) == ("/v1/items/a/b", b"/v1/items/a%2Fb")
    assert (found["root_path"], found[MOUNTED_AT]) == ("", "/api/shop")
    assert below({"path": "/shop"}, "/shop")["path"] == "/"
    assert below({"path": "/v1"}, "") == {"path": "/v1", "root_path": ""}


@pytest.mark.parametrize(
    "path,raw,mounted_at",
    [
        ("/shop/v1/events/v1/erasures", b"/shop%2Fv1%2Fevents/v1/erasures", "/shop"),
        ("/shop/v1/events/v1/erasures", b"/shop%2Fv1%2Fevents/v1/erasures", "/shop/v1/events"),
        ("/api/shop/v1/events", b"/api%2fshop/v1/events", "/api/shop"),
        ("/shop/v1/events", b"/shop/v1/erasures", "/shop"),
        ("/shop/v1/events", b"/v1/events", "/shop"),
        ("/v1/events", b"/v1/erasures", ""),
    ],
)
def test_a_path_that_the_host_reads_in_another_way_is_refused(path, raw, mounted_at):
    """Where the slashes of the host's part are not those that were sent, or the rest is another one."""
    with pytest.raises(RouteUnknown):
        below({"path": path, "raw_path": raw}, mounted_at)


def test_a_guard_that_reads_the_decoded_path_of_a_mount_is_not_passed_by(tmp_path):
    """It lets recommendations in alone; a slash of the host's part that is sent as %2F leads to nothing else."""
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine := midstream.asgi(tmp_path, SMALL)))

    @app.middleware("http")
    async def guard(request, answer):
        if not request.scope["path"].startswith("/shop/v1/recommendations"):
            return Response(status_code=401)
        return await answer(request)

    app.mount("/shop", engine)
    with TestClient(app, base_url=URL, headers=JSON) as client:
        assert client.get("/shop/v1/recommendations").status_code == 200
        assert client.get("/shop/v1/features").status_code == 401
        for path in ("health/ready", "v1/features", "metrics", "v1/items/lamp"):
            for slash in ("%2F", "%2f"):
                refused = client.get(f"/shop{slash}v1{slash}recommendations/{path}")
                assert (refused.status_code, refused.json()["type"]) == (404, "urn:midstream:route-unknown")


def test_a_dependency_sees_the_id_that_the_engine_reads(tmp_path):
    """Of a router: what it lets in by its id is that user, however the path is sent."""

    def own_users(user_id: str = ""):
        if not user_id.startswith("acme/"):
            raise HTTPException(403)

    engine = midstream.asgi(tmp_path, SMALL)
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    router = midstream.fastapi.router(engine, ["/v1/users/{user_id}"])
    app.include_router(router, prefix="/shop", dependencies=[Depends(own_users)])
    app.include_router(midstream.fastapi.router(engine), prefix="/open")
    with TestClient(app, base_url=URL, headers=JSON) as client:
        for user in ("acme/ann", "other/bob"):
            client.post("/open/v1/events", json=[{"type": "view", "user_id": user, "item_id": "lamp"}])
        assert client.get("/shop/v1/users/acme%2Fann").json()["user_id"] == "acme/ann"
        assert client.get("/shop/v1/users/other%2Fbob").status_code == 403
        for path in ("/shop%2Fv1%2Fusers%2Facme/v1/users/other%2Fbob", "/shop/v1%2Fusers%2Facme/v1/users/other%2Fbob"):
            for method in ("GET", "DELETE", "HEAD", "OPTIONS"):
                assert client.request(method, path).status_code in {404, 405}


def test_routes_of_the_host_below_the_prefix_of_a_router_are_reached(tmp_path):
    """Also those that are added behind it: a router has the paths of its operations and pages alone."""
    engine = midstream.asgi(tmp_path, SMALL)
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    app.include_router(midstream.fastapi.router(engine), prefix="/s")
    for path in ("/s/v1/items/{item_id}/reviews", "/s/docs/mine", "/s/v1/users/{user_id}/orders/{order}"):
        app.add_api_route(path, lambda: "own")
    with TestClient(app, base_url=URL, headers=JSON) as client:
        client.post("/s/v1/events", json=ACTS)
        for path in ("/s/v1/items/x/reviews", "/s/docs/mine", "/s/v1/users/u/orders/1"):
            assert client.get(path).json() == "own"
        assert client.get("/s/v1/items/a%2Fb").json()["item_id"] == "a/b"
        assert client.get("/s/docs/tasks/web-frameworks.md").status_code == 200


def test_a_dependency_that_takes_the_body_is_named(tmp_path):
    """At once, in place of a wait for what does not come; the whole of a body or the first part of it."""

    async def reads(request: Request):
        async for _ in request.stream():
            pass

    async def reads_some(request: Request):
        await anext(aiter(request.stream()))

    engine = midstream.asgi(tmp_path, SMALL)
    app = FastAPI(lifespan=midstream.fastapi.lifespan(engine))
    for prefix, dependency in (("/all", reads), ("/some", reads_some)):
        router = midstream.fastapi.router(engine, ["/v1/events"])
        app.include_router(router, prefix=prefix, dependencies=[Depends(dependency)])
    with TestClient(app, base_url=URL, headers=JSON) as client:
        for prefix in ("/all", "/some"):
            with pytest.raises(RuntimeError, match=r"request\.stream.*request\.body"):
                client.post(f"{prefix}/v1/events", json=ACTS)


def test_waits_of_the_file_hold(tmp_path):
    """A body that does not come is a 408 after the time of the file."""
    options = ServerOptions(body_wait_max=Duration("50ms"))
    config = msgspec.structs.replace(SMALL, server=options)
    statuses = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        statuses.append(message.get("status"))

    async def run():
        async with midstream.asgi(tmp_path, config) as engine:
            scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b""}
            scope["headers"] = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            await engine(scope, never, send)

    asyncio.run(run())
    assert statuses[0] == 408
