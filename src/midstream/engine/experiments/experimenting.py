"""Experiments and the holdout: started, ramped and stopped while the server runs, each change an event of the log.

The variants of a start are drafted, wired and tried as placements that are set, then variants and document are one
frame. So a refusal changes nothing, and every process has the same variants at the same log position. Stopping gives
the variants back: from then on the placement answers as it is, or as the variant that is shipped.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import msgspec

from midstream.core.errors import ConfigInvalid, Fault, NotFound, Overloaded
from midstream.core.types import LogPosition
from midstream.engine.active_config import Service
from midstream.engine.engine import Engine
from midstream.engine.experiments.orders import (
    buckets_of,
    ramp_order_faults,
    require_no_fault,
    start_order_faults,
    steps_of,
)
from midstream.engine.experiments.start_faults import learning_faults, placement_faults, start_faults
from midstream.engine.experiments.variant_contents import places_of, told_of, unnamed
from midstream.engine.experiments.views import (
    ExperimentList,
    ExperimentView,
    HoldoutView,
    KnownExperiments,
    RampOrder,
    StartOrder,
    VariantOrder,
)
from midstream.engine.models.champions import Champions
from midstream.engine.models.pinned_versions import holding
from midstream.engine.placements.control_changes import ControlChanges, Said, require_texts
from midstream.engine.placements.dry_run import plans_to_try, require_kept
from midstream.engine.placements.placing import PlacementParts
from midstream.engine.rebuild.rebuilder import Rebuilder, warm
from midstream.engine.requests.faults import json_pointer
from midstream.events.faults import shown
from midstream.experiments.assignment import BUCKETS
from midstream.experiments.documents import (
    HELD_PLACEMENTS_MAX,
    KEPT_MAX,
    PAGE,
    SHARE_MAX,
    Experiment,
    NewExperiment,
    NewVariant,
    Variant,
    encode_document,
    free_span,
    holdout_of,
    new_faults,
    ramped,
    reallocated,
    require_running,
    started,
    stopped,
    without_variants,
)
from midstream.experiments.harm import Harm
from midstream.experiments.metrics import default_metrics, metric_faults
from midstream.experiments.names import (
    DRAFT,
    EXPERIMENT_PREFIX,
    HOLDOUT,
    HOLDOUT_NAME,
    is_name,
    variant_placement,
)
from midstream.experiments.reallocation import Reallocation
from midstream.experiments.routing import experiments_in, holdout_in
from midstream.ranking.plan import Plan
from midstream.ranking.team_answers import obstacle
from midstream.state.control.placements import PlacementControl, hash_of

DEFAULT_LAYER = "default"
"""Of a placement whose name cannot be a layer's."""


def _require_drafted(plans: Sequence[Plan]) -> None:
    """Refuse variants of which no draft can be made.

    Raises:
        ConfigInvalid: Each is named, with why.
    """
    right = "A placement without it; a split between units can compare it."
    require_no_fault(
        Fault(f"/variants/{number}/placement", each, right, PAGE)
        for number, each in enumerate(map(obstacle, plans))
        if each
    )


def _in_placements(number: int, place: str) -> str:
    """Return where in an order of a holdout stands what is at a place in one of its placements."""
    return f"/placements/{number}{json_pointer(place)}"


class Experimenting:
    """The experiments in force, on the event loop of the engine."""

    def __init__(self, engine: Engine, rebuilder: Rebuilder, parts: PlacementParts, champions: Champions) -> None:
        """Change the plans that ``rebuilder`` has in service; ``champions`` has the versions that they pin."""
        self._engine = engine
        self._champions = champions
        self._rebuilder = rebuilder
        self._parts = parts
        self._changes = ControlChanges(engine, rebuilder, parts.write)
        self._turn = asyncio.Lock()

    def listed(self) -> ExperimentList:
        """Return all experiments that are kept, and the holdout."""
        return self._known().listed()

    def view(self, name: str) -> ExperimentView:
        """Return all that is known of one experiment.

        Raises:
            NotFound: There is none of that name.
        """
        found = self._known().view(name)
        if found is None:
            raise self._missing(name)
        return found

    async def start(self, name: str, order: StartOrder, said: Said) -> ExperimentView:
        """Start an experiment; it is in force when this returns.

        Args:
            name: Never used before.
            order: Placement, variants, layer, share and ramp.
            said: Author and note.

        Raises:
            ConfigInvalid: It cannot start; every fault is named, and nothing was changed. So with all that follow.
            RebuildRunning: A change of the configuration is running.
            Overloaded: The maximum of placements or experiments is kept, or too many events wait.
            StoreUnavailable: The configuration could not be stored.
            AppendFailed: The log could not be made durable.
        """
        require_texts(name, said)
        async with self._turn:
            with self._rebuilder.alone():
                now_ms = self._engine.clock()
                require_no_fault(start_order_faults(order))
                new = self._new(name, order, now_ms)
                kept = self._experiments()
                unjudged = metric_faults(order.metrics, self._engine.fold.outcomes.actions, new.design)
                require_no_fault(chain(new_faults(new), unjudged, start_faults(new, kept, self._engine.plans)))
                await self._start(new, order.variants, kept, said)
        return self.view(name)

    async def _start(
        self, new: NewExperiment, orders: Sequence[VariantOrder], kept: Sequence[Experiment], said: Said
    ) -> None:
        """Put an experiment without a fault in force.

        Args:
            new: The experiment.
            orders: Of its variants.
            kept: Experiments that there are.
            said: Author and note.
        """
        names = [variant_placement(new.placement, new.name, each.name) for each in new.variants]
        in_force, versions = self._in_force(new.placement), self._engine.fold.placements.versions(new.placement)
        told = [told_of(number, each, in_force, versions) for number, each in enumerate(orders)]
        async with holding(self._champions, told, places_of(orders)) as whole:
            named = dict(zip(names, whole, strict=True))
            if new.design == "interleave":
                named[variant_placement(new.placement, new.name, DRAFT)] = whole[0]
            contents, service = await self._each_drafted(named, places_of(orders))
            require_no_fault(learning_faults(new, [service.plans[name] for name in names]))
            if new.design == "interleave":
                _require_drafted([service.plans[name] for name in names])
            await self._put_in_force(new, dict(zip(named, contents, strict=True)), service, (kept, said))

    async def _put_in_force(
        self,
        new: NewExperiment,
        contents: Mapping[str, str],
        service: Service,
        beside: tuple[Sequence[Experiment], Said],
    ) -> None:
        kept, said = beside
        hashes, first = [hash_of(each) for each in contents.values()], self._first(new, kept)
        one = started(new, hashes, first, self._engine.clock(), self._engine.log.end)
        bodies = [self._changes.body(name, content, said) for name, content in contents.items()]
        bodies += [self._document(one, said), *self._leaving(kept, said)]
        await self._apply(bodies, service)

    async def ramp(self, name: str, steps: Sequence[RampOrder], said: Said) -> ExperimentView:
        """Take other steps from now on; those that were taken stay, and no unit leaves its variant.

        Raises:
            NotFound: There is no such experiment.
            MidstreamError: As ``start`` does.
        """
        require_texts(name, said)
        async with self._turn:
            with self._rebuilder.alone():
                now_ms = self._engine.clock()
                before = self._experiment(name)
                require_no_fault(ramp_order_faults(steps))
                one = ramped(before, steps_of(steps, now_ms), now_ms)
                await self._apply([self._document(one, said)], self._rebuilder.service)
        dropped = [each for each in before.steps if each.from_ms > now_ms]
        return msgspec.structs.replace(self.view(name), dropped=dropped)

    async def stop(self, name: str, reason: str, said: Said, ship: str | None = None) -> ExperimentView:
        """Stop an experiment: its placement answers all units again.

        Args:
            name: Of the experiment.
            reason: Why; kept with it.
            said: Author and note.
            ship: Variant whose content the placement is set to; None = it stays as it is.

        Raises:
            NotFound: There is no such experiment, or no such variant.
            MidstreamError: As ``start`` does.
        """
        require_texts(name, said)
        require_texts(name, Said(said.author, reason), "/reason")
        async with self._turn:
            with self._rebuilder.alone():
                one = stopped(self._experiment(name), reason, self._engine.clock())
                shipped = None if ship is None else self._content(one, ship)
                service = await self._without(one.placements)
                bodies = [self._document(one, said), *self._given_back(one.placements, said)]
                if shipped is not None:
                    models = self._engine.live.models
                    draft = self._parts.draft
                    made = await asyncio.to_thread(draft, service, one.placement, unnamed(shipped), models)
                    plan = made.plan.serving(self._engine.live.models)
                    trial = await warm(self._engine, service.settings, plans_to_try(plan))
                    require_kept(plan, trial, made.places)
                    service = made.service
                    bodies.append(self._changes.body(one.placement, made.content, said))
                await self._apply(bodies, service)
        return self.view(name)

    async def halt(self, name: str, harms: Sequence[Harm], said: Said) -> ExperimentView:
        """Stop an experiment by broken guardrails, or take out the harmed variants where others are left.

        A variant that is taken out has the control's content from now on: its units stay together, and none of them
        has what harmed it. Where that content is refused, such as by a model that is gone, the experiment stops.

        Args:
            name: Of the experiment.
            harms: At least one.
            said: Author and note.

        Raises:
            NotFound: There is no such experiment.
            ConfigInvalid: It was stopped before, or its variants are not those any more.
            MidstreamError: As ``start`` does.
        """
        require_texts(name, said)
        async with self._turn:
            with self._rebuilder.alone():
                one = self._experiment(name)
                require_running(one)
                harmed = {each.variant for each in harms}
                out = [each for each in one.variants[1:] if each.name in harmed and not each.removed]
                control = unnamed(self._changes.content(one.variants[0].placement))
                drafts: tuple[list[str], Service] | None = None
                if any(not each.removed and each.name not in harmed for each in one.variants[1:]):
                    with suppress(ConfigInvalid):  # such as of a model that is gone: harm ends in any case, so all ends
                        drafts = await self._each_drafted({each.placement: control for each in out})
                if drafts is None:
                    one = stopped(one, harms[0].reason, self._engine.clock(), harms)
                    service = await self._without(one.placements)
                    bodies = self._given_back(one.placements, said)
                else:
                    contents, service = drafts
                    hashes = {each.name: hash_of(content) for each, content in zip(out, contents, strict=True)}
                    one = without_variants(one, hashes, harms)
                    changed = zip(out, contents, strict=True)
                    bodies = [self._changes.body(each.placement, content, said) for each, content in changed]
                await self._apply([self._document(one, said), *bodies], service)
        return self.view(name)

    async def reallocate(self, name: str, move: Reallocation, said: Said) -> ExperimentView:
        """Move the shares of an experiment.

        Raises:
            NotFound: There is no such experiment.
            ConfigInvalid: It does not run, or its shares do not move.
            MidstreamError: As ``start`` does.
        """
        require_texts(name, said)
        async with self._turn:
            with self._rebuilder.alone():
                one = reallocated(self._experiment(name), move)
                await self._apply([self._document(one, said)], self._rebuilder.service)
        return self.view(name)

    async def hold_out(self, share: float, placements: Sequence[str], said: Said) -> HoldoutView:
        """Hold a share of users out of all experiments, answered by some placements as they are now.

        Args:
            share: Of all users, up to a half.
            placements: Those that answer held-out users as they are now, whatever is set later; the others answer them
                as everyone else who is in no experiment.
            said: Author and note.

        Raises:
            ConfigInvalid: There is a holdout already, which is permanent until it is given back; or as ``start``.
            MidstreamError: As ``start`` does.
        """
        require_texts(HOLDOUT, said)
        async with self._turn:
            with self._rebuilder.alone():
                require_no_fault(self._holdout_faults(share, placements))
                names = [variant_placement(each, HOLDOUT, HOLDOUT) for each in placements]
                contents = [self._in_force(each) for each in placements]
                drafts, service = await self._each_drafted(dict(zip(names, contents, strict=True)))
                hashes = [hash_of(each) for each in drafts]
                size, now_ms = round(share * BUCKETS), self._engine.clock()
                made = holdout_of(size, list(zip(placements, hashes, strict=True)), now_ms)
                bodies = [self._changes.body(name, each, said) for name, each in zip(names, drafts, strict=True)]
                bodies.append(self._changes.body(HOLDOUT_NAME, encode_document(made), said))
                await self._apply(bodies, service)
        return cast("HoldoutView", self._known().holdout())

    async def give_back_holdout(self, said: Said) -> None:
        """End the holdout: its users are assigned as all others.

        Raises:
            NotFound: There is none.
            MidstreamError: As ``start`` does.
        """
        require_texts(HOLDOUT, said)
        async with self._turn:
            with self._rebuilder.alone():
                held = holdout_in(self._engine.fold.placements.current)
                if held is None:
                    message = "no user is held out"
                    raise NotFound(message)
                service = await self._without(held.variants)
                bodies = [self._changes.body(HOLDOUT_NAME, "", said), *self._given_back(held.variants, said)]
                await self._apply(bodies, service)

    def _known(self) -> KnownExperiments:
        engine = self._engine
        slates: Counter[str] = Counter()
        for each in engine.fold.outcomes.counts():
            slates[each.group.placement] += each.slates
        suspended = engine.live.routing.routes.suspended
        rows = engine.fold.placements.current
        return KnownExperiments(rows, suspended, slates, lambda at: engine.token(LogPosition(at)), engine.clock())

    def _experiments(self) -> tuple[Experiment, ...]:
        return experiments_in(self._engine.fold.placements.current)

    def _experiment(self, name: str) -> Experiment:
        """Return an experiment.

        Raises:
            NotFound: There is none of that name.
        """
        found = next((each for each in self._experiments() if each.name == name), None)
        if found is None:
            raise self._missing(name)
        return found

    def _missing(self, name: str) -> NotFound:
        names = ", ".join(each.name for each in self._experiments()) or "none"
        return NotFound(f"no experiment {name[:64]!r} was started; there are {names}")

    def _new(self, name: str, order: StartOrder, now_ms: int) -> NewExperiment:
        """Return what an order asks for."""
        own = {each.layer for each in self._running() if each.placement == order.placement}
        layer = order.layer or next(iter(own), order.placement if is_name(order.placement) else DEFAULT_LAYER)
        variants = tuple(NewVariant(each.name, each.weight) for each in order.variants)
        size = buckets_of(order.share)
        metrics = order.metrics or default_metrics(self._engine.fold.settings.types, order.design, order.allocation)
        steps = steps_of(order.ramp, now_ms)
        return NewExperiment(
            name,
            order.placement,
            variants,
            layer,
            size,
            steps,
            metrics,
            order.design,
            order.auto_stop,
            order.allocation,
        )

    def _running(self) -> list[Experiment]:
        return [each for each in self._experiments() if each.state == "running"]

    def _first(self, new: NewExperiment, kept: Sequence[Experiment]) -> int:
        """Return the first bucket of a range that is free."""
        span = free_span([each for each in kept if each.state == "running"], new.layer, new.size)
        if span is None:
            message = f"no range of {new.size} buckets is free in the layer {new.layer}"
            raise AssertionError(message)
        return span[0]

    async def _each_drafted(
        self, told: Mapping[str, Mapping[str, Any]], where: Callable[[int, str], str] = _in_placements
    ) -> tuple[list[str], Service]:
        """Return the canonical content of placements, and the configuration with them, tried."""
        service, models, contents = self._rebuilder.service, self._engine.live.models, list[str]()
        for number, (name, content) in enumerate(told.items()):
            try:
                made = await asyncio.to_thread(self._parts.draft, service, name, dict(content), models)
                plan = made.plan.serving(self._engine.live.models)
                trial = await warm(self._engine, service.settings, plans_to_try(plan))
                require_kept(plan, trial, made.places)
            except ConfigInvalid as error:
                raise ConfigInvalid(tuple(_within(each, number, where) for each in error.faults)) from error
            contents.append(made.content)
            service = made.service
        return contents, service

    def _in_force(self, placement: str) -> Mapping[str, Any]:
        """Return a placement as it answers now."""
        return unnamed(self._parts.content(self._rebuilder.service.config, placement))

    def _content(self, one: Experiment, variant: str) -> str:
        """Return the content of a variant.

        Raises:
            NotFound: There is no such variant.
        """
        named = {each.name: each.placement for each in one.variants}
        if variant not in named:
            message = f"{one.name} has no variant {variant[:64]!r}; there are {', '.join(named)}"
            raise NotFound(message)
        return self._changes.content(named[variant])

    def _holdout_faults(self, share: float, placements: Sequence[str]) -> Iterator[Fault]:
        """Yield why a holdout cannot begin."""
        if holdout_in(self._engine.fold.placements.current) is not None:
            right = "One holdout: give it back first, and its users are no longer unlike the others."
            yield Fault("/share", "A holdout is in force.", right, PAGE)
        if not 1 <= buckets_of(share) <= SHARE_MAX:
            yield Fault("/share", f"{shown(share)} came.", f"From 0.0001 to {SHARE_MAX / BUCKETS:g}.", PAGE)
        if len(placements) > HELD_PLACEMENTS_MAX:
            yield Fault("/placements", f"{len(placements)} came.", f"At most {HELD_PLACEMENTS_MAX}.", PAGE)
            return
        if len(set(placements)) < len(placements):
            yield Fault("/placements", "One came twice.", "Each once.", PAGE)
        for number, each in enumerate(placements):
            yield from placement_faults(f"/placements/{number}", each, self._engine.plans)

    async def _without(self, variants: Sequence[Variant]) -> Service:
        """Return configuration and plans without some variants."""
        service = self._rebuilder.service
        for each in variants:
            service = await asyncio.to_thread(self._parts.without, service, each.placement)
        return service

    def _given_back(self, variants: Sequence[Variant], said: Said) -> list[PlacementControl]:
        return [self._changes.body(each.placement, "", said) for each in variants]

    def _document(self, one: Experiment, said: Said) -> PlacementControl:
        return self._changes.body(f"{EXPERIMENT_PREFIX}{one.name}", encode_document(one), said)

    def _leaving(self, kept: Sequence[Experiment], said: Said) -> list[PlacementControl]:
        """Return what makes room for one more: the experiment that stopped first goes.

        Raises:
            Overloaded: All that are kept run.
        """
        if len(kept) < KEPT_MAX:
            return []
        over = sorted((each.ended_ms or 0, each.name) for each in kept if each.state == "stopped")
        if not over:
            message = f"{len(kept)} experiments run, and as many may be kept"
            raise Overloaded(message)
        return [self._changes.body(f"{EXPERIMENT_PREFIX}{over[0][1]}", "", said)]

    async def _apply(self, bodies: Sequence[PlacementControl], service: Service) -> None:
        """Make a change durable and put it in service, in a new table of plans, by which followers know of it."""
        self._changes.require_room(bodies)
        await self._changes.apply(bodies, replace(service, plans=dict(service.plans)))


def _within(fault: Fault, number: int, where: Callable[[int, str], str]) -> Fault:
    """Return a fault with a pointer into an order instead of into one placement of it."""
    return replace(fault, where=where(number, fault.where)) if fault.where.startswith("$") else fault
