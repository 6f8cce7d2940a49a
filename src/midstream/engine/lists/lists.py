"""Lists of a live engine: one method a list, each a bounded page, and few pages at once."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from midstream.core.answers.lists import (
    AuditPage,
    EventPage,
    ItemPage,
    RequestPage,
    UserPage,
    UserRanking,
    ValueRanking,
)
from midstream.core.errors import Fault, Overloaded, RequestInvalid
from midstream.engine.lists.audiences import AudienceQuestion, item_users, similar_users
from midstream.engine.lists.audit_pages import AuditListing, audit_page
from midstream.engine.lists.event_pages import EventListing, event_page
from midstream.engine.lists.item_pages import ItemListing, item_page
from midstream.engine.lists.list_cursor import PAGE
from midstream.engine.lists.request_pages import RequestListing, request_page
from midstream.engine.lists.user_pages import UserListing, user_page
from midstream.engine.lists.value_rankings import ValueQuestion, user_values
from midstream.engine.live import LiveState

LIMIT_MAX: Final = 1_000
LIMIT_DEFAULT: Final = 100
RANKED_MAX: Final = 100
"""Users of a ranking: the id of each is looked up in the log."""
RANKED_DEFAULT: Final = 20
PAGES_MAX: Final = 4
"""Pages that are made at once: each takes one turn of the loop in five, beside the others."""
T = TypeVar("T")


class Lists:
    """Makes pages of lists between other turns of the event loop."""

    def __init__(self, live: LiveState) -> None:
        """Read ``live``."""
        self._live = live
        self._made = 0

    async def items(self, asked: ItemListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> ItemPage:
        """Return a page of the items, as ``item_page`` does.

        Raises:
            RequestInvalid: The filter, the cursor or the limit cannot be used.
            Overloaded: ``PAGES_MAX`` pages are being made.
        """
        require_limit(limit)
        return await self._one_of_few(lambda: item_page(self._live, asked, cursor, limit))

    async def users(self, asked: UserListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> UserPage:
        """Return a page of the users, as ``user_page`` does; errors as of ``items``."""
        require_limit(limit)
        return await self._one_of_few(lambda: user_page(self._live, asked, cursor, limit))

    async def events(self, asked: EventListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> EventPage:
        """Return a page of a user's events, as ``event_page`` does; errors as of ``items``.

        Raises:
            NotFound: The state holds nothing of the user.
        """
        require_limit(limit)
        return await self._one_of_few(lambda: event_page(self._live, asked, cursor, limit))

    async def requests(
        self, asked: RequestListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT
    ) -> RequestPage:
        """Return a page of served slates, as ``request_page`` does; errors as of ``items``."""
        require_limit(limit)
        return await self._one_of_few(lambda: request_page(self._live, asked, cursor, limit))

    async def item_users(self, asked: AudienceQuestion) -> UserRanking:
        """Return the users who are likely to act on an item, as ``item_users`` does."""
        require_size(asked.n)
        return await self._one_of_few(lambda: item_users(self._live, asked))

    async def similar_users(self, user_id: str, n: int = RANKED_DEFAULT) -> UserRanking:
        """Return the users who act on the same items, as ``similar_users`` does."""
        require_size(n)
        return await self._one_of_few(lambda: similar_users(self._live, user_id, n))

    def user_values(self, asked: ValueQuestion) -> ValueRanking:
        """Return the values of an attribute for a user, as ``user_values`` does."""
        require_size(asked.n)
        return user_values(self._live, asked)

    async def audit(self, asked: AuditListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> AuditPage:
        """Return a page of the changes, as ``audit_page`` does; errors as of ``items``."""
        require_limit(limit)
        return await self._one_of_few(lambda: audit_page(self._live, asked, cursor, limit))

    async def _one_of_few(self, page: Callable[[], Awaitable[T]]) -> T:
        if self._made >= PAGES_MAX:
            self._live.metrics.count_overload("lists")
            message = f"{PAGES_MAX} pages of lists are being made, and no more are at once"
            raise Overloaded(message)
        self._made += 1
        try:
            return await page()
        finally:
            self._made -= 1


def require_limit(limit: int) -> None:
    """Refuse a size of a page.

    Raises:
        RequestInvalid: It is below 1 or above ``LIMIT_MAX``.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise RequestInvalid((Fault("limit", f"{limit} came.", f"From 1 to {LIMIT_MAX}.", PAGE),))


def require_size(count: int) -> None:
    """Refuse a size of a ranking.

    Raises:
        RequestInvalid: It is below 1 or above ``RANKED_MAX``.
    """
    if not 1 <= count <= RANKED_MAX:
        raise RequestInvalid((Fault("n", f"{count} came.", f"From 1 to {RANKED_MAX}.", PAGE),))
