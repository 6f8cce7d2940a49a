"""Training loop: trains what is due, decides by gates, tries candidates with users, promotes and takes back.

Two loops run beside the engine. One trains, one model at a time, in child processes that another part brings. The other
looks every second at candidates that users get. Between two steps nothing is remembered but the last decision in the
log, so after an end at any moment the next start goes on with the next step: each step is first done and then said, and
doing it twice does no harm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash
from msgspec import MsgspecError
from msgspec.structs import replace

from midstream.core.durations import format_duration
from midstream.core.errors import ArtifactInvalid, ConfigInvalid, ExtraMissing, MidstreamError, NotFound, Overloaded
from midstream.engine.engine import Engine
from midstream.engine.lease import OWN, Lease
from midstream.engine.models.champions import Champions
from midstream.engine.trainings.candidates import (
    CandidateMaker,
    CandidateOrder,
    TrialOrder,
    TrialStanding,
    VersionTrials,
)
from midstream.engine.trainings.journal import TrainingJournal
from midstream.engine.trainings.views import TrainingHistory, TrainingView, training_history, training_view
from midstream.experiments.names import MARK, NAME_BYTES_MAX, PLACEMENT_BYTES_MAX
from midstream.training.decisions import Action, TrainingDecision, standing_of
from midstream.training.gates.decide import decide
from midstream.training.gates.probes import COVERED
from midstream.training.options import TRAININGS_MAX, TrainingTable
from midstream.training.schedule import PSI_MAX, due

LOOK_S = 1.0
"""Between two looks: a broken guardrail takes a version out of service within two of them and a write."""
BACK_OFF_S_MAX = 2.0
"""Of a look that failed: what is taken back is not to wait for a minute."""
VARIANT = "candidate"
PAGE = "/docs/continuous-training.md"
_INTERRUPTED = "it was interrupted: the process ended, or its end could not be written; nothing of it is in service"


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What the loop works with."""

    engine: Engine
    champions: Champions
    maker: CandidateMaker
    trials: VersionTrials
    tables: Callable[[], Sequence[TrainingTable]]
    """Those of the configuration in service."""


class TrainingLoop:
    """The loop of one engine, on its event loop."""

    def __init__(self, parts: LoopParts) -> None:
        """Begin with nothing under way; ``start`` starts it."""
        self._parts = parts
        self._engine = parts.engine
        self.journal = TrainingJournal(parts.engine)
        self._lease: Lease = OWN
        self._queue: dict[str, str] = {}
        """Models that are due, with why, in the order in which that was seen."""
        self._running = ""
        """The model that is trained now; empty = none."""
        self._trainer = parts.engine.supervise("training", self.train_next, LOOK_S)
        self._watch = parts.engine.supervise("training_watch", self.look, LOOK_S)
        self._watch.back_off_s_max = BACK_OFF_S_MAX

    def share(self, lease: Lease) -> None:
        """Run on one of several nodes."""
        self._lease = lease

    def start(self) -> None:
        """Begin on the running event loop."""
        for table in self._tables():
            if (last := self.journal.last(table.model)) is not None:
                self.journal.concern(last)
        self._trainer.start()
        self._watch.start()

    async def stop(self) -> None:
        """End it; a training that runs is ended, and counts as interrupted at the next start."""
        await self._trainer.stop()
        await self._watch.stop()

    def views(self) -> Sequence[TrainingView]:
        """Return what is known of each model's trainings, by name."""
        return [self._view(each) for each in sorted(self._tables(), key=lambda each: each.model)]

    def order(self, model: str) -> TrainingView:
        """Have a model trained as soon as nothing else is; once, however often it is asked for.

        Raises:
            NotFound: There is no table of it.
            Overloaded: A candidate of it is being tried, or too many wait.
        """
        table = self._table(model)
        last = self.journal.last(model)
        if self._running != model and last is not None and standing_of(last).is_busy and last.action != "begun":
            message = f"{last.candidate} of {model} is tried ({last.action} {last.experiment}): the next one waits"
            raise Overloaded(message)
        if model not in self._queue and len(self._queue) >= TRAININGS_MAX:
            message = f"{len(self._queue)} trainings wait"
            raise Overloaded(message)
        if self._running != model:
            self._queue[model] = "order"
        return self._view(table)

    def _tables(self) -> Sequence[TrainingTable]:
        return self._parts.tables()

    def _table(self, model: str) -> TrainingTable:
        found = next((each for each in self._tables() if each.model == model), None)
        if found is None:
            names = ", ".join(sorted(each.model for each in self._tables())) or "none"
            message = f"no [[trainings]] of {model[:64]!r} is configured; there are {names}"
            raise NotFound(message)
        return found

    def view(self, model: str) -> TrainingView:
        """Return what is known of the trainings of a model.

        Raises:
            NotFound: There is no table of it.
        """
        return self._view(self._table(model))

    def _view(self, table: TrainingTable) -> TrainingView:
        under_way = "training" if self._running == table.model else "queued" if table.model in self._queue else ""
        return training_view(table, self._engine.fold, self._engine.clock(), under_way)

    def history(self, model: str) -> TrainingHistory:
        """Return the decisions on a model that the state keeps, the newest first.

        Raises:
            NotFound: There is no table of it, and nothing was decided.
        """
        found = training_history(self._engine.fold, model)
        if not found.decisions:
            self._table(model)
        return found

    async def train_now(self, model: str) -> TrainingView:
        """Train a model and do what follows at once, in a process without a server.

        Raises:
            NotFound: There is no table of it.
            Overloaded: A candidate of it is being tried.
        """
        self._queue.clear()
        await self._settle(model)
        self.order(model)
        await self.train_next()
        await self.look()
        return self.view(model)

    # -- training -----------------------------------------------------------------------------------------------------

    async def train_next(self) -> None:
        """Train the model that waits the longest."""
        if not self._lease.is_held:
            self._queue.clear()
            return
        for table in self._tables():
            await self._settle(table.model)
            if table.model not in self._queue and (why := self._due(table)):
                self._queue[table.model] = why
        known = {each.model: each for each in self._tables()}
        model = next(iter(self._queue), "")
        because = self._queue.pop(model, "")
        if model in known:
            self._running = model
            try:
                await self._train(known[model], because)
            finally:
                self._running = ""

    async def _settle(self, model: str) -> None:
        """Say of a training of another life of this process that it was interrupted: it counts as a failure."""
        last = self.journal.last(model)
        if last is not None and last.action == "begun":
            failures = last.failures + 1
            await self._say(last, "failed", _INTERRUPTED, failures=failures)

    def _due(self, table: TrainingTable) -> str:
        standing = standing_of(self.journal.last(table.model))
        drifts = table.drift and self._has_drifted()
        return due(table.rule, standing, self._engine.clock(), self._engine.log.end, has_drifted=drifts)

    def _has_drifted(self) -> bool:
        """Return whether a feature that placements read is far from its baseline. Cost: 2 ms a column, seldom."""
        values = self._engine.live.feature_values
        found = (values.drift(name) for name in values.names)
        return any(each is not None and each.psi > PSI_MAX for each in found)

    async def _train(self, table: TrainingTable, because: str) -> None:
        """Train and judge one model, and go on with its candidate."""
        before = self.journal.last(table.model)
        failures = 0 if before is None else before.failures
        now_ms = self._engine.clock()
        begun = await self.journal.write(
            TrainingDecision(
                model=table.model,
                action="begun",
                because=because,
                champion=self._champion(table.model),
                position=self._engine.log.end,
                began_ms=now_ms,
                at_ms=now_ms,
                failures=failures,
                learned_position=0 if before is None else before.learned_position,
            )
        )
        try:
            made = await self._parts.maker.make(CandidateOrder(table, begun.champion, self._popular(), now_ms))
        except (MidstreamError, MsgspecError, OSError, MemoryError) as error:
            await self._say(begun, "failed", f"{type(error).__name__}: {error}", failures=failures + 1)
            return
        if not self._lease.is_held:
            return  # the node that holds it now says that this one was interrupted
        found = decide(made.measured, made.champion, made.evidence, table.gates)
        said = replace(
            begun, candidate=made.measured.version, gates=found.results, failures=0, learned_position=begun.position
        )
        await self._say(said, "passed" if found.passed else "refused", found.reason)

    def _popular(self) -> tuple[str, ...]:
        """Return the most popular items now."""
        fold = self._engine.fold
        half_life_ms = max(each.ms for each in fold.settings.half_lives)
        found, _ = fold.items.hottest(half_life_ms, COVERED)
        return tuple(fold.vocabulary.item_id(index) for index in found.tolist())

    # -- trial --------------------------------------------------------------------------------------------------------

    async def _try(self, table: TrainingTable, said: TrainingDecision) -> None:
        """Give a candidate that passed the gates to some users, or put it in service where nobody can compare."""
        if await self._is_overtaken(table, said):
            return
        placement = self._placement(table)
        why_not = ""
        if not said.champion:
            why_not = "no version was in service"
        elif not placement:
            why_not = "no placement reads the model"
        elif not table.canary.share:
            why_not = "canary.share is 0"
        if why_not:
            await self._conclude(table, said, f"{why_not}, so without a canary")
            return
        name = trial_name("t", said.candidate, table.model, placement)
        order = _trial(table, said, name, placement)
        try:
            await self._parts.trials.start(order)
        except ConfigInvalid as error:
            if not self._is_there(name):
                await self._say(said, "waiting", f"the canary cannot run: {_line(error)}")
                return
        reason = f"{table.canary.share:g} of the users of {placement} are in it"
        await self._say(replace(said, experiment=name), "canary", reason)

    async def _is_overtaken(self, table: TrainingTable, said: TrainingDecision) -> bool:
        """Return whether another version is in service than the one it was judged beside, and say what follows."""
        serving = self._champion(table.model)
        if serving == said.champion:
            return False
        if serving == said.candidate:
            await self._hold_back(table, said, "it was promoted")
            return True
        await self._end_trial(said, f"{serving or 'none'} was put in service meanwhile")
        before = said.champion or "no version"
        await self._say(said, "superseded", f"{serving or 'no version'} is in service, and not {before}")
        return True

    def _is_there(self, name: str) -> bool:
        """Return whether a trial of this name runs: it was started, and the process ended before that was said."""
        try:
            return self._parts.trials.standing(name).state != "stopped"
        except NotFound:
            return False

    async def _conclude(self, table: TrainingTable, said: TrainingDecision, reason: str) -> None:
        """Put a candidate in service, or leave it to a person."""
        if table.promote == "ask":
            await self._end_trial(said, reason)
            await self._say(replace(said, experiment=""), "waiting", f'{reason}; promote = "ask"')
            return
        if await self._is_overtaken(table, said):
            return
        try:
            await self._parts.champions.promote(said.model, said.candidate)
        except (ArtifactInvalid, ExtraMissing, NotFound) as error:
            await self._end_trial(said, f"it cannot be put in service: {_line(error)}")
            await self._say(said, "refused", f"it cannot be put in service: {_line(error)}")
            return
        await self._hold_back(table, said, reason)

    async def _hold_back(self, table: TrainingTable, said: TrainingDecision, reason: str) -> None:
        """Keep the version before for some users, now that the candidate answers all others."""
        await self._end_trial(said, reason)
        placement = self._placement(table)
        if not (table.watch_ms and said.champion and placement and table.canary.share):
            await self._say(replace(said, experiment=""), "kept", reason)
            return
        name = trial_name("h", said.candidate, table.model, placement)
        order = _trial(table, said, name, placement)
        try:
            await self._parts.trials.start(order)
        except ConfigInvalid as error:
            if not self._is_there(name):
                text = f"{reason}; nobody is held back: {_line(error)}"
                await self._say(replace(said, experiment=""), "kept", text)
                return
        await self._say(replace(said, experiment=name), "promoted", reason)

    async def _end_trial(self, said: TrainingDecision, reason: str) -> None:
        if said.experiment:
            await self._parts.trials.stop(said.experiment, reason)

    # -- watch --------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at each candidate that users get."""
        if not self._lease.is_held:
            return
        errors: list[Exception] = []
        for table in self._tables():
            last = self.journal.last(table.model)
            try:
                if last is not None and self._running != table.model:
                    await self._go_on(table, last)
            except (MidstreamError, OSError) as error:
                errors.append(error)  # the others are looked at first
        if errors:
            raise errors[0]

    async def _go_on(self, table: TrainingTable, last: TrainingDecision) -> None:
        """Do what follows from the last decision."""
        if last.action == "passed":
            await self._try(table, last)
        elif last.action == "canary":
            await self._look_at_canary(table, last)
        elif last.action == "promoted":
            await self._look_at_promoted(table, last)
        elif last.action == "waiting" and self._champion(table.model) == last.candidate:
            await self._hold_back(table, last, "a person promoted it")

    async def _look_at_canary(self, table: TrainingTable, last: TrainingDecision) -> None:
        """End a canary that is decided."""
        if await self._is_overtaken(table, last):
            return
        seen = self._standing(last)
        least_ms, most_ms = table.canary_ms
        age_ms = self._engine.clock() - last.at_ms
        if seen.state == "stopped":
            await self._say(last, "stopped", f"{'a guardrail' if seen.by_watch else 'a person'}: {seen.reason}")
        elif age_ms >= least_ms and _is_enough(seen, table):
            kept = f"the canary kept its guardrails for {format_duration(least_ms)}: {seen.text}"
            await self._conclude(table, last, kept)
        elif age_ms >= most_ms:
            few = f"users {seen.units}, units_min is {table.canary.units_min}"
            why = few if seen.is_valid else "the sample ratio is wrong"
            why = "it was suspended" if seen.state == "suspended" else why
            reason = f"the canary said nothing in {format_duration(most_ms)}: {why}"
            await self._end_trial(last, reason)
            await self._say(last, "stopped", reason)

    async def _look_at_promoted(self, table: TrainingTable, last: TrainingDecision) -> None:
        """Take a version back whose guardrail broke after it was promoted, or end the watch."""
        serving = self._champion(table.model)
        seen = self._standing(last)
        if seen.state == "stopped" and seen.by_watch and serving in {last.candidate, last.champion}:
            if serving == last.candidate:
                await self._parts.champions.promote(table.model, last.champion)
            await self._say(last, "rolled_back", f"{last.champion} answers again. {seen.reason}")
        elif serving != last.candidate:
            await self._end_trial(last, f"{serving or 'none'} was put in service meanwhile")
            await self._say(last, "superseded", f"{serving or 'no version'} is in service, and not {last.candidate}")
        elif seen.state == "stopped":
            await self._say(last, "kept", f"a person ended the watch: {seen.reason}")
        elif self._engine.clock() - last.at_ms >= table.watch_ms:
            watch = table.watch or "0s"
            reason = f"no guardrail broke in {watch} after the promotion: {seen.text}"
            if not _is_enough(seen, table):
                why = f"users {seen.units}" if seen.is_valid else "the sample ratio is wrong"
                why = "it was suspended" if seen.state == "suspended" else why
                reason = f"the watch saw too little to say anything in {watch}: {why}"
            await self._end_trial(last, reason)
            await self._say(last, "kept", reason)

    def _standing(self, last: TrainingDecision) -> TrialStanding:
        """Return how the trial of a decision is; one that is not there any more counts as stopped by a person."""
        try:
            return self._parts.trials.standing(last.experiment)
        except NotFound as error:
            return TrialStanding("stopped", by_watch=False, reason=str(error), is_valid=False, units=())

    # -- common -------------------------------------------------------------------------------------------------------

    def _champion(self, model: str) -> str:
        row = self._engine.fold.promotions.find(model)
        return "" if row is None else row.version

    def _placement(self, table: TrainingTable) -> str:
        """Return the placement of a trial; empty = none reads the model."""
        plans = {name: plan for name, plan in self._engine.plans.items() if MARK not in name}
        if table.canary.placement:
            return table.canary.placement
        return next((name for name, plan in plans.items() if table.model in plan.model_names), "")

    async def _say(self, said: TrainingDecision, action: Action, reason: str, *, failures: int | None = None) -> None:
        """Write a decision that follows from another."""
        failures = said.failures if failures is None else failures
        now_ms = self._engine.clock()
        await self.journal.write(replace(said, action=action, reason=reason, failures=failures, at_ms=now_ms))


def trial_name(prefix: str, version: str, model: str, placement: str) -> str:
    """Return the name of a trial: its kind, the number of the version, and the model, cut with a hash of it to fit."""
    room = min(NAME_BYTES_MAX, PLACEMENT_BYTES_MAX - len(f"{placement}{MARK}.{VARIANT}".encode()))
    name = f"{prefix}{version.partition('-')[0]}-{model}"
    if len(name) <= room:
        return name
    mark = xxhash.xxh3_64_hexdigest(model.encode())[:8]
    return f"{name[: max(1, room - len(mark))]}{mark}"


def _trial(table: TrainingTable, said: TrainingDecision, name: str, placement: str) -> TrialOrder:
    """Return the order of a trial: the version before is its control, as guardrails go by that."""
    versions = said.champion, said.candidate
    return TrialOrder(name, placement, table.model, *versions, table.canary.share, table.canary.harm_max)


def _is_enough(seen: TrialStanding, table: TrainingTable) -> bool:
    """Return whether a trial may be believed."""
    return seen.state == "running" and seen.is_valid and bool(seen.units) and min(seen.units) >= table.canary.units_min


def _line(error: MidstreamError) -> str:
    return " ".join(str(error).split())
