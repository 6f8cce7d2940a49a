"""Merges by pages: of few ids for each user, and of ids that an event named.

The table of merged ids is shared by all users, and forgets the oldest for the next. A visitor with a token could fill
it with ids that are made up, and so undo the merges of others.
"""

import asyncio
from collections import Counter
from typing import Final

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.visitors import KnownUsers
from midstream.serving.http.problems import MergeRefused
from midstream.serving.http.responses import Scope

MERGED_MAX: Final = 50
"""Ids merged into one user with which a page may merge no further one."""
KNOWN_WAIT_S: Final = 1.0
"""Wait for an id: a process that follows another one applies acknowledged events a moment later."""
_STEP_S: Final = 0.05
_MERGING: Final = "midstream.merging"
"""Field of a scope: the user into whom its request merges an id."""


class PageMerges:
    """The merges by pages that are under way in one process."""

    def __init__(self, users: KnownUsers) -> None:
        """Start without one.

        Args:
            users: Ids in the state.
        """
        self._users = users
        self._running: Counter[str] = Counter()

    async def begin(self, scope: Scope, user_id: str, merged: str) -> None:
        """Let a merge in and count it until ``end``.

        Args:
            scope: Of the request.
            user_id: User of the token.
            merged: Anonymous id of the page's own.

        Raises:
            MergeRefused: The user has its share of ids, or no event named the id.
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
        self._running[user_id] += 1
        scope[_MERGING] = user_id

    def end(self, scope: Scope) -> None:
        """Count the merge of a request no longer, if it has one."""
        user_id: str | None = scope.pop(_MERGING, None)
        if user_id is None:
            return
        self._running[user_id] -= 1
        if not self._running[user_id]:
            del self._running[user_id]
