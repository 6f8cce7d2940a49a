"""Placements set and removed while a server runs: each change is an event of the log, and in force when it returns.

A placement is validated, wired, tested (``dry_run``) and its configuration stored before it is set. Then the control
event is made durable and folded, and between two turns the plans are swapped. So a refusal at any step changes nothing;
and after a crash behind the event the next start finds the placement set, as it folds the event.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from midstream.core.answers.placements import AsideView, PlacementDetail, PlacementView
from midstream.core.errors import (
    ConfigInvalid,
    Fault,
    NotFound,
    PlacementChanged,
    RequestInvalid,
)
from midstream.core.types import LogPosition, Models, TimestampMs
from midstream.engine.active_config import Configuration, Service
from midstream.engine.answer.query_mapping import answer_of, query_of, require_known
from midstream.engine.engine import Engine
from midstream.engine.models.champions import Champions
from midstream.engine.models.pinned_versions import holding
from midstream.engine.placements.control_changes import PAGE, ControlChanges, Said, require_texts
from midstream.engine.placements.dry_run import plans_to_try, require_kept
from midstream.engine.placements.views import (
    Preview,
    aside_views,
    document_of,
    origin_of,
    placement_views,
    version_views,
)
from midstream.engine.rebuild.rebuilder import Rebuilder, warm
from midstream.engine.types import Answer, Ask
from midstream.events.faults import shown
from midstream.experiments.documents import PAGE as EXPERIMENTS_PAGE
from midstream.experiments.names import MARK
from midstream.experiments.routing import experiments_in
from midstream.ranking.compiled.obstacles import obstacle_of
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.state.control.placements import (
    PlacementVersion,
)
from midstream.state.fold import Fold


@dataclass(frozen=True, slots=True)
class Drafted:
    """A placement that may be set."""

    content: str
    """As canonical JSON."""
    plan: Plan
    service: Service
    """Configuration and plans with it."""
    places: Mapping[str, str]
    """Pointers to its custom components, by name."""


@dataclass(frozen=True, slots=True)
class PlacementParts:
    """Operations on placements that only ``app`` implements."""

    draft: Callable[[Service, str, Any, Models], Drafted]
    """Makes a placement of a name from its text. Raises ``ConfigInvalid``, every fault named."""
    without: Callable[[Service, str], Service]
    """Returns configuration and plans without the set placement of a name. Raises ``ConfigInvalid``."""
    write: Callable[[Service], None]
    """Writes a configuration down, so that records which name it find it. Raises ``OSError``."""
    names: Callable[[Configuration], frozenset[str]]
    """Returns the names of the placements of a configuration."""
    content: Callable[[Configuration, str], str]
    """Returns a placement of a configuration as canonical JSON; empty = it has none of that name."""


@dataclass(frozen=True, slots=True)
class KnownPlacements:
    """Views of placements: in service, and in the state."""

    service: Service
    plans: Mapping[str, Plan]
    """In service."""
    fold: Fold
    """The state: what was set, and what plans are compiled over."""
    parts: PlacementParts
    token: Callable[[LogPosition], str]
    """Gives the text of a log position."""

    def views(self) -> list[PlacementView]:
        """Return each placement with its plan and its origin."""
        own = self.parts.names(self.service.file)
        return placement_views(self.plans, self._current(), own, frozenset(self.service.aside), self.fold)

    def aside(self) -> list[AsideView]:
        """Return the placements that were set and are not in force, and why."""
        return aside_views(self.service.aside, self._current())

    def view(self, name: str) -> PlacementDetail:
        """Return all that is known of one placement.

        Raises:
            NotFound: There is none of that name, and never was.
        """
        versions, plan = self.fold.placements.versions(name), self.plans.get(name)
        if plan is None and not versions:
            message = f"placement {name[:64]!r} is not configured; there are {', '.join(sorted(self.plans))}"
            raise NotFound(message)
        last = versions[-1] if versions else None
        return PlacementDetail(
            placement=name,
            origin=origin_of(name, last, self.parts.names(self.service.file), frozenset(self.service.aside)),
            in_force=document_of(self.parts.content(self.service.config, name)),
            file=document_of(self.parts.content(self.service.file, name)),
            aside=[each for each in self.aside() if each.placement == name],
            versions=version_views(versions, lambda position: self.token(LogPosition(position))),
            not_compiled=None if plan is None else obstacle_of(plan, self.fold),
        )

    def _current(self) -> Mapping[str, PlacementVersion]:
        return {each.name: each for each in self.fold.placements.current}


class Placing:
    """The placements in force, on the event loop of the engine."""

    def __init__(self, engine: Engine, rebuilder: Rebuilder, parts: PlacementParts, champions: Champions) -> None:
        """Change the plans that ``rebuilder`` has in service; ``champions`` has the versions that they pin."""
        self._engine = engine
        self._champions = champions
        self._rebuilder = rebuilder
        self._parts = parts
        self._changes = ControlChanges(engine, rebuilder, parts.write)
        self._turn = asyncio.Lock()

    def views(self) -> list[PlacementView]:
        """Return each placement with its plan and its origin."""
        return self._known().views()

    def aside(self) -> list[AsideView]:
        """Return the placements that were set and are not in force, and why."""
        return self._known().aside()

    def view(self, name: str) -> PlacementDetail:
        """Return all that is known of one placement.

        Raises:
            NotFound: There is none of that name, and never was.
        """
        return self._known().view(name)

    def _known(self) -> "KnownPlacements":
        engine = self._engine
        return KnownPlacements(self._rebuilder.service, engine.plans, engine.fold, self._parts, engine.token)

    async def put(self, name: str, told: object, said: Said) -> PlacementDetail:
        """Set a placement; it is in force when this returns. Setting its current content makes no version.

        Args:
            name: Of the placement: one of the file's, which it then overrides, or another.
            told: Its content, as JSON or TOML gives it.
            said: Author, note and base version.

        Raises:
            ConfigInvalid: It is invalid; every fault is named, and nothing was changed. So with all that follow.
            PlacementChanged: Another author changed it since.
            RebuildRunning: A change of the configuration is running.
            Overloaded: The maximum of placements is kept, or too many events wait.
            StoreUnavailable: The configuration could not be stored.
            AppendFailed: The log could not be made durable.
        """
        require_texts(name, said)
        _require_own(name)
        async with self._turn:
            with self._rebuilder.alone():
                self._require_version(name, said)
                async with holding(self._champions, (told,)) as (whole,):
                    await self._put(name, whole, said)
        return self.view(name)

    async def _put(self, name: str, told: object, said: Said) -> None:
        now = self._rebuilder.service
        made = await asyncio.to_thread(self._parts.draft, now, name, told, self._engine.live.models)
        is_said = self._changes.content(name) == made.content
        bodies = () if is_said else (self._changes.body(name, made.content, said),)
        # What the log says may not be in service: whoever said it was cut off, or it was set aside.
        if bodies or name in now.aside or self._parts.content(now.config, name) != made.content:
            plan = made.plan.serving(self._engine.live.models)
            trial = await warm(self._engine, now.settings, plans_to_try(plan))
            require_kept(plan, trial, made.places)
            await self._changes.apply(bodies, made.service)

    async def remove(self, name: str, said: Said) -> PlacementDetail:
        """Give a placement back to the file, as it was last read; without one there it is gone.

        Raises:
            NotFound: It is not set.
            MidstreamError: As ``put`` does.
        """
        require_texts(name, said)
        _require_own(name)
        async with self._turn:
            with self._rebuilder.alone():
                self._require_version(name, said)
                now = self._rebuilder.service
                is_set, content = bool(self._changes.content(name)), self._parts.content
                if not content(now.file, name):
                    self._require_no_experiment(name)
                if not is_set and content(now.config, name) == content(now.file, name):
                    message = f"no placement {name[:64]!r} is set: there is nothing to give back to the file"
                    raise NotFound(message)
                made = await asyncio.to_thread(self._parts.without, now, name)
                await self._changes.apply((self._changes.body(name, "", said),) if is_set else (), made)
        return self.view(name)

    async def preview(self, name: str, told: object, ask: Ask) -> Preview:
        """Answer a request with a placement that is not in force, and with the current one; nothing is logged or kept.

        Both have the same seed and time, and the same state unless a component of one of them waits. Neither runs
        components that the circuit breaker skips.

        Raises:
            ConfigInvalid: It is invalid; every fault is named.
            RequestInvalid: The filter, the context or the size cannot be used, or it asks for reasons, an explanation
                or a cursor.
            ItemUnknown: No event has named its item yet.
        """
        require_no_why(ask)
        service = self._rebuilder.service
        async with holding(self._champions, (told,)) as (whole,):
            made = await asyncio.to_thread(self._parts.draft, service, name, whole, self._engine.live.models)
            await warm(self._engine, service.settings, (made.plan,))
            fresh = made.plan.serving(self._engine.live.models)
        today = self._engine.plans.get(name)
        seed, now_ms = self._engine.host.request_ids.make()[1], self._engine.clock()
        plans = (fresh, *(() if today is None else (today,)))
        answers = [await self._answer(plan, ask, seed, now_ms) for plan in plans]
        return Preview(answers[0], answers[1] if len(answers) > 1 else None)

    async def _answer(self, plan: Plan, ask: Ask, seed: int, now_ms: TimestampMs) -> Answer:
        engine = self._engine
        monotonic, fold = engine.host.monotonic, engine.fold
        until = monotonic() + (ask.deadline_ms or plan.deadline_ms) / 1_000
        require_known(ask, fold)
        query = query_of(ask, plan, "", seed, now_ms)
        observe = partial(fold.moment, models=plan.models)
        served = await recommend(
            plan, observe, query, lambda: until - monotonic(), engine.guards.benched(plan), engine.live.fetched
        )
        return answer_of(served, ask, fold, engine.token(served.log_position), read_your_writes=None)

    def _require_no_experiment(self, name: str) -> None:
        """Refuse to take a placement away that a running experiment answers.

        Raises:
            ConfigInvalid: One does.
        """
        kept = experiments_in(self._engine.fold.placements.current)
        running = [each.name for each in kept if each.state == "running" and each.placement == name]
        if running:
            came = f"{', '.join(running)} runs on {name}, which would be gone."
            right = f"First midstream experiments stop {running[0]}."
            raise ConfigInvalid((Fault("name", came, right, EXPERIMENTS_PAGE),))

    def _require_version(self, name: str, said: Said) -> None:
        if said.if_version is None:
            return
        versions = self._engine.fold.placements.versions(name)
        now = versions[-1].version if versions else 0
        if now != said.if_version:
            by = f" by {versions[-1].author}" if versions else ""
            came = f"{said.if_version} came; version {now} of {name}{by} is the newest."
            raise PlacementChanged((Fault("/if_version", came, f"{now}, after a look at what it says.", PAGE),))


def _require_own(name: str) -> None:
    """Refuse a change of a placement that is a variant: it would no longer be what its group was assigned to.

    Raises:
        ConfigInvalid: It is, or has a name that such placements have.
    """
    if MARK in name:
        right = f"A name without {MARK}: variants are set and given back by midstream experiments start and stop."
        raise ConfigInvalid((Fault("name", f"{shown(name)} came.", right, EXPERIMENTS_PAGE),))


def require_no_why(ask: Ask) -> None:
    """Refuse a preview that asks for reasons, an explanation or a continuation.

    Raises:
        RequestInvalid: It does; every fault is named.
    """
    right = "A question without it: a preview says what would come, and a request says why."
    told = {"explain": ask.explain, "reasons": ask.reasons is not None, "cursor": ask.cursor is not False}
    if faults := tuple(Fault(f"/question/{name}", "It came.", right, PAGE) for name, came in told.items() if came):
        raise RequestInvalid(faults)
