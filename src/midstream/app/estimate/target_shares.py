"""Items of logged slates with the target's shares of each place, collected slate by slate for the reward model.

Items are numbered by id: the index of an item is of one state, and states of a log may number it anew. A place lists
the items of the largest shares. Which ones does not depend on what was logged there, as the reward model asks for; all
others count as the rest of the place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.evaluation.off_policy.reward_model import FOLDS, SlateItems
from midstream.ranking.explain.placement_chances import PlacementChances

LISTED_MAX = 8_000_000
"""Listed items of all places of all slates: 14 bytes each while slates are read, and 50 in a fit, 400 MB."""
LISTED_A_PLACE_MAX = 256
"""More have shares below 0.4 % on average."""
_Shares: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SlateShares:
    """One slate: its items, and those that the target would put at each of its places."""

    chosen: NDArray[np.int32]
    """Number of the item of each place, (places,)."""
    is_listed: NDArray[np.bool_]
    """Whether it is listed for its place."""
    place: NDArray[np.int16]
    """Of each listed item, (listed,)."""
    item: NDArray[np.int32]
    share: _Shares


@dataclass(slots=True, eq=False)
class ShareCollector:
    """Numbers items by id, and cuts lists to as many items a place as there is memory for."""

    listed_a_place: int
    numbers: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, slates: int, places: int) -> "ShareCollector":
        """Return a collector for so many slates of so many places at most."""
        return cls(max(1, min(LISTED_A_PLACE_MAX, LISTED_MAX // max(1, slates * places))))

    def collected(
        self, chosen: Sequence[str], target: PlacementChances, ids: Callable[[Index], Sequence[str]]
    ) -> SlateShares:
        """Return the shares of one slate.

        Args:
            chosen: Id of the item at each place.
            target: What the target would make of the request.
            ids: Returns the ids of its candidates.

        Cost: one selection a place, and an id of each item that is listed anywhere.
        """
        share = target.slate.share
        place, column = _largest(share, self.listed_a_place)
        number = np.full(share.shape[1], -1, dtype=np.int32)
        number[column] = 0
        listed = np.flatnonzero(number == 0)
        number[listed] = [self._number(each) for each in ids(target.item_index[listed])]
        item = number[column]
        own = np.array([self._number(each) for each in chosen], dtype=np.int32)
        is_listed = np.bincount(place, item == own[place], len(own)) > 0
        return SlateShares(own, is_listed, place.astype(np.int16), item, share[place, column].astype(np.float32))

    def _number(self, item_id: str) -> int:
        return self.numbers.setdefault(item_id, len(self.numbers))


def slate_items(units: Sequence[str], shares: Sequence[SlateShares], places: int) -> SlateItems:
    """Return the items of slates as columns.

    Args:
        units: Of each slate: its hash says which fold it is in.
        shares: Of each slate.
        places: Width of the columns.
    """
    shape = (len(shares), places)
    chosen, is_listed = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.bool_)
    for at, each in enumerate(shares):
        chosen[at, : len(each.chosen)] = each.chosen[:places]
        is_listed[at, : len(each.chosen)] = each.is_listed[:places]
    fold = np.array([crc32(each.encode()) % FOLDS for each in units], dtype=np.intp)
    counts = [len(each.item) for each in shares]
    return SlateItems(
        fold, chosen, is_listed,
        np.repeat(np.arange(len(shares), dtype=np.int32), counts),
        np.concatenate([np.empty(0, dtype=np.int16), *(each.place for each in shares)]),
        np.concatenate([np.empty(0, dtype=np.int32), *(each.item for each in shares)]),
        np.concatenate([np.empty(0, dtype=np.float32), *(each.share for each in shares)]),
    )  # fmt: skip


def _largest(share: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return place and column of the largest shares above 0 of each place, at most ``count`` a place."""
    if share.shape[1] <= count:
        place, column = np.nonzero(share > 0)
        return place, column
    columns = np.argpartition(share, -count, axis=1)[:, -count:]
    place, at = np.nonzero(np.take_along_axis(share, columns, axis=1) > 0)
    return place, columns[place, at]
