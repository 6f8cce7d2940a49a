"""The rows of the suite: name, unit, the program that measures it, and what was, must be and should be reached.

``today`` is what the version before the compiled plans reached on two cores, ``floor`` what no version may fall below.
Rows that fill memory for the first time say how much of their time was the system's: a page that a virtual machine's
host hands out anew costs twenty times what one costs that was free a moment ago, so two runs of one version differ by
that, whatever it does. Answers without work are those of ``GET /health/live``, at the rate of the row above them and
just behind it: their tail is that of the machine.
"""

from dataclasses import dataclass

MORE, LESS = True, False


@dataclass(frozen=True)
class Goal:
    """One row."""

    name: str
    unit: str
    program: str
    """Of the suite, by which it is measured."""
    more_is_better: bool
    today: float | None = None
    floor: float | None = None
    aim: float | None = None
    stretch: float | None = None

    def is_missed(self, value: float) -> bool:
        """Return whether a value is worse than the floor."""
        if self.floor is None:
            return False
        return value < self.floor if self.more_is_better else value > self.floor

    def times_better(self, value: float, before: float) -> float:
        """Return how many times better a value is than another one."""
        if not value or not before:
            return float("nan")
        return value / before if self.more_is_better else before / value


GOALS = (
    Goal("lean slates/s, one process", "1/s", "lean", MORE, 1_520, 2_500, 4_000, 6_000),
    Goal("… server CPU a slate", "µs", "lean", LESS, 648, 380, 230, 150),
    Goal("… refused or failed at saturation", "%", "lean", LESS, None, 2),
    Goal("… at half of it, p50", "ms", "lean", LESS, 1.5),
    Goal("… at half of it, p99", "ms", "lean", LESS, 11),
    Goal("composed slates/s", "1/s", "composed", MORE, 596, 1_000, 1_600, 2_200),
    Goal("… server CPU a composed slate", "µs", "composed", LESS, 1_654),
    Goal("composed: refused or failed at saturation", "%", "composed", LESS, None, 2),
    Goal("composed at half of it, p50", "ms", "composed", LESS, 2.5, 2, 1.2),
    Goal("composed at half of it, p99", "ms", "composed", LESS, 10.8, 8, 5),
    Goal("… answers without work at that rate, p99", "ms", "composed", LESS),
    Goal("event then slate at 500/s, p50", "ms", "lean", LESS, 5.4, 2.5, 1.2, 0.8),
    Goal("event then slate at 500/s, p99", "ms", "lean", LESS, 35, 10, 5, 3),
    Goal("rerank 100 over HTTP, p50", "ms", "lean", LESS, 1.4, 1.2, 0.8, 0.5),
    Goal("rerank 100 over HTTP, p99", "ms", "lean", LESS, 3.4, 3, 2, 1.5),
    Goal("… answers without work at 200/s, p99", "ms", "lean", LESS),
    Goal("one event folded alone, all tables", "µs", "cells", LESS, 80, 25, 12, 8),
    Goal("fold of all events, one core", "1/s", "fold, one core", MORE, 392_000, 800_000, 1_200_000, 2_000_000),
    Goal("… fold of all events, one core: system time of one", "µs", "fold, one core", LESS),
    Goal("fold of all events, two cores", "1/s", "fold, two cores", MORE, None, 1_200_000, 1_900_000, 3_200_000),
    Goal("… fold of all events, two cores: system time of one", "µs", "fold, two cores", LESS),
    Goal("calls of a request with one event", "calls", "calls", LESS, 678, 450, 300, 200),
    Goal("… with 100 events in one body", "calls", "calls", LESS, 735, 490, 330, 220),
    Goal("JSON ingest by 100", "events a CPU-s", "JSON", MORE, 72_000, 150_000, 300_000, 600_000),
    Goal("… JSON ingest by 100: system time of one", "µs", "JSON", LESS),
    Goal("NDJSON ingest by 10,000", "events a CPU-s", "NDJSON", MORE, 150_000, 300_000, 500_000, 600_000),
    Goal("… NDJSON ingest by 10,000: system time of one", "µs", "NDJSON", LESS),
    Goal("Arrow ingest by 10,000", "events a CPU-s", "Arrow", MORE, 171_000, 400_000, 800_000, 1_500_000),
    Goal("… Arrow ingest by 10,000: system time of one", "µs", "Arrow", LESS),
    Goal("40 columns × 500, p50", "µs", "cells", LESS, 235, 150, 60, 40),
    Goal("40 columns × 500, p99", "µs", "cells", LESS, 546, 300, 120, 80),
    Goal("restart with all events", "s", "restart", LESS, 8, 5, 2, 1),
    Goal("… CPU time of the restart", "s", "restart", LESS),
    Goal("… of that the system's", "s", "restart", LESS),
    Goal("resident memory, this state", "MB", "lean", LESS, 2_100, 2_100, 1_600, 1_200),
    Goal("work of the server's own in the minute after the loads", "% of a core", "lean", LESS),
    Goal("first slate of a fresh clone", "s", "fresh clone", LESS, None, 90, 60, 20),
    Goal("second start, to its first slate", "s", "start", LESS, 6, 3, 1.5, 0.8),
    Goal("serve ready, an empty folder, warm", "s", "start", LESS, 3.7, 1.5),
    Goal("resident when empty", "MB", "start", LESS, 393, 262),
    Goal("midstream --help", "s", "start", LESS, 0.17, 0.25),
    Goal("a quiet tenant's slates beside a flood, p50 of those alone", "×", "tenants", LESS, 2.1, 1.2),
    Goal("… p99 of those alone", "×", "tenants", LESS, None, None, 1.2),
    Goal("the gate of keys, a question limited to a placement", "µs", "key gate", LESS, 15.2, 15, 10),
)
"""All of them, in the order in which they are printed. Two cores, 100,000 items, 1 M users, 10 M events."""
BY_NAME = {each.name: each for each in GOALS}
PROGRAMS = tuple(dict.fromkeys(each.program for each in GOALS))
