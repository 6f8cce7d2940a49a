"""Merges by pages: of ids that an event named, of few into each user, and of a bounded number an hour for each key.

The table of merged ids is shared by all users, and forgets the oldest for the next. A visitor with a token could fill
it with ids that are made up, and visitors with many tokens with ids that events named before, and so undo the merges of
others. So the pages of one key take a fiftieth of the table an hour at most, and twice that in one hour at once, in
each process: with one key and one process what is merged stays for a day however many visitors want it to go. A request
takes its part before its route judges it, and gets it back where the route refuses: bodies that merge nothing would
keep the pages of others from merging.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Final

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.visitors import KnownUsers
from midstream.serving.http.admission import RETRY_S, Quotas, whole_s
from midstream.serving.http.problems import MergeRefused, QuotaSpent
from midstream.serving.http.responses import Scope

MERGED_MAX: Final = 50
"""Ids merged into one user with which a page may merge no further one."""
KEY_HOUR_PART: Final = 50
"""The table holds the merges of so many hours, each with all that the pages of one key may merge."""
KNOWN_WAIT_S: Final = 1.0
"""Wait for an id: a process that follows another one applies acknowledged events a moment later."""
_KEYS_MAX: Final = 1_000
_HOUR_S: Final = 3_600
_STEP_S: Final = 0.05
_MERGING: Final = "midstream.merging"
"""Field of a scope: the key of its page, and the user into whom its request merges an id."""


class PageMerges:
    """The merges by pages that are under way in one process."""

    def __init__(self, users: KnownUsers, clock: Callable[[], float]) -> None:
        """Start without one.

        Args:
            users: Ids in the state.
            clock: Seconds that never go back.
        """
        self._users = users
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._of_keys = Quotas(1.0, 1.0, _KEYS_MAX)
        self._table_size = 0

    async def begin(self, scope: Scope, key_id: str, user_id: str, merged: str) -> None:
        """Let a merge in, count it until ``end``, and take it from what the pages of the key may merge.

        Args:
            scope: Of the request.
            key_id: Browser key of the page.
            user_id: User of the token.
            merged: Anonymous id of the page's own.

        Raises:
            MergeRefused: The user has its share of ids, or no event named the id.
            QuotaSpent: The pages of the key merged as many ids as they may in an hour.
        """
        for _ in range(round(KNOWN_WAIT_S / _STEP_S)):
            if self._users.is_known(merged):
                break
            await asyncio.sleep(_STEP_S)
        else:
            right = "An id that an event named before: send the events of the page first."
            raise MergeRefused((Fault("/user_id", f'No event named "{merged[:60]}".', right, PAGE),))
        count = self._users.merged_count(user_id) + self._running[user_id]
        if count >= MERGED_MAX:
            came = f'{count} ids are merged into "{user_id[:60]}", or about to be.'
            right = f"Fewer than {MERGED_MAX} for a merge by a page. A key with the scope catalogue may merge more."
            raise MergeRefused((Fault("user_id", came, right, PAGE),))
        if lacks_s := self._quotas_of_keys().take(key_id, self._clock()):
            raise QuotaSpent(whole_s(lacks_s) + secrets.randbelow(RETRY_S))
        self._running[user_id] += 1
        scope[_MERGING] = key_id, user_id

    def is_merging(self, scope: Scope) -> bool:
        """Return whether ``begin`` let the merge of a request in."""
        return _MERGING in scope

    def end(self, scope: Scope, *, is_refused: bool) -> None:
        """Count the merge of a request no longer, if it has one; a refused one takes nothing from its key."""
        merging: tuple[str, str] | None = scope.pop(_MERGING, None)
        if merging is None:
            return
        key_id, user_id = merging
        if is_refused:
            self._quotas_of_keys().give_back(key_id)
        self._running[user_id] -= 1
        if not self._running[user_id]:
            del self._running[user_id]

    def _quotas_of_keys(self) -> Quotas:
        """Return the accounts of keys, which are new ones where the table has another size."""
        size = self._users.merged_max()
        if size != self._table_size:
            self._table_size = size
            an_hour = max(1.0, size / KEY_HOUR_PART)
            self._of_keys = Quotas(an_hour / _HOUR_S, an_hour, _KEYS_MAX)
        return self._of_keys
