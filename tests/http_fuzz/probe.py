"""Well-behaved client beside a fuzz campaign: asks until its standard input ends, then prints its waits as JSON, ms."""

import http.client
import json
import sys
import threading
import time

from tests.support.patience import PATIENCE_S

REST_S = 0.02


def main() -> None:
    """Ask for health and for slates in turns over one kept connection, which is made anew when it was closed."""
    over = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    waits: list[float] = []
    number = 0
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=PATIENCE_S)
    while not over.is_set():
        number += 1
        target = "/health/live" if number % 2 else f"/v1/recommendations?session_id=p{number}&n=5"
        begun = time.perf_counter()
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            continue
        waits.append((time.perf_counter() - begun) * 1_000)
        time.sleep(REST_S)
    sys.stdout.write(json.dumps(waits))


if __name__ == "__main__":
    main()
