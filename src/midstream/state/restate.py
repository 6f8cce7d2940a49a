"""Restatement as events of documents, aliases, promotions, placements and positions whose own events are gone.

Events do not depend on the fold version, tables do. Documents are said as the fewest changes that make them, at their
own times; merges and erasures that still matter are the events as they were. All stand in the order of their times,
as an import into an empty log has them: log time is event time.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch
from midstream.events.schema import Event, build, event_at
from midstream.events.values import merged_id
from midstream.state.control.input_positions import InputPosition, encode_input_position
from midstream.state.control.placements import encode_placement, placement_body
from midstream.state.control.promotions import promotion_body
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import blanked_hashes
from midstream.state.online.online_models import CHAMPION
from midstream.state.structures.hashing import id_hash


class Restated(NamedTuple):
    """Known content of the state, as events."""

    events: EventBatch
    nameless: int
    """Changes of users whose id is in no event that could be read: left out."""


PARTITIONS_EACH = 200
"""Positions in one event: 200 of the longest make 200 kB, and a body may have 256 KiB."""
_KINDS = (int(Kind.USER), int(Kind.ERASE))
_MERGE = int(Operation.MERGE)


def restated(fold: Fold, events: Iterable[EventBatch], until_ms: int | None = None) -> Restated:
    """Return events that say all documents, merges, erasures, aliases of models, placements and input positions.

    The state knows users by hash alone, so their ids are looked for in the events. Cost: reads the events once, and
    20 µs an event that is returned; there are at most as many as had made what they say.

    Args:
        fold: Knows what is to be said.
        events: All before the fold's log position, as far as they can be read, and those that stand for what is
            gone: they say who the users are.
        until_ms: Latest log time that what is returned may have; None = that of the fold.
    """
    last_ms = fold.log_time_ms if until_ms is None else min(until_ms, fold.log_time_ms)
    slots = fold.vocabulary.arrays()["user_hash"]
    wanted = {int(slots[slot]) for slot, _ in fold.users.changes()}
    key = fold.vocabulary.id_key
    texts: dict[int, str] = {}
    kept: list[Event] = []
    aliases = set(fold.vocabulary.aliases.arrays()["alias"].tolist())
    erased = set(fold.vocabulary.erasures.arrays()["user_hash"].tolist())
    for event in _of_people(events):
        for text in _ids_of(event):
            if (known := id_hash(text, key)) in wanted:
                texts[known] = text
        if event.kind == Kind.ERASE:
            still_matters = not erased.isdisjoint((id_hash(event.user_id, key), *blanked_hashes(event.body)))
        else:
            merged = id_hash(merged_id(event.body), key) if event.operation == _MERGE else 0
            # An erase takes in what was merged before, which the log is to be rewritten without as well.
            still_matters = merged in aliases or merged in erased
        if still_matters and event.log_time_ms <= last_ms:
            kept.append(event)
    limits = fold.settings.limits
    kept = kept[-(limits.aliases_max + limits.erased_max) :]
    erased_ms = {id_hash(event.user_id, key): event.log_time_ms for event in kept if event.kind == Kind.ERASE}
    users = list(_users(fold, texts, erased_ms, last_ms))
    controls = (*_promotions(fold, last_ms), *_placements(fold, last_ms), *_inputs(fold, last_ms))
    every = (*kept, *_items(fold, last_ms), *users, *controls)
    found = sorted(every, key=lambda event: event.log_time_ms)
    return Restated(build(found), sum(1 for _ in fold.users.changes()) - len(users))


def _promotions(fold: Fold, last_ms: int) -> Iterator[Event]:
    """Yield what aliases of models stand for, each after what it stood for before: a rollback needs both.

    A version that goes on learning goes on from what it has learned.

    Those named longest ago come first, so that they make room first here too.
    """
    for number, row in enumerate(sorted(fold.promotions.rows, key=lambda row: row.position)):
        for place, version, manifest in ((0, row.previous, row.previous_manifest), (1, row.version, row.manifest)):
            sums = fold.online.sums(row.model, version) if row.alias == CHAMPION else None
            yield Event(
                Kind.CONTROL,
                event_id=f"base:model:{number}:{place}",
                body=promotion_body(row.model, row.alias, version, manifest, sums),
                log_time_ms=min(row.log_time_ms, last_ms),
            )


def _placements(fold: Fold, last_ms: int) -> Iterator[Event]:
    """Yield what is kept of placements, each version after the one before it."""
    for number, row in enumerate(fold.placements.rows):
        body = placement_body(row.name, row.version, row.content, row.author, row.note)
        yield Event(
            Kind.CONTROL,
            event_id=f"base:placement:{number}",
            body=encode_placement(body),
            log_time_ms=min(row.log_time_ms, last_ms),
        )


def _inputs(fold: Fold, last_ms: int) -> Iterator[Event]:
    """Yield how far each input has read."""
    for number, row in enumerate(fold.inputs.rows):
        positions = sorted(row.next.items())
        for start in range(0, len(positions), PARTITIONS_EACH):
            piece = dict(positions[start : start + PARTITIONS_EACH])
            yield Event(
                Kind.CONTROL,
                event_id=f"base:input:{number}:{start}",
                body=encode_input_position(InputPosition(row.input, row.topic, row.topic_id, piece)),
                log_time_ms=min(row.log_time_ms, last_ms),
            )


def _of_people(events: Iterable[EventBatch]) -> Iterator[Event]:
    for batch in events:
        kinds = batch.rows["kind"]
        for index in ((kinds == _KINDS[0]) | (kinds == _KINDS[1])).nonzero()[0].tolist():
            yield event_at(batch, index)


def _ids_of(event: Event) -> tuple[str, ...]:
    is_merge = event.kind == Kind.USER and event.operation == _MERGE
    return (event.user_id, merged_id(event.body)) if is_merge else (event.user_id,)


def _items(fold: Fold, last_ms: int) -> Iterator[Event]:
    for number, (index, change) in enumerate(fold.items.changes()):
        log_time_ms = min(change.time_ms, last_ms)
        yield Event(
            Kind.ITEM,
            change.operation,
            event_id=f"base:item:{number}",
            item_id=fold.vocabulary.item_id(index),
            body=change.body,
            event_time_ms=change.time_ms,
            log_time_ms=log_time_ms,
        )


def _users(fold: Fold, texts: dict[int, str], erased_ms: dict[int, int], last_ms: int) -> Iterator[Event]:
    slots = fold.vocabulary.arrays()["user_hash"]
    for number, (slot, change) in enumerate(fold.users.changes()):
        user_hash = int(slots[slot])
        if user_hash not in texts:
            continue
        # Who came back after an erasure is not erased again by what is said in the order of times.
        log_time_ms = max(min(change.time_ms, last_ms), erased_ms.get(user_hash, 0))
        yield Event(
            Kind.USER,
            change.operation,
            event_id=f"base:user:{number}",
            user_id=texts[user_hash],
            body=change.body,
            event_time_ms=change.time_ms,
            log_time_ms=log_time_ms,
        )
