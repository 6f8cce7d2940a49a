"""Client of a server for Feast: what is sent, once each, and errors in the words of the server."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import StoreRefused
from midstream.feast.live_client import AT_ONCE_MAX, VALUES_MAX, LiveClient, LiveServerOptions, PushedValue
from midstream.feast.live_reads import ReadCall

OPTIONS = LiveServerOptions("http://shop:8000", "", 1.0)
CALL = ReadCall(("lamp",), ("views",), "ann")
ANSWER = {"features": ["views"], "items": [{"id": "lamp", "values": [3.0]}], "log_position": "A", "state_age_ms": 500}


def client(answer, options=OPTIONS):
    """A client whose server is a function of the request."""
    return LiveClient(options, httpx.MockTransport(answer))


def test_a_read_sends_the_ids_and_has_the_time_of_its_values(monkeypatch):
    """By the clock of the server, less the age of the state; with a token where there is one."""
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    sent = []

    def answer(request):
        sent.append((request.url.path, json.loads(request.content), request.headers.get("authorization")))
        return httpx.Response(200, json=ANSWER, headers={"date": "Mon, 30 Nov 2026 12:00:00 GMT"})

    (found,) = client(answer, LiveServerOptions("http://shop:8000", "SHOP_TOKEN", 1.0)).read([CALL])
    assert found.answer.items[0].values == [3.0]
    assert found.time == datetime(2026, 11, 30, 11, 59, 59, 500_000, tzinfo=UTC)
    assert sent == [
        ("/v1/features/read", {"items": ["lamp"], "features": ["views"], "user_id": "ann"}, "Bearer secret")
    ]


def test_a_token_that_is_not_there_is_refused():
    """The name of the variable is in the error, and no request is sent without it."""
    with pytest.raises(StoreRefused, match="NOT_SET"):
        LiveClient(LiveServerOptions("http://shop:8000", "NOT_SET", 1.0))


@pytest.mark.parametrize(
    "response, kind, words",
    [
        (httpx.Response(503, json={"detail": "no state yet"}), StoreUnavailable, "503: no state yet"),
        (httpx.Response(429, text="slow down"), StoreUnavailable, "429: slow down"),
        (httpx.Response(400, json={"detail": '"vews" is not a declared feature.'}), StoreRefused, '"vews" is not'),
        (httpx.Response(200, text="<html>"), StoreRefused, "no read of features"),
    ],
)
def test_an_answer_that_is_none_is_an_error(response, kind, words):
    """One that may pass is told apart from one that will not."""
    with pytest.raises(kind, match=words) as found:
        client(lambda _: response).read([CALL])
    assert type(found.value) is kind


@pytest.mark.parametrize("sent", ["yesterday", "", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_an_answer_whose_date_is_none_has_no_time(sent):
    """Its values are good all the same."""
    (found,) = client(lambda _: httpx.Response(200, json=ANSWER, headers={"date": sent})).read([CALL])
    assert (found.time, found.answer.items[0].values) == (None, [3.0])


@pytest.mark.parametrize("url", ["https://glpat-secret@shop", "http://a:secret@shop", "shop:8000", "http://a,b"])
def test_an_address_that_is_none_is_refused(url):
    """A user or a password in it stays out of the error."""
    with pytest.raises(StoreRefused, match="url of online_store") as found:
        LiveClient(LiveServerOptions(url, "", 1.0))
    assert "secret" not in str(found.value)


def test_a_read_of_many_calls_has_a_time_as_a_whole():
    """Up to four calls are under way at once, and none begins behind the end."""
    over, sent, calls = threading.Event(), [], [ReadCall(("lamp",), ("views",), f"u{each}") for each in range(20)]

    def late(_):
        sent.append(1)
        over.wait(60)
        return httpx.Response(200, json=ANSWER)

    own = client(late, LiveServerOptions("http://shop:8000", "", 60.0, 0.2))
    with pytest.raises(StoreUnavailable, match=r"http://shop:8000: a read of 20 calls took more than 0\.2 s"):
        own.read(calls)
    over.set()
    own.close()
    assert len(sent) == AT_ONCE_MAX
    busy = client(lambda _: httpx.Response(503, text="busy"), LiveServerOptions("http://shop:8000", "", 60.0, 60.0))
    with pytest.raises(StoreUnavailable, match="503: busy"):
        busy.read(calls)


def test_answers_have_the_order_of_their_calls():
    """Whichever comes first."""

    def answer(request):
        user = json.loads(request.content)["user_id"]
        time.sleep(0.05 if user == "u0" else 0)
        return httpx.Response(200, json={**ANSWER, "log_position": user})

    found = client(answer).read([ReadCall(("lamp",), ("views",), f"u{each}") for each in range(9)])
    assert [each.answer.log_position for each in found] == [f"u{each}" for each in range(9)]


def test_a_server_that_is_gone_is_named():
    """With its address and what the network says, also on an event loop."""

    def gone(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(StoreUnavailable, match="http://shop:8000: ConnectError: refused"):
        client(gone).read([CALL])

    async def read():
        own = LiveClient(LiveServerOptions("http://127.0.0.1:1", "", 1.0))
        try:
            await own.read_async([CALL])
        finally:
            await own.close_async()

    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1: ConnectError"):
        asyncio.run(read())


def test_values_are_set_in_bounded_calls_each_with_an_id_of_its_content():
    """The same value again has the same id, another value or time another one."""
    sent = []

    def answer(request):
        told = json.loads(request.content)["values"]
        sent.append((request.url.path, told))
        return httpx.Response(200, json={"recorded": len(told), "duplicates": 0, "rejected": []})

    values = [PushedValue(f"i{number}", float(number), 1_000) for number in range(VALUES_MAX + 1)]
    assert client(answer).set_values("price", values) == VALUES_MAX + 1
    assert [len(told) for _, told in sent] == [VALUES_MAX, 1]
    assert {path for path, _ in sent} == {"/v1/features/price"}
    ids = [each["event_id"] for _, told in sent for each in told]
    sent.clear()
    others = [values[0], values[0]._replace(value=1.5), values[0]._replace(time_ms=1_001)]
    client(answer).set_values("price", others)
    again = [each["event_id"] for each in sent[0][1]]
    assert len({*ids, *again}) == len(ids) + 2
    assert again[0] == ids[0]


def test_a_refused_value_is_an_error_with_its_id():
    """Those beside it are recorded; nothing is lost in silence."""
    rejected = [{"index": 1, "pointer": "/values/1/value", "came": '"x" came.', "right": "A number.", "page": "/d"}]
    answer = httpx.Response(200, json={"recorded": 1, "duplicates": 0, "rejected": rejected})
    with pytest.raises(StoreRefused, match=r"price of 'b': \"x\" came\. A number\."):
        client(lambda _: answer).set_values("price", [PushedValue("a", 1.0, 1), PushedValue("b", 2.0, 1)])
