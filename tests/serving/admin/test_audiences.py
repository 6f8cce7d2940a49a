"""Routes of rankings: how a request is read, and how what is wrong is pointed at."""

import pytest

from midstream.engine.lists.audiences import AudienceQuestion
from midstream.engine.lists.lists import RANKED_DEFAULT
from midstream.engine.lists.value_rankings import ValueQuestion


@pytest.mark.parametrize(
    "path, asked, count",
    [
        ("/v1/items/a%2Fb/users", AudienceQuestion("a/b", RANKED_DEFAULT), RANKED_DEFAULT),
        ("/v1/items/lamp/users?n=7&acted=true", AudienceQuestion("lamp", 7, acted=True), 7),
        ("/v1/users/ann/similar?n=3", "ann", 3),
        ("/v1/users/ann/values?attribute=brand&new=true&n=9", ValueQuestion("ann", "brand", 9, new=True), 9),
    ],
)
def test_a_request_is_read(client, path, asked, count):
    """Ids, sizes and flags reach the ranking as they were sent."""
    assert client.get(path).status_code == 200
    assert client.engine.lists.asked == [(asked, None, count)]


@pytest.mark.parametrize(
    "path, pointer",
    [
        ("/v1/items/lamp/users?n=0", "n"),
        ("/v1/items/lamp/users?n=101", "n"),
        ("/v1/items/lamp/users?n=x", "n"),
        ("/v1/items/lamp/users?acted=yes", "acted"),
        ("/v1/users/ann/similar?acted=true", "acted"),
        ("/v1/users/ann/values", "attribute"),
        ("/v1/users/ann/values?attribute=brand&new=1", "new"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, path, pointer):
    """A 400 with the name of the query field."""
    answer = client.get(path)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
