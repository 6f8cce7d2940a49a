"""Circuit breaker for plan components that overrun their budget or keep failing.

One thread answers all requests. A component that computes cannot be interrupted, so one that took too long once may
cost every request its time: its circuit opens after the first time. A component that waits is cancelled, which costs
one request; its circuit opens, as that of one that raises does, when enough of its last answers failed. After a while
one request tries it again: if that succeeds the circuit closes.

An overrun may be the machine's: a neighbour that has the processor, a virtual machine that stands still. A built-in
component never waits, so it overran only if the processor worked for that long on the answer. Of a custom component it
is not known whether it waited, which blocks all requests as well: it is measured by the clock.

A change of a placement, or of a model in service, closes the circuits of what it changed: a component of one placement
stays skipped while another placement is set. Another state closes all.

Two groups are never skipped. The fallbacks (the floor, the catalogue, the blend, the last selector) are all that is
left. Filters and slate rules decide what may be served and where: without them nothing may pass, so skipping one would
empty every slate. Their overruns and failures are only reported.

The state is here and not in components or plans. The skipped components are an argument of a request and failures in
its served record, so that a rerun leaves out the same.

Reference: Nygard, Release It!, 2nd edition, 2018, "Circuit Breaker".
"""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from midstream.core.tracebacks import Raised
from midstream.core.types import Failure, Served
from midstream.engine.types import GuardedPart
from midstream.monitoring.facts import MINUTE_S, Fact, Facts, FieldValue, Level
from midstream.monitoring.metrics import Metrics
from midstream.ranking.boundary import Account, RaisedFailure, boundary, raised_by
from midstream.ranking.plan import SELECTOR, Plan, ReadsModels, block_name
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.pin import PINS

TRACEBACK_S = 600.0
"""Between two lines of the log about one part, one type of error and its traceback."""
BENCHED = "benched"
"""Failure reason of a skipped component."""
SLOW = "slow"
"""Common reason of overruns, without the milliseconds."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Thresholds and times of the circuit breaker."""

    share_max: float = 0.5
    """Of the placement's deadline that one part may hold the thread: all others have to do with the rest."""
    failures_max: int = 5
    """Failures among the last ``of_last`` answers: a dependency that fails every other time is found as well."""
    of_last: int = 10
    bench_s: float = 10.0
    """After it one request tries the part; so much it costs at most in 10 s."""
    fetch_bench_s: float = 3.0
    """The same for a fetch, and for a scorer on a server. They wait and hold nobody, so a trial costs one request one
    ``timeout``; and a system that is back is asked within 5 s."""

    def budget_s(self, plan: Plan) -> float:
        """Return for how long one part of a plan may hold the thread, in seconds."""
        return self.share_max * plan.deadline_ms / 1_000


@dataclass(slots=True)
class _Watched:
    """Circuit of a component."""

    history: int = 0
    """Its last answers as bits, newest lowest: 1 = failed."""
    until: float = 0.0
    """Open, or reported as slow or failing, until then; 0 = closed."""
    tries_until: float = 0.0
    """A request tries it; when nothing came of that by then another one may."""
    state: Literal["benched", "trying", "slow", "failing"] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Judged:
    """One answer of a part."""

    reason: str
    """Why it was wrong; empty = it was right."""
    is_slow: bool
    now: float
    raised: Raised | None
    bench_s: float


class CircuitBreaker:
    """Circuits of all components, by their last answers. At most one entry a component of the plans in service."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        metrics: Metrics,
        options: GuardOptions | None = None,
        facts: Facts | None = None,
    ) -> None:
        """Begin with all circuits closed; ``monotonic`` gives seconds that never go back, ``facts`` go into the log."""
        self._monotonic = monotonic
        self._facts = facts or Facts(monotonic)
        self._metrics = metrics
        self._options = options or GuardOptions()
        self._watched: dict[tuple[str, str], _Watched] = {}

    def left_out(self, plan: Plan) -> tuple[Failure, ...]:
        """Return a failure for each component that a request has to skip, in the order of their names.

        The first request after the time of an open circuit tries the component; its answer must go to ``note``.
        """
        if not self._watched:
            return ()
        now = self._monotonic()
        return tuple(
            Failure(part, BENCHED)
            for (placement, part), watched in sorted(self._watched.items())
            if placement == plan.name and not self._may_ask(watched, now)
        )

    def is_quiet(self, plan: Plan) -> bool:
        """Return whether no part of a plan is watched: none failed or was slow lately. Starts no trial.

        Reports whose time is over are dropped: where the kernel answers, no answer of the part would end them.
        """
        if not self._watched:
            return True
        now, quiet = self._monotonic(), True
        for key in [each for each in self._watched if each[0] == plan.name]:
            watched = self._watched[key]
            if watched.state in {"slow", "failing"} and now >= watched.until:
                del self._watched[key]
            else:
                quiet = False
        return quiet

    def budget_s(self, plan: Plan) -> float:
        """Return for how long one part of a plan may hold the thread, in seconds."""
        return self._options.budget_s(plan)

    @property
    def bench_s(self) -> float:
        """For how long a part is skipped, in seconds."""
        return self._options.bench_s

    def benched(self, plan: Plan) -> tuple[Failure, ...]:
        """Return a failure for each skipped component of a plan; does not start a trial."""
        names = frozenset(plan.part_names)
        return tuple(
            Failure(part, BENCHED)
            for (placement, part), watched in sorted(self._watched.items())
            if placement == plan.name and part in names and watched.state in {"benched", "trying"}
        )

    def _may_ask(self, watched: _Watched, now: float) -> bool:
        if watched.state not in {"benched", "trying"}:
            return True
        if now < watched.until or now < watched.tries_until:
            return False
        watched.state = "trying"
        watched.tries_until = now + self._options.bench_s
        return True

    def note(self, plan: Plan, served: Served, worked_s: float = math.inf) -> None:
        """Record times and failures of an answer's components. Cost: 1 µs where nothing is wrong.

        Args:
            plan: Of the answer.
            served: The answer.
            worked_s: Processor time of the answer: a component that never waits did not overrun by more.
        """
        budget_s = self._options.budget_s(plan)
        if not self._watched and not served.failures and max(served.took_s.values(), default=0.0) <= budget_s:
            return
        now = self._monotonic()
        reasons = {each.component: each.reason for each in served.failures}
        raised = {each.component: raised_by(each) for each in served.failures}
        self._note_failures(plan.name, served.failures)
        self._let_others_try(plan.name, served, reasons)
        may_be_benched, bounded = frozenset(benchable(plan)), plan.bounded
        fetches = frozenset((*(each.name for each in plan.fetches), *plan.remote))
        for part, took_s in served.took_s.items():
            is_slow = (min(took_s, worked_s) if part in bounded else took_s) > budget_s
            if is_slow:
                self._metrics.overruns.of(part).inc()
            watched = self._watched.get((plan.name, part))
            if watched is None:
                if not is_slow and part not in reasons:
                    continue
                watched = self._watched[plan.name, part] = _Watched()
            told = _told(took_s, budget_s) if is_slow else ""
            if part in may_be_benched:
                bench_s = self._options.fetch_bench_s if part in fetches else self._options.bench_s
                answer = _Judged(told or reasons.get(part, ""), is_slow, now, raised.get(part), bench_s)
                self._judge(plan.name, part, watched, answer)
            elif part in reasons:
                watched.state, watched.until, watched.reason = "failing", now + self._options.bench_s, reasons[part]
            elif is_slow:
                watched.state, watched.until, watched.reason = "slow", now + self._options.bench_s, told
                self._note_part("part_slow", plan.name, part, SLOW, {"reason": told})
            elif now >= watched.until:
                watched.state = None
            if watched.history == 0 and watched.state is None:
                del self._watched[plan.name, part]

    def _let_others_try(self, placement: str, served: Served, reasons: Mapping[str, str]) -> None:
        """Of a part that was to be tried, and that this request did not come to, nothing is known: the next one may."""
        for part, reason in reasons.items():
            watched = self._watched.get((placement, part))
            if watched is not None and reason != BENCHED and part not in served.took_s:
                watched.tries_until = 0.0

    def _note_failures(self, placement: str, failures: Iterable[Failure]) -> None:
        """Log failed components and the place of the error; an open circuit has a line of its own."""
        for each in failures:
            if each.reason != BENCHED:
                self._note_part(
                    "part_failed", placement, each.component, _kind(each), {"reason": shown_reason(each)}, each
                )

    def _note_part(
        self,
        event: str,
        placement: str,
        part: str,
        kind: str = "",
        more: Mapping[str, FieldValue] = MappingProxyType({}),
        failure: Failure | None = None,
    ) -> None:
        """Note a fact; those of one ``kind`` share a line, so it is a fixed word or the type and place of an error."""
        fields = {"placement": placement, "part": part, **more}
        told, raised = ("", None) if failure is None else (failure.reason, raised_by(failure))
        key = f"{placement} {part} {kind}"
        every_s = MINUTE_S if raised is None else TRACEBACK_S
        level: Level = "info" if event == "part_back" else "warning"
        self._facts.note(Fact(event, level, fields, key, every_s, raised=raised, detail=told))

    def _judge(self, placement: str, part: str, watched: _Watched, answer: "_Judged") -> None:
        """Take one answer of a part into account."""
        reason, is_slow, now = answer.reason, answer.is_slow, answer.now
        if watched.state == "benched":
            return  # asked before it was
        options = self._options
        watched.history = (watched.history << 1 | bool(reason)) & ((1 << options.of_last) - 1)
        if is_slow or (reason and watched.state == "trying") or watched.history.bit_count() >= options.failures_max:
            watched.state, watched.reason = "benched", reason
            watched.until, watched.tries_until, watched.history = now + answer.bench_s, 0.0, 0
            self._metrics.benched.of(placement, part).set(True)
            failure = RaisedFailure(part, reason, answer.raised)
            told: dict[str, FieldValue] = {"reason": reason if is_slow else shown_reason(failure)}
            told["for_s"] = answer.bench_s
            self._note_part("part_benched", placement, part, SLOW if is_slow else _kind(failure), told, failure)
        elif watched.state == "trying":
            watched.state, watched.history = None, 0
            self._metrics.benched.of(placement, part).set(False)
            self._note_part("part_back", placement, part)

    def forget(self, kept: Container[tuple[str, str]] = ()) -> None:
        """Close all circuits but those that are named by placement and component."""
        for key in [each for each in self._watched if each not in kept]:
            if self._watched.pop(key).state in {"benched", "trying"}:
                self._metrics.benched.of(*key).set(False)

    def swapped(self, before: Iterable[Plan], after: Iterable[Plan]) -> None:
        """Close the circuits of components that other plans have changed, or that have another model."""
        if self._watched:
            known = {plan.name: plan for plan in before}
            pairs = ((known[plan.name], plan) for plan in after if plan.name in known)
            self.forget({(plan.name, part) for old, plan in pairs for part in unchanged(old, plan)})

    def views(self) -> tuple[GuardedPart, ...]:
        """Return components that are slow, failing or skipped, by placement and component."""
        now = self._monotonic()
        return tuple(
            GuardedPart(placement, part, watched.state, watched.reason, max(0.0, round(watched.until - now, 1)))
            for (placement, part), watched in sorted(self._watched.items())
            if watched.state is not None and (watched.state in {"benched", "trying"} or now < watched.until)
        )


def shown_reason(failure: Failure) -> str:
    """Return the reason of a failure with the type of the exception instead of its text."""
    if (raised := raised_by(failure)) is not None:
        return raised.kind
    return failure.reason.partition(": ")[0]


def _kind(failure: Failure) -> str:
    """Return the key of equal failures: type and place of the exception, else the shown reason."""
    raised = raised_by(failure)
    return shown_reason(failure) if raised is None else str(raised)


def overruns(plan: Plan, served: Served) -> Iterator[Failure]:
    """Yield each custom component that held the thread for longer than allowed, by the clock."""
    budget_s = GuardOptions().budget_s(plan)
    for part, took_s in served.took_s.items():
        if took_s > budget_s and part in plan.own:
            yield Failure(part, _told(took_s, budget_s))


def _told(took_s: float, budget_s: float) -> str:
    return f"it took {took_s * 1_000:.0f} ms, at most {budget_s * 1_000:.0f} ms are right"


def unchanged(before: Plan, after: Plan) -> Iterator[str]:
    """Yield the names of the parts of a plan that are as they were: equal, with as much time and the same models."""
    if before.deadline_ms != after.deadline_ms:
        return
    now = _parts(after)
    for name, part in _parts(before).items():
        same: list[bool] = []
        if name in now:
            # Types of one's own compare as they please.
            with boundary(name, Account()):
                same.append(part is now[name] or (type(part) is type(now[name]) and bool(part == now[name])))
        models = part.model_names if isinstance(part, ReadsModels) else ()
        if any(same) and all(before.models.by_name.get(each) is after.models.by_name.get(each) for each in models):
            yield name


def _parts(plan: Plan) -> Mapping[str, object]:
    """Return the component of each name in ``Plan.part_names``."""
    slate = {PINS: plan.pins, ARRANGEMENT: plan.arrangement}
    return {
        **{fetch.name: fetch for fetch in plan.fetches},
        **{source.name: source for source in (*plan.sources, *plan.floor, plan.fill)},
        **{rule.name: rule for rule in plan.filters},
        **{scorer.name: scorer for scorer in plan.scorers},
        **{block_name(number): block for number, block in enumerate(plan.features)},
        **{name: part for name, part in slate.items() if part is not None},
        SELECTOR: (plan.selectors, plan.arrangement),
    }


def benchable(plan: Plan) -> Iterable[str]:
    """Yield the names of the parts of a plan that it can answer without."""
    kept = {plan.fill.name, *(source.name for source in plan.floor)}
    yield from (fetch.name for fetch in plan.fetches)
    yield from (source.name for source in plan.sources if source.name not in kept)
    yield from map(block_name, range(len(plan.features)))
    yield from (scorer.name for scorer in plan.scorers[:-1])
    if len(plan.selectors) > 1:
        yield SELECTOR
