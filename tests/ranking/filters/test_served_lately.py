"""Not what was served lately: by age and by number of times, here and anywhere, to users and to sessions."""

from dataclasses import replace

import numpy as np
import pytest

from midstream.core.kinds import Kind
from midstream.core.types import Candidates
from midstream.events.schema import Event
from midstream.ranking.filters.served_lately import ServedLately, ServedRule
from tests.support.events import served_body
from tests.support.frozen_shop import StillShop

HOUR_MS = 3_600_000


class Shop(StillShop):
    """Five items, and slates of them."""

    def __init__(self) -> None:
        """Put the items."""
        super().__init__()
        self.answers = 0
        for name in "abcde":
            self.put(name)

    def serve(self, ids, user="", session="", placement="default"):
        """Fold a served record."""
        self.answers += 1
        request = f"q{self.answers}"
        body = served_body(request, ids, placement)
        self.record([Event(Kind.SERVED, user_id=user, session_id=session, request_id=request, body=body)])

    def kept(self, exclude, **asked):
        """Return the items that are left for who asks."""
        every = np.arange(self.fold.vocabulary.item_count, dtype=np.int32)
        nothing = np.empty((len(every), 0), np.float32), np.empty((len(every), 0), np.int32)
        keep = ServedLately(rules=tuple(ServedRule.read(*each) for each in exclude.items())).keep(
            self.moment(replace(self.query(), **asked)), Candidates(every, (), *nothing)
        )
        return "".join(self.ids(every[keep].tolist()))


@pytest.fixture
def shop():
    """Return a shop that served something to ann, to a session of nobody, and to ann in another placement."""
    shop = Shop()
    shop.serve("ab", user="ann", session="s")
    shop.serve("bc", session="s")
    shop.serve("de", user="ann", placement="cart")
    return shop


def test_by_age_what_was_served_to_the_user_or_the_session_is_left_out(shop):
    """In this placement alone; of somebody else, or nobody, nothing is known."""
    exclude = {"served": "1h"}
    assert shop.kept(exclude, user_id="ann") == "cde"
    assert shop.kept(exclude, session_id="s") == "ade"
    assert shop.kept(exclude, user_id="ann", session_id="s") == "de"
    assert shop.kept(exclude, user_id="bob", session_id="t") == "abcde"
    assert shop.kept(exclude) == "abcde"
    assert shop.kept(exclude, user_id="ann", placement="cart") == "abc"


def test_anywhere_counts_each_placement(shop):
    """The two settings hold together."""
    assert shop.kept({"served_anywhere": "1h"}, user_id="ann") == "c"
    assert shop.kept({"served_anywhere": "1h", "served": "1h"}, user_id="ann", placement="cart") == "c"


def test_an_age_ends_to_the_millisecond(shop):
    """By the log time of the record."""
    shop.wait(HOUR_MS - 2_000)  # ann's first slate was two seconds before the last event
    assert shop.kept({"served": "1h"}, user_id="ann") == "cde"
    shop.wait(1)
    assert shop.kept({"served": "1h"}, user_id="ann") == "abcde"


def test_by_number_of_times_each_slate_counts_once(shop):
    """As many as it says, of the user and the session together."""
    assert shop.kept({"served": 2}, user_id="ann") == "abcde"
    assert shop.kept({"served": 2}, user_id="ann", session_id="s") == "acde"
    shop.serve("ae", user="ann")
    assert shop.kept({"served": 2}, user_id="ann") == "bcde"
    assert shop.kept({"served": 1}, user_id="ann") == "cd"


def test_an_item_that_nobody_knows_any_more_removes_nothing(shop):
    """A slate may name what a compaction dropped."""
    shop.serve(["gone"], user="bob")
    assert shop.kept({"served": "1h"}, user_id="bob") == "abcde"
