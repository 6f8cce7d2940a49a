"""Trending by segment: heat of items by the value of one declared attribute of users or of acts.

The attribute is ``user.<name>``, read from the user's profile, or ``context.<name>``, read from the context that an act
brings. Its values get codes by first appearance, ``segment_values_max`` of them; a later value has none, and an act
without a code counts for the whole shop alone. Heat is that of the items table for the shortest half-life: decay weight
times the action's weight, of actions with a weight above 0, added one act at a time in log order. The hottest available
items of each value are kept sorted (``state.structures.top_list``); the lists are no state of their own.

A user's code is kept beside the slot, so no profile is read at an act: it changes when a user event changes the profile
and is cleared when the slot changes hands. An act belongs to the segment that its user was in then.
"""

from collections.abc import Mapping
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, UserChange, UserForgotten, UserMerged
from midstream.core.kinds import Kind
from midstream.core.types import Index, IndexedBatch
from midstream.events.schema import text_lengths
from midstream.state.attributes.attributes import ValueCodes, text_of
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.segments.segment_fold import COUNT, LANDMARK, LOG_TIME, fold_segments
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import decay_weight
from midstream.state.structures.hot_lists import HotLists
from midstream.state.users.users import Users

USER, CONTEXT = "user", "context"
"""Where the attribute may come from."""
_INTERACTION = np.uint8(Kind.INTERACTION)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_context = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def segment_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits = settings.limits
    if not settings.segment:
        return 0
    value = 8 * limits.items_max + 2 * limits.hot_items_max * (8 + 4)
    return limits.users_max * 2 + limits.items_max + limits.segment_values_max * value


class Segments:
    """Heat by value and item, and the hottest items of each value. Without a declared attribute it holds nothing."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary, items: Items, users: Users) -> None:
        """Reserve the maximum; pages are paid when touched.

        Args:
            settings: The attribute, maxima, weights, half-lives.
            vocabulary: Item hashes, for ties.
            items: What may be served, as it is after the part of a batch that is folded next.
            users: What that part says of profiles.
        """
        limits = settings.limits
        self._scope, _, self._name = settings.segment.partition(".")
        values_max = limits.segment_values_max if settings.segment else 0
        items_max = limits.items_max if settings.segment else 0
        self._vocabulary, self._items, self._users = vocabulary, items, users
        self.half_life_ms = min(each.ms for each in settings.half_lives)
        """The shortest of those for which lists are kept."""
        self._weights = np.array([settings.types[name].weight for name in settings.action_names()], dtype=np.float64)
        self._codes = ValueCodes(values_max)
        self._refused_count = 0
        self._clock = np.zeros(LANDMARK + 1, dtype=np.int64)
        # 1 + the code, 0 = none: so that pages of users that never had one are not touched.
        self._user_code = np.zeros(limits.users_max if settings.segment else 0, dtype=np.int16)
        self._eligible = np.zeros(items_max, dtype=np.bool_)
        self._hot = HotLists(values_max, items_max, limits.hot_items_max)
        self._totals = np.zeros(values_max + 1, dtype=np.float64)

    @property
    def is_declared(self) -> bool:
        """Whether an attribute makes segments; else events change nothing here."""
        return bool(self._name)

    def apply(self, step: FoldStep) -> None:
        """Fold a part of a step that items and users have folded (``state.steps.parts``).

        Cost: about 0.1 µs an act, and 0.5 µs more to read its context; 4 µs an item event where 32 values are known.
        """
        if not self._name:
            return
        batch = step.events
        context_code = self._context_codes(batch) if self._scope == CONTEXT else np.empty(0, dtype=np.int16)
        hot, profiles = self._hot, self._users.profiles if self._scope == USER else ()
        fold_segments(
            batch.kind,
            batch.action,
            batch.folded,
            batch.user_index,
            batch.user_is_new,
            batch.item_index,
            batch.event_time_ms,
            batch.log_time_ms,
            context_code,
            np.array([event for event, _ in profiles], dtype=np.int64),
            np.array([self._admit(value) for _, value in profiles], dtype=np.int16),
            self._weights,
            self.half_life_ms,
            self._items.available,
            len(self._codes),
            self._clock,
            self._user_code,
            self._eligible,
            self._totals,
            hot.heat,
            hot.values,
            hot.items,
            hot.states,
            self._vocabulary.item_hash,
        )
        if step.change is not None:
            self._follow(step.change)

    def _follow(self, change: UserChange) -> None:
        if isinstance(change, UserMerged) and change.other >= 0:
            self.merge(change.into, change.other)
        elif isinstance(change, UserForgotten) and change.slot >= 0:
            self.forget(change.slot)

    def merge(self, into_index: int, from_index: int) -> None:
        """Put a user into the segment of the profile that two merged into; what both did stays where it was counted."""
        if self._scope == USER:
            text = text_of(self._users.watched_value(into_index))
            # Each of the two had its code when its profile was folded, so a value without one gets none now.
            self._user_code[into_index] = 1 + (self._codes.find(text) if text else -1)
            self.forget(from_index)

    def forget(self, user_index: int) -> None:
        """Put the user of a slot that is given up into no segment."""
        if self._scope == USER:
            self._user_code[user_index] = 0

    def _context_codes(self, batch: IndexedBatch) -> NDArray[np.int16]:
        """Return the code of each act's context, -1 = none, shape (n,). Only acts that make heat are read."""
        found = np.full(len(batch), -1, dtype=np.int16)
        rows = batch.source.rows
        acts = batch.folded & (batch.kind == _INTERACTION) & (batch.item_index >= 0) & (rows["body_length"] > 0)
        acts &= (batch.action >= 0) & (self._weights[batch.action] > 0.0)
        chosen = np.flatnonzero(acts)
        if len(chosen):
            lengths = text_lengths(batch.source)[chosen]
            stops = rows["text_start"][chosen].astype(np.int64) + lengths.sum(axis=1)
            starts = stops - lengths[:, -1]
            text = batch.source.text
            for event, start, stop in zip(chosen.tolist(), starts.tolist(), stops.tolist(), strict=True):
                found[event] = self._admit(_value_in(text[start:stop], self._name))
        return found

    def _admit(self, value: object) -> int:
        """Return the code of a value, -1 where there is none to be had; one that gets none is counted."""
        text = text_of(value)
        if not text:
            return -1
        code = self._codes.admit(text)
        self._refused_count += code < 0
        return code

    def asking(self, user_index: int, context: Mapping[str, str | float | bool]) -> int:
        """Return the code of the segment of a request, from the profile or the context; -1 = unknown.

        Args:
            user_index: -1 = no user, or one that is not known.
            context: Of the request.
        """
        if self._scope == USER:
            return int(self._user_code[user_index]) - 1 if user_index >= 0 else -1
        text = text_of(context.get(self._name))
        return self._codes.find(text) if text else -1

    def hottest(self, code: int, limit: int) -> Index:
        """Return the available items with the most heat in a segment, best first; equal ones by id hash.

        At most ``hot_items_max`` come back, and fewer when fewer have any heat there.
        """
        return self._hot.hottest(code, limit)

    def heat(self, code: int, item_index: Index) -> NDArray[np.float64]:
        """Return the heat of items in a segment as of the log time of the last event, shape (n,)."""
        heat: NDArray[np.float64] = self._hot.heat[code, item_index]
        return heat * self._factor()

    def total(self, code: int) -> float:
        """Return the heat of all items in a segment, as of then; of the whole shop for code -1."""
        return float(self._totals[code]) * self._factor()

    def _factor(self) -> float:
        return decay_weight(int(self._clock[LANDMARK]), int(self._clock[LOG_TIME]), self.half_life_ms)

    @property
    def values(self) -> tuple[str, ...]:
        """The values that have a code, in its order."""
        return tuple(str(self._codes.text(code)) for code in range(len(self._codes)))

    @property
    def refused_values_count(self) -> int:
        """Values that got no code because none was left or they were too long, each time they came."""
        return self._refused_count

    @property
    def bytes_now(self) -> int:
        """Memory of what has been used, about."""
        if not self._name:
            return 0
        used = len(self._codes) * (int(self._clock[COUNT]) * 8 + self._hot.list_bytes)
        return int(np.count_nonzero(self._user_code)) * 2 + used

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._user_code.nbytes + self._eligible.nbytes + self._hot.nbytes

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the values, the users that have one, and the heat that is not 0, by code and then by item."""
        code, item = np.nonzero(self._hot.heat[: len(self._codes), : int(self._clock[COUNT])])
        user = np.flatnonzero(self._user_code)
        texts, lengths = self._codes.arrays()
        return {
            "clock": self._clock.copy(),
            "texts": texts,
            "text_lengths": lengths,
            "refused": np.array([self._refused_count], dtype=np.int64),
            "user": user.astype(np.int32),
            "user_code": self._user_code[user] - np.int16(1),
            "heat_code": code.astype(np.int16),
            "heat_item": item.astype(np.int32),
            "heat": self._hot.heat[code, item],
            "totals": np.append(self._totals[: len(self._codes)], self._totals[-1]),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned; items must have been restored."""
        self._hot.heat[: len(self._codes), : int(self._clock[COUNT])] = 0.0
        self._user_code[:] = 0
        self._totals[:] = 0.0
        self._clock[:] = arrays["clock"]
        self._codes.restore(arrays["texts"].astype(np.uint8), arrays["text_lengths"].astype(np.int32))
        self._refused_count = int(cast("NDArray[np.int64]", arrays["refused"])[0])
        self._user_code[arrays["user"].astype(np.intp)] = arrays["user_code"].astype(np.int16) + np.int16(1)
        self._hot.heat[arrays["heat_code"].astype(np.intp), arrays["heat_item"].astype(np.intp)] = arrays["heat"]
        totals = arrays["totals"].astype(np.float64)
        self._totals[: len(totals) - 1], self._totals[-1] = totals[:-1], totals[-1]
        self._eligible[:] = self._items.available[: len(self._eligible)]
        self._hot.build(self._eligible, int(self._clock[COUNT]), self._vocabulary.item_hash)


def _value_in(body: bytes, name: str) -> object:
    """Return one value of a JSON object, None = it has none that can be read."""
    try:
        raw = _decode_context(body).get(name)
        return None if raw is None else msgspec.json.decode(raw)
    except _UNREADABLE:
        return None
