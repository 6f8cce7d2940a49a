"""Models in service (champions): loaded at a start, and swapped for another version between two turns.

A version is loaded, answers its golden questions and a request of a small state of its own, on a thread, before it
becomes champion. Then the control event is made durable and folded, and one reference is swapped. The previous version
stays loaded, so that a rollback needs no disk. A refusal at any step leaves the models in service as they are.

Beside champions, the versions that placements pin are loaded, for as long as a plan in service reads them or a change
tries one that will (``pinned_versions``). Nothing else is loaded and kept: a challenger or a shadow is read and answers
its golden questions when it gets its alias, so that no alias has a damaged version, and is dropped again. A comparison
reads it from the registry.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from midstream.core.errors import (
    ConfigInvalid,
    Fault,
    NotFound,
    Overloaded,
)
from midstream.core.kinds import Kind
from midstream.core.tracebacks import raised_of
from midstream.core.types import Models
from midstream.engine.engine import Engine
from midstream.engine.models.standing_models import (
    CHAMPION,
    REFUSALS,
    models_of,
    other_manifest,
    pins_of,
    pins_said,
    read_version,
    readers_of,
    refusal_text,
    require_read,
    standing_models,
    told_of_models,
)
from midstream.engine.models.views import ModelView, Standing, model_view, model_views
from midstream.engine.rebuild.rebuilder import warm
from midstream.events.processes.thread_pace import ThreadPace
from midstream.events.schema import Event, build
from midstream.models.pins import pin_key, pin_of
from midstream.models.rows.online_sums import OnlineSums, online_sums
from midstream.monitoring.facts import Fact, FieldValue
from midstream.ranking.plan import Plan
from midstream.state.control.promotions import ALIASES, PROMOTIONS_MAX, Promotion, promotion_body
from midstream.training.registry import VERSIONS_KEPT, LoadedVersion, Registry

CONCERN = "models"
PINNED = "pinned"
"""In place of an alias, where a version is refused that a placement pins."""
VERSIONS = "model_versions"
PAGE = "/docs/models.md"


class Champions:
    """The versions in service, on the event loop of the engine."""

    def __init__(self, engine: Engine, registry: Registry, versions_kept: int = VERSIONS_KEPT) -> None:
        """Begin without models; ``prune`` keeps that many of the newest versions of each model."""
        self.registry = registry
        self._kept = versions_kept
        self._engine = engine
        self._now: dict[str, LoadedVersion] = {}
        self._warm: dict[str, LoadedVersion] = {}
        self._pinned: dict[str, LoadedVersion] = {}
        """By ``pin_key``."""
        self._tried: Counter[str] = Counter()
        """Keys of pinned versions that changes under way may put in service, and how many do."""
        self._settling: asyncio.Task[None] | None = None
        self._is_opening = False
        self._refused: dict[str, str] = {}
        self._turn = asyncio.Lock()
        """One change at a time: at most one version more is loaded than what serves and what is warm."""

    def begin(self) -> None:
        """Load the champions of the state, before the first request. A refused one is replaced by the one before it."""
        found = standing_models(self.registry, self._engine.fold, self._plans())
        self._now.update(found.loaded)
        self._pinned.update(found.pinned)
        for each in found.refused:
            self._refuse(each.name, each.version, CHAMPION, each.error)
        for each in found.unpinned:
            self._refuse(each.name, each.version, PINNED, each.error)
        if self._now or self._pinned:
            self._is_opening = True  # no loop runs yet, and what is refused now would be again
            self._engine.serve_models(self._models())
            self._is_opening = False
        self.tell()

    async def follow(self, versions: Mapping[str, str]) -> None:
        """Serve the versions of another process; loaded ones stay, the others are read on a thread.

        Args:
            versions: Its ``in_service``.
        """
        for name, version in versions.items():
            if pin_of(name) is not None or self.versions.get(name) == version:
                continue
            try:
                loaded = await self._loaded(name, version)
                require_read(loaded, self._plans())
            except REFUSALS as error:
                self._refuse(name, version, CHAMPION, error)
            else:
                await self._warm_up(loaded)
                await asyncio.to_thread(self._serve(loaded).clear)
        for name in self._now.keys() - versions.keys():
            await asyncio.to_thread(self._dismiss(name).clear)
        await self._settle()

    async def follow_log(self, name: str) -> None:
        """Serve the champion that the state has of a model, as another node promoted it; a refused one changes nothing.

        Changes of this process wait meanwhile, and are seen whole: each is in the state and in service when it ends.
        """
        async with self._turn:
            row = self._engine.fold.promotions.find(name)
            if row is None or row.version == self.versions.get(name, ""):
                return
            if not row.version:
                await asyncio.to_thread(self._dismiss(name).clear)
                return
            try:
                loaded = await self._loaded(name, row.version)
                if loaded.manifest_hash != row.manifest:
                    raise other_manifest(row.version)
                require_read(loaded, self._plans())
            except REFUSALS as error:
                self._refuse(name, row.version, CHAMPION, error)
            else:
                await self._warm_up(loaded)
                await asyncio.to_thread(self._serve(loaded).clear)
                self.tell()

    def forget_refusal(self, name: str) -> None:
        """Report no refused version of a model any more: what is promoted is what serves."""
        if self._refused.pop(name, None) is not None:
            self.tell()

    @property
    def in_service(self) -> Mapping[str, str]:
        """The versions that plans in service read: champions by name, pinned ones by ``pin_key``."""
        keys = [pin_key(name, version) for name, version in pins_of(self._plans())]
        return {**self.versions, **{key: self._pinned[key].version for key in keys if key in self._pinned}}

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of each model in service, by name."""
        return {name: each.version for name, each in self._now.items()}

    def standing(self, name: str) -> Standing:
        """Return the versions of a model in service."""
        now, warm = self._now.get(name), self._warm.get(name)
        version = "" if now is None else now.version
        return Standing(version, "" if warm is None else warm.version, self._refused.get(name, ""))

    async def views(self) -> Sequence[ModelView]:
        """Return every model, by name. Reads files, on a thread."""
        rows = tuple(self._engine.fold.promotions.rows)
        return await asyncio.to_thread(model_views, self.registry, rows, self.standing)

    async def view(self, name: str) -> ModelView:
        """Return one model. Reads files, on a thread.

        Raises:
            NotFound: Nothing is known of it.
        """
        rows, standing = tuple(self._engine.fold.promotions.rows), self.standing(name)
        return await asyncio.to_thread(model_view, self.registry, name, rows, standing)

    async def promote(self, name: str, wanted: str = "", alias: str = CHAMPION) -> Promotion:
        """Assign an alias to a version. A champion is in service when this returns.

        Args:
            name: Of the model.
            wanted: The version, its number or its first digits; empty = the newest.
            alias: Of ``ALIASES``.

        Raises:
            NotFound: There is no such version.
            ArtifactInvalid: It is refused; the models in service stay.
            ModelUnfit: It is refused because a placement that names it lacks its inputs; likewise.
            ExtraMissing: A library that reads it is not installed; likewise.
            ConfigInvalid: There is no such alias.
            Overloaded: It would evict a champion in service, or too many events wait.
            AppendFailed: The log could not be made durable; the models in service stay.
        """
        _require_alias(alias)
        async with self._turn:
            version = await asyncio.to_thread(self.registry.find, name, wanted)
            return await self._change(name, version, alias, "model_promoted")

    async def rollback(self, name: str, alias: str = CHAMPION) -> Promotion:
        """Assign an alias to its previous version. Twice restores the first.

        Raises:
            NotFound: It had no version before.
            MidstreamError: As ``promote`` does.
        """
        _require_alias(alias)
        async with self._turn:
            row = self._engine.fold.promotions.find(name, alias)
            if row is None or not row.previous:
                message = f"{alias} of {name!r} stood for no other version before: there is nothing to go back to"
                raise NotFound(message)
            return await self._change(name, row.previous, alias, "model_rolled_back")

    async def withdraw(self, name: str) -> None:
        """Let the champion of a model stand for no version: its placements answer with what else they have.

        Raises:
            Overloaded: Too many events wait.
            AppendFailed: The log could not be made durable; the models in service stay.
        """
        async with self._turn:
            row = self._engine.fold.promotions.find(name)
            if row is not None and row.version:
                body = promotion_body(name, CHAMPION, "", "")
                await self._engine.record(build((Event(Kind.CONTROL, body=body),)))
                fields: dict[str, FieldValue] = {"model": name, "version": row.version, "alias": CHAMPION}
                self._engine.facts.note(Fact("model_withdrawn", "warning", fields, f"{name} {row.version} {CHAMPION}"))
            await asyncio.to_thread(self._dismiss(name).clear)

    async def prune(self) -> None:
        """Remove versions that are not of the newest of their model, have or had no alias, and are not loaded.

        A failed removal is repeated the next time, and reported in health.
        """
        async with self._turn:
            rows = self._engine.fold.promotions.rows
            named = {(row.model, each) for row in rows for each in (row.version, row.previous)}
            named |= {*pins_of(self._plans()), *pins_said(self._engine.fold.placements.current)}
            held = chain(self._now.values(), self._warm.values(), self._pinned.values())
            loaded = {(each.name, each.version) for each in held}
            try:
                await asyncio.to_thread(self.registry.prune, self._kept, named | loaded)
            except OSError as error:
                self._engine.concerns[VERSIONS] = f"versions of models that nothing needs were not removed: {error}"
            else:
                self._engine.concerns.pop(VERSIONS, None)

    async def hold(self, name: str, wanted: str) -> str:
        """Have a version loaded until it is let go, for plans that pin it and are to be tried; return its whole name.

        Raises:
            NotFound: There is no such version.
            ArtifactInvalid: It is refused.
            ExtraMissing: A library that reads it is not installed.
        """
        version = await asyncio.to_thread(self.registry.find, name, wanted)
        async with self._turn:
            await self._pin(name, version)
            self._tried[pin_key(name, version)] += 1
        return version

    def let_go(self, pins: Iterable[tuple[str, str]]) -> None:
        """End ``hold`` of some versions; what plans in service pin stays."""
        self._tried.subtract(pin_key(name, version) for name, version in pins)
        self.settle()

    async def _pin(self, name: str, version: str) -> None:
        """Load a version beside the champions; no plan reads it by that."""
        key = pin_key(name, version)
        if key not in self._pinned:
            self._pinned[key] = await self._loaded(name, version)
            self._engine.live.models = self._models()

    async def follow_pinned(self, plans: Sequence[Plan]) -> bool:
        """Load what some plans pin, before or after they are in service; return whether any was not loaded before."""
        loaded = False
        async with self._turn:
            for name, version in pins_of(plans):
                if pin_key(name, version) not in self._pinned:
                    try:
                        await self._pin(name, version)
                    except REFUSALS as error:
                        self._refuse(name, version, PINNED, error)
                    else:
                        loaded = True
        return loaded

    def settle(self) -> None:
        """Begin to load what plans pin and is not there, and to drop what is there and none pins any more."""
        if self._wanted() == self._pinned.keys() or self._is_opening or self._is_settling:
            return
        self._settling = asyncio.get_running_loop().create_task(self._settle(), name="midstream-pinned-models")

    @property
    def _is_settling(self) -> bool:
        return self._settling is not None and not self._settling.done()

    def _wanted(self) -> set[str]:
        return {pin_key(name, version) for name, version in pins_of(self._plans())} | set(+self._tried)

    async def _settle(self) -> None:
        if await self.follow_pinned(self._plans()):
            self._engine.serve_models(self._models())
        async with self._turn:
            gone = {key: self._pinned.pop(key) for key in self._pinned.keys() - self._wanted()}
            if gone:
                self._engine.live.models = self._models()
            await asyncio.to_thread(gone.clear)  # freeing a large one would block the loop
        self.tell()

    async def models_of(self, versions: Mapping[str, str]) -> Models:
        """Return models of some versions, such as those of a served record; unloaded ones are read.

        Raises:
            NotFound: A version is not in the registry any more.
            ArtifactInvalid: It is damaged.
        """
        found: dict[str, LoadedVersion] = {}
        for name, version in versions.items():
            found[name] = await self._loaded(name, version)
        return models_of(found)

    async def _change(self, name: str, version: str, alias: str, event: str) -> Promotion:
        loaded: LoadedVersion | None = None
        sums: OnlineSums | None = None
        try:
            if alias == CHAMPION:
                loaded = await self._loaded(name, version)
                require_read(loaded, self._plans())
                await self._warm_up(loaded)
                manifest = loaded.manifest_hash
                if name in self._engine.fold.online.names:
                    sums = online_sums(loaded.model, name)
            else:
                manifest = await self._verified(name, version)
        except REFUSALS as error:
            self._refuse(name, version, alias, error)
            raise
        body = promotion_body(name, alias, version, manifest, sums)
        promotions = self._engine.fold.promotions
        if promotions.find(name, alias) is None and (out := promotions.next_out) is not None:
            self._require_unread(out)
        await self._engine.record(build((Event(Kind.CONTROL, body=body),)))
        if loaded is not None:
            self._engine.metrics.model_swaps.labels(name).inc()
            await asyncio.to_thread(self._serve(loaded).clear)
        fields = {"model": name, "version": version, "alias": alias}
        self._engine.facts.note(Fact(event, fields=fields, key=f"{name} {version} {alias}"))
        row = self._engine.fold.promotions.find(name, alias)
        if row is None:
            message = f"the event that promotes {name!r} was folded and no row of it is there"
            raise AssertionError(message)
        return row

    async def _loaded(self, name: str, version: str) -> LoadedVersion:
        """Return a version, read on a thread unless it is loaded already."""
        known = self._known(name, version)
        return await asyncio.to_thread(self._read, name, version) if known is None else known

    def _read(self, name: str, version: str) -> LoadedVersion:
        return read_version(self.registry, self._engine.fold, name, version, ThreadPace().rest)

    async def _warm_up(self, loaded: LoadedVersion) -> None:
        """Run the plans that read a version with it, in a state of their own, before its first request."""
        models = models_of({**self._now, **self._pinned, loaded.name: loaded})
        plans = readers_of(self._plans(), loaded.name)
        if plans:
            await warm(self._engine, self._engine.fold.settings, plans, models)

    async def _verified(self, name: str, version: str) -> str:
        """Return the hash of the manifest of a version that was read whole, has answered, and was dropped again."""
        known = self._known(name, version)
        if known is not None:
            return known.manifest_hash
        return await asyncio.to_thread(lambda: self.registry.load(name, version, ThreadPace().rest).manifest_hash)

    def _require_unread(self, out: Promotion) -> None:
        """Refuse an alias that would evict a champion that a placement reads."""
        placements = [plan.name for plan in readers_of(self._plans(), out.model)]
        if out.version and out.alias == CHAMPION and placements:
            message = (
                f"{PROMOTIONS_MAX} aliases of models are kept, and the one named longest ago, {out.alias} of "
                f"{out.model!r}, answers in {', '.join(placements)}: promote its version again, and then this one"
            )
            raise Overloaded(message)

    def _plans(self) -> tuple[Plan, ...]:
        """Return the plans, each once: the default one may answer under other names too."""
        return tuple({plan.name: plan for plan in self._engine.plans.values()}.values())

    def _serve(self, loaded: LoadedVersion) -> list[LoadedVersion]:
        """Put a version in service; nothing is awaited from the first change to the swap.

        Returns:
            Versions that are not kept warm any more, to be freed on a thread: freeing a large one would block the loop.
        """
        before = self._now.get(loaded.name)
        gone: list[LoadedVersion] = []
        if before is not None and before.version != loaded.version:
            if loaded.name in self._warm:
                gone.append(self._warm.pop(loaded.name))
            self._warm[loaded.name] = before
        self._now[loaded.name] = loaded
        self._refused.pop(loaded.name, None)
        self._engine.serve_models(self._models())
        return gone

    def _dismiss(self, name: str) -> list[LoadedVersion]:
        """Take a model out of service; nothing is awaited. Return what was loaded of it, to be freed on a thread."""
        held = (self._now.pop(name, None), self._warm.pop(name, None))
        self._refused.pop(name, None)
        gone = [each for each in held if each is not None]
        if gone:
            self._engine.serve_models(self._models())
        self.tell()
        return gone

    def _known(self, name: str, version: str) -> LoadedVersion | None:
        """Return a version that is loaded already."""
        held = (self._now.get(name), self._warm.get(name), self._pinned.get(pin_key(name, version)))
        return next((each for each in held if each is not None and each.version == version), None)

    def _refuse(self, name: str, version: str, alias: str, error: BaseException) -> None:
        """Count a refusal; of other aliases than a champion none serves a request, and ``tell`` knows the pinned."""
        self._engine.metrics.model_refusals.labels(name).inc()
        fields = {"model": name, "version": version, "alias": alias}
        raised, told = raised_of(error), str(error)
        self._engine.facts.note(Fact("model_refused", "error", fields, f"{name} {version}", raised=raised, detail=told))
        if alias == CHAMPION:
            self._refused[name] = refusal_text(version, error)
            self.tell()

    def swapped(self) -> None:
        """Follow other plans in service."""
        self.tell()
        self.settle()

    def tell(self) -> None:
        """Report in health refused models, models without a version or unfit to rank, and their replacements."""
        told = told_of_models(self._plans(), self._refused, self.versions)
        if told:
            self._engine.concerns[CONCERN] = "; ".join(told)
        else:
            self._engine.concerns.pop(CONCERN, None)

    def _models(self) -> Models:
        return models_of({**self._now, **self._pinned})

    def set_gauges(self) -> None:
        """Set the gauges of the version of each model in service; refusals of those that plans read stand at 0."""
        self._engine.metrics.set_models(self.versions)
        for name in {name for plan in self._plans() for name in plan.model_names}:
            self._engine.metrics.model_refusals.labels(name)


def _require_alias(alias: str) -> None:
    if alias not in ALIASES:
        raise ConfigInvalid((Fault("/alias", f"{alias[:64]!r} is no alias.", f"One of {', '.join(ALIASES)}.", PAGE),))
