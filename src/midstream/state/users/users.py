"""Users: one row a slot, in parts (``users.user_rows``), and a document.

A row holds the last interactions in the order in which they came, counts by action, the items last seen
with how often, when the user was first and last here, and decayed affinities to the values of each category
attribute. Packed it has one fixed size (``Users.dtype``). Slots are the vocabulary's; a
slot that changes hands starts cold, in the middle of a batch if need be. So does that of a user who is deleted:
the row forgets whatever came before in the log, the document what is not newer than the time of the delete.

Events more than 24 h behind log time move affinities only, where decay makes them weigh what they should.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ActRetracted, FoldStep, UserChange, UserForgotten, UserMerged
from midstream.core.kinds import Kind, Operation
from midstream.core.types import Index, IndexedBatch, Mask, Score
from midstream.events.schema import TIME_SENT, texts_of
from midstream.state.attributes.documents import Change, Documents
from midstream.state.settings import FoldSettings
from midstream.state.structures.aligned import aligned_zeros
from midstream.state.structures.borrowed import address_of
from midstream.state.structures.row_merge import add_row, ring_places
from midstream.state.structures.windows import LATE_MS_MAX
from midstream.state.users.affinities import (
    AFFINITIES_MAX,
    AffinityRows,
    fold_affinities,
    merge_affinities,
    read_affinities,
)
from midstream.state.users.retracted_acts import retract_affinity, ring_without, seen_without
from midstream.state.users.ring_query import newest_distinct
from midstream.state.users.user_fold import SEEN_COUNT_MAX, fold_users
from midstream.state.users.user_rows import (
    ACTION_BITS,
    ACTIONS_MAX,
    INLINE,
    PLACE_WORDS,
    RING_POOL,
    SEEN_POOL,
    USED,
    RingColumns,
    UserRows,
    affinity_places,
    head_dtype,
    head_places,
    pack_rows,
    packed_room,
    release_blocks,
    row_dtype,
    row_sizes,
    take_block,
)

PARTS = ("rows", "ring", "seen", "pools")
"""Arrays of the table in which the rows lie, by name."""
PACKED_AT_ONCE = 512
"""Rows that are packed for a digest: half a megabyte, which stays in the cache."""
_USER = int(Kind.USER)
_SECOND_MS = 1_000
_LOW32 = 0xFFFFFFFF
_HIGH16 = 0xFFFF
_BODY = 6


@dataclass(frozen=True, slots=True, eq=False)
class RecentInteractions:
    """Last interactions of a user, oldest first. All columns (n,)."""

    item_index: Index
    action: NDArray[np.int16]
    event_time_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SeenItems:
    """Items that a user has seen lately, the longest unseen first. All columns (n,)."""

    item_index: Index
    count: NDArray[np.int64]
    """Impressions since the item entered this list."""
    event_time_ms: NDArray[np.int64]
    """Of the last impression, to the second."""


def user_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits, categories = settings.limits, list(settings.attributes.values()).count("category")
    return limits.users_max * sum(row_sizes(limits.user_ring_max, _counts(settings), categories)) + (
        limits.document_bytes_max
    )


def _counts(settings: FoldSettings) -> int:
    """Return how many counts a head has."""
    return max(len(settings.action_names()), 1)


class Users:
    """Rows and documents of all users, by slot."""

    def __init__(self, settings: FoldSettings, category: Callable[[str], Index]) -> None:
        """Reserve the maximum; pages are paid when touched.

        Args:
            settings: Maxima, actions (16 at most), attributes.
            category: Gives the value codes of a category attribute by item index, -1 = none, as they hold at
                all events of the batch that is folded. An item event that changes them must end a batch.

        Raises:
            ValueError: More actions than a row has counts for.
        """
        self._names = settings.action_names()
        if len(self._names) > ACTIONS_MAX:
            message = f"{len(self._names)} interaction types; at most {ACTIONS_MAX} can be counted by user"
            raise ValueError(message)
        self._attributes = tuple(sorted(name for name, kind in settings.attributes.items() if kind == "category"))
        self._category = category
        weights = [settings.types[name].weight for name in self._names]
        self._weights = np.array(weights, dtype=np.float64)
        self._ring_max = settings.limits.user_ring_max
        users_max, attributes = settings.limits.users_max, len(self._attributes)
        self.dtype = row_dtype(self._ring_max, attributes)
        """Layout of a packed row."""
        kind = head_dtype(self._ring_max, _counts(settings), attributes)
        _, tail, seen = row_sizes(self._ring_max, _counts(settings), attributes)
        self._bytes = aligned_zeros((users_max, kind.itemsize), np.dtype(np.uint8))
        self._heads = self._bytes.view(kind)[:, 0]
        self._ints = self._bytes.view(np.int32)
        self._floats = self._bytes.view(np.float32)
        self._longs = self._bytes.view(np.int64)
        self._tails = np.zeros((users_max, tail // 4), dtype=np.int32)
        self._seen = np.zeros((users_max, seen // 4), dtype=np.int32)
        self._shorts = self._seen.view(np.uint16)
        self._at = head_places(kind, self._ring_max)
        self._affinity_at = [affinity_places(kind, number) for number in range(attributes)]
        self._used = np.zeros(5, dtype=np.int64)
        self.rows = UserRows(self._at, self._ints, self._longs, self._tails, self._seen, self._shorts, self._used)
        """For the one pass over all tables (``state.one_pass``)."""
        self.ring_columns = RingColumns(self._ints, self._tails, self._at, self._weights > 0.0)
        """The arrays themselves: they stay the same for as long as the table is."""
        codes = [category(name) for name in self._attributes]
        self.affinity_rows = AffinityRows(
            self._weights,
            np.array(self._affinity_at, dtype=np.int64).reshape(-1, 3),
            np.array([(address_of(each), len(each)) for each in codes], dtype=np.int64).reshape(-1, 2),
            self._floats,
        )
        self._documents = Documents(settings.limits.document_bytes_max)
        self._document_bytes_max = settings.limits.document_bytes_max
        scope, _, name = settings.segment.partition(".")
        self._watched = name if scope == "user" else ""
        self.profiles: list[tuple[int, object]] = []
        """Of the batch that was folded last: each event that may have changed a profile, by its number, and the value
        that the attribute which makes segments has after it, None = none. Empty where no such attribute is declared."""

    @property
    def document_count(self) -> int:
        """Number of documents that are held, marks of deleted users among them."""
        return len(self._documents)

    @property
    def document_share(self) -> float:
        """Share of the room for documents that is in use."""
        return self._documents.bytes_used / self._documents.bytes_max

    @property
    def refused_documents_count(self) -> int:
        """Changes of profiles that were not made: no JSON object, too long, or no room."""
        return self._documents.refused_count

    @property
    def bytes_now(self) -> int:
        """Memory of what has been used, about."""
        parts = ((USED, self._bytes), (RING_POOL, self._tails), (SEEN_POOL, self._seen))
        return self._documents.bytes_used + sum(int(self._used[at]) * (part.nbytes // len(part)) for at, part in parts)

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched and no more document fits."""
        return self._bytes.nbytes + self._tails.nbytes + self._seen.nbytes + self._document_bytes_max

    def apply(self, step: FoldStep) -> None:
        """Fold a part of a step (``state.steps.parts``). Cost: about 50 ns an interaction, 10 µs a user event."""
        batch = step.events
        document_events = fold_users(
            batch.kind, batch.action, batch.folded, batch.user_index, batch.user_is_new, batch.item_index,
            batch.event_time_ms, batch.log_time_ms, *self.rows,
        )  # fmt: skip
        for at, name in zip(self._affinity_at, self._attributes, strict=True):
            fold_affinities(
                batch.kind, batch.action, batch.folded, batch.user_index, batch.user_is_new, batch.item_index,
                batch.event_time_ms, batch.log_time_ms, self._weights, self._category(name), at, self._ints,
                self._floats, self._longs,
            )  # fmt: skip
        self.apply_documents(batch, has_documents=document_events > 0)
        if step.change is not None:
            self._follow(step.change)

    def apply_documents(self, batch: IndexedBatch, *, has_documents: bool) -> None:
        """Fold the documents of events that were folded into rows; ``has_documents`` = one may concern a document."""
        self.profiles = []
        if has_documents:
            self._fold_documents(batch)

    def _follow(self, change: UserChange) -> None:
        if isinstance(change, UserMerged) and change.other >= 0:
            self.merge(change.into, change.other)
        elif isinstance(change, UserForgotten) and change.slot >= 0:
            self.forget(change.slot)
        elif isinstance(change, ActRetracted) and change.user >= 0:
            self.retract(change)

    def merge(self, into_index: int, from_index: int) -> None:
        """Add what is known of one user to another, and forget the first. Cost: about 100 µs.

        Of a profile, what is known of the user that stays wins, whatever its time; other fields are filled in unless
        they are older than a change of that profile that said something of every field.
        """
        into = self._packed(into_index)
        add_row(into, self._packed(from_index), SEEN_COUNT_MAX)
        self._store(into_index, into)
        for at in self._affinity_at:
            merge_affinities(into_index, from_index, at, self._ints, self._floats, self._longs)
        self._documents.merge(into_index, from_index)
        self.forget(from_index)

    def retract(self, act: ActRetracted) -> None:
        """Leave an act out of the row of its user, unless the row began after it. Cost: about 50 µs.

        Of equal interactions the newest leaves the ring. What the act added to affinities is taken off the value that
        its item has now.
        """
        head = self._heads[act.user]
        if not 0 < head["first_ms"] <= act.log_time_ms or (act.action < 0 and not act.is_impression):
            return
        if act.log_time_ms - act.time_ms <= LATE_MS_MAX:
            self._leave(head, act)
        if act.is_impression or act.item_index < 0 or self._weights[act.action] == 0.0:
            return
        for at, name in zip(self._affinity_at, self._attributes, strict=True):
            code = int(self._category(name)[act.item_index])
            if code >= 0:
                weight = float(self._weights[act.action])
                retract_affinity(act.user, code, weight, act.time_ms, at, self._ints, self._floats, self._longs)

    def _leave(self, head: np.void, act: ActRetracted) -> None:
        """Leave an act out of the counts, the ring and the items seen."""
        if act.is_impression:
            if head["seen_length"]:
                columns = self._seen_columns(head)
                head["seen_length"] = seen_without(*columns, int(head["seen_length"]), act.item_index)
            return
        head["counts"][act.action] = max(0, int(head["counts"][act.action]) - 1)
        acts = self._ring(head)
        left = ring_without(acts, int(head["added"]), (act.item_index, act.action, act.time_ms), ACTION_BITS)
        if left is not None:
            inline = len(head["ring"])
            head["ring"] = left[:inline]
            if block := int(head["ring_block"]):
                self._tails[block - 1, : PLACE_WORDS * (self._ring_max - inline)] = left[inline:].reshape(-1)
            head["added"] = min(int(head["added"]), self._ring_max) - 1

    def forget(self, user_index: int) -> None:
        """Make the row of a slot that is given up empty, and drop its document."""
        release_blocks(user_index, self._ints, self._tails, self._seen, self._used)
        self._bytes[user_index] = 0
        self._documents.drop(user_index)

    def _packed(self, user_index: int) -> np.void:
        """Return the packed row of a user: a copy."""
        rows, room = packed_room(self.dtype, 1)
        pack_rows(user_index, self.rows, room)
        found: np.void = rows[0]
        return found

    def _store(self, user_index: int, row: np.void) -> None:
        """Make a packed row, which holds no less than the user's row, that row; affinities stay as they are."""
        head, inline = self._heads[user_index], int(self._at[INLINE])
        for name in ("first_ms", "last_ms", "added", "seen_length"):
            head[name] = row[name]
        head["counts"] = row["counts"][: len(head["counts"])]
        high = row["ring_time_high"] | row["ring_action"].astype(np.int32) << ACTION_BITS
        acts = np.stack((row["ring_item"], row["ring_time_low"], high), axis=1)
        head["ring"] = acts[:inline]
        if row["added"] > inline:
            head["ring_block"] = head["ring_block"] or take_block(self._tails, self._used, RING_POOL)
            self._tails[head["ring_block"] - 1, : PLACE_WORDS * (self._ring_max - inline)] = acts[inline:].reshape(-1)
        if row["seen_length"]:
            head["seen_block"] = head["seen_block"] or take_block(self._seen, self._used, SEEN_POOL)
            items, seconds, counts = self._seen_columns(head)
            items[:], seconds[:], counts[:] = row["seen_item"], row["seen_second"], row["seen_count"]

    def _seen_columns(self, head: np.void) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]:
        """Return views of the items, seconds and counts of a user who has seen something."""
        block, places = int(head["seen_block"]) - 1, self._ring_max
        words, shorts = self._seen[block], self._shorts[block]
        return words[:places], words[places : 2 * places], shorts[4 * places : 5 * places]

    def recent(self, user_index: int) -> RecentInteractions:
        """Return the last interactions of a user."""
        head = self._heads[user_index]
        acts = self._ring(head)[ring_places(int(head["added"]), self._ring_max)]
        low, high = acts[:, 1].astype(np.int64) & _LOW32, acts[:, 2].astype(np.int64)
        times = (high & _HIGH16) << 32 | low
        return RecentInteractions(acts[:, 0].copy(), (high >> ACTION_BITS).astype(np.int16), times)

    def _ring(self, head: np.void) -> NDArray[np.int32]:
        """Return the places of a user's ring that have room, (n, 3), in the order in which they lie."""
        acts: NDArray[np.int32] = head["ring"]
        if block := int(head["ring_block"]):
            further = self._tails[block - 1, : PLACE_WORDS * (self._ring_max - len(acts))]
            return np.concatenate((acts, further.reshape(-1, PLACE_WORDS)))
        return acts

    def last_distinct(self, user_index: int, actions: tuple[str, ...], count_max: int) -> Index:
        """Return the distinct items of a user's last interactions, the newest first.

        Args:
            user_index: Slot.
            actions: What counts; empty = all actions with a weight above 0.
            count_max: At most so many.
        """
        wanted = np.isin(self._names, actions) if actions else self.is_positive
        return newest_distinct(self.ring_columns, user_index, wanted, count_max)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the attributes that ``affinities`` are to, in order."""
        return self._attributes

    @property
    def is_positive(self) -> Mask:
        """Whether each configured action speaks for the item (weight above 0), by the action's number."""
        return self._weights > 0.0

    def weights_of(self, actions: Mapping[str, float]) -> NDArray[np.float64]:
        """Return what each configured action weighs, by its number; without any named, what the settings say.

        Args:
            actions: Action to weight; those that are not named weigh nothing.
        """
        return np.array([actions.get(name, 0.0) for name in self._names]) if actions else self._weights.copy()

    def action_numbers(self, names: Sequence[str]) -> NDArray[np.int16]:
        """Return the numbers of those of these actions that are configured."""
        return np.array([self._names.index(name) for name in names if name in self._names], dtype=np.int16)

    def acted(self, user_index: int, action: str, since_ms: int) -> Index:
        """Return the distinct items, rising, of a user's last interactions with this action from a time on."""
        if action not in self._names:
            return np.empty(0, dtype=np.int32)
        recent = self.recent(user_index)
        wanted = (recent.action == self._names.index(action)) & (recent.event_time_ms >= since_ms)
        return np.unique(recent.item_index[wanted])

    def impressions(self, user_index: int) -> SeenItems:
        """Return the items that a user has seen lately."""
        head = self._heads[user_index]
        length = int(head["seen_length"])
        items, seconds, counts = self._seen_columns(head)
        times = (seconds[:length].astype(np.int64) & _LOW32) * _SECOND_MS
        return SeenItems(items[:length].copy(), counts[:length].astype(np.int64), times)

    def counts(self, user_index: int) -> dict[str, int]:
        """Return how often a user did each configured action."""
        return dict(zip(self._names, self._heads["counts"][user_index].tolist(), strict=False))

    def first_seen_ms(self, user_index: int) -> int:
        """Return the log time of a user's first interaction or impression since the slot was taken; 0 = none."""
        return int(self._heads["first_ms"][user_index])

    def last_seen_ms(self, user_index: int) -> int:
        """Return the log time of a user's last interaction or impression; 0 = none."""
        return int(self._heads["last_ms"][user_index])

    def affinities(self, user_index: int, attribute: str, now_ms: int) -> tuple[Index, Score]:
        """Return the value codes a user leans to and their decayed weights at a time, strongest first."""
        if attribute not in self._attributes:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        at = self._affinity_at[self._attributes.index(attribute)]
        code = np.empty(AFFINITIES_MAX, dtype=np.int32)
        weight = np.empty(AFFINITIES_MAX, dtype=np.float32)
        count = read_affinities(user_index, now_ms, at, self._ints, self._floats, self._longs, code, weight)
        order = np.lexsort((code[:count], -weight[:count]))
        return code[order], weight[order]

    def document(self, user_index: int) -> dict[str, object]:
        """Return the attributes of a user's profile, empty when there are none."""
        return self._documents.get(user_index)

    def value(self, user_index: int, name: str) -> object:
        """Return one attribute of a user's profile as it was sent; None = none."""
        return self._documents.value(user_index, name)

    def watched_value(self, user_index: int) -> object:
        """Return the value of the attribute that makes segments in a user's profile, None = none."""
        return self._documents.value(user_index, self._watched) if self._watched else None

    def changes(self) -> Iterator[tuple[int, Change]]:
        """Yield the changes that make each user's attributes out of nothing: user slot and change, by slot."""
        return ((index, change) for index in self._documents.indices() for change in self._documents.changes(index))

    def exists(self, user_index: int) -> bool:
        """Say whether a profile was sent and not deleted."""
        return user_index in self._documents and not self._documents.is_deleted(user_index)

    def is_forgotten(self, user_index: int) -> bool:
        """Say whether a user was deleted and has done nothing since."""
        return self._documents.is_deleted(user_index) and self.last_seen_ms(user_index) == 0

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the parts of the rows, views, and the documents.

        ``rows`` are heads by slot as bytes, (n, bytes), ``ring`` and ``seen`` the blocks that were ever taken, and
        ``pools`` says which are free. Which block a user has follows from the order of events, so the same log gives
        the same bytes; what a digest covers is ``packed_rows``.
        """
        held: dict[str, NDArray[np.generic]] = {name: part[:count] for name, part, count in self._parts()}
        held["pools"] = self._used.copy()
        held.update({f"document.{name}": each for name, each in self._documents.arrays().items()})
        return held

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return the memory of all parts of rows: the first ones of each are those of ``arrays``."""
        return {name: part for name, part, _ in self._parts()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned; parts that lie where they belong are not read."""
        for name, part, used in self._parts():
            found = arrays[name]
            count = len(found)
            part[count:used] = 0
            if not np.may_share_memory(found, part):
                part[:count] = found
        self._used[:] = arrays["pools"]
        held = {name.removeprefix("document."): each for name, each in arrays.items() if name.startswith("document.")}
        self._documents.restore(held)

    @property
    def packed_shape(self) -> tuple[int, int]:
        """Number of rows in use, and bytes of a packed one."""
        return int(self._used[USED]), self.dtype.itemsize

    def packed_rows(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the packed rows by slot as bytes, (n, bytes of a row), some at a time; valid until the next ones."""
        used, _ = self.packed_shape
        rows, room = packed_room(self.dtype, min(PACKED_AT_ONCE, used))
        for first in range(0, used, PACKED_AT_ONCE):
            some = room._replace(
                **{name: getattr(room, name)[: used - first] for name in ("octets", "shorts", "ints", "longs")}
            )
            rows.view(np.uint8)[:] = 0
            pack_rows(first, self.rows, some)
            yield some.octets

    def _parts(self) -> Iterator[tuple[str, NDArray[np.generic], int]]:
        """Yield name, memory and number in use of the parts of rows."""
        yield "rows", self._bytes, int(self._used[USED])
        yield "ring", self._tails, int(self._used[RING_POOL])
        yield "seen", self._seen, int(self._used[SEEN_POOL])

    def _fold_documents(self, batch: IndexedBatch) -> None:
        """Fold user events, and drop the documents of slots that changed hands, in log order."""
        wanted = batch.kind == _USER
        if len(self._documents) or wanted.any():
            wanted = wanted | batch.user_is_new
        wanted = wanted & batch.folded & (batch.user_index >= 0)
        for event in np.flatnonzero(wanted).tolist():
            index = int(batch.user_index[event])
            operation = int(batch.operation[event])
            # A deleted user's document stays as the mark that keeps older changes from bringing attributes back.
            if batch.user_is_new[event] and operation != Operation.DELETE:
                self._documents.drop(index)
            if batch.kind[event] == _USER and operation != Operation.MERGE:
                body = texts_of(batch.source, event)[_BODY]
                time_ms = int(batch.event_time_ms[event])
                is_timed = bool(batch.source.rows["flags"][event] & TIME_SENT)
                self._documents.apply(index, operation, body, time_ms, is_timed=is_timed)
                if self._watched:
                    self.profiles.append((event, self.watched_value(index)))
