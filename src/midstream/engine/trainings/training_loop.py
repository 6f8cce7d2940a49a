"""Training loop: trains what is due, decides by gates, tries candidates with users, promotes and takes back.

Two loops run beside the engine. One trains in child processes that another part brings, one model at a time among all
engines of the process. The other looks every second at candidates that users get. Between two steps nothing is
remembered but the last decision in the log, so after an end at any moment the next start goes on with the next step:
each step is first done and then said, and doing it twice does no harm. On a log that several nodes share each step
needs the lease at its moment: a node that has lost it in the middle of a round stops there, and the other one goes on.
"""

from collections.abc import Coroutine, Sequence

from msgspec import MsgspecError
from msgspec.structs import replace

from midstream.core.durations import format_duration
from midstream.core.errors import ConfigInvalid, MidstreamError, Overloaded
from midstream.engine.lease import OWN, Lease
from midstream.engine.trainings.candidates import (
    LoopParts,
    NotInCharge,
    NotMeasured,
    TrialOrder,
    candidate_order,
    has_drifted,
)
from midstream.engine.trainings.journal import TrainingJournal
from midstream.engine.trainings.rollback import CANNOT_SERVE, answers, earlier_versions, one_line, roll_back
from midstream.engine.trainings.trial_orders import (
    bounds_of,
    is_enough,
    judged_alone,
    said_nothing,
    standing_of_trial,
    trial_order,
    trial_placement,
    watched,
    why_given_up,
    why_no_canary,
)
from midstream.engine.trainings.views import TrainingHistory, TrainingView, table_of, training_history, training_view
from midstream.training.canary_rule import canary_end
from midstream.training.decisions import ENDS, Action, Cause, TrainingDecision, alarmed, begun_after, standing_of
from midstream.training.gates.decide import decide, shadowed
from midstream.training.gates.evidence import ShadowAnswers
from midstream.training.options import TRAININGS_MAX, TrainingTable
from midstream.training.schedule import due

LOOK_S = 1.0
"""Between two looks: a broken guardrail takes a version out of service within two of them and a write."""
BACK_OFF_S_MAX = 2.0
"""Of a look that failed: what is taken back is not to wait for a minute."""
SHADOW_AGAIN_MS = 300_000
"""Between two attempts to run requests again of which there were none: a child process each."""
LATE_MS_MAX = 3_600_000
"""Beyond the longest time of a trial, for a watch that has to read a long log before it knows the newest events."""
_FAULTS = (MidstreamError, MsgspecError, OSError, MemoryError)
_INTERRUPTED = "it was interrupted: the process ended, or its end could not be written; nothing of it is in service"


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
        self._shadow_ms: dict[str, int] = {}
        """Of models whose candidate waits for requests: when some are looked for again."""
        self._held_ms: dict[str, int] = {}
        """Of the same models: how long their candidate waited for its turn, and not for requests."""
        self._over: dict[str, int] = {}
        """Of trials whose time is over: the end of the log when that was first seen."""
        self._trainer = parts.engine.supervise("training", self.train_next, LOOK_S)
        self._watch = parts.engine.supervise("training_watch", self.look, LOOK_S)
        self._watch.back_off_s_max = BACK_OFF_S_MAX

    def share(self, lease: Lease) -> None:
        """Run on one of several nodes."""
        self._lease = lease

    def start(self) -> None:
        """Begin on the running event loop."""
        for table in self._tables():
            last = self.journal.last(table.model)
            if last is not None:
                self.journal.concern(last)
            ended_ms = next((each.at_ms for each in self.journal.history(table.model) if each.action in ENDS), None)
            self._engine.metrics.trainings.begin(table.model, ended_ms)
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

    def _find(self, model: str) -> TrainingTable | None:
        return next((each for each in self._tables() if each.model == model), None)

    def _table(self, model: str) -> TrainingTable:
        return table_of(self._tables(), model)

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
        try:
            self._require_lease()
            await self._train_next()
        except NotInCharge:
            self._queue.clear()  # the node that holds the lease goes on from the last decision

    async def _train_next(self) -> None:
        for table in self._tables():
            await self._settle(table.model)
            if table.model not in self._queue and (why := self._due(table)):
                self._queue[table.model] = why
        for table in self._tables():
            if self._waits_for_requests(table):
                since_ms = self._engine.clock()
                async with self._parts.turn:
                    held_ms = self._held_ms.get(table.model, 0) + self._engine.clock() - since_ms
                    self._held_ms[table.model] = max(0, held_ms)
                    await self._shadow_in_turn(table.model)
        if self._queue:
            async with self._parts.turn:  # while others have it, the model stays in the queue
                await self._train_in_turn()

    async def _shadow_in_turn(self, model: str) -> None:
        """Run requests again with a candidate, if it still waits for some: the turn may have come after hours."""
        self._require_lease()
        table, last = self._find(model), self.journal.last(model)
        if table is not None and last is not None and last.action == "shadow":
            await self._run(model, self._shadow(table, last))

    async def _train_in_turn(self) -> None:
        """Train the first model in the queue that has a table now and no candidate under way."""
        for model in tuple(self._queue):
            table, why = self._find(model), self._queue.pop(model, "")
            if table is not None and why and not standing_of(self.journal.last(model)).is_busy:
                await self._run(model, self._train(table, why))
                return

    async def _run(self, model: str, work: Coroutine[None, None, None]) -> None:
        """Do what takes long for one model, of which nothing else is done meanwhile."""
        self._running = model
        try:
            await work
        finally:
            self._running = ""

    async def _settle(self, model: str) -> None:
        """Say of a training of another life of this process that it was interrupted: it counts as a failure."""
        last = self.journal.last(model)
        if last is not None and last.action == "begun":
            failures = last.failures + 1
            await self._say(last, "failed", _INTERRUPTED, failures=failures)

    def _due(self, table: TrainingTable) -> str:
        last, clock = self.journal.last(table.model), self._engine.clock
        drifts = table.drift and has_drifted(self._engine)
        is_off = self._miscalibrated_since(table) > 0 or (last is not None and last.alarm_waits)
        end = self._engine.log.end
        return due(table.rule, standing_of(last), clock(), end, has_drifted=drifts, is_miscalibrated=is_off)

    def _miscalibrated_since(self, table: TrainingTable) -> int:
        champion = self._champion(table.model)
        return self._parts.miscalibrated_since(table.model, champion) if table.calibration else 0

    async def _keep_alarm(self, table: TrainingTable, last: TrainingDecision) -> None:
        """Keep an alarm until the next training: it may be over before a candidate is decided, or a rest ends."""
        more = alarmed(last, self._champion(table.model), self._miscalibrated_since(table))
        if last.action != "begun" and more != last:
            self._require_lease()
            await self.journal.amend(last, more)

    async def _train(self, table: TrainingTable, because: str) -> None:
        """Train and judge one model, and go on with its candidate."""
        before = self.journal.last(table.model)
        failures = 0 if before is None else before.failures
        cause = Cause(because, self._miscalibrated_since(table))
        self._require_lease()
        begun = begun_after(before, table.rule, cause, self._champion(table.model), self._engine.clock())
        begun = await self.journal.write(replace(begun, model=table.model, position=self._engine.log.end))
        try:
            made = await self._parts.maker.make(candidate_order(self._engine, table, begun))
        except _FAULTS as error:
            begun = replace(begun, candidate=error.candidate if isinstance(error, NotMeasured) else "")
            await self._say(begun, "failed", f"{type(error).__name__}: {error}", failures=failures + 1)
            return
        gates = bounds_of(table, begun.champion, self._engine.fold, self._placement(table))
        found = decide(made.measured, made.champion, made.evidence, gates)
        said = replace(begun, candidate=made.measured.version, gates=found.results, worse_max=gates.loss_max)
        whole_ms = begun.whole_ms if begun.start else begun.began_ms
        said = replace(said, failures=0, learned_position=begun.position, whole_ms=whole_ms, alarm_waits=False)
        await self._say(said, "shadow" if found.waits else "passed" if found.passed else "refused", found.reason)

    def _waits_for_requests(self, table: TrainingTable) -> bool:
        """Return whether a candidate waits for requests and it is time to look for some again."""
        last, now_ms = self.journal.last(table.model), self._engine.clock()
        if last is None or last.action != "shadow":
            self._shadow_ms.pop(table.model, None)
            self._held_ms.pop(table.model, None)
            return False
        if now_ms < self._shadow_ms.get(table.model, last.at_ms + SHADOW_AGAIN_MS):
            return False
        self._shadow_ms[table.model] = now_ms + SHADOW_AGAIN_MS
        return True

    async def _shadow(self, table: TrainingTable, last: TrainingDecision) -> None:
        """Run requests again with a candidate that has waited for some."""
        if await self._is_overtaken(table, last):
            return
        try:
            order = candidate_order(self._engine, table, last, with_popular=False)
            seen = await self._parts.maker.shadow(order, last.candidate)
        except _FAULTS as error:
            seen = ShadowAnswers(why_not=f"{type(error).__name__}: {one_line(error)}")
        waited_ms = self._engine.clock() - last.at_ms - self._held_ms.get(table.model, 0)
        found = shadowed((last.candidate, last.champion), last.gates, seen, table.gates, waited_ms)
        if not found.waits:
            self._held_ms.pop(table.model, None)
            said = replace(last, gates=found.results)
            await self._say(said, "passed" if found.passed else "refused", found.reason)

    # -- trial --------------------------------------------------------------------------------------------------------

    async def _try(self, table: TrainingTable, said: TrainingDecision) -> None:
        """Give a candidate that passed the gates to some users, or put it in service where nobody can compare."""
        if await self._is_overtaken(table, said):
            return
        placement = self._placement(table)
        if why_not := why_no_canary(table, said.champion, self._engine.fold, placement):
            if (alone := judged_alone(table, said)) is not None:
                reason = next(str(each) for each in alone.gates if not each.passed)
                await self._say(alone, "refused", f"{why_not}, so without a canary: {reason}")
                return
            await self._conclude(table, said, f"{why_not}, so without a canary")
            return
        order = trial_order(table, said, "t", placement)
        if why_not := await self._start_trial(order):
            await self._say(said, "waiting", f"the canary cannot run: {why_not}")
            return
        reason = f"{table.canary.share:g} of the users of {placement} are in it"
        await self._say(replace(said, experiment=order.name), "canary", reason)

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

    async def _start_trial(self, order: TrialOrder) -> str:
        """Start a trial, unless the same runs: the process ended before that was said. Return why it cannot run."""
        self._require_lease()
        try:
            await self._parts.trials.start(order)
        except ConfigInvalid as error:
            return "" if self._parts.trials.is_running(order) else one_line(error)
        return ""

    async def _conclude(self, table: TrainingTable, said: TrainingDecision, reason: str) -> None:
        """Put a candidate in service, or leave it to a person."""
        if table.promote == "ask":
            await self._end_trial(said, reason)
            await self._say(replace(said, experiment=""), "waiting", f'{reason}; promote = "ask"')
            return
        if await self._is_overtaken(table, said):
            return
        self._require_lease()
        try:
            await self._parts.champions.promote(said.model, said.candidate)
        except CANNOT_SERVE as error:
            await self._end_trial(said, f"it cannot be put in service: {one_line(error)}")
            await self._say(said, "refused", f"it cannot be put in service: {one_line(error)}")
            return
        await self._hold_back(table, said, reason)

    async def _hold_back(self, table: TrainingTable, said: TrainingDecision, reason: str) -> None:
        """Keep the version before for some users, now that the candidate answers all others."""
        await self._end_trial(said, reason)
        placement = self._placement(table)
        if not (table.watch_ms and said.champion and placement and table.canary.share):
            await self._say(replace(said, experiment=""), "kept", reason)
            return
        order = trial_order(table, said, "h", placement)
        if why_not := await self._start_trial(order):
            await self._say(replace(said, experiment=""), "kept", f"{reason}; nobody is held back: {why_not}")
            return
        await self._say(replace(said, experiment=order.name), "promoted", reason)

    async def _end_trial(self, said: TrainingDecision, reason: str) -> None:
        if said.experiment:
            self._require_lease()
            await self._parts.trials.stop(said.experiment, reason)
            self._over.pop(said.experiment, None)

    # -- watch --------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at each candidate that users get."""
        if not self._lease.is_held:
            return
        errors: list[Exception] = []
        for table in self._tables():
            try:
                for step in (self._keep_alarm, self._go_on):
                    last = self.journal.last(table.model)
                    if last is not None and self._running != table.model:
                        await step(table, last)
            except NotInCharge:
                return
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
        seen = standing_of_trial(self._parts.trials, last.experiment)
        least_ms, most_ms = table.canary_ms
        age_ms = self._engine.clock() - last.at_ms
        if seen.state == "stopped":
            await self._say(last, "stopped", f"{'a guardrail' if seen.by_watch else 'a person'}: {seen.reason}")
            return
        if age_ms < least_ms:
            return
        end = self._end_of(last)
        is_current = seen.seen_position >= end
        if is_current and is_enough(seen, table):
            ended = canary_end(seen.harm, age_ms, least_ms, most_ms, was_behind=last.was_behind)
            if ended == "promoted":
                kept = f"the canary kept its guardrails for {format_duration(least_ms)}: {seen.text}"
                await self._conclude(table, last, kept)
            elif ended:
                reason = why_given_up(seen, table)
                await self._end_trial(last, reason)
                await self._say(last, "stopped", reason)
            elif seen.harm is not None and not last.was_behind:
                self._require_lease()
                await self.journal.amend(last, replace(last, was_behind=True))
        elif age_ms >= most_ms and (is_current or age_ms >= most_ms + LATE_MS_MAX):
            reason = said_nothing(seen, end, table)
            await self._end_trial(last, reason)
            await self._say(last, "stopped", reason)

    def _end_of(self, last: TrainingDecision) -> int:
        """Return up to which log position a trial has to be known before its end: that at which its time was over.

        A look at a shorter log may have missed what the newest users did, such as after a start.
        """
        return self._over.setdefault(last.experiment, int(self._engine.fold.log_position))

    async def _look_at_promoted(self, table: TrainingTable, last: TrainingDecision) -> None:
        """Take a version back whose guardrail broke after it was promoted, or end the watch."""
        serving = self._champion(table.model)
        seen = standing_of_trial(self._parts.trials, last.experiment)
        decisions = self.journal.history(table.model)
        if (
            seen.state == "stopped"
            and seen.by_watch
            and serving in {last.candidate, *earlier_versions(decisions, last), ""}
        ):
            told = answers(serving)
            if serving == last.candidate:
                self._require_lease()
                told = await roll_back(self._parts.champions, decisions, last)
            await self._say(last, "rolled_back", f"{told}. {seen.reason}")
        elif serving != last.candidate:
            await self._end_trial(last, f"{serving or 'none'} was put in service meanwhile")
            await self._say(last, "superseded", f"{serving or 'no version'} is in service, and not {last.candidate}")
        elif seen.state == "stopped":
            await self._say(last, "kept", f"a person ended the watch: {seen.reason}")
        elif (age_ms := self._engine.clock() - last.at_ms) >= table.watch_ms:
            end = self._end_of(last)
            if seen.seen_position < end and age_ms < table.watch_ms + LATE_MS_MAX:
                return
            reason = watched(seen, end, table)
            await self._end_trial(last, reason)
            await self._say(last, "kept", reason)

    # -- common -------------------------------------------------------------------------------------------------------

    def _champion(self, model: str) -> str:
        row = self._engine.fold.promotions.find(model)
        return "" if row is None else row.version

    def _placement(self, table: TrainingTable) -> str:
        return trial_placement(table, self._engine.plans)

    def _require_lease(self) -> None:
        """Refuse a step that another node does now.

        Raises:
            NotInCharge: This one has not the lease any more.
        """
        if not self._lease.is_held:
            message = f"{self._lease.owner or 'another node'} decides on trainings now"
            raise NotInCharge(message)

    async def _say(self, said: TrainingDecision, action: Action, reason: str, *, failures: int | None = None) -> None:
        """Write a decision that follows from another.

        Raises:
            NotInCharge: Another node decides now.
        """
        self._require_lease()
        failures = said.failures if failures is None else failures
        now_ms = self._engine.clock()
        await self.journal.write(replace(said, action=action, reason=reason, failures=failures, at_ms=now_ms))
        self._over.pop(said.experiment, None)
