"""The join of slates with what followed, in plain dictionaries: the reference for ``state.outcomes.outcomes``.

One event after another, nothing shared with the kernels but the settings and the hash of an id. What leaves at the
front stands in an ``OrderedDict``: the first key of a dict that lost many is found by walking over all those.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from midstream.core.kinds import IMPRESSION, Kind
from midstream.events.schema import Event
from midstream.events.served_body import decode_body
from midstream.state.expressions.program import Cell
from midstream.state.outcomes.outcome_fold import NEVER
from midstream.state.outcomes.outcomes import Outcomes, Slates
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import fractions_of_two
from midstream.state.structures.hashing import id_hash

_AFTER_MS_MAX = 2**31 - 1
_SLATE_ITEMS_MAX = 1_000
_SENT_MAX = 1e18
_FRACTIONS = fractions_of_two()


@dataclass(slots=True)
class Followed:
    """What followed at one position."""

    item: int
    actions: set[str] = field(default_factory=set[str])
    count: int = 0
    value: float = 0.0
    seen_after_ms: int | None = None
    acted_after_ms: int | None = None


@dataclass(slots=True)
class JoinedSlate:
    """One slate."""

    request: int
    user: int
    log_position: int
    log_time_ms: int
    group: tuple[str, str, str]
    positions: list[Followed]


@dataclass(slots=True)
class Waiting:
    """An outcome whose slate has not come."""

    request: int
    item: int
    user: int
    action: str
    worth: float
    event_time_ms: int
    log_time_ms: int
    item_index: int = -1
    """Where the state had the item when it came."""


class ReferenceJoin:
    """All slates that are held, all that left, what waits, and the sums."""

    def __init__(self, settings: FoldSettings) -> None:
        """Begin without any."""
        self.settings = settings
        self.slates: OrderedDict[int, JoinedSlate] = OrderedDict()
        self.left: list[JoinedSlate] = []
        self.totals: Counter[str] = Counter()
        self.counts: Counter[tuple[tuple[str, str, str], str]] = Counter()
        self.groups: list[tuple[str, str, str]] = []
        self._held_positions = 0
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        """What waits, by the number of its coming."""
        self._numbers: dict[int, list[int]] = {}
        """Of what waits for each request, in the order in which it came."""
        self._came = 0
        self._item_index = -1
        self._now_ms = 0

    @property
    def waiting(self) -> list[Waiting]:
        """What waits for a slate, the first that came first."""
        return list(self._waiting.values())

    def _hash(self, text: str) -> int:
        return id_hash(text, self.settings.hash_key())

    def pass_time(self, now_ms: int) -> None:
        """Let what is older than the window go; before each event, whatever it is."""
        limit = self.settings.outcome_window.ms
        while self.slates and now_ms - next(iter(self.slates.values())).log_time_ms > limit:
            self._leave("slate_expired")
        while self._waiting and now_ms - next(iter(self._waiting.values())).log_time_ms > limit:
            self._give_up()

    def add(self, event: Event, log_position: int, event_time_ms: int, item_index: int = -1) -> None:
        """Take an event that is no duplicate, with its event time by the rule of lateness and where its item lies."""
        self._item_index, self._now_ms = item_index, event.log_time_ms
        if not event.request_id:
            return
        if event.kind == Kind.SERVED:
            self._serve(event, log_position)
        elif event.kind == Kind.IMPRESSION or (
            event.kind == Kind.INTERACTION and event.action in self.settings.action_names()
        ):
            self._note(event, event_time_ms)

    def forget(self, users: Collection[int]) -> None:
        """Make the slates of users, by the hashes of their ids, and what waits of them, nobody's."""
        for slate in self.slates.values():
            if slate.user and slate.user in users:
                slate.user = 0
                self.totals["slate_forgotten"] += 1
        for outcome in self._waiting.values():
            outcome.user = 0 if outcome.user in users else outcome.user

    def _serve(self, event: Event, log_position: int) -> None:
        limits = self.settings.limits
        try:
            told = decode_body(event.body)
        except ValueError:
            told = None
        if told is None or len(told.ids) > min(_SLATE_ITEMS_MAX, limits.outcome_items_max):
            self.totals["slate_unread"] += 1
            return
        group = (told.placement, told.config_hash, told.tier)
        if group not in self.groups:
            self.groups.append(group)
        request = self._hash(event.request_id)
        if request in self.slates:
            return
        while (
            len(self.slates) == limits.outcome_slates_max
            or self._held_positions + len(told.ids) > limits.outcome_items_max
        ):
            self._leave("slate_evicted")
        positions = [Followed(self._hash(each)) for each in told.ids]
        user = self._hash(event.user_id)
        self.slates[request] = JoinedSlate(request, user, log_position, event.log_time_ms, group, positions)
        self._held_positions += len(positions)
        self.counts[group, "slates"] += 1
        self.counts[group, "positions"] += len(positions)
        for number in self._numbers.pop(request, ()):
            self._join(self._waiting.pop(number))

    def _give_up(self) -> None:
        number, outcome = self._waiting.popitem(last=False)
        self._numbers[outcome.request].remove(number)
        if not self._numbers[outcome.request]:
            del self._numbers[outcome.request]
        self.totals["outcome_unattributed"] += 1

    def _leave(self, why: str) -> None:
        _, slate = self.slates.popitem(last=False)
        self._held_positions -= len(slate.positions)
        self.left.append(slate)
        self.totals[why] += 1

    def _note(self, event: Event, event_time_ms: int) -> None:
        is_seen = event.kind == Kind.IMPRESSION
        value, quantity = (each if abs(each) <= _SENT_MAX else math.nan for each in (event.value, event.quantity))
        worth = value if math.isnan(quantity) else value * quantity
        outcome = Waiting(
            self._hash(event.request_id),
            self._hash(event.item_id),
            self._hash(event.user_id),
            IMPRESSION if is_seen else event.action,
            math.nan if is_seen else worth,
            event_time_ms,
            event.log_time_ms,
            self._item_index,
        )
        if outcome.request in self.slates:
            self._join(outcome)
            return
        if len(self._waiting) == self.settings.limits.outcomes_waiting_max:
            self._give_up()
            self.totals["outcome_waiting_evicted"] += 1
        self._waiting[self._came] = outcome
        self._numbers.setdefault(outcome.request, []).append(self._came)
        self._came += 1

    def _counted(self, slate: JoinedSlate, row: Followed, outcome: Waiting) -> None:
        """Is given each outcome that is joined, before it is noted."""

    def _join(self, outcome: Waiting) -> None:
        slate = self.slates[outcome.request]
        found = [each for each in slate.positions if each.item == outcome.item and outcome.item]
        if not found:
            self.totals["outcome_elsewhere"] += 1
            return
        self.totals["outcome_joined"] += 1
        row = found[0]
        self._counted(slate, row, outcome)
        if outcome.action not in row.actions:
            row.actions.add(outcome.action)
            self.counts[slate.group, outcome.action] += 1
        row.count += 1
        if not math.isnan(outcome.worth):
            row.value += outcome.worth
        after = max(-_AFTER_MS_MAX, min(_AFTER_MS_MAX, outcome.event_time_ms - slate.log_time_ms))
        if outcome.action == IMPRESSION:
            row.seen_after_ms = after if row.seen_after_ms is None else min(row.seen_after_ms, after)
        else:
            row.acted_after_ms = after if row.acted_after_ms is None else min(row.acted_after_ms, after)


class CountingJoin(ReferenceJoin):
    """The same, with the cells of outcomes: by scope and item the log time and the sums, as floats of one order."""

    def __init__(self, settings: FoldSettings) -> None:
        """Begin where nothing is counted."""
        super().__init__(settings)
        self.rows: dict[tuple[str, int], tuple[int, dict[Cell, float]]] = {}
        self._seen: set[int] = set()
        """Positions that are counted, by the identity of their rows, which are all kept."""
        self._kept: list[Followed] = []

    def written(self) -> dict[tuple[str, int], tuple[int, dict[Cell, float]]]:
        """Return the rows that were written, with the sums that are not 0."""
        return {
            key: (then, {cell: each for cell, each in sums.items() if each != 0.0})
            for key, (then, sums) in self.rows.items()
        }

    def _counted(self, slate: JoinedSlate, row: Followed, outcome: Waiting) -> None:
        """Count a position in each cell that it comes to belong to: seen, and any of the actions of the cell came."""
        if outcome.item_index < 0:
            return
        self._kept.append(row)
        before = set(row.actions) if id(row) in self._seen else set[str]()
        if outcome.action == IMPRESSION:
            self._seen.add(id(row))
        after = row.actions | {outcome.action} if id(row) in self._seen else set[str]()
        for cell in self.settings.cells:
            if cell.scope not in {"outcomes", "item_outcomes"} or before & {*cell.actions}:
                continue
            if after & {*cell.actions} and cell.placement in {"", slate.group[0].split("@")[0]}:
                self._add(cell, outcome.item_index if cell.scope == "item_outcomes" else 0, slate.log_time_ms)

    def _add(self, cell: Cell, item: int, time_ms: int) -> None:
        then, sums = self.rows.get((cell.scope, item), (self._now_ms, {}))
        for each in sums:
            if length := 32 * each.half_life_ms:
                sums[each] = math.ldexp(sums[each], -32 * (self._now_ms // length - then // length))
        sums[cell] = sums.get(cell, 0.0) + weight_of(time_ms, self._now_ms, cell.half_life_ms)
        self.rows[cell.scope, item] = self._now_ms, sums


def weight_of(time_ms: int, now_ms: int, half_life_ms: int) -> float:
    """Return 2^((time - landmark) / half-life), the time rounded down to a 4,096th; 1 of what does not fade."""
    if not half_life_ms:
        return 1.0
    length = 32 * half_life_ms
    steps = (time_ms - now_ms // length * length) * 4_096 // half_life_ms
    return math.ldexp(float(_FRACTIONS[steps % 4_096]), steps // 4_096)


def slates_as_told(outcomes: Outcomes, slates: Slates, names: Sequence[str]) -> Iterator[JoinedSlate]:
    """Yield slates of the table as the reference has them.

    Args:
        outcomes: The table.
        slates: Of it.
        names: Of the configured actions.
    """
    bits = {name: outcomes.action_bit(name) for name in (*names, IMPRESSION)}
    items: list[int] = slates.item_hash.tolist()
    rows: list[tuple[float, int, int, int, int]] = slates.outcome.tolist()
    for request, user, log_position, log_time_ms, first, group, length in slates.slate.tolist():
        positions = [
            Followed(
                items[place],
                {name for name, bit in bits.items() if seen & bit},
                count,
                value,
                *(None if each == NEVER else each for each in after),
            )
            for place in range(first, first + length)
            for value, seen, count, *after in (rows[place],)
        ]
        placement, plan, tier = outcomes.group(group)
        yield JoinedSlate(request, user, log_position, log_time_ms, (placement, plan, tier), positions)
