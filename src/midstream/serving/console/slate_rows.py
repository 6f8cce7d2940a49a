"""Slates as rows for people: items with their titles, and two slates beside each other by position."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from midstream.serving.console.api_reader import ApiReader

TITLES: Final = ("title", "name")
"""Attributes that say what an item is, the first that it has; no more are asked for with a slate."""
LOOKUPS_MAX: Final = 100
"""Items of a page whose titles are looked up one by one, 0.3 ms each; those below have their ids alone."""
_TITLE_CHARACTERS_MAX: Final = 80
SlateItems: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One position of two slates."""

    position: int
    today: Mapping[str, Any] | None
    """None = today's slate is shorter."""
    proposed: Mapping[str, Any] | None
    move: str
    """Of the proposed item: new, up 2, down 1, or stays; empty = there is none, or nothing to compare."""
    leaves: bool
    """Whether today's item is not in the proposed slate."""


def compared_rows(proposed: SlateItems, today: SlateItems | None) -> Sequence[ComparedRow]:
    """Return the positions of two slates.

    Args:
        proposed: Items of the slate as it would be.
        today: Of the slate as it is; None = there is none.

    Example:
        >>> rows = compared_rows([{"id": "b"}, {"id": "c"}], [{"id": "a"}, {"id": "b"}, {"id": "d"}])
        >>> [(each.position, each.move, each.leaves) for each in rows]
        [(0, 'up 1', True), (1, 'new', False), (2, '', True)]
    """
    before = {each["id"]: place for place, each in enumerate(today or ())}
    stays = {each["id"] for each in proposed}
    return [
        ComparedRow(
            place,
            left,
            right,
            "" if right is None or today is None else _move(before.get(right["id"]), place),
            left is not None and left["id"] not in stays,
        )
        for place, (left, right) in enumerate(zip_longest(today or (), proposed))
    ]


def _move(before: int | None, now: int) -> str:
    if before is None:
        return "new"
    return "stays" if before == now else f"{'up' if now < before else 'down'} {abs(now - before)}"


def title_of(attributes: Mapping[str, Any] | None) -> str:
    """Return what an item is called by its attributes; empty = none of them says it."""
    found = next((str(attributes[each]) for each in TITLES if attributes and attributes.get(each)), "")
    is_short = len(found) <= _TITLE_CHARACTERS_MAX
    return found if is_short else f"{found[: _TITLE_CHARACTERS_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"


async def titles_of(api: ApiReader, item_ids: Iterable[str]) -> Mapping[str, str]:
    """Return the titles of items, of the first ``LOOKUPS_MAX`` different ones; those without one are left out."""
    wanted = list(dict.fromkeys(item_ids))[:LOOKUPS_MAX]
    found = await asyncio.gather(*(api.get(f"/v1/items/{quote(each, safe='')}") for each in wanted))
    named = zip(wanted, found, strict=True)
    told = {each: title_of(answer.body["attributes"]) for each, answer in named if answer.is_good}
    return {each: title for each, title in told.items() if title}
