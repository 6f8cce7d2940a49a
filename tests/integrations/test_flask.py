"""The engine in a Flask application: its routes behind the application's own auth, under real web servers too."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

import midstream
import midstream.flask
from midstream.core.errors import ConfigInvalid, ExtraMissing
from midstream.integrations import flask as integration
from midstream.serving.options import ServerOptions
from tests.support.libraries import library
from tests.support.pages import ROOT, blocks
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.readme import free_port
from tests.support.rig import SMALL

pytestmark = pytest.mark.integration
PAGE = ROOT / "docs" / "tasks" / "web-frameworks.md"
KEY = {"X-Key": "secret"}
ACTS = [
    {"type": "view", "session_id": session, "item_id": item, "event_id": f"{session}{item}"}
    for session in ("s1", "s2", "s3")
    for item in ("lamp", "a/b")
]


def made_app(shop, **options):
    """An application with the routes below /shop, and a key in front of them."""
    flask = library("flask")
    library("gunicorn")
    app = flask.Flask("shop_app")
    found: Any = midstream.flask.blueprint(shop, **options)

    @found.before_request
    def keyed():
        if flask.request.headers.get("X-Key") != "secret":
            flask.abort(401)

    app.register_blueprint(found, url_prefix="/shop")
    return app


@pytest.fixture
def client(tmp_path):
    """A client of an application in process, with the key."""
    library("flask")
    with midstream.open(tmp_path, SMALL) as shop:
        app = made_app(shop)
        yield Client(app)


class Client:
    """Asks with a key and with JSON unless a request says otherwise."""

    def __init__(self, app):
        self._client = app.test_client()

    def ask(self, method, path, *, headers=None, **sent):
        given = {"Host": "localhost", **KEY, **(headers or {})}
        if "data" in sent:
            given.setdefault("Content-Type", "application/json")
        return self._client.open(path, method=method, headers=given, **sent)


def test_an_event_is_in_the_next_answer(client):
    """By its token, with request ids that events may name, NDJSON and streams, as over HTTP."""
    done = client.ask("POST", "/shop/v1/events", json=ACTS)
    assert (done.status_code, done.json["recorded"]) == (200, len(ACTS))
    asked = {"session_id": "s9", "items": ["lamp"], "min_log_position": done.json["log_position"]}
    slate = client.ask("POST", "/shop/v1/recommendations", json=asked).json
    assert (slate["read_your_writes"], [each["id"] for each in slate["items"]]) == (True, ["a/b"])
    shown = {"type": "impression", "session_id": "s9", "item_id": "a/b", "request_id": slate["request_id"]}
    lines = "\n".join(json.dumps(each) for each in (shown, {**shown, "request_id": "made-up"}))
    ndjson = {"Content-Type": "application/x-ndjson"}
    told = client.ask("POST", "/shop/v1/events", data=lines, headers=ndjson).json
    assert (told["recorded"], [each["index"] for each in told["rejected"]]) == (1, [1])
    many = "\n".join(json.dumps({**ACTS[0], "event_id": str(number)}) for number in range(5_000))
    assert client.ask("POST", "/shop/v1/events/bulk", data=many, headers=ndjson).json["recorded"] == 5_000
    assert client.ask("GET", "/shop/v1/recommendations?session_id=s9&n=1").json["items"]
    assert client.ask("GET", "/shop/v1/items/lamp").json["item_id"] == "lamp"
    assert client.ask("GET", "/shop/health/ready").json["ready"]
    assert client.ask("HEAD", "/shop/v1/items/lamp").status_code == 200
    assert client.ask("OPTIONS", "/shop/v1/events").headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize(
    "status,method,path,sent",
    [
        (400, "POST", "/shop/v1/recommendations", {"data": b'{"uzer_id": "ann"}'}),
        (404, "GET", "/shop/v1/items/nothing", {}),
        (404, "GET", "/shop/nowhere", {}),
        (405, "DELETE", "/shop/v1/events", {}),
        (413, "POST", "/shop/v1/events", {"data": b" " * 300_000}),
        (415, "POST", "/shop/v1/events", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (403, "GET", "/shop/v1/items/lamp", {"headers": {"Origin": "http://evil.example"}}),
        (421, "GET", "/shop/v1/items/lamp", {"headers": {"Host": "rebound.example"}}),
    ],
)
def test_refusals_are_those_of_a_server(client, status, method, path, sent):
    """A problem document with its parts, a page below the prefix, and the headers of every answer."""
    refused = client.ask(method, path, **sent)
    document = json.loads(refused.data)
    assert (refused.status_code, document["status"]) == (status, status)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert document["type"].startswith("urn:midstream:")
    assert client.ask("GET", f"/shop{document['page'].partition('#')[0]}").status_code == 200
    assert refused.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Connection" not in refused.headers


def test_nobody_comes_in_without_the_key_of_the_application(client):
    """Nothing is recorded."""
    for method, path in (("POST", "/shop/v1/events"), ("GET", "/shop/v1/items/lamp"), ("GET", "/shop/docs")):
        assert client.ask(method, path, json=ACTS, headers={"X-Key": ""}).status_code == 401
    assert client.ask("GET", "/shop/v1/items/lamp").status_code == 404


def test_a_guard_that_reads_the_decoded_path_is_not_passed_by(tmp_path):
    """It lets recommendations in alone; a slash that is sent as %2F leads to nothing else."""
    flask = library("flask")
    with midstream.open(tmp_path, SMALL) as shop:
        app = flask.Flask("shop_app")
        found: Any = midstream.flask.blueprint(shop)

        @found.before_request
        def guard():
            if not flask.request.path.startswith("/shop/v1/recommendations"):
                flask.abort(401)

        app.register_blueprint(found, url_prefix="/shop")
        client = Client(app)
        assert client.ask("GET", "/shop/v1/recommendations").status_code == 200
        assert client.ask("GET", "/shop/v1/features").status_code == 401
        for path in ("health/ready", "v1/features", "metrics", "v1/items/lamp"):
            refused = client.ask("GET", f"/shop%2Fv1%2Frecommendations/{path}")
            assert (refused.status_code, json.loads(refused.data)["type"]) == (404, "urn:midstream:route-unknown")


def test_a_proxy_that_takes_the_start_of_the_path_off(tmp_path):
    """As ProxyFix tells it, and an application that is mounted in another one: with and without it in ``RAW_URI``."""
    library("flask")
    proxy_fix: Any = library("werkzeug.middleware.proxy_fix")
    dispatcher: Any = library("werkzeug.middleware.dispatcher")
    with midstream.open(tmp_path, SMALL) as shop:
        app = made_app(shop)
        inner = app.wsgi_app
        for wsgi, path, more in (
            (proxy_fix.ProxyFix(inner, x_prefix=1), "/shop", {"X-Forwarded-Prefix": "/app"}),
            (dispatcher.DispatcherMiddleware(None, {"/app": inner}), "/app/shop", {}),
            (
                proxy_fix.ProxyFix(dispatcher.DispatcherMiddleware(None, {"/app": inner}), x_prefix=1),
                "/app/shop",
                {"X-Forwarded-Prefix": "/p r"},
            ),
        ):
            app.wsgi_app = wsgi
            client = Client(app)
            assert client.ask("POST", f"{path}/v1/events", json=ACTS, headers=more).status_code == 200
            assert client.ask("GET", f"{path}/v1/items/lamp", headers=more).json["item_id"] == "lamp"
            assert client.ask("GET", f"{path}/v1/items/a%2Fb", headers=more).json["item_id"] == "a/b"
            assert client.ask("GET", f"{path}%2Fv1/v1/items/lamp", headers=more).status_code == 404


def test_limits_of_the_configuration_hold(tmp_path):
    """Of bytes and of callers; followers are refused when the blueprint is made."""
    options = ServerOptions(body_bytes_max=1_024, quota_per_second=0.001, quota_burst=2)
    with midstream.open(tmp_path, msgspec.structs.replace(SMALL, server=options)) as shop:
        client = Client(made_app(shop))
        found = [client.ask("POST", "/shop/v1/events", data=b" " * size).status_code for size in (1_025, 1_000, 1_000)]
        assert found == [413, 400, 429]
    followers = msgspec.structs.replace(SMALL, server=ServerOptions(followers=1))
    with midstream.open(tmp_path / "b", followers) as shop, pytest.raises(ConfigInvalid, match=r"server\.followers"):
        made_app(shop)


def test_threads_of_the_web_server_ask_at_once(tmp_path):
    """Each has its own answer; the shop answers Python callers beside them, and a closed one ends the request."""
    with midstream.open(tmp_path, SMALL) as shop:
        app = made_app(shop, checks_origin=False)
        Client(app).ask("POST", "/shop/v1/events", json=ACTS)
        found: list[str] = []

        def ask():
            for _ in range(20):
                answer = Client(app).ask("POST", "/shop/v1/recommendations", json={"session_id": "s9"})
                found.append(answer.json["request_id"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for each in threads:
            each.start()
        found.extend(shop.recommend(session_id="s9").request_id for _ in range(20))
        for each in threads:
            each.join(PATIENCE_S)
        assert len(set(found)) == 100
    app.testing = True
    with pytest.raises(RuntimeError, match="not open"):
        Client(app).ask("GET", "/shop/v1/items/lamp")


def test_without_flask_the_extra_is_named(tmp_path, monkeypatch):
    """With the line for pip."""

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(integration, "import_module", missing)
    with (
        midstream.open(tmp_path, SMALL) as shop,
        pytest.raises(ExtraMissing, match=r'pip install "midstream\[flask\]"'),
    ):
        midstream.flask.blueprint(shop)


def gunicorn(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Start gunicorn with the program of the page."""
    library("gunicorn")
    for block in blocks(PAGE):
        if block.file in {"flask_app.py", "gunicorn.conf.py"}:
            (folder / block.file).write_text(block.text)
    command = [sys.executable, "-m", "gunicorn", "flask_app:app", *options]
    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ)
    )


def test_one_worker_of_gunicorn_has_the_engine(tmp_path):
    """With threads; ids with a slash arrive as they were sent, and what was acknowledged is there after the stop."""
    port = free_port()
    server = gunicorn(tmp_path, "--workers", "1", "--threads", "4", "--timeout", "600", "--bind", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/shop"
    try:

        def serves() -> bool:
            assert server.poll() is None, server.communicate()[1]
            try:
                return httpx.get(f"{url}/health/ready", headers=KEY, timeout=PATIENCE_S).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(serves)
        assert httpx.post(f"{url}/v1/events", json=ACTS).status_code == 401
        assert httpx.post(f"{url}/v1/events", json=ACTS, headers=KEY).json()["recorded"] == len(ACTS)
        assert httpx.get(f"{url}/v1/items/a%2Fb", headers=KEY).json()["item_id"] == "a/b"

        def chunks():
            for number in range(60_000):
                yield json.dumps({**ACTS[0], "event_id": f"c{number}"}).encode() + b"\n"

        streamed = {**KEY, "content-type": "application/x-ndjson"}
        told = httpx.post(f"{url}/v1/events/bulk", content=chunks(), headers=streamed, timeout=PATIENCE_S)
        assert told.json()["recorded"] == 60_000
        server.terminate()
        _, said = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
    assert "Traceback" not in said
    assert list((tmp_path / "shop" / "data" / "snapshots").iterdir())
    with midstream.open(tmp_path / "shop") as shop:
        assert shop.item("a/b") is not None


def test_a_second_worker_of_gunicorn_is_refused(tmp_path):
    """It does not boot, says why and what to do, and gunicorn ends."""
    server = gunicorn(tmp_path, "--workers", "2", "--timeout", "600", "--bind", f"127.0.0.1:{free_port()}")
    try:
        _, said = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
    assert server.returncode
    for words in ("in use by process", "A folder has one owner", "call midstream serve over HTTP"):
        assert words in said
