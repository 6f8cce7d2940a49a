"""Rankings of users: who is likely to act on an item, and who acts on the same items as a user.

Users for an item are found by a scan of all rows: the items that are acted on beside the item weigh what their pairs
weigh, and a user has the sum over the last acts, each times the weight of its action. Users who have acted on the item
already are an audience of another kind, by the weights of those acts. Both are exact, and linear in the users.

The state has hashes of user ids. The id of a user who is ranked stands in the log at the user's last visit.
"""

import asyncio
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.lists import RankedUser, UserRanking
from midstream.core.errors import NotFound
from midstream.core.types import LogPosition
from midstream.engine.lists.list_filter import moment_of
from midstream.engine.lists.log_users import ACTS, LogUsers, of_kinds
from midstream.engine.lists.log_walk import PIECE_EVENTS, position_after
from midstream.engine.live import LiveState
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.state.fold import Fold
from midstream.state.pairs.covisitation_query import ANSWER_MAX, PairQuery

_SAME_TIME_MAX: Final = 20_000
"""Events of one log time among which an id is looked for."""
_SCANS_MAX: Final = 3
"""Scans of a request: a state comes into service after a rebuild, which takes longer than a scan."""
_BESIDE: Final = PairQuery(last_items_max=1, same_item=0.0, popularity="0.5", limit=min(ANSWER_MAX, 500))
_OVERLAP: Final = SimilarUsersItems(last_items_max=50, entries_max=500, neighbours_max=100)


class AudienceQuestion(msgspec.Struct, frozen=True):
    """Request for users of an item."""

    item_id: str
    n: int
    acted: bool = False
    """Users who have acted on it, in place of those who have not yet."""


async def item_users(live: LiveState, asked: AudienceQuestion) -> UserRanking:
    """Return users for an item, the highest score first. Cost: about 0.5 µs a user, and 24 reads of the log each of n.

    The scan begins again where another state comes into service meanwhile; after ``_SCANS_MAX`` times nobody is ranked.
    A user who was erased or merged since the scan is left out.

    Raises:
        NotFound: Nothing is known of the item, or it was deleted.
    """
    for _ in range(_SCANS_MAX):
        found = await _scanned(live, asked)
        if found is not None:
            best, scanned = found
            named = [await _named(live, user_hash, score) for user_hash, score in best.ranked()]
            return UserRanking([each for each in named if each is not None], scanned)
    return UserRanking([], 0)


async def similar_users(live: LiveState, user_id: str, count: int) -> UserRanking:
    """Return users who have acted on the same items as a user, the most similar first, as ``similar_users_items`` does.

    Raises:
        NotFound: Nothing is known of the user.
    """
    moment = moment_of(live.fold, live.clock(), user_id)
    if moment.user_index < 0 or live.fold.users.is_forgotten(moment.user_index):
        raise NotFound(f'Nothing is known of user "{user_id[:128]}".')
    found = sorted(_OVERLAP.neighbours(moment), key=lambda each: (-each.similarity, each.user_hash))
    named = [await _named(live, each.user_hash, each.similarity) for each in found[:count]]
    return UserRanking([each for each in named if each is not None], len(found))


async def _scanned(live: LiveState, asked: AudienceQuestion) -> "tuple[_Best, int] | None":
    """Return the best users of a scan and how many rows it read; None = another state came into service meanwhile.

    Raises:
        NotFound: Nothing is known of the item, or it was deleted.
    """
    fold = live.fold
    item = fold.vocabulary.item_index(asked.item_id)
    if item < 0 or not fold.items.exists(item):
        raise NotFound(f'Nothing is known of item "{asked.item_id[:128]}".')
    worth = np.zeros(len(fold.items.available))  # items may come while rows are scanned
    if asked.acted:
        worth[item] = 1.0
    else:
        items, scores = fold.pairs.score(_BESIDE, np.array([item], dtype=np.int32), live.clock())
        worth[items] = scores
    best, scanned = _Best(asked.n), 0
    for octets in fold.users.packed_rows():
        rows = octets.reshape(-1).view(fold.users.dtype)
        sums = _scores(fold, rows, worth, item, acted=asked.acted)
        slots = np.flatnonzero(sums > 0)
        best.add(fold.vocabulary.user_hashes(scanned + slots), sums[slots])
        scanned += len(rows)
        await asyncio.sleep(0)
        if live.fold is not fold:
            return None
    return best, scanned


class _Best:
    """The users of the highest scores so far, by hash: a slot may have another user when names are looked for."""

    def __init__(self, count: int) -> None:
        self._count, self._hashes, self._scores = count, np.empty(0, dtype=np.uint64), np.empty(0)

    def add(self, hashes: NDArray[np.uint64], scores: NDArray[np.float64]) -> None:
        """Take users and their scores; of equal scores the lower hash comes first. A user stays once."""
        hashes, scores = np.concatenate((self._hashes, hashes)), np.concatenate((self._scores, scores))
        order = np.lexsort((hashes, -scores))
        _, first = np.unique(hashes[order], return_index=True)  # a user may get another slot while rows are scanned
        kept = order[np.sort(first)[: self._count]]
        self._hashes, self._scores = hashes[kept], scores[kept]

    def ranked(self) -> list[tuple[int, float]]:
        """Return hash and score of each, the highest first."""
        return list(zip(self._hashes.tolist(), self._scores.tolist(), strict=True))


def _scores(
    fold: Fold, rows: NDArray[np.void], worth: NDArray[np.float64], item: int, *, acted: bool
) -> NDArray[np.float64]:
    """Return the sum of what the items of each user's last acts are worth, 0 where the user is none to be ranked."""
    users = fold.users
    items: NDArray[np.int32] = rows["ring_item"]
    added: NDArray[np.int64] = rows["added"]
    held: NDArray[np.bool_] = np.less(np.arange(int(items.shape[1])), added[:, None])
    weights = np.maximum(users.weights_of({}), 0.0)[rows["ring_action"]]
    scores: NDArray[np.float64] = (worth[np.where(held, items, 0)] * weights * held).sum(axis=1)
    if not acted:
        scores[((items == item) & held).any(axis=1)] = 0.0
    return scores


async def _named(live: LiveState, user_hash: int, score: float) -> RankedUser | None:
    """Return the user of a hash with the id of its last act, None = the state has no such user any more."""
    fold = live.fold
    slot = fold.vocabulary.user_slot(user_hash)
    last_ms = fold.users.last_seen_ms(slot) if slot >= 0 else 0
    if not last_ms:
        return None
    end = min(int(live.log.end), int(fold.log_position))
    position = await position_after(live.log, last_ms - 1, end)
    stop = min(end, position + _SAME_TIME_MAX)
    users, user_id = LogUsers(), None
    while position < stop and user_id is None:
        ((first, batch), *_) = live.log.read(LogPosition(position), min(PIECE_EVENTS, stop - position))
        same = of_kinds(batch, ACTS) & (batch.rows["log_time_ms"] == last_ms)
        named = users.named(live.fold, first, batch, same)
        user_id = next((text.decode() for _, text, each in named if each == user_hash), None)
        if int(batch.rows["log_time_ms"][-1]) > last_ms:
            break
        position = first + len(batch)
        await asyncio.sleep(0)
    return RankedUser(user_id, score, last_ms)
