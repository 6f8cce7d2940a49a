"""Admission of decoded events: judges request ids and users, and reports outcomes of events with their four parts.

Nothing disappears: every event is recorded, a duplicate, a conflict, or rejected with a fault. An event of several
items is recorded when at least one of them was; a refused item of it is named all the same.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.columns import has_all, has_any
from midstream.core.errors import Fault
from midstream.core.kinds import Kind, Operation
from midstream.core.reserved_users import PROBE_TEXT, is_reserved
from midstream.core.types import EventBatch, Index
from midstream.engine.types import Outcome, Recorded
from midstream.events.json.decode import Decoded, Rejected, SingleEvent
from midstream.events.schema import TEXTS, TIME_SENT, pick, text_lengths
from midstream.events.values import merged_id
from midstream.events.wire import PAGE as EVENTS_PAGE

ERASED_CAME = "An event of a user who was erased, of a time before that."
"""Placeholder for the value in rejections of erased users' events, which are not kept."""
PAGE = "/docs/http.md"
PROBE_PAGE = "/docs/observability.md"
PartOf: TypeAlias = Callable[[int], SingleEvent]
"""Returns the pointer to an event of the body, and its text."""
_ITEM_ID = TEXTS.index("item_id")
_REQUEST_ID = TEXTS.index("request_id")
_USER_ID = TEXTS.index("user_id")
_BODY = TEXTS.index("body")


class AdmittedBatch(NamedTuple):
    """Events that can be appended, the number of each row's event, and the rejections of the others."""

    batch: EventBatch
    event_index: Index
    rejected: tuple[Rejected, ...]
    event_count: int
    part: PartOf
    """Names an event that the engine refuses."""


class Parts:
    """The events of a body, split when the first has to be named."""

    def __init__(self, split: Callable[[], Sequence[SingleEvent]]) -> None:
        """Call ``split`` once, if at all."""
        self._split = split
        self._parts: Sequence[SingleEvent] | None = None

    def __call__(self, number: int) -> SingleEvent:
        """Return an event by its number."""
        if self._parts is None:
            self._parts = self._split()
        return self._parts[number]


class Counts(NamedTuple):
    """Number of events by outcome: recorded + duplicates + conflicts + rejected = all that came."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    without_dedupe: int
    """Rows, whatever their outcome."""


class RecordedBatch(NamedTuple):
    """Outcome of events that could be appended."""

    admitted: AdmittedBatch
    """With those rejected that the engine refused."""
    recorded: Recorded
    """``Outcome`` of each admitted row, and the log position after them."""

    @property
    def is_plain(self) -> bool:
        """Whether every event was recorded as a whole."""
        return not self.admitted.rejected and (self.recorded.is_plain or not has_any(self.recorded.outcome))

    def counts(self) -> Counts:
        """Sum rows up to events."""
        admitted = self.admitted
        undated = count_without_dedupe(admitted.batch)
        if self.is_plain:
            return Counts(admitted.event_count, 0, 0, 0, undated)
        names = self.names()

        def count(name: str) -> int:
            return int(np.count_nonzero(names == name))

        return Counts(count("recorded"), count("duplicate"), count("conflict"), count("rejected"), undated)

    def names(self) -> NDArray[np.str_]:
        """Return the outcome of each event: ``recorded``, ``duplicate``, ``conflict`` or ``rejected``."""
        admitted, outcome = self.admitted, self.recorded.outcome
        names = np.full(admitted.event_count, "duplicate", dtype="U9")
        names[[each.index for each in admitted.rejected]] = "rejected"
        # One recorded row makes the event a recorded one, whatever became of the others.
        names[admitted.event_index[outcome == Outcome.CONFLICT]] = "conflict"
        names[admitted.event_index[outcome == Outcome.RECORDED]] = "recorded"
        return names


def count_without_dedupe(batch: EventBatch) -> int:
    """Return how many rows have neither an event id nor a time, and so count again when they are sent again."""
    id_lengths = batch.rows["event_id_length"]
    if id_lengths.item() if len(id_lengths) == 1 else has_all(id_lengths):
        return 0
    return int(np.count_nonzero((id_lengths == 0) & ((batch.rows["flags"] & TIME_SENT) == 0)))


def admit(
    decoded: Decoded, part: PartOf, is_ours: Callable[[str], bool], *, takes_reserved: bool = False
) -> AdmittedBatch:
    """Reject events of reserved users and with a request id of another engine. Any thread may call it.

    Cost: 2 µs a row that has a request id, and the time of ``part`` for each rejected one.

    Args:
        decoded: Decoded body.
        part: Names one of its events.
        is_ours: Whether a request id is of this engine.
        takes_reserved: Take events of reserved users.
    """
    admitted = AdmittedBatch(decoded.batch, decoded.event_index, decoded.rejected, decoded.event_count, part)
    if not takes_reserved and PROBE_TEXT in decoded.batch.text:
        admitted = _without_reserved(admitted)
    lengths = admitted.batch.rows["request_id_length"]
    has_requests = lengths.item() > 0 if len(lengths) == 1 else has_any(lengths)
    return _without_foreign(admitted, is_ours) if has_requests else admitted


def _without_reserved(admitted: AdmittedBatch) -> AdmittedBatch:
    """Reject events that name a reserved user, or that merge one."""
    batch = admitted.batch
    wrong: dict[int, tuple[str, str]] = {}
    users, kinds, operations = column(batch, _USER_ID), batch.rows["kind"], batch.rows["operation"]
    is_merge = (kinds == Kind.USER) & (operations == Operation.MERGE)
    bodies = column(batch, _BODY) if has_any(is_merge) else []
    for row, (user_id, number) in enumerate(zip(users, admitted.event_index.tolist(), strict=True)):
        if is_reserved(user_id):
            wrong[number] = "/user_id", user_id
        elif is_merge[row] and is_reserved(other := merged_id(bodies[row].encode())):
            wrong[number] = "/attributes/from", other
    if not wrong:
        return admitted
    refused = [_reserved_user(number, *each, admitted.part(number)) for number, each in wrong.items()]
    return _kept(admitted, ~np.isin(admitted.event_index, list(wrong)), refused)


def _without_foreign(admitted: AdmittedBatch, is_ours: Callable[[str], bool]) -> AdmittedBatch:
    """Reject events with a request id of another engine."""
    ids = column(admitted.batch, _REQUEST_ID)
    foreign = {each for each in set(ids) if each and not is_ours(each)}
    if not foreign:
        return admitted
    # All rows of an event have the same request id, so an event goes or stays as a whole.
    keep = np.array([each not in foreign for each in ids])
    numbers: list[int] = admitted.event_index[~keep].tolist()
    wrong = dict(zip(numbers, (each for each in ids if each in foreign), strict=True))
    return _kept(admitted, keep, [_foreign_request(at, each, admitted.part(at)) for at, each in wrong.items()])


def _kept(admitted: AdmittedBatch, keep: NDArray[np.bool_], refused: Sequence[Rejected]) -> AdmittedBatch:
    """Return some rows of a batch, and rejections of the events of the others."""
    rejected = sorted((*admitted.rejected, *refused), key=lambda each: each.index)
    batch = pick(admitted.batch, np.flatnonzero(keep).tolist())
    return admitted._replace(batch=batch, event_index=admitted.event_index[keep], rejected=tuple(rejected))


def column(batch: EventBatch, text: int) -> list[str]:
    """Return one of the seven texts (its place in ``TEXTS``) of every row, in order. Cost: 0.3 µs a row."""
    lengths = text_lengths(batch)
    starts = batch.rows["text_start"].astype(np.int64) + lengths[:, :text].sum(axis=1)
    stops = starts + lengths[:, text]
    return [batch.text[start:stop].decode() for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def _reserved_user(index: int, where: str, user_id: str, part: SingleEvent) -> Rejected:
    came = f'"{user_id}" is the user of a freshness probe.'
    return Rejected(index, Fault(f"{part.prefix}{where}", came, "An id of a user of yours.", PROBE_PAGE), part.raw)


def _foreign_request(index: int, request_id: str, part: SingleEvent) -> Rejected:
    came = f'"{request_id[:40]}" was not made here.'
    right = "The request_id of an answer to /v1/recommendations, as it came; or none."
    return Rejected(index, Fault(f"{part.prefix}/request_id", came, right, PAGE), part.raw)


def refused_users(admitted: AdmittedBatch, recorded: Recorded, events_max: int | None = None) -> list[Rejected]:
    """Return a rejection for each event that is a late copy of an erased user's, or for the first ones."""
    right = "Events of a later time are a new start; for 24 h late copies are refused."
    numbers = np.unique(admitted.event_index[recorded.erased])[:events_max].tolist()
    events = [(index, admitted.part(index)) for index in numbers]
    return [
        Rejected(index, Fault(f"{event.prefix}/user_id", ERASED_CAME, right, EVENTS_PAGE), event.raw)
        for index, event in events
    ]


def refused_items(admitted: AdmittedBatch, recorded: Recorded, rows_max: int | None = None) -> list[Rejected]:
    """Return a rejection for each row whose item the engine refused, or for the first ones. Cost: 37 µs a row."""
    refused = np.setdiff1d(np.flatnonzero(recorded.outcome == Outcome.REFUSED), recorded.erased)[:rows_max]
    if not len(refused):
        return []
    items = column(admitted.batch, _ITEM_ID)
    numbers, first, count = np.unique(admitted.event_index, return_index=True, return_counts=True)
    began = dict(zip(numbers.tolist(), first.tolist(), strict=True))
    rows = dict(zip(numbers.tolist(), count.tolist(), strict=True))
    right = "An item of the catalogue; PUT /v1/items/{id} adds one, as long as there is room."
    found: list[Rejected] = []
    for row in refused.tolist():
        index = int(admitted.event_index[row])
        item = row - began[index] if rows[index] > 1 else -1
        path = f"/items/{item}/item_id" if rows[index] > 1 else "/item_id"
        event = admitted.part(index)
        fault = Fault(f"{event.prefix}{path}", f'"{items[row]}" is not known here.', right, PAGE)
        found.append(Rejected(index, fault, event.raw, item))
    return found
