"""Live figures of the console: rates and quantiles between two readings of the metrics, kept for a few minutes.

Metrics are read only while somebody looks: one reading is shared by all viewers, and none is made behind it. So an open
page costs a reading each ``READING_MS_MIN``, however many have it open, and a closed one nothing.

Quantiles are those of a histogram's buckets, by linear interpolation within one (as ``histogram_quantile`` of
Prometheus).
"""

import math
import re
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from midstream.serving.console.lag_rows import LagRow, Samples, lag_rows

READING_MS_MIN = 2_000
"""Between two readings."""
READINGS_MAX = 150
"""Five minutes."""
STALE_MS = 30_000
"""Behind a pause as long nothing is compared: a rate over it would be of a time at which nobody looked."""

_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_PROBE: Final = "midstream_freshness"
_LABELS_MAX: Final = 4_096
"""Distinct texts of labels that are kept parsed: a text of metrics has some hundreds, and each reading the same."""

ONE_STATE: Final = frozenset(
    f"midstream_{name}"
    for name in ("log_position", "applied_log_position", "state_age_seconds", "items", "freshness_last_seconds")
)
"""Gauges of the state, of which each process has its own copy: the largest is shown, of ages the oldest; NaN where one
of them does not know."""


@dataclass(frozen=True, slots=True, eq=False)
class MetricsReading:
    """All samples at one time."""

    time_ms: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """One route between two readings."""

    route: str
    per_second: float
    p50_ms: float
    p99_ms: float
    """NaN = no answers, or beyond the last bucket."""
    failed_per_second: float
    """Answers of 500 and above."""


@dataclass(frozen=True, slots=True)
class TableMemory:
    """Memory of one table."""

    table: str
    bytes: float
    bytes_max: float


@dataclass(frozen=True, slots=True)
class RejectedEvents:
    """Events that were refused for their fields, and what is kept of them."""

    per_second: float
    count: float
    """Since the start."""
    kept: float
    """Dead letters in the files; NaN = not told."""
    lost: float
    """Of which there was no room for a dead letter, since the start."""


@dataclass(frozen=True, slots=True)
class ProbeFigures:
    """What the freshness probe measured."""

    last_ms: float
    """From sending an event until an answer had it, of the slowest process; NaN = no answer had it, or none was sent
    yet."""
    probes: Mapping[str, float]
    """By outcome, since the start."""


@dataclass(frozen=True, slots=True, eq=False)
class ConsoleFigures:
    """What the first page shows."""

    time_ms: int
    events_per_second: float
    requests_per_second: float
    routes: Sequence[RouteFigures]
    """Those with answers, the busiest first."""
    tiers: Sequence[tuple[str, str, float]]
    """Placement, tier, slates a second."""
    memory: Sequence[TableMemory]
    gauges: Mapping[str, float]
    """Gauges without labels, by name without ``midstream_``."""
    rejected: RejectedEvents
    lags: Sequence[LagRow]
    """Of what the shop has."""
    freshness: ProbeFigures | None
    """None = no probe runs."""
    history: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Requests a second, events a second, p99 in ms: one value for each reading, the oldest first."""


def read_samples(text: str) -> Samples:
    r"""Return the samples of metrics as the client library writes them: no timestamps and no exemplars.

    The parser of that library takes ten times as long, and holds the interpreter meanwhile: answers would wait for it.

    Example:
        >>> read_samples('# TYPE a gauge\na{b="c d"} 1.5\na{b="c d",process="x"} 2.0\n')["a"]
        {(('b', 'c d'),): 3.5}
    """
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        head, _, value = line.rpartition(" ")
        name, _, labels = head.partition("{")
        key = _labels_of(labels)
        # The same sample of several processes is one: their work adds up, and each has the state of the same log.
        before, own = found[name].get(key), float(value)
        is_one = before is not None and name in ONE_STATE and not math.isnan(before + own)
        found[name][key] = own if before is None else max(before, own) if is_one else before + own
    return found


@lru_cache(_LABELS_MAX)
def _labels_of(text: str) -> tuple[tuple[str, str], ...]:
    """Return labels in order, without that of the process."""
    found = ((name, _ESCAPED.sub(_unescaped, value)) for name, value in _LABEL.findall(text) if name != "process")
    return tuple(sorted(found))


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]


class LiveMetrics:
    """Readings of the last minutes."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Begin without a reading; ``now_ms`` is a clock that never goes back."""
        self._now_ms = now_ms
        self._last: MetricsReading | None = None
        self._figures: ConsoleFigures | None = None
        self._history: deque[tuple[float, float, float]] = deque(maxlen=READINGS_MAX)

    @property
    def figures(self) -> ConsoleFigures | None:
        """The newest figures; None = there is no reading yet."""
        return self._figures

    @property
    def is_due(self) -> bool:
        """Whether the newest reading is old enough for another one."""
        return self._last is None or self._now_ms() - self._last.time_ms >= READING_MS_MIN

    def add(self, samples: Samples) -> ConsoleFigures:
        """Take a reading of the metrics; return the figures since the one before. Cost: 0.3 ms."""
        reading, before = MetricsReading(self._now_ms(), samples), self._last
        if before is not None and reading.time_ms - before.time_ms > STALE_MS:
            before = None
            self._history.clear()
        self._last = reading
        seconds = math.nan if before is None else max(reading.time_ms - before.time_ms, 1) / 1_000
        then: Samples = {} if before is None else before.samples
        figures = _figures(reading, then, seconds)
        if before is not None:
            self._history.append((figures.requests_per_second, figures.events_per_second, _slowest(figures.routes)))
        columns = tuple(zip(*self._history, strict=True)) or ((), (), ())
        history: dict[str, Sequence[float]] = dict(zip(("requests", "events", "p99_ms"), columns, strict=True))
        self._figures = replace(figures, history=history)
        return self._figures


def _figures(reading: MetricsReading, then: Samples, seconds: float) -> ConsoleFigures:
    now = reading.samples
    routes = [] if math.isnan(seconds) else _routes(now, then, seconds)
    sizes, most = now.get("midstream_table_bytes", {}), now.get("midstream_table_bytes_max", {})
    memory = [TableMemory(dict(each)["table"], value, most.get(each, math.nan)) for each, value in sizes.items()]
    tiers = [
        (labels["placement"], labels["tier"], rate)
        for labels, rate in _rates(now, then, "midstream_answers_total", seconds)
    ]
    plain = {
        name.removeprefix("midstream_"): values[()]
        for name, values in now.items()
        if () in values and not name.endswith(("_created", "_sum", "_count"))
    }
    return ConsoleFigures(
        reading.time_ms,
        _event_rate(now, then, "recorded", seconds),
        math.nan if math.isnan(seconds) else sum(each.per_second for each in routes),
        routes,
        sorted(tiers),
        sorted(memory, key=lambda each: -each.bytes),
        plain,
        RejectedEvents(
            _event_rate(now, then, "rejected", seconds),
            _events(now, "rejected"),
            plain.get("dead_letters_kept", math.nan),
            plain.get("dead_letters_lost_total", 0.0),
        ),
        lag_rows(now),
        _probe(now),
    )


def _probe(now: Samples) -> ProbeFigures | None:
    probes = {dict(labels)["outcome"]: value for labels, value in now.get(f"{_PROBE}_probes_total", {}).items()}
    return ProbeFigures(1_000 * now.get(f"{_PROBE}_last_seconds", {}).get((), math.nan), probes) if probes else None


def _events(samples: Samples, outcome: str) -> float:
    return samples.get("midstream_events_total", {}).get((("outcome", outcome),), 0.0)


def _event_rate(now: Samples, then: Samples, outcome: str, seconds: float) -> float:
    return (_events(now, outcome) - _events(then, outcome)) / seconds


def _rates(now: Samples, then: Samples, name: str, seconds: float) -> list[tuple[Mapping[str, str], float]]:
    """Return labels and increase a second of each series that increased."""
    before = then.get(name, {})
    found = [(dict(labels), (value - before.get(labels, 0.0)) / seconds) for labels, value in now.get(name, {}).items()]
    return [(labels, rate) for labels, rate in found if rate > 0]


def _routes(now: Samples, then: Samples, seconds: float) -> list[RouteFigures]:
    name = "midstream_request_seconds"
    buckets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    before = then.get(f"{name}_bucket", {})
    for labels, value in now.get(f"{name}_bucket", {}).items():
        of_bucket = dict(labels)
        buckets[of_bucket["route"]].append((float(of_bucket["le"]), value - before.get(labels, 0.0)))
    failed: dict[str, float] = defaultdict(float)
    for told, rate in _rates(now, then, "midstream_requests_total", seconds):
        if told["status"] >= "500":
            failed[told["route"]] += rate
    found: list[RouteFigures] = []
    for route, counts in buckets.items():
        counts.sort()
        if counts[-1][1] > 0 and not route.startswith("/console"):
            p50, p99 = (1_000 * quantile(counts, share) for share in (0.5, 0.99))
            found.append(RouteFigures(route, counts[-1][1] / seconds, p50, p99, failed[route]))
    return sorted(found, key=lambda each: (-each.per_second, each.route))


def quantile(counts: Sequence[tuple[float, float]], share: float) -> float:
    """Return a quantile of cumulative buckets ``(upper bound, count)`` in order; NaN = beyond the last bound."""
    wanted = share * counts[-1][1]
    low, below = 0.0, 0.0
    for bound, count in counts:
        if count >= wanted:
            width = bound - low
            return low + width * (wanted - below) / (count - below) if math.isfinite(bound) else math.nan
        low, below = bound, count
    return math.nan


def _slowest(routes: Sequence[RouteFigures]) -> float:
    """Return the p99 of the busiest route of slates, else of the busiest one; NaN = there is none."""
    slates = [each for each in routes if each.route.startswith("/v1/recommendations")]
    return next((each.p99_ms for each in (*slates, *routes)), math.nan)
