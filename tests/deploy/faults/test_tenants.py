"""Faults of a server of tenants, in process: what its scrapes say makes exactly these alerts fire."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.tenants.conftest import Server
from tests.support.alerts.promtool import promtool
from tests.support.alerts.scrapes import Scrape, read
from tests.support.alerts.tape import Tape, firing

pytestmark = pytest.mark.integration


@pytest.fixture(name="pair")
def _pair(tmp_path: Path) -> Any:
    """A server of two tenants."""
    promtool()
    found: Any = Server(tmp_path / "tenants")
    found.add("red")
    found.add("blue")
    return found


async def scraped(server: Any) -> Scrape:
    """Return what Prometheus gets now."""
    return read((await server.root("GET", "/metrics")).body.decode())


def test_a_tenant_that_cannot_be_opened(pair: Any, tmp_path: Path) -> None:
    """Its settings cannot be read at a start; it is resumed once they can. One that is suspended is no failure."""
    tape = Tape()
    settings = pair.folders.of("blue") / "tenant.json"

    async def well(server: Any) -> None:
        tape.hold(await scraped(server), lasts="5m")
        tape.check()

    async def failed(server: Any) -> None:
        tape.hold(await scraped(server), lasts="7m")
        tape.check(firing("MidstreamTenantFailed", state="failed"))
        settings.rmdir()
        assert (await server.root("POST", "/v1/tenants/blue/resume")).status == 200
        tape.hold(await scraped(server), lasts="2m")
        tape.check()
        assert (await server.root("POST", "/v1/tenants/blue/suspend", {"reason": "The bill."})).status == 200
        tape.hold(found := await scraped(server), lasts="7m")
        tape.check()
        assert found.value("midstream_tenants", state="suspended") == 1

    pair.run(well)
    settings.unlink(missing_ok=True)
    settings.mkdir()
    pair.run(failed)
    tape.play(tmp_path)


def test_a_spent_quota_is_no_overload(pair: Any, tmp_path: Path) -> None:
    """No alert says that a server is overloaded whose tenant asks for more than it may, or is not ready."""
    tape = Tape()

    async def play(server: Any) -> None:
        await server.root("PUT", "/v1/tenants/red/quota", {"requests_per_second": 1})
        tape.hold(await scraped(server), lasts="5m")
        tape.check()
        statuses = [(await server.of("red", "GET", "/v1/models")).status for _ in range(20)]
        tape.repeat(after := await scraped(server), lasts="15m")
        tape.check()
        refused = after.value("midstream_refusals_total", tenant="red", reason="tenant_quota")
        assert refused == statuses.count(429) > 10
        tape.hold(after, lasts="5m")
        tape.check()

    pair.run(play)
    tape.play(tmp_path)
