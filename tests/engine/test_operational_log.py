"""The observer of an engine: what begins and what is over is a line each, and what others said is in none."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from midstream.engine.listeners import Listener, Listeners
from midstream.engine.operational_log import OperationalLog
from midstream.engine.types import FollowerView
from midstream.monitoring.facts import Fact
from tests.support.rig import Rig, view


class Watched:
    """An engine that is not started, a clock, and the lines that were written."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rig = Rig(monotonic=lambda: self.now_s)
        self.engine = self.rig.engine
        self.lines: list[Fact] = []
        self.log = OperationalLog(self.engine, self.lines.append)

    def look(self, seconds: float = 1.0) -> list[Fact]:
        """Return what a look writes, some time after the last one."""
        self.now_s += seconds
        self.lines.clear()
        self.log.look()
        return list(self.lines)


@pytest.fixture(scope="module")
def shared() -> Watched:
    """One engine, since making a state takes longest."""
    return Watched()


@pytest.fixture
def watched(shared: Watched) -> Watched:
    """That engine, when everything that it had to say is long ago."""
    shared.engine.concerns.clear()
    shared.engine.listeners = Listeners()
    shared.look(10_000.0)
    shared.look(10_000.0)
    return shared


def test_nothing_is_written_of_what_stays_as_it_is(watched: Watched) -> None:
    """However often it is looked at, and although the text of a concern has a number that moves."""
    watched.engine.concerns["snapshot_age"] = "no snapshot for 1 s"
    assert len(watched.look()) == 1
    watched.engine.concerns["snapshot_age"] = "no snapshot for 2 s"
    assert [watched.look(120.0) for _ in range(50)] == [[]] * 50


def test_a_concern_begins_and_is_over(watched: Watched) -> None:
    """With the words of health, and how long it lasted."""
    watched.engine.concerns["history"] = "old events were not sealed: no room"
    fields = {"about": "history", "reason": "old events were not sealed: no room"}
    assert watched.look() == [Fact("concern", "warning", fields, "history")]
    del watched.engine.concerns["history"]
    assert watched.look(30.0) == [Fact("concern_over", "info", {"about": "history", "seconds": 30.0}, "history")]


@pytest.mark.parametrize("name", ["feature_parity", "placements", "models"])
def test_words_of_others_are_a_detail(watched: Watched, name: str) -> None:
    """A component, a placement of a caller or a model may have said them."""
    watched.engine.concerns[name] = "MARKED"
    (line,) = watched.look()
    assert (line.fields, line.detail) == ({"about": name}, "MARKED")


@pytest.mark.parametrize("name", ["rebuild", "erasure", "file", "background-seal"])
def test_what_has_facts_of_its_own_is_not_said_twice(watched: Watched, name: str) -> None:
    """They have more in them than the text."""
    watched.engine.concerns[name] = "text"
    assert [each for each in watched.look() if each.event == "concern"] == []


@pytest.mark.parametrize(
    "count, event, level, reasons",
    [
        (lambda each: each.refusals.labels("late").inc(), "requests_refused", "warning", {"late": 3}),
        (lambda each: each.count_overload("bulk"), "queue_full", "warning", {"bulk": 3}),
        (lambda each: each.served_lost.inc(1), "served_records_lost", "error", {}),
        (lambda each: each.count_dead_letters(0, 1), "dead_letters_lost", "error", {}),
        (lambda each: each.count_connection("malformed"), "connections_faulty", "info", {"malformed": 3}),
        (lambda each: each.foreign_requests.labels("origin").inc(), "foreign_requests", "info", {"origin": 3}),
    ],
)
def test_what_was_lost_is_a_number_by_reason(
    watched: Watched, count: Callable[[object], None], event: str, level: str, reasons: dict[str, int]
) -> None:
    """Since the last look, and not since the start; nothing while nothing comes."""
    for _ in range(3):
        count(watched.engine.metrics)
    (line,) = watched.look()
    assert (line.event, line.level, line.reasons, line.count) == (event, level, reasons, 3)
    assert watched.look(10_000.0) == []
    count(watched.engine.metrics)
    (line,) = watched.look(10_000.0)
    assert (line.count, line.reasons) == (1, dict.fromkeys(reasons, 1))


def test_followers_come_and_go(watched: Watched) -> None:
    """Each change of a state once."""
    told: list[str] = []
    for state in ("starting", "starting", "serving", "behind", "serving", "ended"):
        view_of = FollowerView(2, state, 7, 1)
        watched.engine.listeners = Listeners(Listener(name="followers", followers=partial(tuple, [view_of])))
        told += [each.event for each in watched.look(10_000.0)]
    joined = "follower_joined"
    assert told == ["follower_starting", joined, "follower_behind", joined, "follower_left"]


def test_a_loop_that_is_well_between_two_errors_has_both_told(watched: Watched) -> None:
    """Also where both, and the good round, came between two looks, and before it had failed once."""
    service = watched.engine.supervise("hasty", lambda: asyncio.sleep(0), 1.0)
    told: list[int] = []
    for _ in range(2):
        for error in (OSError("full"), None, OSError("full")):
            service._note_good() if error is None else service._note(error, 1.0)
        told += [each.count for each in watched.look(10_000.0) if each.event == "background_failed"]
    assert told == [2, 2]


def test_a_started_observer_writes_by_itself() -> None:
    """Once a second, on the loop of the engine; what is left at the end is written too."""
    lines: list[Fact] = []

    async def work(rig: Rig) -> None:
        log = OperationalLog(rig.engine, lines.append)
        await rig.engine.record(rig.batch(view("a", "ann")))
        await rig.engine.erase("ann")
        log.start()
        while not lines:  # noqa: ASYNC110  a task is waited for
            await asyncio.sleep(0)
        await log.stop()
        await rig.engine.erase("ann")
        log.write_all()

    Rig().run(work)
    assert [each.event for each in lines] == ["erasure_requested"] * 2
    assert lines[0].fields == {"log_position": 1, "ids": 1}
    assert "ann" not in str(lines)
