"""The rows of calls: how many functions a request with events calls, of Python and of C; a child's last line is JSON.

It serves a new folder in this process, counts what the event loop's thread and the log thread call (``cProfile``), and
sends requests from a third thread, one after another on one connection, so that each has a commit of its own. A machine
that is busy or slow takes longer for a call, and no call more: the rows of two runs differ by less than one in a
hundred.
"""

import argparse
import cProfile
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

import serving

from midstream.__main__ import main as midstream

LOG_THREAD = "midstream-log"
WARM, MANY = 50, 100
REST_S, REST_LOOKS = 1.0, 60
JSON = {"content-type": "application/json"}


class Calls:
    """Profiles of the threads that answer a request with events."""

    def __init__(self) -> None:
        """Count nothing yet; profiles of further threads begin with them."""
        self._loop, self._log = cProfile.Profile(), cProfile.Profile()
        threading.setprofile(self._begin)

    def begin(self) -> None:
        """Count in this thread, the event loop's."""
        self._loop.enable()

    def end(self) -> None:
        """Count no more in this thread."""
        self._loop.disable()

    def _begin(self, _frame: FrameType, _event: str, _argument: object) -> None:
        sys.setprofile(None)
        if threading.current_thread().name == LOG_THREAD:
            self._log.enable()

    def count(self) -> int:
        """Return the calls of both so far."""
        return sum(entry.callcount for profile in (self._loop, self._log) for entry in profile.getstats())


def body(number: int, count: int) -> bytes:
    """Return an event, or a list of events, with ids that no other body has."""
    events = [
        {
            "type": "view",
            "event_id": f"e{number}-{each}",
            "user_id": f"u{(number * 7 + each) % 1_000}",
            "item_id": f"i{(number * 31 + each) % 500}",
            "session_id": f"s{number % 100}",
        }
        for each in range(count)
    ]
    return json.dumps(events if count > 1 else events[0], separators=(",", ":")).encode()


def ready(port: int) -> http.client.HTTPConnection:
    """Return a connection to the server once it answers and has done what it leaves behind its start."""
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health/ready")
            if connection.getresponse().read() and time.process_time() > 0:
                return connection
        except OSError:
            time.sleep(serving.READY_PAUSE_S)


def sent(connection: http.client.HTTPConnection, first: int, requests: int, events: int) -> None:
    """Send requests of so many events, one after another."""
    for number in range(first, first + requests):
        connection.request("POST", "/v1/events", body(number, events), JSON)
        answer = json.loads(connection.getresponse().read())
        assert answer["recorded"] == events, answer


def measure(calls: Calls, port: int, requests: int, found: dict[str, float]) -> None:
    """Count the calls of requests with one event and with many, then end the server."""
    try:
        connection = ready(port)
        rest(calls)
        first = 0
        for name, events in (("one", 1), ("many", MANY)):
            sent(connection, first, WARM, events)
            before = calls.count()
            sent(connection, first + WARM, requests, events)
            found[name] = (calls.count() - before) / requests
            first += WARM + requests
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def rest(calls: Calls) -> None:
    """Return when the server does nothing any more, or after a while."""
    for _ in range(REST_LOOKS):
        before = calls.count()
        time.sleep(REST_S)
        if calls.count() - before < MANY:
            return


def main() -> None:
    """Serve, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as each:
        (Path(folder) / "midstream.toml").write_text(serving.CONFIG)
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
        each.close()
        calls = Calls()
        threading.Thread(target=measure, args=(calls, port, options.requests, found), daemon=True).start()
        sys.argv = ["midstream", "serve", "--folder", folder, "--port", str(port)]
        calls.begin()
        try:
            midstream()
        except SystemExit as end:
            if end.code:
                raise
        finally:
            calls.end()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
