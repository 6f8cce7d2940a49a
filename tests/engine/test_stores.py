"""Clients of stores: opened in the background, called with bounds, and addresses without passwords."""

import asyncio
from decimal import Decimal
from uuid import UUID

import pytest

from midstream.core.errors import ExtraMissing, ShapeMismatch, StoreUnavailable
from midstream.engine.stores import connector as module
from midstream.engine.stores.address import StoreAddress, address_of, password_from
from midstream.engine.stores.connector import Connector, close_connectors, connector_of
from midstream.engine.stores.fetched_values import column_of, keys_of
from midstream.engine.stores.online_store import StoreRefused


class Remote:
    """A server that is up or down, slow or quick."""

    def __init__(self, fault=None):
        self.fault = fault
        self.opened = self.closed = 0
        self.go_on = asyncio.Event()
        self.answered = 0

    async def open(self):
        self.opened += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return self

    async def close(self):
        self.closed += 1

    async def answer(self):
        await self.go_on.wait()
        self.answered += 1
        return "answer"

    def connector(self, call_s_max=10.0):
        return Connector("Remote at x:1", self.open, lambda client: client.close(), lambda: (OSError,), call_s_max)


async def until(is_true):
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110  of a state that has no event
            await asyncio.sleep(0.005)


def test_a_caller_that_is_cut_off_leaves_its_call_to_itself():
    """So a late answer costs one request, and not the connection."""

    async def run():
        remote = Remote()
        connector = remote.connector()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connector.call(Remote.answer), 0.01)
        remote.go_on.set()
        await until(lambda: remote.answered == 1)
        assert await connector.call(Remote.answer) == "answer"
        assert remote.opened == 1
        await connector.close()
        assert remote.closed == 1

    asyncio.run(run())


def test_while_a_store_is_down_calls_fail_at_once_and_it_is_tried_again(monkeypatch):
    """The first call waits for the first attempt; later ones have its fault; nobody has to ask for the next attempt."""
    monkeypatch.setattr(module, "AGAIN_S_MIN", 0.01)

    async def run():
        remote = Remote(OSError("refused"))
        remote.go_on.set()
        connector = remote.connector()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="Remote at x:1 is not connected: refused"):
                await connector.call(Remote.answer)
        await until(lambda: remote.opened > 2)
        remote.fault = None
        await until(lambda: not connector.fault)
        assert await connector.call(Remote.answer) == "answer"
        await connector.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await connector.call(Remote.answer)

    asyncio.run(run())


@pytest.mark.parametrize("fault", [ExtraMissing("pip install"), StoreRefused("wrong password")])
def test_what_only_an_operator_mends_is_told_as_it_is(fault):
    """A library that is missing, and a refusal."""

    async def run():
        connector = Remote(fault).connector()
        with pytest.raises(type(fault), match=str(fault)):
            await connector.opened()
        with pytest.raises(type(fault), match=str(fault)):
            await connector.call(Remote.answer)
        await connector.close()

    asyncio.run(run())


def test_calls_are_bounded_in_number_and_time(monkeypatch):
    """Those of a store that stands still are given up, and no more than so many wait."""
    monkeypatch.setattr(module, "CALLS_MAX", 3)

    async def run():
        remote = Remote()
        connector = remote.connector(0.05)
        await connector.opened()
        calls = [asyncio.ensure_future(connector.call(Remote.answer)) for _ in range(4)]
        raised = [str(each) for each in await asyncio.gather(*calls, return_exceptions=True)]
        assert raised == ["Remote at x:1 gave no answer within 0.05 s"] * 3 + [
            "Remote at x:1: 3 calls are under way already"
        ]
        remote.go_on.set()
        assert await connector.call(Remote.answer) == "answer"
        await connector.close()

    asyncio.run(run())


def test_errors_of_the_library_are_named_and_bugs_are_not_hidden():
    """An error of the client is of the store; any other one is a bug and keeps its type."""

    async def run():
        connector = Remote().connector()

        async def reset(_):
            raise ConnectionResetError("by peer")

        async def bug(_):
            raise KeyError("bug")

        with pytest.raises(StoreUnavailable, match="Remote at x:1: ConnectionResetError: by peer"):
            await connector.call(reset)
        with pytest.raises(KeyError):
            await connector.call(bug)
        await connector.close()

    asyncio.run(run())


def test_an_event_loop_has_one_client_of_a_server():
    """Equal options share it, another loop has its own, and all of a loop are closed together."""

    async def run():
        remote = Remote()
        one, two, other = (connector_of(key, remote.connector) for key in ("a", "a", "b"))
        assert one is two
        assert one is not other
        await one.opened()
        await close_connectors()
        assert remote.closed == 1
        assert connector_of("a", remote.connector) is not one
        return one

    assert asyncio.run(run()) is not asyncio.run(run())


def test_an_address_has_its_parts():
    """Several hosts, a port of its own or the usual one, IPv6, a user, a path."""
    assert address_of("redis://cache", "redis", 6379) == StoreAddress(("cache",), 6379, "", "")
    found = address_of("cassandra://me@one,two:19042/shop", "cassandra", 9042)
    assert found == StoreAddress(("one", "two"), 19042, "me", "shop")
    assert address_of("redis://[::1]:1/0", "redis", 6379).hosts == ("::1",)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://",
        "http://cache",
        "redis://me:secret@cache",
        "redis://cache:0",
        "redis://cache:99999",
        "redis://cache?ssl=no",
        "redis://a,,b",
        "redis://[::1",
        "redis://me:sec/ret@cache",
        "redis://me:12/secret@cache",
        "redis://secret/@cache",
        "redis://me:se/cret@cache:6379/0",
        "redis://me:secret#@cache",
        "redis://me:secret?@cache",
        "redis://me:secret@@cache:x",
        "redis://me:secret",
        "redis://:secret/cret",
        "redis://me:secret[@cache",
        "secret:secret@cache:6379",
        "redis:me:secret@cache",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(url):
    """A password in an address would stand in every error, list of processes and effective configuration."""
    with pytest.raises(ValueError, match=r"It|came") as raised:
        address_of(url, "redis", 6379)
    assert not [part for part in ("sec", "cret") if part in str(raised.value)]


def test_a_password_is_in_the_environment(monkeypatch):
    """No name: no password; a name of nothing is an error that names the variable."""
    monkeypatch.setenv("SHOP_PASSWORD", "secret")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert password_from("") is None
    assert password_from("SHOP_PASSWORD") == "secret"
    with pytest.raises(StoreRefused, match="NOWHERE"):
        password_from("NOWHERE")


@pytest.mark.parametrize(
    "kind, values, expected",
    [
        ("number", [b"1.5", Decimal("2.50"), 3, None, "4"], [1.5, 2.5, 3.0, None, 4.0]),
        ("boolean", [b"1", "false", True, 0, None], [True, False, True, False, None]),
        ("category", [b"gold", "é", 7, UUID(int=1), None], ["gold", "é", "7", str(UUID(int=1)), None]),
    ],
)
def test_values_of_a_store_are_those_of_the_declared_kind(kind, values, expected):
    """Text of Redis, decimals of PostgreSQL, ids of Cassandra."""
    assert column_of("column", kind, values, list("abcde")) == expected


@pytest.mark.parametrize(
    "kind, value", [("number", b"many"), ("number", True), ("boolean", 2), ("boolean", b"yes"), ("category", 1.5)]
)
def test_a_value_of_another_kind_is_named_with_its_id(kind, value):
    """A part of a result would look like all of it, so the whole call fails."""
    with pytest.raises(ShapeMismatch, match="stock of 'lamp'"):
        column_of("stock", kind, [None, value], ["desk", "lamp"])


def test_ids_are_those_that_the_table_can_have():
    """An id that is no number is unknown to a table of numbers, and 007 is not 7."""
    assert keys_of(["7", "007", "-3", "+1", "9" * 19, "lamp", "0", str(2**63 - 1)], "integer") == {
        7: 0,
        -3: 2,
        0: 6,
        2**63 - 1: 7,
    }
    own = UUID(int=5)
    assert keys_of([str(own).upper(), own.hex, "lamp"], "uuid") == {own: 0}
    assert keys_of(["a", "é"], "text") == {"a": 0, "é": 1}
