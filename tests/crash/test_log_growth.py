"""Bulk bodies and placements on their way to a server that is killed: what was acknowledged is there, in few bytes."""

import itertools
import json
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME
from midstream.core.kinds import Kind
from midstream.events.schema import event_at
from midstream.events.segments.frames import REQUEST_BYTES
from tests.crash.servers import serving
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.crash, pytest.mark.long]
KILLS = 3
CLIENTS = 2
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
RULES = [{"name": f"r{n}", "kind": "boost", "where": f"item.category == '{n}'", "factor": 1.1} for n in range(3)]
WORDS = ("mug", "lamp", "chair", "of oak", "of glass", "日本語", "very long name of an item " * 4)


@dataclass
class Load:
    """What clients of one folder sent, and what was acknowledged."""

    sent: set[str] = field(default_factory=set)
    """Ids of rows: an event of many items is as many rows."""
    sent_bytes: int = 0
    requests: int = 0
    acknowledged: set[str] = field(default_factory=set)
    """Ids of rows."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    notes: list[str] = field(default_factory=list)
    """Of the changes of a placement that were acknowledged, in order."""

    def send(self, url: str, name: str) -> None:
        """Send NDJSON, one body after another, until the server is gone."""
        chance = random.Random(name)  # noqa: S311  a load, no secret
        with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            for number in itertools.count():
                count = chance.choice((1, 9, 200))
                events = [act(f"{name}-{number}-{each}", chance) for each in range(count)]
                rows = {row for each in events for row in rows_of(each)}
                self.sent |= rows
                lines = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in events]
                body = "\n".join(lines).encode()
                self.count(body)
                answer = client.post("/v1/events/bulk", content=body, headers=NDJSON)
                assert answer.json()["rejected"] == 0, answer.text
                self.acknowledged |= rows

    def count(self, body: bytes) -> None:
        """Count what is sent."""
        with self.lock:
            self.sent_bytes, self.requests = self.sent_bytes + len(body), self.requests + 1

    def change(self, url: str, run: int) -> None:
        """Set a placement, over and over, until the server is gone."""
        with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            for number in itertools.count():
                note = f"{run}-{number}"
                change = {"author": "ann", "note": note, "placement": {"slate_size": 1 + number % 9, "rules": RULES}}
                self.count(body := json.dumps(change).encode())
                answer = client.put("/v1/placements/home", content=body, headers=JSON)
                assert answer.status_code == 200, answer.text
                self.notes.append(note)


def act(event_id: str, chance: random.Random) -> dict[str, Any]:
    """Return an event of one item or of many, with texts that repeat."""
    items = [{"item_id": f"{chance.choice(WORDS)} {chance.randrange(900)}"} for _ in range(chance.choice((1, 30)))]
    event = {"event_id": event_id, "type": "view", "user_id": f"u{chance.randrange(99)}", "items": items}
    return event | ({"context": {"page": chance.choice(WORDS), "n": chance.random()}} if chance.random() < 0.5 else {})


def rows_of(event: dict[str, Any]) -> list[str]:
    """Return the ids under which the log has an event."""
    return [f"{event['event_id']}#{number}" for number in range(len(event["items"]))]


def test_packed_commits_and_placements_survive_kills_in_few_bytes(tmp_path: Path) -> None:
    """Killed while bulk bodies and changes of a placement are on their way: what was acknowledged is there once, and
    the log holds at most twice what came.
    """
    (tmp_path / "midstream.toml").write_text('[items.attributes]\ncategory = "category"\n')
    load = Load()
    for run in range(KILLS):
        with serving(tmp_path) as (process, url):
            if run:
                versions = httpx.get(f"{url}/v1/placements/home", timeout=PATIENCE_S).json()["versions"]
                assert load.notes[-1] in {each["note"] for each in versions[-2:]}
            events, notes = len(load.acknowledged) + 900, len(load.notes) + 9
            threads = [threading.Thread(target=load.send, args=(url, f"{run}{each}")) for each in range(CLIENTS)]
            threads.append(threading.Thread(target=load.change, args=(url, run)))
            for each in threads:
                each.start()
            while len(load.acknowledged) < events or len(load.notes) < notes:
                assert all(each.is_alive() for each in threads)
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            for each in threads:
                each.join()
    rows = Counter(
        event.event_id
        for batch in LogView(tmp_path).batches()
        for event in (event_at(batch, row) for row in range(len(batch)))
        if event.kind == Kind.INTERACTION
    )
    assert load.acknowledged <= rows.keys() <= load.sent
    assert set(rows.values()) == {1}
    log_bytes = sum(each.stat().st_size for each in (tmp_path / DATA_NAME / "log").iterdir())
    assert log_bytes <= 2 * load.sent_bytes + REQUEST_BYTES * load.requests
