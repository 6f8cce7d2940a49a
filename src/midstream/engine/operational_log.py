"""Operational log of an engine: compares health, counters and facts once a second, and writes changes.

Problems of a running engine are in its health already, as concerns, refusals and the states of followers. So one
observer compares them with their last state, and nothing else has to log: the begin and the end of a concern are a line
each, and so are refusals, by their sums. Events without a trace there are noted as facts where they happen. All lines
go through the same limits (``monitoring.facts``), and into the logger ``midstream``.

The text of a concern is the engine's own. Where a component or a library may have written it, only the name of the
concern is logged; its text is there at ``debug``.
"""

from collections.abc import Callable, Mapping

from midstream.core.tracebacks import raised_of
from midstream.engine.background_service import BackgroundService
from midstream.engine.engine import Engine
from midstream.engine.types import FollowerView, Health
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import HOUR_S, MINUTE_S, Fact, FieldValue, Level

LOOK_S = 1.0
"""Interval of comparisons, 0.07 ms each."""
BACKGROUND = "background-"
OF_THEIR_OWN = ("rebuild", "erasure", "file")
"""Concerns whose begin and end are facts with more fields."""
UNSPOKEN = ("feature_parity", "placements", "models")
"""Concerns whose text may come from components, from placements of callers, or from models."""
_LOSSES: Mapping[str, tuple[Level, float]] = {
    "requests_refused": ("warning", MINUTE_S),
    "queue_full": ("warning", MINUTE_S),
    "served_records_lost": ("error", MINUTE_S),
    "dead_letters_lost": ("error", MINUTE_S),
    "connections_faulty": ("info", HOUR_S),
    "foreign_requests": ("info", HOUR_S),
}
"""Level and minimum interval of each kind of ``Metrics.losses``. Those that clients alone cause are once an hour."""


def _background_fact(service: BackgroundService, more: int) -> Fact:
    """Return that rounds of a loop ended by errors, and the newest; those of one type and place share a line."""
    fields: dict[str, FieldValue] = {"service": service.name, "in_a_row": service.errors}
    key, told = f"{service.name} {service.raised}", service.health()
    return Fact("background_failed", "error", fields, key, HOUR_S, raised=service.raised, detail=told, count=more)


class OperationalLog:
    """Observer that writes the operational log. Runs on the event loop of the engine."""

    def __init__(self, engine: Engine, write: Callable[[Fact], None] = log_fact) -> None:
        """Observe ``engine`` once it is started; ``write`` gets each line."""
        self._engine = engine
        self._write = write
        self._service = engine.supervise("log", self._round, LOOK_S, first_s=0.0)
        self._concerns: dict[str, float] = {}
        """Those that are known, and since when."""
        self._followers: dict[int, str] = {}
        self._errors: dict[str, int] = {}
        """Of all rounds of background services: one may have failed, been well and failed again since the last look."""
        self._losses: Mapping[str, Mapping[str, int]] = engine.metrics.losses()
        self._is_ready = True

    def start(self) -> None:
        """Begin to look on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """End the observation; ``write_all`` still writes later facts."""
        await self._service.stop()

    def write_all(self) -> None:
        """Write all pending lines, whatever their period."""
        for fact in self._engine.facts.due(all_of_them=True):
            self._write(fact)

    async def _round(self) -> None:
        self.look()

    def look(self) -> None:
        """Note changes, and write the lines that are due."""
        health = self._engine.health()
        self._look_at_concerns()
        self._look_at_services()
        self._look_at_health(health)
        self._look_at_losses()
        for fact in self._engine.facts.due():
            self._write(fact)

    def _note(self, fact: Fact) -> None:
        self._engine.facts.note(fact)

    def _look_at_concerns(self) -> None:
        """Note begin and end of each concern; those with a fact of their own are left out."""
        now = self._engine.host.monotonic()
        told = {name: text for name, text in self._engine.concerns_now().items() if name not in OF_THEIR_OWN}
        for name in told.keys() - self._concerns.keys():
            self._concerns[name] = now
            if not name.startswith(BACKGROUND):
                is_spoken = name not in UNSPOKEN
                about: dict[str, FieldValue] = {"about": name, **({"reason": told[name]} if is_spoken else {})}
                self._note(Fact("concern", "warning", about, name, detail="" if is_spoken else told[name]))
        for name in self._concerns.keys() - told.keys():
            since = self._concerns.pop(name)
            self._note(Fact("concern_over", "info", {"about": name, "seconds": round(now - since, 1)}, name))

    def _look_at_services(self) -> None:
        """Note errors of rounds of background services, and services that ended."""
        for service in self._engine.services:
            more = service.errors_sum - self._errors.get(service.name, 0)
            self._errors[service.name] = service.errors_sum
            if more and service.raised is not None:
                self._note(_background_fact(service, more))

    def _look_at_health(self, health: Health) -> None:
        if health.ready != self._is_ready:
            self._is_ready = health.ready
            failure = self._engine.failure
            if failure is not None:
                self._note(Fact("folding_ended", "error", raised=raised_of(failure), detail=str(failure)))
        for view in health.followers:
            self._look_at_follower(view)

    def _look_at_follower(self, view: FollowerView) -> None:
        before = self._followers.get(view.number, "")
        self._followers[view.number] = view.state
        if view.state == before:
            return
        event, level = _FOLLOWER[view.state]
        fields = {"follower": view.number, "behind_events": view.behind_events, "restarts": view.restarts}
        self._note(Fact(event, level, fields, str(view.number)))

    def _look_at_losses(self) -> None:
        before, self._losses = self._losses, self._engine.metrics.losses()
        for kind, sums in self._losses.items():
            known = before.get(kind, {})
            more = {label: count - known.get(label, 0) for label, count in sums.items() if count > known.get(label, 0)}
            if more:
                level, every_s = _LOSSES[kind]
                count = sum(more.values())
                reasons = {} if "" in more else more
                self._note(Fact(kind, level, every_s=every_s, reasons=reasons, count=count))


_FOLLOWER: Mapping[str, tuple[str, Level]] = {
    "starting": ("follower_starting", "info"),
    "serving": ("follower_joined", "info"),
    "behind": ("follower_behind", "warning"),
    "ended": ("follower_left", "warning"),
}
"""Events of the states of a ``FollowerView``."""
