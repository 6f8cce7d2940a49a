"""Ledger of acknowledgements, kept outside the engine: the truth that the log is held to in the end."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.letters import DeadLetter
from midstream.core.errors import MidstreamError
from midstream.core.types import LogPosition
from midstream.events.dead_letters.resending import event_of
from midstream.ranking.plan import Plan
from midstream.state.ids.compacted_items import Dropped
from midstream.state.settings import FoldSettings
from tests.support.fuzz.traffic import Face, TrafficBatch, rows_of


class Broken(MidstreamError):
    """A promise was not kept."""


@dataclass(frozen=True, slots=True)
class ServedSlate:
    """A slate that went out."""

    request_id: str
    position: LogPosition
    """Of the state that it was made of."""
    ask: Mapping[str, object]
    """The question as it was sent."""
    items: tuple[str, ...]
    fold_version: str
    generation: int
    """Of the log that it was made from."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the live state was at a log position."""

    position: LogPosition
    digest: str
    fold_version: str
    generation: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Users whom the dead letters were made to forget."""

    ids: tuple[str, ...]
    last: int
    """Number of the last letter there was."""


@dataclass(slots=True)
class Ledger:
    """Everything that was sent, acknowledged, answered and seen."""

    faces: defaultdict[str, list[Face]] = field(default_factory=lambda: defaultdict[str, list[Face]](list))
    """Row id to all that was ever sent under it."""
    nameless: set[Face] = field(default_factory=set[Face])
    """All that was ever sent without an id."""
    acknowledged: dict[str, LogPosition] = field(default_factory=dict[str, LogPosition])
    """Row id to a log position before which it stands."""
    orders: list[tuple[tuple[str, ...], LogPosition]] = field(default_factory=list[tuple[tuple[str, ...], LogPosition]])
    """Row ids of an order that was acknowledged, and a log position before which at least one of them stands."""
    whole: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Rows that stand side by side in the log, or none of them is there."""
    forgotten: list[Forgotten] = field(default_factory=list[Forgotten])
    answers: list[ServedSlate] = field(default_factory=list[ServedSlate])
    marks: list[Mark] = field(default_factory=list[Mark])
    services: dict[str, tuple[FoldSettings, Dropped]] = field(default_factory=dict[str, tuple[FoldSettings, Dropped]])
    """Fold version to what decides such a state."""
    plans: dict[tuple[str, str], Mapping[str, Plan]] = field(default_factory=dict[tuple[str, str], Mapping[str, Plan]])
    """Hash of a configuration and fold version to the plans that answered."""
    durable: LogPosition = field(default=LogPosition(0))
    """An end of the log that somebody saw: nothing before it may ever go."""

    def note_sent(self, batch: TrafficBatch) -> None:
        """Write down what is about to be sent for the first time."""
        rows = [row for event in batch.events for row in rows_of(event)]
        for row_id, face in rows:
            if row_id:
                self.faces[row_id].append(face)
            else:
                self.nameless.add(face)
        ids = tuple(row_id for row_id, _ in rows if row_id)
        if batch.is_whole and len(ids) > 1:
            self.whole.append(ids)

    def note_answer(self, batch: TrafficBatch, answer: EventsAnswer, position: LogPosition) -> None:
        """Write down what was acknowledged, and check that every event has an outcome."""
        batch.acknowledged = True
        if batch.broken is not None:
            return
        if len(answer.results) != len(batch.events):
            message = f"{len(batch.events)} events came, {len(answer.results)} have an outcome"
            raise Broken(message)
        for result in answer.results:
            self.note_result(batch.events[result.index], result.outcome, position)

    def note_resent(self, letter: DeadLetter, position: LogPosition | None) -> None:
        """Check that a second copy of a letter would be known for one; with a position, write down that it is there."""
        sent = event_of(letter)
        if sent is None:
            return
        event = json.loads(sent)
        if not event.keys() & {"event_id", "time"}:
            raise Broken(f"letter {letter.number} was sent again with neither id nor time: {event}")
        if position is not None:
            self.note_result(event, "recorded", position)

    def note_result(self, event: Mapping[str, object], outcome: str, position: LogPosition) -> None:
        """Write down what became of one event."""
        ids = tuple(row_id for row_id, _ in rows_of(event) if row_id)
        if outcome not in {"recorded", "duplicate"} or not ids:
            return
        if len(ids) == 1:
            self.acknowledged.setdefault(ids[0], position)
        else:
            self.orders.append((ids, position))
