"""``/v1/rebuild``: what an order found, and what stands against it, each with its status."""

import pytest

from midstream.core.errors import ConfigInvalid, Fault, RebuildRunning
from midstream.serving.app import asgi
from tests.support.fakes.engine import FakeEngine, FakeRebuilder


@pytest.mark.parametrize("change, status", [("nothing", 200), ("plans", 200), ("state", 202)])
def test_an_order_says_what_it_found(make_client, change, status):
    """A rebuild that only began is 202; what is done already, or nothing, is 200."""
    client = make_client(FakeEngine(), rebuilder=FakeRebuilder(change=change))
    answer = client.post("/v1/rebuild", b"")
    assert (answer.status_code, answer.json()["change"]) == (status, change)
    assert client.get("/v1/rebuild").json()["fold_version"] == "fake"


def test_a_compaction_is_asked_for(make_client):
    """``compact`` is true or false, and nothing else."""
    client = make_client(FakeEngine())
    client.post("/v1/rebuild?compact=true", b"")
    assert client.rebuilder.compacted
    client.post("/v1/rebuild", b"")
    assert not client.rebuilder.compacted
    assert client.post("/v1/rebuild?compact=maybe", b"").json()["pointer"] == "compact"
    assert client.post("/v1/rebuild?compat=true", b"").status_code == 400


def test_every_fault_of_the_file_is_told(make_client):
    """400, each fault in four parts, by its place in the file."""
    faults = tuple(Fault(f"midstream.toml: $.a{number}", "It came.", "Better.", "/docs/a.md") for number in range(3))
    answer = make_client(FakeEngine(), rebuilder=FakeRebuilder(failure=ConfigInvalid(faults))).post("/v1/rebuild", b"")
    assert answer.status_code == 400
    assert [each["pointer"] for each in answer.json()["errors"]] == [fault.where for fault in faults]


def test_one_at_a_time(make_client):
    """409 while one is under way, with how far it is."""
    failure = RebuildRunning("a rebuild to 12ab is folding, 40% done")
    answer = make_client(FakeEngine(), rebuilder=FakeRebuilder(failure=failure)).post("/v1/rebuild", b"")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:midstream:rebuild-running")
    assert "40% done" in answer.json()["detail"]


def test_pages_of_other_sites_may_not(make_client):
    """A browser must not be made to rebuild the shop on its machine."""
    answer = make_client(FakeEngine()).post("/v1/rebuild", b"", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_a_server_without_a_file_says_so(make_client):
    """404 where nothing reads a configuration again."""
    client = make_client(FakeEngine())
    client.app = asgi(client.engine, client.engine.accept)
    assert client.get("/v1/rebuild").status_code == 404
    assert client.post("/v1/rebuild", b"").status_code == 404
