"""Served records of a real server whose log has no room, killed and stopped under load: in the log, or counted."""

import itertools
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from midstream.app.inspect.folder_view import LogView
from midstream.core.kinds import Kind
from midstream.events.schema import event_at
from tests.crash.servers import serving
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.crash
PROGRAM = str(Path(__file__).with_name("crowded_server.py"))
ASKING = 3
SENDING = 4
KILLS = 2


@dataclass
class Load:
    """Clients of one server: what they were answered."""

    url: str
    slates: list[str] = field(default_factory=list)
    """Request ids that were answered."""
    acknowledged: list[str] = field(default_factory=list)
    """Ids of events that were acknowledged."""
    refused: int = 0
    """Requests with events for which there was no room."""
    other: list[str] = field(default_factory=list)
    """Answers that there must not be."""
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask for slates, one after another."""
        for answer in self._sent("/v1/recommendations", itertools.repeat({"user_id": "ann"})):
            if answer.status_code == 200:
                self.slates.append(answer.json()["request_id"])
            else:
                self.other.append(answer.text)

    def send(self, name: str) -> None:
        """Send ten events at once, over and over."""
        numbers = itertools.count()
        bodies = ({"events": [act(f"{name}-{next(numbers)}") for _ in range(10)]} for _ in numbers)
        sent: list[dict[str, list[dict[str, str]]]] = []

        def noted() -> Iterator[dict[str, list[dict[str, str]]]]:
            for body in bodies:
                sent.append(body)
                yield body

        for answer in self._sent("/v1/events", noted()):
            if answer.status_code == 200:
                self.acknowledged += [each["event_id"] for each in sent[-1]["events"]]
            elif answer.status_code == 503:
                assert "retry-after" in answer.headers
                self.refused += 1
            else:
                self.other.append(answer.text)

    def is_crowded(self) -> bool:
        """Return whether there was no room for some, and many had their answers even so."""
        return self.refused > 3 and len(self.slates) > 100 and len(self.acknowledged) > 30

    def _sent(self, path: str, bodies: Iterator[object]) -> Iterator[httpx.Response]:
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            for body in bodies:
                if self.stop.is_set():
                    return
                try:
                    yield client.post(path, json=body)
                except httpx.TransportError:
                    return


def act(event_id: str) -> dict[str, str]:
    """Return an event."""
    return {"event_id": event_id, "type": "view", "user_id": event_id[:2], "item_id": f"i{len(event_id)}"}


@contextmanager
def loaded(url: str, run: int) -> Iterator[Load]:
    """Have clients ask and send until the block ends."""
    load = Load(url)
    threads = [threading.Thread(target=load.ask) for _ in range(ASKING)]
    threads += [threading.Thread(target=load.send, args=(f"{run}{number}",)) for number in range(SENDING)]
    for each in threads:
        each.start()
    try:
        yield load
    finally:
        load.stop.set()
        for each in threads:
            each.join()


def lost(url: str) -> int:
    """Return how many served records a server says that it lost."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    found = re.search(r"^midstream_served_lost_total (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def logged(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how often each event id of a client stands in a log, and each served request."""
    events = [event_at(batch, row) for batch in LogView(folder).batches() for row in range(len(batch))]
    acts = Counter(each.event_id for each in events if each.kind == Kind.INTERACTION)
    return acts, Counter(each.request_id for each in events if each.kind == Kind.SERVED)


def test_slates_of_a_full_queue_are_in_the_log_or_counted(tmp_path: Path) -> None:
    """Killed under load, the log has each acknowledged event once and no slate twice. Of a server that goes on, each
    slate that was answered is in the log or counted as lost, as health says, and no question waited for room.
    """
    acknowledged: list[str] = []
    for run in range(KILLS):
        with serving(tmp_path, PROGRAM) as (process, url), loaded(url, run) as load:
            wait_until(load.is_crowded)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert load.other == []
        acknowledged += load.acknowledged
    with serving(tmp_path, PROGRAM) as (process, url):
        with loaded(url, KILLS) as load:
            wait_until(lambda: load.is_crowded() and lost(url) > 0)
        assert load.other == []
        acknowledged += load.acknowledged
        gone = lost(url)  # what is kept now finds room: nobody sends any more
        health = httpx.get(f"{url}/health/ready", timeout=PATIENCE_S).json()
        assert f"{gone} served records were lost since the start" in str(health)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    acts, served = logged(tmp_path)
    answered = set(load.slates)
    assert {acts[each] for each in acknowledged} == {1}
    assert len(answered & served.keys()) + gone == len(answered)
    assert set(served.values()) == {1}
