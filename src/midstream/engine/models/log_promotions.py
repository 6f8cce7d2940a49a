"""Follower of promotions in a shared log: another node's promotion is served here too, once its version is here.

A promotion is an event, and its version is files that each node has of its own. A version that is not here, is damaged
or is not the one that was promoted is refused as at a start: what serves goes on serving, health names the refusal, and
the version is tried again each minute, such as after its files were copied.
"""

from midstream.engine.engine import Engine
from midstream.engine.models.champions import Champions
from midstream.engine.models.standing_models import CHAMPION

LOOK_S = 1.0
"""Between two looks at the state, which cost some microseconds where nothing was promoted."""
AGAIN_S = 60.0
"""Before a refused version is tried again: each attempt reads files."""


class LogPromotions:
    """A service of a node: champions as the state has them, looked at every second."""

    def __init__(self, engine: Engine, champions: Champions) -> None:
        """Follow nothing until it is started."""
        self._engine = engine
        self._champions = champions
        self._again_s: dict[tuple[str, str], float] = {}
        """Clock before which a refused version of a model is not tried again."""
        self._service = engine.supervise("log_promotions", self.look, LOOK_S)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """End it."""
        await self._service.stop()

    async def look(self) -> None:
        """Serve what the log promoted since, and give up what it withdrew."""
        rows = [row for row in self._engine.fold.promotions.rows if row.alias == CHAMPION]
        versions, now_s = self._champions.versions, self._engine.host.monotonic()
        wanted = {(row.model, row.version) for row in rows if row.version != versions.get(row.model, "")}
        self._again_s = {key: until for key, until in self._again_s.items() if key in wanted}
        for row in rows:
            if row.version == versions.get(row.model, ""):
                self._champions.forget_refusal(row.model)
        for model, version in sorted(wanted):
            if now_s >= self._again_s.get((model, version), now_s):
                self._again_s[model, version] = (
                    now_s + AGAIN_S
                )  # first: an error of one model is not to hold up the others
                await self._champions.follow_log(model)
