"""Sinks of a server without a store: one that is called profiles, whose rows are all there."""

from dataclasses import replace

from midstream.core.errors import NotFound
from midstream.core.types import LogPosition
from midstream.engine.sinks.sink_group import SinkStatus

EVENTS = 100


class FakeSinks:
    """The routes' side of a ``SinkGroup``."""

    def __init__(self) -> None:
        self._view = SinkStatus(
            name="profiles",
            store="redis",
            table="profiles",
            scope="user",
            state="idle",
            problem="",
            log_position=LogPosition(EVENTS),
            lag_events=0,
            lag_ms=0,
            pass_done=EVENTS,
            pass_total=EVENTS,
            is_complete=True,
            rows_written=40,
            rows_deleted=1,
            columns={"views": "number"},
            half_lives_ms={"views": (3_600_000,)},
        )

    def views(self) -> tuple[SinkStatus, ...]:
        """Return the one that there is."""
        return (self._view,)

    def view(self, name: str) -> SinkStatus:
        """Return it by its name."""
        if name != self._view.name:
            raise NotFound(name)
        return self._view

    async def backfill(self, name: str) -> SinkStatus:
        """Begin with all rows anew."""
        self._view = replace(self.view(name), pass_done=0, is_complete=False)
        return self._view
