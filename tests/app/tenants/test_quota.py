"""Quotas of tenants: every way to record counts, strangers take nothing, and no rate is beyond the bounds."""

import json
import math

import pytest

from midstream.app.tenants.folders import TenantFile
from midstream.app.tenants.orders import TenantOrders
from midstream.core.errors import RequestInvalid
from midstream.serving.access.scopes import ROUTES
from midstream.serving.tenants.quota import records_by_route
from midstream.serving.tenants.types import TenantQuota, TenantWish

ACTS = [{"type": "view", "session_id": "s1", "item_id": each} for each in ("lamp", "mug", "jar")]


def scope(method, path):
    """Return what the gate reads of a request."""
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode()}


def test_every_way_to_record_waits_below_zero(pair):
    """Events within questions and pages, retries and uploads, too; questions without them and reads go on."""
    asked = {"session_id": "s1", "events": ACTS}

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"events_per_second": 1})
        first = (await server.of("red", "POST", "/v1/events", ACTS * 10)).status
        recorded = server.group.apps["red"].running.engine.log.end
        refused = [
            (await server.of("red", "POST", path, body)).status
            for path, body in (
                ("/v1/events", ACTS),
                ("/v1/recommendations", asked),
                ("/v1/rank", {**asked, "items": ["lamp"]}),
                ("/v1/pages", {**asked, "placements": [{"placement": "default"}]}),
                ("/v1/dead-letters/retry", {}),
                ("/v1/features/views", {"values": []}),
                ("/v1/users", [{"user_id": "u1"}]),
            )
        ]
        answered = [
            (await server.of("red", "POST", "/v1/recommendations", body)).status
            for body in ({"session_id": "s1"}, {"session_id": "s1", "events": []})
        ]
        answered += [
            (await server.of("red", "GET", "/v1/items/jar")).status,
            (await server.of("red", "POST", "/v1/keys/further", {"scopes": ["read"]})).status,
        ]
        wrong = (await server.of("red", "POST", "/v1/recommendations", b"{")).status
        return first, refused, answered, wrong, server.group.apps["red"].running.engine.log.end - recorded

    first, refused, answered, wrong, further = pair.run(play)
    assert (first, refused) == (200, [429] * 7)
    assert [each < 300 for each in answered] == [True] * 4
    assert wrong == 400
    assert further <= len(answered)  # records of served slates and of the audit, no event of a client


def test_events_of_questions_are_recorded_while_there_is_an_account(pair):
    """What was read to find them is what the route reads."""

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"events_per_second": 1_000})
        told = await server.of("red", "POST", "/v1/recommendations", {"session_id": "s1", "events": ACTS})
        return told.status, (await server.of("red", "GET", "/v1/items/jar")).status

    assert pair.run(play) == (200, 200)


def test_each_route_that_changes_something_counts():
    """By the table of scopes; a new route that is no read is among them."""
    for path, methods in ROUTES.items():
        for method, needed in methods.items():
            sent = path.replace("{name:path}", "x").replace("{", "").replace("}", "")
            found = records_by_route(scope(method, sent))
            if method == "GET" or path.startswith("/v1/keys"):
                assert found is False, path
            elif needed in {"events:write", "catalogue", "placements", "models", "erase", "admin"}:
                assert found is True, path
            elif needed == "recommend":
                assert found is None, path


def test_strangers_take_nothing_of_a_quota(pair):
    """A request without a key, with a wrong one, or of a route that needs none costs the owner nothing."""

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"requests_per_second": 1})
        strange = [(await server.of("red", "GET", "/v1/models", key=key)).status for key in ("", "ms_a_b") * 5]
        strange += [(await server.of("red", "GET", "/midstream.js", key="")).status for _ in range(3)]
        return strange, [(await server.of("red", "GET", "/v1/models")).status for _ in range(2)]

    strange, own = pair.run(play)
    assert set(strange) == {401, 200}
    assert own == [200, 429]


@pytest.mark.parametrize("rate", [2_000_000.0, float("nan"), float("inf"), 1e-310, 0.0009, -1.0])
def test_a_rate_beyond_the_bounds_is_not_written(pair, rate):
    """Neither on the files nor by the server; the list is as it was."""
    orders = TenantOrders(pair.folders.root)
    with pytest.raises(RequestInvalid, match=r"0\.001"):
        orders.set_quota("red", TenantQuota(requests_per_second=rate))
    with pytest.raises(RequestInvalid, match=r"0\.001"):
        orders.create(TenantWish("green", quota=TenantQuota(events_per_second=rate)))
    assert [each.name for each in orders.list()] == ["blue", "red"]
    if math.isfinite(rate):

        async def put(server):
            body = json.dumps({"requests_per_second": rate}).encode()
            return (await server.root("PUT", "/v1/tenants/red/quota", body)).status

        assert pair.run(put) == 400


def test_a_tiny_rate_of_a_file_is_a_wait_of_a_day(pair):
    """It was written by hand: no error, and a time that is a number."""
    pair.folders.write("red", TenantFile(quota=TenantQuota(requests_per_second=1e-310)))

    async def play(server):
        return [await server.of("red", "GET", "/v1/models") for _ in range(2)]

    first, second = pair.run(play)
    assert (first.status, second.status) == (200, 429)
    assert 86_400 <= int(second.headers[b"retry-after"]) < 86_410


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_that_cannot_be_read_hides_no_other(pair, is_folder):
    """The list without a server has it as failed, whether its content or the disk is the reason."""
    path = pair.folders.of("red") / "tenant.json"
    if is_folder:
        path.mkdir()
    else:
        path.write_text('{"quota": {"requests_per_second": 2e6}}')
    found = {each.name: each for each in TenantOrders(pair.folders.root).list()}
    assert (found["blue"].state, found["red"].state) == ("closed", "failed")
    assert "tenant.json" in found["red"].reason
