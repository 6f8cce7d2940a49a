"""The probe of a process: an event that its answers have, and nothing else that moves by it."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import midstream
from midstream.app.config.schema import Placement
from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from midstream.core.durations import Duration
from midstream.engine.online import freshness_probe
from midstream.engine.online.freshness_probe import CONCERN, USER, FreshnessProbe, FreshnessResult
from midstream.engine.recommender import Recommender
from midstream.engine.types import Ask
from midstream.monitoring.options import ProbeOptions
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.state.tables import TABLES
from tests.support.fakes.rebuilds import write_config
from tests.support.rig import SMALL, Rig, view

CONFIG = msgspec.structs.replace(
    SMALL, placements=(Placement(sources=(SessionKnn(), Trending(), Popular())), Placement(name="home"))
)
OPTIONS = ProbeOptions(every=Duration("30s"))
MOVED = {"vocabulary", "users", "event_ids"}
"""Tables that a profile of a user moves: its id, its row, and the event's own id."""


def probe_of(rig: Rig, options: ProbeOptions = OPTIONS, delay_s: float = 0.0) -> FreshnessProbe:
    """Return a probe that records in the engine of a rig, after a wait."""

    async def record(body: bytes) -> EventsAnswer:
        await asyncio.sleep(delay_s)
        recorded = await rig.engine.record(rig.batch(msgspec.json.decode(body)))
        return EventsAnswer(len(recorded.outcome), 0, ())

    return FreshnessProbe(rig.engine, record, options)


def concern(rig: Rig) -> str:
    """Return what health says of freshness."""
    return rig.engine.concerns_now().get(CONCERN, "")


def outcomes(rig: Rig) -> dict[str, float]:
    """Return the counts of probes by outcome."""
    text = rig.engine.metrics.text().decode()
    lines = [line for line in text.splitlines() if line.startswith("midstream_freshness_probes_total{")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


def acts() -> Iterator[dict[str, object]]:
    """Yield acts of some visitors, by one second."""
    for number in range(60):
        yield view(f"i{number * 7 % 11}", f"u{number % 5}", session_id=f"s{number // 4}", event_id=f"{number}")


def arrays_of(rig: Rig) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of each table of the state."""
    return {entry.name: dict(rig.engine.fold._named[entry.name].arrays()) for entry in TABLES}


@pytest.mark.parametrize("placement", ["", "home"])
def test_an_answer_has_the_event(placement: str) -> None:
    """Each probe sends an event of its own, whose time is measured; health says nothing, nothing is served."""

    async def work(rig: Rig) -> list[FreshnessResult]:
        probe = probe_of(rig, msgspec.structs.replace(OPTIONS, placement=placement))
        before = rig.engine.log.end
        found = [await probe.probe() for _ in range(3)]
        assert rig.engine.log.end - before == 3
        assert concern(rig) == ""
        assert outcomes(rig) == {"fresh": 3, "late": 0, "unseen": 0, "refused": 0}
        text = rig.engine.metrics.text().decode()
        assert "midstream_freshness_seconds_count 3.0" in text
        assert "midstream_answers_total{" not in text
        rig.engine.flush_served()
        await asyncio.sleep(0.05)
        assert rig.engine.log.end - before == 3
        return found

    rig = Rig(config=CONFIG)
    for each in rig.run(work):
        assert (each.outcome, each.reason) == ("fresh", "")
        assert each.seconds is not None
        assert 0 < each.seconds < 10
    profile = rig.engine.user(USER)
    assert profile is not None
    assert profile["recent"] == []


def test_nothing_else_of_the_state_moves() -> None:
    """Between the same events, every table but those of ids and users is the same array by array, and so are slates."""

    def folded(*, probes: bool) -> tuple[dict[str, dict[str, np.ndarray]], list[list[str]]]:
        async def work(rig: Rig) -> list[list[str]]:
            probe = probe_of(rig)
            for number, act in enumerate(acts()):
                rig.now_ms += 60_000
                await rig.engine.record(rig.batch(act))
                if probes and number % 3 == 0:
                    assert (await probe.probe()).outcome == "fresh"
            asks = [Ask("default", session_id="s14"), Ask("home", user_id="u3"), Ask("home")]
            answers = [await rig.engine.recommend(ask) for ask in asks]
            return [[f"{item.id} {item.score}" for item in each.items] for each in answers]

        rig = Rig(config=CONFIG, options=midstream.engine.engine.EngineOptions(logs_served=False))
        slates = rig.run(work)
        return arrays_of(rig), slates

    (with_probes, slates), (without, expected) = folded(probes=True), folded(probes=False)
    assert slates == expected
    assert all(slates)
    moved = {
        name
        for name in without
        if with_probes[name].keys() != without[name].keys()
        or any(not np.array_equal(with_probes[name][key], without[name][key]) for key in without[name])
    }
    assert moved <= MOVED
    assert "users" in moved  # the comparison sees what the probe does leave


def test_what_takes_long_is_late() -> None:
    """Health says how long it took and what was allowed, until a probe is fresh again."""

    async def work(rig: Rig) -> None:
        late = await probe_of(rig, msgspec.structs.replace(OPTIONS, within=Duration("10ms")), 0.03).probe()
        assert late.outcome == "late"
        assert late.seconds is not None
        assert late.seconds >= 0.03
        assert (
            concern(rig)
            == f"freshness probe: an answer had the event after {late.seconds:.3f} s, [probe] within is 10ms"
        )
        assert "midstream_freshness_seconds_count 1.0" in rig.engine.metrics.text().decode()
        await probe_of(rig).probe()
        assert concern(rig) == ""

    Rig().run(work)


def test_an_event_that_no_answer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledgement is not believed: the state has to have the event of this probe, not that of the one before."""
    monkeypatch.setattr(freshness_probe, "WAIT_S_MAX", 0.1)

    async def work(rig: Rig) -> None:
        is_lost = itertools.cycle((False, True))

        async def record(body: bytes) -> EventsAnswer:
            if not next(is_lost):
                await rig.engine.record(rig.batch(msgspec.json.decode(body)))
            return EventsAnswer(1, 0, ())

        probe = FreshnessProbe(rig.engine, record, OPTIONS)
        assert (await probe.probe()).outcome == "fresh"
        assert await probe.probe() == FreshnessResult("unseen", None, "no answer had the event within 0.1 s")
        assert "no answer had the event" in concern(rig)
        assert "midstream_freshness_seconds_count 1.0" in rig.engine.metrics.text().decode()

    Rig().run(work)


def test_a_refusal_has_its_reason() -> None:
    """Of the log, of a rejected event, of a placement that is not there; each is counted, none is timed."""

    async def work(rig: Rig) -> None:
        async def full(_: bytes) -> Problem:
            return Problem("urn:midstream:disk-full", "The disk is full", 503, "no room for events")

        assert (await FreshnessProbe(rig.engine, full, OPTIONS).probe()).reason == (
            "the event was refused: no room for events"
        )
        assert concern(rig) == "freshness probe: the event was refused: no room for events"
        nowhere = await probe_of(rig, msgspec.structs.replace(OPTIONS, placement="nowhere")).probe()
        assert nowhere.outcome == "refused"
        assert "nowhere" in nowhere.reason
        assert outcomes(rig) == {"fresh": 0, "late": 0, "unseen": 0, "refused": 2}
        assert "midstream_freshness_seconds_count 0.0" in rig.engine.metrics.text().decode()

    Rig().run(work)


def test_rounds_go_on_in_the_background(tmp_path: Path) -> None:
    """Started, it probes by itself; stopped, it does not."""
    write_config(tmp_path)
    with midstream.open(tmp_path) as shop:
        _probed_in_rounds(shop)


def _probed_in_rounds(shop: Recommender) -> None:
    engine = shop.running.engine
    count = itertools.count()

    async def record(_: bytes) -> EventsAnswer:
        next(count)
        return EventsAnswer(0, 0, ())

    async def work() -> None:
        probe = FreshnessProbe(engine, record, msgspec.structs.replace(OPTIONS, every=Duration("1ms")))
        probe._service._first_s = 0.0
        probe.start()
        while probe.concern().said == "":  # noqa: ASYNC110  rounds tell nobody
            await asyncio.sleep(0.002)
        assert probe.concern().said == "freshness probe: the event was refused: it was not recorded"
        await probe.stop()
        told = next(count)
        await asyncio.sleep(0.02)
        assert next(count) == told + 1

    shop._wait(work)
