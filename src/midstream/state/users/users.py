"""Users: one packed row of fixed size a slot, and a document.

A row holds the last interactions in the order in which they came, counts by action, the items last seen
with how often, when the user was first and last here, and decayed affinities to the values of each category
attribute. It can be handed to another process as it is (``Users.dtype``). Slots are the vocabulary's; a
slot that changes hands starts cold, in the middle of a batch if need be. So does that of a user who is deleted:
the row forgets whatever came before in the log, the document what is not newer than the time of the delete.

Events more than 24 h behind log time move affinities only, where decay makes them weigh what they should.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, UserChange, UserForgotten, UserMerged
from midstream.core.kinds import Kind, Operation
from midstream.core.types import Index, IndexedBatch, Mask, Score
from midstream.events.schema import TIME_SENT, texts_of
from midstream.state.attributes.documents import Change, Documents
from midstream.state.settings import FoldSettings
from midstream.state.structures.borrowed import address_of
from midstream.state.structures.row_merge import add_row, ring_places, ring_times
from midstream.state.users.affinities import (
    AFFINITIES_MAX,
    AffinityRows,
    fold_affinities,
    merge_affinities,
    read_affinities,
)
from midstream.state.users.ring_query import newest_distinct
from midstream.state.users.user_fold import SEEN_COUNT_MAX, UserRows, fold_users

ACTIONS_MAX = 16
"""Configured actions: each user has a count of each in its row, 4 bytes."""
_USER = int(Kind.USER)
_SECOND_MS = 1_000
_LOW32 = 0xFFFFFFFF
_WORD_BYTES = 8
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


class RingColumns(NamedTuple):
    """Arrays in which kernels read the last interactions of a user."""

    octets: NDArray[np.uint8]
    ints: NDArray[np.int32]
    at: NDArray[np.int64]  # as ``_places`` gives it
    is_positive: Mask  # by the action's number


def user_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits, categories = settings.limits, list(settings.attributes.values()).count("category")
    row = 88 + 21 * limits.user_ring_max  # as in ``row_dtype``, which cannot be made of the largest rings
    row += -row % _WORD_BYTES + categories * (8 + 8 * AFFINITIES_MAX)
    return limits.users_max * row + limits.document_bytes_max


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
        self.dtype = row_dtype(self._ring_max, len(self._attributes))
        """Layout of a row."""
        self._rows = np.zeros(settings.limits.users_max, dtype=self.dtype)
        packed = self._rows.view(np.uint8).reshape(len(self._rows), self.dtype.itemsize)
        self._bytes = packed
        self._shorts = packed.view(np.uint16)
        self._ints = packed.view(np.int32)
        self._floats = packed.view(np.float32)
        self._longs = packed.view(np.int64)
        self._at = _places(self.dtype, self._ring_max)
        self._affinity_at = [_affinity_places(self.dtype, name) for name in range(len(self._attributes))]
        self._used = np.zeros(1, dtype=np.int64)
        self.rows = UserRows(self._at, self._bytes, self._shorts, self._ints, self._longs, self._used)
        """For the one pass over all tables (``state.one_pass``)."""
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
    def refused_documents_count(self) -> int:
        """Changes of profiles that were not made: no JSON object, too long, or no room."""
        return self._documents.refused_count

    @property
    def bytes_now(self) -> int:
        """Memory of what has been used, about."""
        return int(self._used[0]) * self.dtype.itemsize + self._documents.bytes_used

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched and no more document fits."""
        return self._rows.nbytes + self._document_bytes_max

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

    def merge(self, into_index: int, from_index: int) -> None:
        """Add what is known of one user to another, and forget the first. Cost: about 100 µs.

        Of a profile, what is known of the user that stays wins, whatever its time; other fields are filled in unless
        they are older than a change of that profile that said something of every field.
        """
        add_row(self._rows[into_index], self._rows[from_index], SEEN_COUNT_MAX)
        for at in self._affinity_at:
            merge_affinities(into_index, from_index, at, self._ints, self._floats, self._longs)
        self._documents.merge(into_index, from_index)
        self.forget(from_index)

    def forget(self, user_index: int) -> None:
        """Make the row of a slot that is given up empty, and drop its document."""
        self._bytes[user_index] = 0
        self._documents.drop(user_index)

    def recent(self, user_index: int) -> RecentInteractions:
        """Return the last interactions of a user."""
        row = self._rows[user_index]
        held = ring_places(int(row["added"]), self._ring_max)
        return RecentInteractions(
            row["ring_item"][held], row["ring_action"][held].astype(np.int16), ring_times(row, held)
        )

    def last_distinct(self, user_index: int, actions: tuple[str, ...], count_max: int) -> Index:
        """Return the distinct items of a user's last interactions, the newest first.

        Args:
            user_index: Slot.
            actions: What counts; empty = all actions with a weight above 0.
            count_max: At most so many.
        """
        row = self._rows[user_index]
        wanted = np.isin(self._names, actions) if actions else self.is_positive
        return newest_distinct(row["ring_item"], row["ring_action"], int(row["added"]), wanted, count_max)

    @property
    def ring_columns(self) -> RingColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        return RingColumns(self._bytes, self._ints, self._at, self.is_positive)

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
        row = self._rows[user_index]
        length = int(row["seen_length"])
        seconds = row["seen_second"][:length].astype(np.int64) & _LOW32
        counts = row["seen_count"][:length].astype(np.int64)
        return SeenItems(row["seen_item"][:length].copy(), counts, seconds * _SECOND_MS)

    def counts(self, user_index: int) -> dict[str, int]:
        """Return how often a user did each configured action."""
        return dict(zip(self._names, self._rows["counts"][user_index].tolist(), strict=False))

    def first_seen_ms(self, user_index: int) -> int:
        """Return the log time of a user's first interaction or impression since the slot was taken; 0 = none."""
        return int(self._rows["first_ms"][user_index])

    def last_seen_ms(self, user_index: int) -> int:
        """Return the log time of a user's last interaction or impression; 0 = none."""
        return int(self._rows["last_ms"][user_index])

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
        """Return the rows by slot as bytes (n, bytes of a row), a view, and the documents."""
        held: dict[str, NDArray[np.generic]] = {"rows": self._bytes[: int(self._used[0])]}
        held.update({f"document.{name}": each for name, each in self._documents.arrays().items()})
        return held

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return the memory of all rows: its first ones are those of ``arrays``."""
        return {"rows": self._bytes}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned; rows that lie where they belong are not read."""
        rows = arrays["rows"]
        count = len(rows)
        self._bytes[count : int(self._used[0])] = 0
        if not np.may_share_memory(rows, self._bytes):
            self._bytes[:count] = rows
        self._used[0] = count
        held = {name.removeprefix("document."): each for name, each in arrays.items() if name.startswith("document.")}
        self._documents.restore(held)

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


def row_dtype(ring_max: int, attribute_count: int) -> np.dtype[np.void]:
    """Return the layout of a row: 88 bytes, 21 for each place of the ring, 136 for each category attribute.

    Rings are in no order to read them by: ``added`` says how many came and thus where the oldest lies.
    """
    main = [
        ("first_ms", "<i8"),
        ("last_ms", "<i8"),
        ("counts", "<i4", (ACTIONS_MAX,)),
        ("added", "<i4"),
        ("seen_length", "<i4"),
        ("ring_item", "<i4", (ring_max,)),
        ("ring_time_low", "<i4", (ring_max,)),
        ("seen_item", "<i4", (ring_max,)),
        ("seen_second", "<i4", (ring_max,)),
        ("ring_time_high", "<u2", (ring_max,)),
        ("seen_count", "<u2", (ring_max,)),
        ("ring_action", "i1", (ring_max,)),
    ]
    unused = -np.dtype(main).itemsize % _WORD_BYTES
    affinities = [
        field
        for number in range(attribute_count)
        for field in (
            (f"affinity_landmark_{number}", "<i8"),
            (f"affinity_code_{number}", "<i4", (AFFINITIES_MAX,)),
            (f"affinity_weight_{number}", "<f4", (AFFINITIES_MAX,)),
        )
    ]
    return np.dtype([*main, ("unused", "u1", (unused,)), *affinities])


def _fields(dtype: np.dtype[np.void]) -> Mapping[str, tuple[np.dtype[np.generic], int]]:
    return cast("Mapping[str, tuple[np.dtype[np.generic], int]]", dtype.fields)


def _offset(dtype: np.dtype[np.void], name: str) -> int:
    """Return the place of a field in units of its own elements."""
    field = _fields(dtype)[name]
    return int(field[1]) // field[0].base.itemsize


_PLACES = (
    "counts",
    "added",
    "seen_length",
    "ring_item",
    "ring_time_low",
    "seen_item",
    "seen_second",
    "ring_time_high",
    "seen_count",
    "ring_action",
)


def _places(dtype: np.dtype[np.void], ring_max: int) -> NDArray[np.int64]:
    """Return where each of ``_PLACES`` lies, then the length of the ring and of the part to clear, in words."""
    unused = _fields(dtype)["unused"]
    words = (int(unused[1]) + unused[0].itemsize) // _WORD_BYTES
    return np.array([*(_offset(dtype, name) for name in _PLACES), ring_max, words], dtype=np.int64)


def _affinity_places(dtype: np.dtype[np.void], number: int) -> NDArray[np.int64]:
    names = ("affinity_landmark", "affinity_code", "affinity_weight")
    return np.array([_offset(dtype, f"{name}_{number}") for name in names], dtype=np.int64)
