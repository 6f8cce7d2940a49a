"""Outputs of a server together: an erasure waits for the topics that are told of it."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from midstream.core.errors import RewriteFailed
from midstream.engine.outbox.output_group import OutputGroup, RelayedOutput
from midstream.monitoring.metrics import Metrics


class FakeRelay:
    """A relay that comes to the end in time, or does not."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there

    async def reaches_end(self, timeout_s: float) -> bool:
        """Return whether it is there."""
        assert timeout_s
        return self.is_there

    def view(self) -> Any:
        """Say why it is not."""
        return type("View", (), {"reason": "the broker is down"})


@pytest.mark.parametrize("is_there", [True, False])
def test_a_rewrite_waits_until_the_topic_has_the_erasures(*, is_there: bool) -> None:
    """The record of an erasure is made of the id that a rewrite blanks; others are not waited for."""
    relay: Any = FakeRelay(is_there=is_there)
    outputs = {
        "all": RelayedOutput("t", "events", relay, has_erasures=True),
        "slates": RelayedOutput("t", "served", relay),
    }
    forgets = OutputGroup(outputs, Metrics(CollectorRegistry())).forgets
    assert forgets.keys() == {"output all"}

    async def forget() -> int:
        return await forgets["output all"](["ann"])

    if is_there:
        assert asyncio.run(forget()) == 0
    else:
        with pytest.raises(RewriteFailed, match=r"output all has not .* yet \(the broker is down\)"):
            asyncio.run(forget())
