"""Readers of conditions: tests of categories, tags and profiles, an item's counts, the clock.

A test of texts is a column: 1 = true, 0 = false, NaN where either side is missing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast
from zoneinfo import ZoneInfo

import numpy as np

from midstream.core.types import Candidates, Index, Mask, Moment
from midstream.features.readers.request_inputs import TIME_PARTS, Place, TimePart, value_at
from midstream.state.attributes.attributes import text_of
from midstream.state.expressions.program import Columns
from midstream.state.items.items import Items
from midstream.state.users.users import Users

_SECOND_MS = 1_000
_COMPARED_MAX = 16
"""Codes that are compared one by one, 1 µs each; a vectorized search takes 20 µs."""
_FIRST_S, _LAST_S = -62_135_510_400, 253_402_214_400
"""A day after the first second of the year 1 and one before the last of 9999: no zone leads out of what dates hold."""


class Texts(Protocol):
    """One text or several, the same for all candidates. Hashable: two with the same options are equal."""

    def read(self, moment: Moment) -> tuple[str, ...] | None:
        """Return them; None = not known."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """Constant of a text."""

    values: tuple[str, ...]

    def read(self, moment: Moment) -> tuple[str, ...]:
        """Return them."""
        return self.values


@dataclass(frozen=True, slots=True)
class ToldText:
    """A text of a profile or context; a number or truth there is the text that JSON has for it."""

    place: Place
    name: str

    def read(self, moment: Moment) -> tuple[str, ...] | None:
        """Return the one text."""
        text = text_of(value_at(moment, self.place, self.name))
        return None if text is None else (text,)


@dataclass(frozen=True, slots=True)
class ToldTexts:
    """A list of texts in a profile."""

    name: str

    def read(self, moment: Moment) -> tuple[str, ...] | None:
        """Return the texts of the list; None where it is no list."""
        value = value_at(moment, "user", self.name)
        if not isinstance(value, list):
            return None
        return tuple(text for each in cast("list[object]", value) if (text := text_of(each)) is not None)


@dataclass(frozen=True, slots=True)
class Top:
    """The values of a category attribute that the user likes most: those of the highest decayed weights above 0."""

    attribute: str
    count: int

    def read(self, moment: Moment) -> tuple[str, ...] | None:
        """Return the values, the most liked first; None for an unknown user."""
        if moment.user_index < 0:
            return None
        code, weight = moment.table(Users).affinities(moment.user_index, self.attribute, moment.query.now_ms)
        liked = code[weight > 0.0][: self.count].tolist()
        items = moment.table(Items)
        return tuple(text for each in liked if (text := items.value_text(self.attribute, each)) is not None)


@dataclass(frozen=True, slots=True)
class ItemAmong:
    """Whether a category attribute is one of some texts."""

    attribute: str
    texts: Texts
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Compare codes: a text that no item has is none of theirs."""
        texts = self.texts.read(moment)
        if texts is None:
            return
        items = moment.table(Items)
        codes = items.category(self.attribute)[candidates.item_index]
        wanted = [code for text in texts if (code := items.value_code(self.attribute, text)) >= 0]
        found[0] = _is_one_of(codes, wanted)
        found[0, _unknown(codes < 0, candidates.item_index)] = np.nan


@dataclass(frozen=True, slots=True)
class ItemTagged:
    """Whether a text is among the tags of an item, of which one without tags has none."""

    attribute: str
    text: Texts
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Search the code among those of each item."""
        texts = self.text.read(moment)
        if texts is None:
            return
        items, item_index = moment.table(Items), candidates.item_index
        found[0] = 0.0
        code = items.value_code(self.attribute, texts[0])
        if code >= 0:
            tags = items.tags(self.attribute).take(item_index, axis=0)
            # Faster than any(axis=1): few of the places hold the tag.
            found[0, np.flatnonzero(tags.ravel() == code) // tags.shape[1]] = 1.0
        if len(item_index) and item_index.min() < 0:
            found[0, item_index < 0] = np.nan


@dataclass(frozen=True, slots=True)
class TextAmong:
    """Whether a text that is the same for all candidates is one of some others."""

    text: Texts
    texts: Texts
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Write the same for all candidates."""
        text, texts = self.text.read(moment), self.texts.read(moment)
        if text is not None and texts is not None:
            found[0] = float(text[0] in texts)


@dataclass(frozen=True, slots=True)
class ItemCount:
    """Number of acts on the item, or impressions, in a window that ends now."""

    action: str
    window_ms: int
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Read the items' windows."""
        found[0] = moment.table(Items).window_count(
            self.action, self.window_ms, moment.query.now_ms, candidates.item_index
        )


@dataclass(frozen=True, slots=True)
class ItemFading:
    """Number of acts on the item, or impressions, each event's weight halving with each half-life."""

    action: str
    half_life_ms: int
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Read the items' fading counters."""
        found[0] = moment.table(Items).decayed_count(
            self.action, self.half_life_ms, moment.query.now_ms, candidates.item_index
        )


@dataclass(frozen=True, slots=True)
class ZoneTime:
    """A part of the time of the request in a time zone, by the rules of the zone at that time."""

    part: TimePart
    timezone: str
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Write the same number for all candidates; NaN outside the years that dates hold."""
        second = moment.query.now_ms // _SECOND_MS
        if _FIRST_S <= second <= _LAST_S:
            found[0] = TIME_PARTS[self.part](second + offset_s(self.timezone, second))


def offset_s(timezone: str, second: int) -> int:
    """Return the seconds that a zone's clocks are ahead of UTC at a second since 1970.

    Raises:
        ZoneInfoNotFoundError: This machine's database has no such zone.
    """
    if timezone == "UTC":  # needs no data of zones
        return 0
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    offset = moment.astimezone(ZoneInfo(timezone)).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _is_one_of(codes: Index, wanted: list[int]) -> Mask:
    """Return where a code is one of some others."""
    if len(wanted) > _COMPARED_MAX:
        return np.isin(codes, np.array(wanted, dtype=np.int32))
    found = np.zeros(len(codes), dtype=np.bool_)
    for code in wanted:
        found |= codes == code
    return found


def _unknown(missing: Mask, item_index: Index) -> Mask:
    """Return where a code is missing, or the item itself is not known."""
    return missing | (item_index < 0) if len(item_index) and item_index.min() < 0 else missing
