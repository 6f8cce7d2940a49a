"""Read-your-writes for served records: a request waits for its user's earlier records that are not folded yet.

A record is appended some milliseconds after its answer went out. A placement that reads served records hands over
pending ones at once, and its request waits until the state has the user's last record of this process, for half of its
time at most: the rest is needed for the answer. No other request waits.
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
"""Users and sessions whose last record is kept: 2,000 answers a second for two seconds, of which some milliseconds
matter; 1 MB."""
ADDED_MAX = 64
"""Records whose user is not resolved yet: a wait resolves all of them, in 0.2 ms where users were merged."""
WAIT_S_MAX = 10.0
"""A record that is so old came, and newer ones took its place, or it waits for room still."""


class ServedAhead:
    """Last record of each user and session, and the wait for it."""

    def __init__(self, folding: FoldScheduler, outbox: ServedBuffer, monotonic: Callable[[], float]) -> None:
        """Wait with ``folding`` for the records that ``outbox`` hands over."""
        self._folding = folding
        self._outbox = outbox
        self._monotonic = monotonic
        self._added: deque[tuple[int, int, int, float]] = deque()
        self._last: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._lost: OrderedDict[int, None] = OrderedDict()
        outbox.on_lost = self._lose

    def add(self, query: Query) -> None:
        """Record that the served record of an answer is pending, if it has a user or session.

        The user is resolved when a request waits, so that users merged in between are one; without a waiting request
        one at a time after ``ADDED_MAX`` others.
        """
        key = self._folding.fold.vocabulary.id_key
        user_hash, session_hash = id_hash(query.user_id or "", key), id_hash(query.session_id or "", key)
        self.add_hashes(user_hash, session_hash, id_hash(query.request_id, key))

    def add_hashes(self, user_hash: int, session_hash: int, request_hash: int) -> None:
        """Do as ``add``, given the hashes of the ids, 0 = none."""
        if user_hash or session_hash:
            self._added.append((user_hash, session_hash, request_hash, self._monotonic()))
            if len(self._added) > ADDED_MAX:
                self._look_up()

    def awaits(self, askers: Iterable[int]) -> bool:
        """Return whether ``seen`` would wait for a record of some users."""
        while self._added:
            self._look_up()
        return any(not self._holds(found[0]) for each in askers if (found := self._last.get(each)) is not None)

    async def seen(self, askers: Iterable[int], until: float) -> bool:
        """Wait until the state has the served records of some users, for half of the remaining time at most.

        The wait is best effort, so it costs no answer: where it is too long, or too many requests wait, the answer
        states that it may miss the latest records.

        Args:
            askers: Hashes of the request's user and session.
            until: The deadline, of the monotonic clock. A record that did not come in time is not waited for again.

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
        """Register the record that was added first as the last one of its user."""
        user_hash, session_hash, request_hash, since = self._added.popleft()
        aliases = self._folding.fold.vocabulary.aliases
        asker = (aliases.resolve(user_hash) if len(aliases) else user_hash) or session_asker(session_hash)
        self._last[asker] = request_hash, since
        self._last.move_to_end(asker)
        if len(self._last) > ASKERS_MAX:
            self._last.popitem(last=False)

    def _holds(self, request_hash: int) -> bool:
        return self._folding.fold.requests.find(request_hash) is not None


def askers_of(fold: Fold, user_id: str | None, session_id: str | None) -> list[int]:
    """Return the keys of a request's slates: first the user's, then the session's; empty without both."""
    vocabulary = fold.vocabulary
    found = vocabulary.user_hash_of(user_id or ""), session_asker(id_hash(session_id or "", vocabulary.id_key))
    return [each for each in found if each]
