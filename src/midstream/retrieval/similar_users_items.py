"""User-based nearest neighbours: items of users whose sessions hold the same items as the user has acted on lately.

Each of the user's last items i is worth w(i) = log2((n + 1) / n(i)), where n are the sessions that the index holds and
n(i) those of them with the item: rare items tell more. The overlap of another user is the sum of w over the items that
are in a session of theirs, among the newest ``entries_max`` sessions of each item. The users of most overlap are the
neighbours. A neighbour's similarity is its overlap divided by the square root of the number of its own last items, as
in a cosine, so a user with an act on everything is nobody's neighbour. An item's score is the sum of the similarities
of the neighbours that have it among their last items. An item that fewer than ``users_min`` neighbours have is not
proposed, and nothing is told about it: it might be what one person looked at.

Nothing is precomputed: the lists of the session index name the users, and their rows the items, so the last act of a
neighbour counts in the next answer. Work is bounded by ``last_items_max`` lists of ``entries_max`` sessions, and
``neighbours_max`` rows. Sums have a fixed order, and equal users and items come by their hashes.

Reference: P. Resnick, N. Iacovou, M. Suchak, P. Bergstrom, J. Riedl, "GroupLens: An Open Architecture for Collaborative
Filtering of Netnews", CSCW 1994; J. Breese, D. Heckerman, C. Kadie, "Empirical Analysis of Predictive Algorithms for
Collaborative Filtering", UAI 1998, section 2.2, inverse user frequency.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import NOTHING, Evidence
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.structures.exact_math import log2_of
from midstream.state.users.recent_items import NO_ITEMS, distinct_items
from midstream.state.users.users import Users

LIMIT_MAX = 1_000
LAST_ITEMS_MAX = 50
NEIGHBOURS_MAX = 200
"""Rows read of each request, 10 µs each: 2 ms."""
_ALL = 1 << 20
"""More items than a row has."""
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.float64]
_NO_ITEMS = Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))


class Neighbour(NamedTuple):
    """A user who has acted on the same items."""

    user_hash: int
    slot: int
    similarity: float
    """Overlap by the square root of the number of the neighbour's last items."""
    items: Index
    """Last distinct items, the newest first."""


class SimilarUsersItems(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="similar_users_items"
):
    """Items of the users who have acted on the same items as the user, or as the session of a visitor without an id."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "similar_users_items"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 100
    last_items_max: Annotated[int, msgspec.Meta(ge=1, le=LAST_ITEMS_MAX)] = 10
    """Last distinct items of the user by which neighbours are found."""
    entries_max: Annotated[int, msgspec.Meta(ge=1)] = 100
    """Newest sessions of each of these items whose users are looked at."""
    neighbours_max: Annotated[int, msgspec.Meta(ge=1, le=NEIGHBOURS_MAX)] = 50
    neighbour_items_max: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Last distinct items of each neighbour that count."""
    overlap_min: Annotated[int, msgspec.Meta(ge=1, le=LAST_ITEMS_MAX)] = 1
    """Items that a neighbour has in common with the user at least."""
    users_min: Annotated[int, msgspec.Meta(ge=1, le=NEIGHBOURS_MAX)] = 3
    """Neighbours that have an item at least; with fewer an answer tells the last items of single users."""
    actions: tuple[str, ...] = ()
    """Acts by which the user's and the neighbours' items count; none = all with a weight above 0. The session, of which
    acts are not known, stands for the user only with none. Neighbours are found by all acts of sessions."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items, best first; equal ones by id hash. None without an item or a neighbour.

        Items that the user's row or the session has are not proposed. Cost: linear in entries and neighbours.
        """
        found = [_NO_ITEMS.item_index]
        weights = [np.empty(0)]
        for each in self.neighbours(moment):
            items = each.items[: self.neighbour_items_max]
            found.append(items)
            weights.append(np.full(len(items), each.similarity))
        item_index, place, users = np.unique(np.concatenate(found), return_inverse=True, return_counts=True)
        score = np.zeros(len(item_index))
        np.add.at(score, place, np.concatenate(weights))
        allowed = moment.table(Items).available[item_index] & ~np.isin(item_index, self._known(moment))
        allowed &= users >= self.users_min
        item, value = item_index[allowed].astype(np.int32), score[allowed].astype(np.float32)
        order = np.lexsort((moment.table(Vocabulary).item_hash[item], -value))[: self.limit]
        return Proposal(item[order], value[order])

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the number of neighbours that have each item, from ``users_min``, and of the items that found them."""
        counts = dict.fromkeys(item_index.tolist(), 0)
        for each in self.neighbours(moment):
            for item in each.items[: self.neighbour_items_max].tolist():
                if item in counts:
                    counts[item] += 1
        own = len(self._own(moment))
        return [
            Evidence(facts={"users": counts[item], "items": own}) if counts[item] >= self.users_min else NOTHING
            for item in item_index.tolist()
        ]

    def _own(self, moment: Moment) -> Index:
        """Return the last distinct items of the user, or of the session where the user has none, the newest first.

        Not of the session with ``actions``: its acts are not known.
        """
        own = distinct_items(moment, "user", self.actions, self.last_items_max)
        return own if len(own) or self.actions else distinct_items(moment, "session", (), self.last_items_max)

    def _known(self, moment: Moment) -> Index:
        """Return the items that the user's row and the session have."""
        if moment.user_index < 0:
            return moment.recent_item_index
        row = moment.table(Users).recent(moment.user_index).item_index
        return np.concatenate((row, moment.recent_item_index)).astype(np.int32)

    def neighbours(self, moment: Moment) -> Iterator["Neighbour"]:
        """Yield the neighbours, the one of most overlap first."""
        users, vocabulary = moment.table(Users), moment.table(Vocabulary)
        user_hash, overlap = self._overlaps(moment)
        for each, value in zip(user_hash.tolist(), overlap.tolist(), strict=True):
            slot = vocabulary.user_slot(each)
            if slot < 0:
                continue
            items = users.last_distinct(slot, self.actions, _ALL)
            if len(items):
                yield Neighbour(each, slot, value / float(np.sqrt(len(items))), items)

    def _overlaps(self, moment: Moment) -> tuple[Hashes, Numbers]:
        """Return the hashes of the users of most overlap, the greatest first, equal ones by hash, and the overlaps."""
        index = moment.table(SessionIndex)
        whole = log2_of(float(index.session_count + 1))
        hashes, worth = [np.empty(0, dtype=np.uint64)], [np.empty(0)]
        for item in self._own(moment).tolist():
            count = index.item_session_count(item)
            if count:
                each = np.unique(index.newest_users(item, self.entries_max))
                hashes.append(each)
                worth.append(np.full(len(each), whole - log2_of(float(count))))
        user_hash, place, common = np.unique(np.concatenate(hashes), return_inverse=True, return_counts=True)
        overlap = np.zeros(len(user_hash))
        np.add.at(overlap, place, np.concatenate(worth))
        others = (user_hash != 0) & (user_hash != np.uint64(moment.user_hash))
        others &= (common >= self.overlap_min) & (overlap > 0.0)
        user_hash, overlap = user_hash[others], overlap[others]
        order = np.lexsort((user_hash, -overlap))[: self.neighbours_max]
        return user_hash[order], overlap[order]
