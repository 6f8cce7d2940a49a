"""Fetches from feature stores, by fakes that answer as theirs do: bounded, by name, and wrong answers are named.

The fake of Hopsworks has the signatures of its client, which ``test_hopsworks_client`` compares with the client itself.
"""

import asyncio
import gzip
import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

import midstream
from midstream.app.config.reader import parse_config
from midstream.app.opening import config_to_read
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, ExtraMissing, ShapeMismatch, StoreUnavailable
from midstream.engine.stores import connector
from midstream.engine.stores.online_store import StoreRefused
from midstream.integrations.feast.fetch import FeastFetch, FeastFetchOptions
from midstream.integrations.hopsworks.fetch import LEFT_MAX, HopsworksFetch, HopsworksFetchOptions
from tests.support.closed_connectors import run
from tests.support.fakes.hopsworks import FakeFeatureView, fake_library

STOCK: Mapping[str, float] = {"lamp": 3.0, "desk": 0.0, "chair": 12.5}


class FeatureServer(ThreadingHTTPServer):
    """A fake of Feast's feature server: ``answer`` makes the reply to a request."""

    daemon_threads = True

    def __init__(self, answer: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[Mapping[str, Any]] = []
        self.tokens: list[str | None] = []
        self.codings: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FeatureServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        assert self.path == "/health"
        self._reply(200, b"")

    def do_POST(self) -> None:
        assert self.path == "/get-online-features"
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.tokens.append(self.headers.get("authorization"))
        self.server.codings.append(self.headers.get("accept-encoding"))
        status, content, *headers = self.server.answer(body)
        self._reply(status, content if isinstance(content, bytes) else json.dumps(content).encode(), *headers)

    def _reply(self, status: int, content: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for each in headers:
            self.send_header(*each)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def stocked(body):
    """What Feast answers: entities first, then features; what is not found is null."""
    ((key, ids),) = body["entities"].items()
    names = body.get("features") or ["qty", "on_sale"]
    names = [each.replace(":", "__") if body["full_feature_names"] else each for each in names]
    columns = {
        "qty": [STOCK.get(str(each)) for each in ids],
        "on_sale": [None if str(each) not in STOCK else float(each == "lamp") for each in ids],
    }
    results = [{"values": ids}, *({"values": columns[each.rpartition("__")[2]]} for each in names)]
    for each in results:
        each["statuses"] = ["PRESENT" if value is not None else "NOT_FOUND" for value in each["values"]]
    return 200, {"metadata": {"feature_names": [key, *names]}, "results": results}


@contextmanager
def feature_server(answer=stocked):
    """Run a fake until the block ends."""
    with FeatureServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


KINDS = {"stock": "number", "on_sale": "boolean"}
FIELDS = {"stock": "warehouse:qty", "on_sale": "warehouse:on_sale"}


def test_columns_of_all_ids_are_read_in_one_call(monkeypatch):
    """In the order of the ids, None where Feast has no row; a token is sent."""
    monkeypatch.setenv("FEAST_TOKEN", "secret")
    with feature_server() as server:
        options = FeastFetchOptions(server.url, password_env="FEAST_TOKEN", fields=FIELDS)
        found = run(FeastFetch(options, KINDS).fetch(["chair", "unknown", "lamp"]))
    assert found == {"stock": [12.5, None, 3.0], "on_sale": [False, None, True]}
    assert server.asked == [
        {
            "full_feature_names": True,
            "features": ["warehouse:qty", "warehouse:on_sale"],
            "entities": {"item_id": ["chair", "unknown", "lamp"]},
        }
    ]
    assert server.tokens == ["Bearer secret"]


def test_a_feature_service_names_the_features():
    """Their names alone; names may come wrapped, as a server without Feast's patch of protobuf has them."""

    def wrapped(body):
        status, told = stocked(body)
        told["metadata"]["feature_names"] = {"val": told["metadata"]["feature_names"]}
        return status, told

    with feature_server(wrapped) as server:
        options = FeastFetchOptions(server.url, key="sku", feature_service="shop", fields={"stock": "qty"})
        found = run(FeastFetch(options, KINDS).fetch(["lamp"]))
    assert found == {"stock": [3.0], "on_sale": [True]}
    assert server.asked == [{"full_feature_names": False, "feature_service": "shop", "entities": {"sku": ["lamp"]}}]


def test_ids_have_the_type_of_the_entity():
    """One that is no number is unknown, and where none is one nobody is asked."""

    def counted(body):
        return 200, {
            "metadata": {"feature_names": ["item_id", "v__qty"]},
            "results": [{"values": body["entities"]["item_id"]}, {"values": ["7", "NaN"]}],
        }

    with feature_server(counted) as server:
        fetch = FeastFetch(
            FeastFetchOptions(server.url, id_type="integer", fields={"stock": "v:qty"}), {"stock": "number"}
        )
        found = run(fetch.fetch(["7", "lamp", "9"]))
        assert run(fetch.fetch(["lamp"])) == {"stock": [None]}
    assert found["stock"][:2] == [7.0, None]
    assert found["stock"][2] != found["stock"][2]
    assert [each["entities"] for each in server.asked] == [{"item_id": [7, 9]}]


def answers(names, *columns):
    return 200, {"metadata": {"feature_names": names}, "results": [{"values": each} for each in columns]}


@pytest.mark.parametrize(
    "reply, kind, words",
    [
        (answers(["item_id", "v__other"], ["lamp"], [1.0]), ShapeMismatch, "v:qty is not in the answer"),
        (answers(["item_id", "v__qty"], ["lamp"], [1.0, 2.0]), ShapeMismatch, "2 values came where 1 are right"),
        (answers(["item_id", "v__qty"], ["lamp"]), ShapeMismatch, "columns of other names"),
        (answers(["item_id", "v__qty"], ["lamp"], ["many"]), ShapeMismatch, "stock of 'lamp'"),
        ((200, b"<html>"), ShapeMismatch, "none of a feature server"),
        ((200, {"detail": "x"}), ShapeMismatch, "none of a feature server"),
        ((404, {"detail": "no view v"}), StoreRefused, "404.*no view v"),
        ((503, {"detail": "busy"}), StoreUnavailable, "503.*busy"),
    ],
)
def test_a_wrong_answer_is_named(reply, kind, words):
    """The fetch fails as a whole, whatever is wrong with it."""
    with feature_server(lambda _: reply) as server:
        fetch = FeastFetch(FeastFetchOptions(server.url, fields={"stock": "v:qty"}), {"stock": "number"})
        with pytest.raises(kind, match=words) as found:
            run(fetch.fetch(["lamp"]))
        assert type(found.value) is kind


GZIPPED = gzip.compress(b" " * (64 << 20), 1)


@pytest.mark.parametrize(
    "reply, words",
    [
        ((200, GZIPPED, ("content-encoding", "gzip")), "gzip came, which was not asked for"),
        ((200, b" " * ((1 << 16) + 2 * 512 + 1)), "more than 65 KiB came"),
        ((400, b" " * ((1 << 16) + 1)), "more than 64 KiB came"),
    ],
)
def test_an_answer_is_read_up_to_a_maximum_and_not_unpacked(reply, words):
    """It is made of the ids and the columns; errors have one too."""
    with feature_server(lambda _: reply) as server:
        fetch = FeastFetch(FeastFetchOptions(server.url, fields={"stock": "v:qty"}), {"stock": "number"})
        with pytest.raises(ShapeMismatch, match=words):
            run(fetch.fetch(["lamp"]))
        assert server.codings == ["identity"]


def test_an_answer_as_long_as_its_ids_and_columns_need_is_read():
    """1,000 ids with a text, a status and a time for each."""
    ids = [f"item-{number:040}" for number in range(1_000)]
    told = {"statuses": ["PRESENT"] * 1_000, "event_timestamps": ["2026-11-30T12:00:00.123456Z"] * 1_000}
    columns = {"item_id": ids, "v__qty": ["x" * 256] * 1_000}
    answer = (
        200,
        {
            "metadata": {"feature_names": list(columns)},
            "results": [{"values": each, **told} for each in columns.values()],
        },
    )
    with feature_server(lambda _: answer) as server:
        fetch = FeastFetch(FeastFetchOptions(server.url, fields={"brand": "v:qty"}), {"brand": "category"})
        assert run(fetch.fetch(ids)) == {"brand": columns["v__qty"]}


def test_a_server_that_is_late_is_given_up():
    """The call ends by itself, and the error names the server and the time."""
    over = threading.Event()

    def late(_):
        over.wait(60)
        return 503, b""

    with feature_server(late) as server:
        options = FeastFetchOptions(server.url, give_up=Duration("50ms"), fields={"stock": "v:qty"})
        with pytest.raises(StoreUnavailable, match=r"Feast at http://127.0.0.1:\d+"):
            run(FeastFetch(options, {"stock": "number"}).fetch(["lamp"]))
        over.set()


def test_a_placement_filters_by_a_column_of_feast(tmp_path):
    """By configuration alone; with the server gone each answer is there, and names the fetch."""
    with feature_server() as server:
        component = f'{{ kind = "feast", url = "{server.url}", fields = {{ stock = "warehouse:qty" }} }}'
        (tmp_path / "midstream.toml").write_text(CONFIG.replace("COMPONENT", component))
        with midstream.open(tmp_path, config_to_read(tmp_path)) as shop:
            shop.record([{"type": "view", "user_id": "bob", "item_id": each} for each in (*STOCK, "unknown")])
            answer = shop.recommend("home", user_id="eve")
            assert {each.id for each in answer.items} == {"lamp", "chair", "unknown"}
            assert (answer.tier, answer.failures) == ("full", ())
            server.answer = lambda _: (503, b"")
            answer = shop.recommend("home", user_id="eve")
            assert {each.id for each in answer.items} == {*STOCK, "unknown"}
            assert answer.tier == "reduced"
            assert [each.component for each in answer.failures] == ["warehouse"]


CONFIG = """
[[fetches]]
name = "warehouse"
of = "item"
component = COMPONENT
columns = { stock = "number" }
age_max = "0s"
timeout = "5s"

[[features]]
name = "stock"
kind = "item_field"

[[placements]]
name = "home"
deadline = "10s"
fetches = ["warehouse"]
filter = 'if_nan(stock, 1) > 0'

[limits]
users_max = 100
items_max = 2_000
click_items_max = 2_000
sessions_max = 100
event_ids_max = 5_000
"""


@pytest.mark.parametrize(
    "component, where, words",
    [
        ('kind = "feast", url = "redis://feast:6566", fields = { stock = "v:qty" }', "url", 'scheme "redis"'),
        ('kind = "feast", url = "http://a:b@feast", fields = { stock = "v:qty" }', "url", "password"),
        ('kind = "feast", url = "http://feast/api", fields = { stock = "v:qty" }', "url", "with a path"),
        ('kind = "feast", url = "https://glpat-secret@feast:6566", feature_service = "a"', "url", "a user in it"),
        ('kind = "feast", url = "http://a,b", feature_service = "a"', "url", "2 hosts came"),
        ('kind = "feast", url = "http://feast"', "fields.stock", '"stock" came'),
        ('kind = "feast", url = "http://feast", tls_ca = "ca.pem", feature_service = "a"', "tls_ca", "https"),
        ('kind = "feast", url = "http://f", password_env = "a b", feature_service = "a"', "password_env", "no name"),
        ('kind = "feast", url = "http://f", feature_service = "a", fields = { stok = "qty" }', "fields.stok", "stok"),
        ('kind = "hopsworks", url = "hopsworks://h", feature_view = "v"', "url", "h:443 came without a project"),
        ('kind = "hopsworks", url = "hopsworks://glpat-secret@h/p", feature_view = "v"', "url", "a user in it"),
        ('kind = "hopsworks", url = "https://h/p", feature_view = "v"', "url", 'scheme "https"'),
        ('kind = "hopsworks", url = "hopsworks://h/p", feature_view = "v", version = 0', "version", "0"),
    ],
)
def test_a_component_that_cannot_be_used_is_a_fault(component, where, words):
    """With the place in the file and what came."""
    with pytest.raises(ConfigInvalid) as found:
        parse_config(CONFIG.replace("COMPONENT", f"{{ {component} }}"))
    faults = [each for each in found.value.faults if each.where.endswith(f": $.fetches[0].component.{where}")]
    assert len(faults) == 1
    assert words in str(faults[0])
    assert "secret" not in str(found.value)


# Hopsworks

OPTIONS = HopsworksFetchOptions(
    "hopsworks://hops.shop:8181/shop",
    "warehouse",
    2,
    password_env="HOPS_KEY",
    fields={"stock": "qty"},
)


@pytest.fixture
def hopsworks(monkeypatch):
    """A fake of the client library, whose view has the stock."""
    monkeypatch.setenv("HOPS_KEY", "secret")
    library = fake_library(FakeFeatureView("item_id", {"qty": STOCK, "on_sale": {"lamp": True}}))
    for name, module in library.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return library


@pytest.mark.parametrize("client", ["sql", "rest"])
def test_columns_of_a_feature_view_are_read_in_one_call(hopsworks, client):
    """In the order of the ids, None where there is no row; one login, by the thread that reads."""
    options = msgspec.structs.replace(OPTIONS, client=client)

    async def twice():
        fetch = HopsworksFetch(options, KINDS)
        return [await fetch.fetch(["chair", "unknown", "lamp"]), await fetch.fetch(["desk"])]

    first, second = run(twice())
    assert first == {"stock": [12.5, None, 3.0], "on_sale": [None, None, True]}
    assert second == {"stock": [0.0], "on_sale": [None]}
    assert hopsworks.logins == [
        {"host": "hops.shop", "port": 8181, "project": "shop", "api_key_value": "secret", "hostname_verification": True}
    ]
    assert hopsworks.views == [{"name": "warehouse", "version": 2}]
    view = hopsworks.view
    assert view.served == [
        {"init_sql_client": client == "sql", "init_rest_client": client == "rest", "default_client": client}
    ]
    assert view.read == [[{"item_id": each} for each in ("chair", "unknown", "lamp")], [{"item_id": "desk"}]]
    assert view.threads == hopsworks.threads
    assert len(view.threads) == 1


def test_a_feature_that_a_view_lacks_is_named(hopsworks):
    """And so is a number of rows that is another one than that of the ids."""
    with pytest.raises(ShapeMismatch, match="no price; it has item_id, qty, on_sale"):
        run(HopsworksFetch(OPTIONS, {"price": "number"}).fetch(["lamp"]))
    hopsworks.view.drops = 1
    with pytest.raises(ShapeMismatch, match="1 rows came where 2 are right"):
        run(HopsworksFetch(OPTIONS, KINDS).fetch(["lamp", "chair"]))


def test_errors_of_the_client_are_those_of_a_store(hopsworks):
    """With the name of the server; a call that hangs is given up, and the next one waits for the thread alone."""
    hopsworks.view.error = hopsworks.errors.FeatureStoreException("no such key")
    with pytest.raises(StoreUnavailable, match=r"Hopsworks at hops.shop:8181: FeatureStoreException: no such key"):
        run(HopsworksFetch(OPTIONS, KINDS).fetch(["lamp"]))
    hopsworks.view.error = None
    hopsworks.view.wait_s = 0.2

    async def late():
        fetch = HopsworksFetch(msgspec.structs.replace(OPTIONS, give_up=Duration("50ms")), KINDS)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await fetch.fetch(["lamp"])
        return time.monotonic() - began

    assert run(late()) < 60


def test_a_call_that_hangs_is_left_and_another_thread_logs_in(hopsworks):
    """Some times give_up later; with too many of them no login is begun until one ends."""
    over = hopsworks.view.hangs = threading.Event()

    async def hanging():
        fetch = HopsworksFetch(msgspec.structs.replace(OPTIONS, give_up=Duration("50ms")), KINDS)
        await fetch.connection().opened()
        said = ""
        while "4 calls of its client hang" not in said:
            with pytest.raises(StoreUnavailable) as caught:
                await fetch.fetch(["lamp"])
            said = str(caught.value)
            await asyncio.sleep(0.01)
        assert len(hopsworks.logins) == LEFT_MAX
        over.set()
        hopsworks.view.hangs = None
        found: object = None
        while not isinstance(found, Mapping):
            (found,) = await asyncio.gather(fetch.fetch(["lamp"]), return_exceptions=True)
            await asyncio.sleep(0.01)
        assert found == {"stock": [3.0], "on_sale": [True]}
        assert len(hopsworks.logins) == LEFT_MAX + 1

    run(hanging())
    assert all(each.daemon for each in threading.enumerate() if each.name == "hopsworks")


def test_one_login_at_most_is_under_way(hopsworks, monkeypatch):
    """One that hangs is not begun again, and is used once it is through."""
    monkeypatch.setattr(connector, "OPEN_S_MAX", 0.02)
    over = hopsworks.hangs = threading.Event()

    async def slow():
        fetch = HopsworksFetch(OPTIONS, KINDS)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await fetch.fetch(["lamp"])
            await asyncio.sleep(0.3)
        assert len(hopsworks.logins) == 1
        over.set()
        await fetch.connection().opened(60)
        assert await fetch.fetch(["lamp"]) == {"stock": [3.0], "on_sale": [True]}
        assert len(hopsworks.logins) == 1

    run(slow())


def test_without_the_client_the_extra_is_named(monkeypatch):
    """Where the fetch is asked, not where the configuration is read."""
    monkeypatch.setitem(sys.modules, "hopsworks", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[hopsworks\]"):
        run(HopsworksFetch(OPTIONS, KINDS).fetch(["lamp"]))
