"""Routes of lists: how a request is read, and how what is wrong is pointed at."""

import pytest

from midstream.engine.lists.event_pages import EventListing
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.lists import LIMIT_DEFAULT
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.lists.user_pages import UserListing

NOW_MS = 1_767_225_600_000


@pytest.mark.parametrize(
    "path, asked, cursor, limit",
    [
        ("/v1/items", ItemListing(), None, LIMIT_DEFAULT),
        (
            "/v1/items?filter=item.price<9&fields=price&fields=brand&limit=7&cursor=abc",
            ItemListing("item.price<9", ("price", "brand")),
            "abc",
            7,
        ),
        ("/v1/users?filter=user.age>9", UserListing("user.age>9"), None, LIMIT_DEFAULT),
        ("/v1/users/a%2Fb/events", EventListing("a/b"), None, LIMIT_DEFAULT),
        (
            "/v1/users/ann/events?type=view&type=user&since=2026-01-01T00:00:00Z&until=1767225600001&limit=1000",
            EventListing("ann", ("view", "user"), NOW_MS, NOW_MS + 1),
            None,
            1_000,
        ),
        ("/v1/requests?user_id=ann&placement=home", RequestListing("ann", "home"), None, LIMIT_DEFAULT),
    ],
)
def test_a_request_is_read(client, path, asked, cursor, limit):
    """Filters, fields, times, cursor and limit reach the list as they were sent."""
    answer = client.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert client.engine.lists.asked == [(asked, cursor, limit)]


def test_a_page_has_rows_and_a_cursor(client):
    """The cursor of the last page is left out."""
    item = {"item_id": "lamp", "available": True, "in_catalogue": True, "attributes": {}}
    assert client.get("/v1/items").json() == {"items": [item], "scanned": 1, "next_cursor": "next"}
    assert client.get("/v1/users").json() == {"users": [], "scanned": 0}


@pytest.mark.parametrize(
    "path, pointer",
    [
        ("/v1/items?limit=0", "limit"),
        ("/v1/items?limit=1001", "limit"),
        ("/v1/items?limit=ten", "limit"),
        ("/v1/items?limit=1&limit=2", "limit"),
        ("/v1/items?limt=9", "limt"),
        ("/v1/items?" + "&".join(f"fields=f{n}" for n in range(33)), "fields"),
        ("/v1/users?user_id=ann", "user_id"),
        ("/v1/users/ann/events?since=1767225600", "since"),
        ("/v1/requests?until=yesterday", "until"),
        ("/v1/requests?since=2026-01-01T00:00:00", "since"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, path, pointer):
    """A 400 with the name of the query field."""
    answer = client.get(path)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
