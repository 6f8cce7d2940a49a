"""The client behind proxies: the last address that no trusted proxy has, and never what a client claims."""

import json
from ipaddress import ip_address
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.core.errors import ConfigInvalid
from midstream.events.schema import text_column
from midstream.monitoring.metrics import Metrics
from midstream.serving.access import forwarded_client
from midstream.serving.access.audit_trail import AuditTrail
from midstream.serving.access.forwarded_client import HOPS_MAX, ForwardedClient, proxy_faults, with_forwarded_client
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.options import ServerOptions, require_safe_address
from midstream.serving.run import _require_names, _uvicorn_config

TRUSTED = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")
PROXY = "127.0.0.1"
PROXIES = ("10.0.0.7", "10.255.255.255", "fd00::1", "127.0.0.1")


class Behind:
    """App that notes the client of each request."""

    def __init__(self):
        self.arrivals = LoopArrivals(lambda: 0.0)
        self.metrics = Metrics(CollectorRegistry())
        self.clients = []

    async def __call__(self, scope, receive, send):
        self.clients.append(scope.get("client"))


class Port:
    """A port behind proxies, which is asked with the header's lines as they are."""

    def __init__(self, *networks):
        self.behind = Behind()
        self.app = with_forwarded_client(self.behind, ServerOptions(trusted_proxies=networks))

    def client_of(self, *lines, peer=PROXY):
        headers = [(b"host", b"shop.example"), *((b"x-forwarded-for", line) for line in lines)]
        scope = {"type": "http", "client": peer and (peer, 40_000), "headers": headers}
        try:  # nothing here waits, so no loop is needed
            self.app(scope, cast("Any", None), cast("Any", None)).send(None)
        except StopIteration:
            found = self.behind.clients[-1]
            return found and found[0]
        raise AssertionError


@pytest.mark.parametrize(
    "lines,client",
    [
        ([b"203.0.113.9"], "203.0.113.9"),
        ([b"  203.0.113.9\t"], "203.0.113.9"),
        ([b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ([b"1.1.1.1,203.0.113.9 , 10.0.0.7"], "203.0.113.9"),
        ([b"1.1.1.1", b"203.0.113.9", b"10.0.0.7, 127.0.0.1"], "203.0.113.9"),
        ([b"<script>, \xff, 203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.9:51234"], "203.0.113.9"),
        ([b"2001:DB8::9"], "2001:db8::9"),
        ([b"[2001:db8::9]"], "2001:db8::9"),
        ([b"[2001:db8::9]:51234, fd00::1"], "2001:db8::9"),
        ([b"::ffff:203.0.113.9"], "203.0.113.9"),
        ([b"203.0.113.9, ::ffff:10.0.0.7"], "203.0.113.9"),
        ([b"10.0.0.9"], "10.0.0.9"),
        ([b"10.0.0.9, 10.0.0.7"], "10.0.0.9"),
    ],
)
def test_last_address_that_no_proxy_has(lines, client):
    """Over all lines of the header, with ports and brackets as balancers write them; of proxies alone the first one."""
    assert Port(*TRUSTED).client_of(*lines) == client


@pytest.mark.parametrize(
    "lines",
    [
        *([], [b""], [b","], [b"203.0.113.9,"], [b"203.0.113.9", b""], [b"unknown"], [b"_hidden"], [b'"203.0.113.9"']),
        *([b"203.0.113.9, 10.0.0.7, nobody"], [b"203.0.113"], [b"203.0.113.256"], [b"203.0.113.009"]),
        *([b"0x7f.1.1.1"], [b"fe80::1%eth0"], [b"fe80::1%<script>"], [b"[203.0.113.9"], [b"203.0.113.9:x"]),
        *([b"203.0.113.9:123456"], [b"203.0.113.9 10.0.0.7"], [b"203.0.113.9\x00"], [b"\xd9\xa3.1.1.1"]),
        *([b"9" * 30_000], [b"203.0.113.9," + b" " * 30_000], [b":" * 40], [b"1:2:3:4:5:6:7:8:9"]),
    ],
)
def test_what_is_no_list_of_addresses_names_nobody(lines):
    """The peer's own address stays."""
    assert Port(*TRUSTED).client_of(*lines) == PROXY


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.2", "11.0.0.0", "::1", "fe80::1%eth0", "::ffff:192.0.2.1"])
def test_header_of_any_other_peer_is_ignored(peer):
    """Else everybody would choose the address that an audit names, and the quota that is spent."""
    assert Port(*TRUSTED).client_of(b"203.0.113.9", peer=peer) == peer


def test_peer_of_two_notations_is_one_proxy():
    """A socket of both protocols has IPv4 peers as mapped addresses; a unix socket has none."""
    port = Port(*TRUSTED)
    assert port.client_of(b"203.0.113.9", peer="::ffff:10.0.0.7") == "203.0.113.9"
    assert port.client_of(b"203.0.113.9", peer=None) is None


OTHERS = st.ip_addresses().filter(
    lambda each: (
        not getattr(each, "ipv4_mapped", None) and Port(*TRUSTED).client_of(b"203.0.113.9", peer=str(each)) == str(each)
    )
)


@given(st.binary(max_size=60), OTHERS, st.lists(st.sampled_from(PROXIES), max_size=HOPS_MAX - 1), st.data())
def test_no_text_of_a_client_moves_its_address(claimed, client, hops, data):
    """Whatever it sends stands left of what the proxies add, in the same line or in lines before it."""
    words = [b" " * data.draw(st.integers(0, 2)) + each.encode() for each in (str(client), *hops)]
    cut = data.draw(st.integers(0, len(words) - 1))
    lines = (
        [claimed + b"," + b",".join(words)] if not cut else [claimed, b",".join(words[:cut]), b",".join(words[cut:])]
    )
    assert Port(*TRUSTED).client_of(*lines) == str(client)


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_bytes_name_an_address_or_nobody(lines):
    """No exception, and never a text that is no address."""
    found = Port(*TRUSTED).client_of(*lines)
    assert str(ip_address(found)) == found


@pytest.mark.parametrize(
    "lines", [[b"10.0.0.7," * 3_000 + b"10.0.0.7"], [b"10.0.0.7"] * 100, [b"203.0.113.9", *[b"10.0.0.7"] * 16]]
)
def test_long_list_costs_as_much_as_a_chain_of_proxies(lines, monkeypatch):
    """At most so many addresses are read, and a longer list names nobody."""
    read: list[bytes] = []
    whole = forwarded_client._address

    def noting(hop):
        read.append(hop)
        return whole(hop)

    monkeypatch.setattr(forwarded_client, "_address", noting)
    assert Port(*TRUSTED).client_of(*lines) == PROXY
    assert len(read) == HOPS_MAX


def test_peers_that_are_remembered_are_bounded():
    """A network of peers, each of which comes once, leaves nothing that grows; each is judged right."""
    port = Port(*TRUSTED)
    for number in range(forwarded_client.PEERS_MAX * 2):
        for peer, client in ((f"192.0.2.{number}", f"192.0.2.{number}"), (f"10.0.1.{number}", "203.0.113.9")):
            assert port.client_of(b"203.0.113.9", peer=peer) == client
    assert len(cast("ForwardedClient", port.app)._peers) == forwarded_client.PEERS_MAX


def test_without_a_trusted_proxy_nothing_stands_in_front():
    """A request costs what it did, on a port and in the configuration of uvicorn, which reads no header of a proxy."""
    behind = Behind()
    assert with_forwarded_client(behind, ServerOptions()) is behind
    assert cast("Any", _uvicorn_config(behind, ServerOptions()).app) is behind
    config = _uvicorn_config(behind, ServerOptions(trusted_proxies=TRUSTED))
    assert isinstance(config.app, ForwardedClient)
    assert not config.proxy_headers


@pytest.mark.parametrize(
    "network,came",
    [
        *(("10.0.0.1/8", "is no network"), ("proxy.example", "is no network"), ("", "is no network")),
        *(("10.0.0.0/33", "is no network"), ("*", "is no network")),
        *(("0.0.0.0/0", "has every address"), ("::/0", "has every address")),
        *(("::ffff:127.0.0.1", "is of IPv4"), ("::ffff:10.0.0.0/104", "is of IPv4")),
    ],
)
def test_networks_that_are_none_are_refused(network, came):
    """With their place; and one of all addresses, where any client could name any other."""
    options = ServerOptions(trusted_proxies=("127.0.0.1", network))
    (fault,) = proxy_faults(options)
    assert (fault.where, came in fault.came) == ("$.server.trusted_proxies[1]", True)
    with pytest.raises(ConfigInvalid, match="trusted_proxies"):
        _require_names(options)
    _require_names(ServerOptions(trusted_proxies=TRUSTED))


def test_server_of_others_clients_needs_a_key_on_loopback_too():
    """Its proxy brings requests from anywhere, so that nobody's machine alone may do everything."""
    options = ServerOptions(trusted_proxies=TRUSTED)
    with pytest.raises(ConfigInvalid, match="trusted_proxies"):
        require_safe_address(options)
    require_safe_address(options, has_keys=True)
    require_safe_address(ServerOptions(trusted_proxies=TRUSTED, insecure=True))


def behind_a_proxy(keyed):
    """Put the address of the proxy in front of a gate of keys; httpx has 127.0.0.1 as the peer."""
    keyed.client.app = with_forwarded_client(keyed.client.app, ServerOptions(trusted_proxies=("127.0.0.1",)))


def test_each_visitor_behind_a_proxy_has_the_quota_of_a_browser_key(make_keyed):
    """One that spends it leaves that of the others, and no text of its own gives it another one."""
    keyed = make_keyed()
    origin = "https://shop.example"
    key = keyed.make(*("events:write", "recommend"), origins=(origin,), quota_per_second=0.001, quota_burst=2)
    behind_a_proxy(keyed)
    body = {"session_id": "anon-0123456789abcdef"}

    def ask(forwarded):
        headers = {"origin": origin, "x-forwarded-for": forwarded}
        return keyed.ask(key, "POST", "/v1/recommendations", body, headers).status_code

    assert [ask("203.0.113.1") for _ in range(3)] == [200, 200, 429]
    assert ask("203.0.113.2, 203.0.113.1") == 429
    assert [ask("203.0.113.2") for _ in range(3)] == [200, 200, 429]


def test_audit_names_the_client_behind_a_proxy(keyed):
    """A record says from where a change came, with a key and without one."""
    recorded: list[str] = []

    async def append(batch):
        recorded.extend(json.loads(each)["address"] for each in text_column(batch, "body", np.arange(len(batch))))

    keyed.gate._app = AuditTrail(keyed.behind, append)
    behind_a_proxy(keyed)
    for make_key, client in ((False, "203.0.113.7"), (True, "203.0.113.8")):
        key = keyed.make("catalogue") if make_key else ""
        headers = {"x-forwarded-for": f"192.0.2.1, {client}"}
        assert keyed.ask(key, "PUT", "/v1/items/lamp", {"price": 1}, headers).status_code == 200
    assert recorded == ["203.0.113.7", "203.0.113.8"]
