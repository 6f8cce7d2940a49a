"""Child process that runs logged requests again with a new version: the shadow of what serves, and its value.

Each of the newest requests is answered twice on the state that it saw, with the version in service and with the
candidate, so nothing of it is on the path of an answer and both see the same. They answer first in turns, since the
second finds what the first has read in the processor's caches. The value of the candidate's slates is estimated from
the same log where the selector explores. A figure that is no number goes out as a fault: JSON would make it none.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.estimate.estimate import EstimateWanted, estimate_placement, with_versions
from midstream.app.estimate.logged_slates import LoggedSlate, logged_slates
from midstream.app.explain.reruns import Gone, Reruns, Then
from midstream.app.inspect.folder_view import LogView, served_of
from midstream.app.opening import DATA_NAME
from midstream.app.training.worker import decode_config
from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.types import Models, Served
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.experiments.names import MARK
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.training.gates.evidence import EstimatedValue, ShadowAnswers, not_finite
from midstream.training.registry import Registry

MODULE = "midstream.app.training.rerunning"
SHADOWED_MAX = 500
"""Requests that are answered twice: 2 s, and a share of failures of 1 in 170 is seen with a probability of 95 %."""


class RerunOrder(child_process.WorkOrder, frozen=True):
    """Two versions of a model, and what is asked about them."""

    config: str
    """The effective configuration, as JSON."""
    model: str
    candidate: str
    champion: str
    slates: int
    """Newest ones that are read."""
    has_shadow: bool
    has_value: bool
    placement: str = ""
    """Of the canary; empty = the first one that reads the champion."""


class Reran(msgspec.Struct, frozen=True):
    """What was seen."""

    shadow: ShadowAnswers | None
    value: EstimatedValue | None


@dataclass(frozen=True, slots=True)
class _Pair:
    """One request, answered by both."""

    failures: int
    """Parts that failed with the candidate and not with the champion."""
    is_finite: bool
    same: float
    """Share of the champion's items."""
    times: float
    """Processor time by that of the champion."""


def run(order: RerunOrder, pace: child_process.Pace) -> Reran:
    """Return what the newest requests say of both versions."""
    folder, config = Path(order.folder), decode_config(order.config)
    log = LogView(folder)
    service, _ = served_of(folder, config, log)
    plans = {name: plan for name, plan in service.plans.items() if MARK not in name}
    readers = [
        name for name, plan in plans.items() if order.model in plan.model_names and order.model not in plan.pinned
    ]
    placement = order.placement or next(iter(readers), "")
    if placement not in readers:
        why_not = f"{placement} does not read the version in service" if placement else "no placement reads the model"
        return Reran(ShadowAnswers(why_not=why_not), EstimatedValue(why_not=why_not))
    shadow = value = None
    if order.has_shadow:
        newest = logged_slates(log, config, placement, min(order.slates, SHADOWED_MAX)).slates
        shadow = _shadow(folder, order, newest, pace)
    if order.has_value:
        value = _value(folder, order, placement, pace)
    return Reran(shadow, value)


def _shadow(folder: Path, order: RerunOrder, slates: Sequence[LoggedSlate], pace: child_process.Pace) -> ShadowAnswers:
    """Return how the candidate answers the newest requests."""
    registry = Registry(DataFolder(folder / DATA_NAME).models)
    versions = [with_versions(Models({}), registry, {order.model: each}) for each in (order.champion, order.candidate)]
    reruns, found, why_not = Reruns(folder), list[_Pair](), ""
    with asyncio.Runner() as runner:
        for done, each in enumerate(slates):
            try:
                then = reruns.prepared(each.body)
                found.append(runner.run(_pair(then, versions, is_candidate_first=bool(done % 2))))
            except (Gone, NotFound, RequestInvalid) as error:
                why_not = str(error)
            pace.say("running_again", done + 1, len(slates))
            pace.rest()
    if not found:
        return ShadowAnswers(why_not=why_not or "no request of it is in the log")
    seen = ShadowAnswers(
        requests=len(found),
        failures=sum(each.failures > 0 for each in found),
        not_finite=sum(not each.is_finite for each in found),
        agreement=float(np.mean([each.same for each in found])),
        cpu_times=float(np.median([each.times for each in found])),
    )
    wrong = not_finite(seen, "shadow")
    return ShadowAnswers(requests=len(found), faults=wrong) if wrong else seen


async def _pair(then: Then, versions: Sequence[Models], *, is_candidate_first: bool) -> _Pair:
    """Return one request, answered by the version in service and by the candidate."""
    answers, spent = dict[int, Served](), [0.0, 0.0]
    for number in (1, 0) if is_candidate_first else (0, 1):
        made = _with(then.plan, versions[number])
        began = time.process_time()
        answers[number] = await rerun(made, partial(then.fold.moment, models=made.models), then.record)
        spent[number] = time.process_time() - began
    theirs, own = answers[0], answers[1]
    known = {each.component for each in theirs.failures}
    best = set(_items(theirs))
    return _Pair(
        failures=sum(each.component not in known for each in own.failures),
        is_finite=bool(np.isfinite(own.score[own.selection.chosen]).all()),
        same=len(best.intersection(_items(own))) / len(best) if best else 1.0,
        times=spent[1] / spent[0] if spent[0] else 1.0,
    )


def _with(plan: Plan, models: Models) -> Plan:
    """Return a plan that reads a version in place of its own."""
    others = Models(
        {**plan.models.by_name, **models.by_name},
        {**plan.models.versions, **models.versions},
        {**plan.models.calibrations, **models.calibrations},
    )
    return replace(plan, models=others)


def _items(served: Served) -> list[int]:
    found: list[int] = served.candidates.item_index[served.selection.chosen].tolist()
    return found


def _value(folder: Path, order: RerunOrder, placement: str, pace: child_process.Pace) -> EstimatedValue:
    """Return what the logged slates say that the candidate and the champion would have earned."""
    config = decode_config(order.config)
    told = [
        estimate_placement(
            folder,
            config,
            EstimateWanted(placement, versions={order.model: version}, slates=order.slates),
            lambda stage, done, total: pace.say(stage.replace(" ", "_"), done, total),
        )
        for version in (order.candidate, order.champion)
    ]
    own, theirs = told
    why_not = own.reason or theirs.reason or ""
    if why_not:
        return EstimatedValue(slates=own.slates, why_not=why_not)
    value = EstimatedValue(
        candidate=own.report.best.value,
        low=own.report.best.low,
        champion=theirs.report.best.value,
        slates=own.slates,
    )
    wrong = not_finite(value, "value")
    return EstimatedValue(slates=own.slates, faults=wrong) if wrong else value


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who waits ends this process
    child_process.main(RerunOrder, run, logs_bugs=False)
