"""Client of several nodes that tries the next one where one fails: what a shop's balancer does, in the simplest form.

Run as a program it loads nodes until it gets SIGTERM, and then writes what it saw as JSON: acknowledged event ids, the
times of answers and acknowledgements, and requests that no node answered.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ASK_S_MAX = 0.4
"""Of one try of a question: a node that takes longer is passed by."""
RECORD_S_MAX = 2.0
PASSED_S = 1.0
"""A node that failed is not asked again for so long, while another one is there."""
JSON = {"content-type": "application/json"}
ITEMS = 200


@dataclass
class Client:
    """Nodes, and what became of requests."""

    nodes: Sequence[tuple[str, int]]
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[str, float] = field(default_factory=dict[str, float])
    """Event ids, with the time of the acknowledgement."""
    sent: int = 0
    answers: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """Times of answers, and how many tries each took."""
    failed: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """Questions that no node answered in one round, by the time of giving up."""
    refused: dict[str, int] = field(default_factory=dict[str, int])
    """Tries that a node refused or did not answer, by node and reason."""
    empty: int = 0
    """Answers without items."""
    _bad: dict[int, float] = field(default_factory=dict[int, float])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, first: int) -> list[int]:
        """Return the nodes in the order to try: those that failed lately last."""
        now = time.monotonic()
        every = [(first + step) % len(self.nodes) for step in range(len(self.nodes))]
        return sorted(every, key=lambda node: self._bad.get(node, 0.0) > now)

    def tried(self, node: int, path: str, body: object, wait_s: float) -> bytes | None:
        """Return the answer of a node, None where it has none in time or refuses."""
        host, port = self.nodes[node]
        connection = http.client.HTTPConnection(host, port, timeout=wait_s)
        try:
            connection.request("POST", path, json.dumps(body), JSON)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                return content
            reason = f"{answer.status} {content[:120].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
        finally:
            connection.close()
        with self._lock:
            self._bad[node] = time.monotonic() + PASSED_S
            key = f"{node} {path} {reason}"
            if key in self.refused or len(self.refused) < 100:
                self.refused[key] = self.refused.get(key, 0) + 1
        return None

    def ask(self, number: int) -> None:
        """Ask for slates until the end."""
        first = number
        while not self.stop.is_set():
            first += 1
            body = {"user_id": f"user {first % 50}", "n": 5}
            for tries, node in enumerate(self.order(first), start=1):
                content = self.tried(node, "/v1/recommendations", body, ASK_S_MAX)
                if content is not None:
                    self.empty += not json.loads(content)["items"]
                    self.answers.append((time.time(), tries))
                    break
            else:
                self.failed.append((time.time(), "no node answered"))
            self.stop.wait(0.05)

    def record(self, number: int) -> None:
        """Send events, each until a node acknowledges it, until the end."""
        count = 0
        while not self.stop.is_set():
            count += 1
            event_id = f"{number}-{count}"
            item, user = f"item {(count * 7 + number) % ITEMS}", f"user {count % 50}"
            event = {"event_id": event_id, "type": "view", "user_id": user, "item_id": item}
            self.sent += 1
            first = count
            while not self.stop.is_set():
                if any(self.tried(node, "/v1/events", event, RECORD_S_MAX) for node in self.order(first)):
                    self.acknowledged[event_id] = time.time()
                    break
                self.stop.wait(0.1)
            self.stop.wait(0.01)

    def run(self, threads_each: int) -> None:
        """Load the nodes until ``stop`` is set."""
        works = [(work, n) for n in range(threads_each) for work in (self.ask, self.record)]
        threads = [threading.Thread(target=work, args=(number,)) for work, number in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def report(self) -> dict[str, object]:
        """Return what it saw."""
        return {
            "acknowledged": self.acknowledged,
            "sent": self.sent,
            "answers": self.answers,
            "failed": self.failed,
            "refused": self.refused,
            "empty": self.empty,
        }


def main(arguments: Sequence[str]) -> None:
    """Load ``HOST:PORT …`` until SIGTERM; write the report to the first argument."""
    target, *nodes = arguments
    client = Client([(host, int(port)) for host, _, port in (node.partition(":") for node in nodes)])
    signal.signal(signal.SIGTERM, lambda *_: client.stop.set())
    client.run(3)
    path = Path(target)
    path.with_suffix(".part").write_text(json.dumps(client.report()))
    path.with_suffix(".part").rename(path)


if __name__ == "__main__":
    main(sys.argv[1:])
