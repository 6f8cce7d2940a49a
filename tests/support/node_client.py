"""Clients of several nodes: one that tries the next node where one fails, and one behind a balancer that does not.

Run as a program one loads nodes until it gets SIGTERM, and then writes what it saw as JSON: acknowledged event ids, the
times of answers and acknowledgements, and requests that no node answered. ``--balanced`` makes it the second one.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ASK_S_MAX = 0.4
"""Of one try of a question: a node that takes longer is passed by."""
RECORD_S_MAX = 2.0
BALANCED = "--balanced"
BALANCED_S_MAX = 30.0
"""Of a request that is sent once: one that is refused comes back at once, and a slow one is no refusal."""
LOOK_S, LOOK_S_MAX = 0.25, 2.0
"""Between two looks of a balancer at the health of a node, and for each."""
PASSED_S = 1.0
"""A node that failed is not asked again for so long, while another one is there."""
JSON = {"content-type": "application/json"}
ITEMS = 200


@dataclass
class Client:
    """Nodes, and what became of requests."""

    nodes: Sequence[tuple[str, int]]
    ask_s_max: float = ASK_S_MAX
    record_s_max: float = RECORD_S_MAX
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
                content = self.tried(node, "/v1/recommendations", body, self.ask_s_max)
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
                if any(self.tried(node, "/v1/events", event, self.record_s_max) for node in self.order(first)):
                    self.acknowledged[event_id] = time.time()
                    break
                self.stop.wait(0.1)
            self.stop.wait(0.01)

    def works(self, threads_each: int) -> list[tuple[Callable[[int], None], int]]:
        """Return what each thread does, and its number."""
        return [(work, n) for n in range(threads_each) for work in (self.ask, self.record)]

    def run(self, threads_each: int) -> None:
        """Load the nodes until ``stop`` is set."""
        threads = [threading.Thread(target=work, args=(number,)) for work, number in self.works(threads_each)]
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


@dataclass
class BalancedClient(Client):
    """A client whose balancer sends each request once, to a node that said ready when it was last asked."""

    ask_s_max: float = BALANCED_S_MAX
    record_s_max: float = BALANCED_S_MAX
    ready: set[int] = field(default_factory=set[int])

    def order(self, first: int) -> list[int]:
        """Return the one node that gets a request; none where none is ready."""
        ready = sorted(self.ready)
        return [ready[first % len(ready)]] if ready else []

    def works(self, threads_each: int) -> list[tuple[Callable[[int], None], int]]:
        """Return the work of clients, and a look at the health of each node."""
        return [*super().works(threads_each), *((self.look, number) for number in range(len(self.nodes)))]

    def look(self, number: int) -> None:
        """Ask a node whether it is ready, until the end."""
        while not self.stop.is_set():
            connection = http.client.HTTPConnection(*self.nodes[number], timeout=LOOK_S_MAX)
            try:
                connection.request("GET", "/health/ready")
                is_ready = connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                is_ready = False
            finally:
                connection.close()
            (self.ready.add if is_ready else self.ready.discard)(number)
            self.stop.wait(LOOK_S)


def main(arguments: Sequence[str]) -> None:
    """Load ``HOST:PORT …`` until SIGTERM; write the report to the first argument."""
    target, *nodes = (each for each in arguments if each != BALANCED)
    places = [(host, int(port)) for host, _, port in (node.partition(":") for node in nodes)]
    client = BalancedClient(places) if BALANCED in arguments else Client(places)
    signal.signal(signal.SIGTERM, lambda *_: client.stop.set())
    client.run(2 if BALANCED in arguments else 3)
    path = Path(target)
    path.with_suffix(".part").write_text(json.dumps(client.report()))
    path.with_suffix(".part").rename(path)


if __name__ == "__main__":
    main(sys.argv[1:])
