"""Lists that note what they were asked for, for tests of what stands in front of an engine."""

from midstream.core.answers.lists import (
    AuditPage,
    EventPage,
    ItemPage,
    ListedItem,
    RequestPage,
    UserPage,
    UserRanking,
    ValueRanking,
)
from midstream.engine.lists.audiences import AudienceQuestion
from midstream.engine.lists.audit_pages import AuditListing
from midstream.engine.lists.event_pages import EventListing
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.lists import LIMIT_DEFAULT, RANKED_DEFAULT, require_limit, require_size
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.lists.user_pages import UserListing
from midstream.engine.lists.value_rankings import ValueQuestion


class FakeLists:
    """One item, and nothing else."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.asked: list[tuple[object, str | None, int]] = []
        """Each request with its cursor and its limit."""

    async def items(self, asked: ItemListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> ItemPage:
        """Return one item."""
        self._note(asked, cursor, limit)
        return ItemPage([ListedItem("lamp", available=True, in_catalogue=True, attributes={})], 1, "next")

    async def users(self, asked: UserListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> UserPage:
        """Return no user."""
        self._note(asked, cursor, limit)
        return UserPage([], 0)

    async def events(self, asked: EventListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> EventPage:
        """Return no event."""
        self._note(asked, cursor, limit)
        return EventPage([], 0)

    async def requests(
        self, asked: RequestListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT
    ) -> RequestPage:
        """Return no slate."""
        self._note(asked, cursor, limit)
        return RequestPage([], 0)

    async def item_users(self, asked: AudienceQuestion) -> UserRanking:
        """Return no user."""
        require_size(asked.n)
        self.asked.append((asked, None, asked.n))
        return UserRanking([], 0)

    async def similar_users(self, user_id: str, n: int = RANKED_DEFAULT) -> UserRanking:
        """Return no user."""
        require_size(n)
        self.asked.append((user_id, None, n))
        return UserRanking([], 0)

    def user_values(self, asked: ValueQuestion) -> ValueRanking:
        """Return no value."""
        require_size(asked.n)
        self.asked.append((asked, None, asked.n))
        return ValueRanking(asked.attribute, [], 0)

    async def audit(self, asked: AuditListing, cursor: str | None = None, limit: int = LIMIT_DEFAULT) -> AuditPage:
        """Return no change."""
        self._note(asked, cursor, limit)
        return AuditPage([], 0)

    def _note(self, asked: object, cursor: str | None, limit: int) -> None:
        require_limit(limit)
        self.asked.append((asked, cursor, limit))
