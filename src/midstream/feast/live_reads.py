"""Reads of live features for rows of ids, in as few calls of ``POST /v1/features/read`` as they need.

A call is for one user and one session, and up to 1,000 items; its values are those of one log position. Rows of one
user and session share a call.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.integrations.feast.tags import NO_ITEM

ITEMS_MAX = 1_000
"""Items of a call, as the server has it."""
PAGE = "/docs/feature-stores.md"


class LiveItemValues(msgspec.Struct, frozen=True):
    """Values of one item."""

    id: str
    values: list[float | None]


class ReadAnswer(msgspec.Struct, frozen=True):
    """Answer of ``POST /v1/features/read``, less what nobody reads here."""

    features: tuple[str, ...]
    """Columns."""
    items: tuple[LiveItemValues, ...]
    log_position: str = ""
    state_age_ms: int = 0


class ReadCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of one call."""

    items: tuple[str, ...]
    features: tuple[str, ...]
    user_id: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReadRow:
    """Ids that a row of values is read for."""

    user_id: str | None = None
    session_id: str | None = None
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedReads:
    """The calls that some rows need, and where the values of each row are in their answers."""

    calls: tuple[ReadCall, ...]
    places: tuple[tuple[int, int], ...]
    """Of each row: number of its call, and of its item there."""

    def rows(self, answers: Sequence[ReadAnswer]) -> Iterator[Mapping[str, float | None]]:
        """Yield the values of each row by column.

        Args:
            answers: Of the calls, in their order.
        """
        for call, item in self.places:
            found = answers[call]
            yield dict(zip(found.features, found.items[item].values, strict=True))


def planned(rows: Sequence[ReadRow], features: Sequence[str], calls_max: int) -> PlannedReads:
    """Return the calls that rows need.

    Args:
        rows: In any order; one may be repeated.
        features: Names of features that are read for all rows.
        calls_max: More calls are refused.

    Raises:
        Invalid: There would be more.
    """
    groups: dict[tuple[str | None, str | None], dict[str, int]] = {}
    for row in rows:
        items = groups.setdefault((row.user_id, row.session_id), {})
        if row.item_id is not None:
            items.setdefault(row.item_id, len(items))
    calls: list[ReadCall] = []
    first_calls: dict[tuple[str | None, str | None], int] = {}
    for key, items in groups.items():
        first_calls[key] = len(calls)
        ids = tuple(items) or (NO_ITEM,)
        parts = (ids[start : start + ITEMS_MAX] for start in range(0, len(ids), ITEMS_MAX))
        calls.extend(ReadCall(part, tuple(features), *key) for part in parts)
    if len(calls) > calls_max:
        came = f"{len(rows)} rows of {len(groups)} users and sessions need {len(calls)} calls."
        raise Invalid((Fault("entity_rows", came, f"At most {calls_max} calls (calls_max): fewer rows.", PAGE),))
    places: list[tuple[int, int]] = []
    for row in rows:
        key = row.user_id, row.session_id
        number = 0 if row.item_id is None else groups[key][row.item_id]
        places.append((first_calls[key] + number // ITEMS_MAX, number % ITEMS_MAX))
    return PlannedReads(tuple(calls), tuple(places))
