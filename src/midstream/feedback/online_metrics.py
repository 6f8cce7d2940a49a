"""Online metrics of served slates over windows of log time: by any label of a slate, such as its placement or model.

Slates come with the outcomes that are joined so far (``state.outcomes``), so a figure is right as of now, however late
an outcome comes. A slate is **open** until a time of settling has passed since it was served; figures of settled slates
do not move any more, apart from outcomes that come later than that. Both are given: of settled slates, and of all.

Reference: M. Kaminskas and D. Bridge, "Diversity, Serendipity, Novelty, and Coverage", ACM TiiS 7(1), 2016, sections
    3.3 (novelty as self-information) and 3.4 (coverage).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.state.outcomes.outcomes import Slates

POSITIONS_MAX: Final = 8_000_000
"""Positions that are held: twice what the join holds by default; 33 bytes each."""
LABELS_MAX: Final = 1_024
"""Values of one label that are told apart; those beyond are ``OTHER``."""
SORTED_MAX: Final = 16_384
"""Numbers that are sorted at once: a millisecond. More are parted by a byte of each, and each part by itself."""
MARKS_MAX: Final = 1 << 24
"""Pairs of a label's value and a number that a table marks, to count the distinct ones; more are sorted."""
OTHER: Final = "other"
Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Column = TypeVar("Column", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """Windows, and meaning of actions."""

    now_ms: int
    """Log time at which windows end."""
    windows_ms: tuple[int, ...]
    """Lengths: a slate is in a window if it was served after ``now_ms`` less the length."""
    settle_ms: int
    """Age from which a slate is settled."""
    seen: int
    """Bit of impressions (``Outcomes.action_bit``)."""
    clicks: int
    """Bits of the actions that are clicks; 0 = none is, and their rate is NaN."""
    conversions: int
    """Bits of the actions that are conversions; 0 as above."""
    items_count: int
    """Items of the catalogue."""


@dataclass(frozen=True, slots=True)
class SlateFigures:
    """Figures of some slates; NaN = the denominator is 0."""

    slates: int
    positions: int
    impressions: int
    """Positions that were seen."""
    click_rate: float
    """Positions that were seen and clicked / positions that were seen."""
    conversion_rate: float
    """Slates with a conversion / slates."""
    revenue_per_slate: float
    """Sum of value x quantity at positions with a conversion / slates."""
    sessions: int
    """Distinct sessions; a slate without one counts for its user, and without both not."""
    revenue_per_session: float
    """Revenue of slates with a session / sessions."""
    coverage: float
    """Distinct items / items of the catalogue."""
    novelty: float
    """Mean of -log2 of the item's share of all positions of the window, whatever the label: bits; more = rarer."""
    repeat_rate: float
    """Positions whose item an earlier slate of the window had for the same session or user / positions of those."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Figures of one value of one label in one window."""

    window_ms: int
    label: str
    """Name of the label: ``placement``, ``plan``, ``model`` ..."""
    value: str
    open: int
    """Slates of the window that are not settled."""
    settled: SlateFigures
    so_far: SlateFigures
    """Of all slates of the window."""


@dataclass(frozen=True, slots=True, eq=False)
class SlateLabels:
    """What is known of slates beside their outcomes, row for row."""

    values: Mapping[str, Sequence[str]]
    """Value of each label, (n,)."""
    session: Hashes
    """64-bit hash of the session, or of the user where the slate has none; 0 = neither, (n,)."""


class OnlineMetrics:
    """Accumulator of slates within the longest window."""

    def __init__(self, options: MetricOptions) -> None:
        """Start without slates."""
        self._options = options
        self._since_ms = options.now_ms - max(options.windows_ms)
        self._slates: list[_Columns] = []
        self._codes: dict[str, dict[str, int]] = {}
        self._positions = 0
        self.left_out = 0
        """Slates of the longest window for whose positions there was no room."""

    def add(self, slates: Slates, labels: SlateLabels) -> None:
        """Take slates in; those from before the longest window are passed by.

        Args:
            slates: Of ``Outcomes.held``, with the outcomes so far; each slate once, in the order of the log.
            labels: Of the same slates. All calls have the same labels.
        """
        served_ms = slates.slate["log_time_ms"].astype(np.int64)
        length = slates.slate["length"].astype(np.int64)
        is_within = (served_ms > self._since_ms) & (served_ms <= self._options.now_ms)
        has_room = self._positions + np.cumsum(np.where(is_within, length, 0)) <= POSITIONS_MAX
        self.left_out += int(np.count_nonzero(is_within & ~has_room))
        kept = np.flatnonzero(is_within & has_room)
        row = slate_rows(slates.slate["first"].astype(np.int64)[kept], length[kept])
        self._positions += len(row)
        self._slates.append(
            _Columns(
                served_ms=served_ms[kept],
                session=labels.session[kept],
                codes={
                    name: self._coded(name, [values[at] for at in kept.tolist()])
                    for name, values in labels.values.items()
                },
                slate=np.repeat(np.arange(len(kept)), length[kept]),
                item=slates.item_hash[row],
                bits=slates.outcome["bits"][row],
                value=np.nan_to_num(slates.outcome["value"][row].astype(np.float64), nan=0.0),
            )
        )

    def rows(self, rest: Rest = no_rest) -> Iterator[MetricRow]:
        """Yield figures by window, in the order of the options, by label and by value, in the order of appearance.

        Cost: for four million positions some 2 s a window and label, whatever the number of values.

        Args:
            rest: Called between two steps over all positions, and between two parts of a sort.
        """
        if not self._slates:
            return
        whole = _Columns.joined(self._slates, rest)
        for window_ms in self._options.windows_ms:
            window = whole.where(whole.served_ms > self._options.now_ms - window_ms, rest)
            measured = _Measured.of(window, self._options, rest)
            is_settled = window.served_ms <= self._options.now_ms - self._options.settle_ms
            for name, codes in window.codes.items():
                known = self._codes[name]
                settled = measured.by_code(codes, len(known), is_settled, rest)
                so_far = measured.by_code(codes, len(known), np.ones(len(codes), dtype=np.bool_), rest)
                for value, code in known.items():
                    if so_far[code].slates:
                        is_open = so_far[code].slates - settled[code].slates
                        yield MetricRow(window_ms, name, value, is_open, settled[code], so_far[code])

    def _coded(self, name: str, values: Sequence[str]) -> Numbers:
        known = self._codes.setdefault(name, {})
        return np.array([self._code(known, value) for value in values], dtype=np.int64)

    @staticmethod
    def _code(known: dict[str, int], value: str) -> int:
        if value not in known and len(known) >= LABELS_MAX - 1:
            value = OTHER
        return known.setdefault(value, len(known))


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Slates, (n,), and their positions, (p,)."""

    served_ms: Numbers
    session: Hashes
    codes: Mapping[str, Numbers]
    slate: Numbers
    """Row of the slate of each position, rising."""
    item: Hashes
    bits: NDArray[np.uint32]
    value: NDArray[np.float64]

    @staticmethod
    def joined(parts: Sequence["_Columns"], rest: Rest) -> "_Columns":
        """Return all slates of some parts."""
        starts = np.cumsum([0, *(len(each.served_ms) for each in parts)])
        return _Columns(
            served_ms=np.concatenate([each.served_ms for each in parts]),
            session=np.concatenate([each.session for each in parts]),
            codes={name: np.concatenate([each.codes[name] for each in parts]) for name in parts[0].codes},
            slate=_rested(
                np.concatenate([each.slate + start for each, start in zip(parts, starts, strict=False)]), rest
            ),
            item=_rested(np.concatenate([each.item for each in parts]), rest),
            bits=_rested(np.concatenate([each.bits for each in parts]), rest),
            value=_rested(np.concatenate([each.value for each in parts]), rest),
        )

    def where(self, keep: Mask, rest: Rest) -> "_Columns":
        """Return the kept slates."""
        place, number = _rested(keep[self.slate], rest), np.cumsum(keep) - 1
        return _Columns(
            served_ms=self.served_ms[keep],
            session=self.session[keep],
            codes={name: each[keep] for name, each in self.codes.items()},
            slate=_rested(number[_rested(self.slate[place], rest)], rest),
            item=_rested(self.item[place], rest),
            bits=_rested(self.bits[place], rest),
            value=_rested(self.value[place], rest),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """What each position and slate of a window adds to the figures."""

    slates: _Columns
    options: MetricOptions
    item: Numbers
    """Number of each position's item."""
    session: Numbers
    """Number of each slate's session; 0 = none."""
    is_seen: Mask
    is_clicked: Mask
    revenue: NDArray[np.float64]
    """Of each slate."""
    converts: Mask
    """Of each slate."""
    rarity: NDArray[np.float64]
    is_repeated: Mask

    @staticmethod
    def of(window: _Columns, options: MetricOptions, rest: Rest) -> "_Measured":
        """Return what the positions and slates of a window are."""
        items, item = _numbered(window.item, rest)
        session = _numbered(np.append(window.session, np.uint64(0)), rest)[1][:-1]
        share = _rested(np.bincount(item, minlength=items) / max(1, len(item)), rest)
        is_seen = _rested((window.bits & np.uint32(options.seen)) != 0, rest)
        converts = _rested((window.bits & np.uint32(options.conversions)) != 0, rest)
        count = len(window.served_ms)
        revenue = _rested(np.bincount(window.slate, window.value * converts, minlength=count), rest)
        key = _rested(session[window.slate] * max(1, items) + item, rest)
        return _Measured(
            slates=window,
            options=options,
            item=item,
            session=session,
            is_seen=is_seen,
            is_clicked=_rested(is_seen & ((window.bits & np.uint32(options.clicks)) != 0), rest),
            revenue=revenue.astype(np.float64),
            converts=_rested(np.bincount(window.slate, converts, minlength=count) > 0, rest),
            rarity=_rested(-np.log2(share[item]), rest),
            is_repeated=_repeated(key, rest),
        )

    def by_code(self, code: Numbers, count: int, mine: Mask, rest: Rest) -> list[SlateFigures]:
        """Return the figures of some slates by a code of each.

        Args:
            code: Of each slate, 0 to ``count`` less 1.
            count: Number of codes.
            mine: Slates that count.
            rest: As of ``OnlineMetrics.rows``.
        """
        place = _rested(mine[self.slates.slate], rest)
        of_slate = _rested(code[self.slates.slate], rest)
        of_place = _rested(of_slate[place], rest)
        has_session = mine & (self.session > 0)
        at_session = _rested(has_session[self.slates.slate], rest)
        slates, positions = _counted(code[mine], count), _rested(_counted(of_place, count), rest)
        seen = _rested(_counted(of_place[self.is_seen[place]], count), rest)
        clicked = _rested(_counted(of_place[self.is_clicked[place]], count), rest)
        converted = _counted(code[mine & self.converts], count)
        sessions = _rested(_distinct(code[has_session], self.session[has_session], count, rest), rest)
        of_sessions = _rested(_counted(of_slate[at_session], count), rest)
        repeated = _rested(_counted(of_slate[at_session & self.is_repeated], count), rest)
        items = _rested(_distinct(of_place, self.item[place], count, rest), rest)
        rarity = _rested(_counted(of_place, count, self.rarity[place]), rest)
        revenue = _counted(code[mine], count, self.revenue[mine])
        session_revenue = _rested(_counted(code[has_session], count, self.revenue[has_session]), rest)
        has_clicks, sells = self.options.clicks != 0, self.options.conversions != 0
        return [
            SlateFigures(
                slates=int(slates[at]),
                positions=int(positions[at]),
                impressions=int(seen[at]),
                click_rate=_ratio(clicked[at], seen[at] if has_clicks else 0),
                conversion_rate=_ratio(converted[at], slates[at] if sells else 0),
                revenue_per_slate=_ratio(revenue[at], slates[at] if sells else 0),
                sessions=int(sessions[at]),
                revenue_per_session=_ratio(session_revenue[at], sessions[at] if sells else 0),
                coverage=_ratio(items[at], self.options.items_count),
                novelty=_ratio(rarity[at], positions[at]),
                repeat_rate=_ratio(repeated[at], of_sessions[at]),
            )
            for at in range(count)
        ]


def _counted(code: Numbers, count: int, worth: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the number of rows of each code, or the sum of what they are worth, (count,)."""
    return np.bincount(code, worth, minlength=count).astype(np.float64)


def _rested(found: Column, rest: Rest) -> Column:
    """Return a column as it is, behind a rest for the work that made it."""
    rest()
    return found


def _distinct(code: Numbers, value: Numbers, count: int, rest: Rest) -> NDArray[np.float64]:
    """Return the number of distinct values of each code, (count,); values are numbers from 0 on."""
    size = int(value.max()) + 1 if len(value) else 1
    key = _rested(code * size + value, rest)
    if count * size > MARKS_MAX:
        return _counted(np.unique(key) // size, count)
    marks = np.zeros(count * size, dtype=np.bool_)
    marks[key] = True
    found: NDArray[np.float64] = np.count_nonzero(marks.reshape(count, size), axis=1).astype(np.float64)
    return found


def _ratio(part: float | np.floating[Any], whole: float | np.floating[Any]) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _parts(byte: NDArray[np.uint8], rest: Rest) -> Iterator[Numbers]:
    """Yield the rows of each byte that there is, rising; a rest is behind each."""
    order = _rested(np.argsort(byte, kind="stable"), rest)
    stop = np.cumsum(np.bincount(byte, minlength=256)).tolist()
    for start, end in pairwise((0, *stop)):
        if end > start:
            yield order[start:end]
            rest()


def _numbered(value: Hashes, rest: Rest) -> tuple[int, Numbers]:
    """Return the number of distinct values, and the number of each among them, in their order: as ``numpy.unique``."""
    if len(value) <= SORTED_MAX:
        own, number = np.unique(value, return_inverse=True)
        return len(own), number.astype(np.int64)
    count, number = 0, np.empty(len(value), dtype=np.int64)
    for rows in _parts((value >> np.uint64(56)).astype(np.uint8), rest):
        own, place = np.unique(value[rows], return_inverse=True)
        number[rows] = place + count
        count += len(own)
    return count, number


def _repeated(key: Numbers, rest: Rest) -> Mask:
    """Return whether an earlier slate has the same key, of each position; an item is in a slate once."""
    again = np.zeros(len(key), dtype=np.bool_)
    for rows in _parts((key & 255).astype(np.uint8), rest) if len(key) > SORTED_MAX else (np.arange(len(key)),):
        own = key[rows]
        order = np.argsort(own, kind="stable")
        again[rows[order[1:]]] = np.diff(own[order]) == 0
    return again


def slate_rows(first: Numbers, length: Numbers) -> Numbers:
    """Return the rows of the positions of slates, from the first row and the length of each."""
    start = np.cumsum(length) - length
    return np.repeat(first - start, length) + np.arange(int(length.sum()))
