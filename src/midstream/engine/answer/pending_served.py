"""Served records that the state may not have yet, by whom they were served to: what the next question waits for.

A record is appended after its answer went out, some milliseconds later. A placement that goes by what was served before
hands over what waits for company, and lets its question wait until the state has the asker's last record of this
process, half of its time at most: the rest is left to answer. Nobody else waits.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable

from midstream.core.errors import Overloaded
from midstream.core.types import Query
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.state.fold import Fold
from midstream.state.outcomes.recipients import session_asker
from midstream.state.structures.hashing import id_hash

ASKERS_MAX = 4_096
"""Whose last record is kept: 2,000 answers a second for two seconds, of which some milliseconds matter; 1 MB."""
ADDED_MAX = 64
"""Records whose asker is not looked up yet: who waits looks up all of them, at 3 µs each in 0.2 ms."""
WAIT_S_MAX = 10.0
"""A record that is so old came, and newer ones took its place, or it waits for room still."""


class ServedAhead:
    """The last record of each asker, and the wait for it."""

    def __init__(self, folding: FoldScheduler, outbox: ServedBuffer, monotonic: Callable[[], float]) -> None:
        """Wait with ``folding`` for what ``outbox`` hands over."""
        self._folding = folding
        self._outbox = outbox
        self._monotonic = monotonic
        self._added: deque[tuple[int, int, int, float]] = deque()
        self._last: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._lost: OrderedDict[int, None] = OrderedDict()
        outbox.on_lost = self._lose

    def add(self, query: Query) -> None:
        """Keep that the record of an answer is on its way; nobody waits for one that was nobody's.

        Whose it is, is looked up when somebody waits, so that users who became one in between are one; where nobody
        does, as most placements go by nothing that was served, one at a time behind ``ADDED_MAX`` others.
        """
        key = self._folding.fold.vocabulary.id_key
        user_hash, session_hash = id_hash(query.user_id or "", key), id_hash(query.session_id or "", key)
        if user_hash or session_hash:
            self._added.append((user_hash, session_hash, id_hash(query.request_id, key), self._monotonic()))
            if len(self._added) > ADDED_MAX:
                self._look_up()

    async def seen(self, askers: Iterable[int], until: float) -> bool:
        """Wait until the state has what was served to some askers, half of the time that is left at most.

        Nobody asked for the wait, so it costs no answer: where it is too long, or as many wait as may, the answer says
        that it may not know what was served last.

        Args:
            askers: Hashes of the user and of the session that ask.
            until: The deadline, of the monotonic clock. A record that did not come in time is waited for no more.

        Returns:
            False when it did not come, or could not be waited for.
        """
        while self._added:
            self._look_up()
        now = self._monotonic()
        until = now + (until - now) / 2
        is_seen = True
        for asker in askers:
            found = self._last.get(asker)
            if found is None:
                continue
            try:
                is_seen = await self._has(*found, until) and is_seen
            except Overloaded:
                is_seen = False
                continue
            if self._last.get(asker) == found:
                del self._last[asker]
        return is_seen

    async def has(self, request_id: str, until: float) -> bool:
        """Wait until the state has the record of a request; return False when the time is over before."""
        request_hash = id_hash(request_id, self._folding.fold.vocabulary.id_key)
        return await self._has(request_hash, self._monotonic(), until)

    async def _has(self, request_hash: int, since: float, until: float) -> bool:
        """Wait for one record."""
        is_handed_over = False
        while not self._holds(request_hash):
            remaining_s = until - self._monotonic()
            if request_hash in self._lost:
                return False
            if self._monotonic() - since > WAIT_S_MAX:
                return True
            if remaining_s <= 0:
                return False
            if not is_handed_over:
                self._outbox.flush()
                is_handed_over = True
                continue  # there may have been no room for it
            if not await self._folding.progress(remaining_s):
                return self._holds(request_hash)
        return True

    def _lose(self, request_ids: Collection[str]) -> None:
        """Remember that these records do not come."""
        key = self._folding.fold.vocabulary.id_key
        self._lost.update((id_hash(each, key), None) for each in request_ids)
        while len(self._lost) > ASKERS_MAX:
            self._lost.popitem(last=False)

    def _look_up(self) -> None:
        """Take what was added first as the last record of its asker."""
        user_hash, session_hash, request_hash, since = self._added.popleft()
        asker = self._folding.fold.vocabulary.aliases.resolve(user_hash) or session_asker(session_hash)
        self._last[asker] = request_hash, since
        self._last.move_to_end(asker)
        if len(self._last) > ASKERS_MAX:
            self._last.popitem(last=False)

    def _holds(self, request_hash: int) -> bool:
        return self._folding.fold.requests.find(request_hash) is not None


def askers_of(fold: Fold, user_id: str | None, session_id: str | None) -> list[int]:
    """Return under what the slates of who asks are found: first the user's, then the session's; none of nobody."""
    vocabulary = fold.vocabulary
    found = vocabulary.user_hash_of(user_id or ""), session_asker(id_hash(session_id or "", vocabulary.id_key))
    return [each for each in found if each]
