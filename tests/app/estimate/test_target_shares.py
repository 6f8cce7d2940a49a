"""Shares of the target are listed by item id, cut by the target's shares alone, and kept within memory."""

import numpy as np
import pytest

from midstream.app.estimate import target_shares
from midstream.app.estimate.target_shares import ShareCollector, slate_items
from midstream.evaluation.off_policy.reward_model import FOLDS
from midstream.ranking.explain.placement_chances import PlacementChances
from midstream.ranking.selectors.slate_chances import SlateChances

SHARE = np.array([[0.1, 0.0, 0.6, 0.3], [0.5, 0.0, 0.0, 0.5]])


def chances(share=SHARE, index=(7, 8, 9, 4)):
    return PlacementChances(np.array(index, dtype=np.int32), SlateChances(np.ones(len(share)), share))


def ids_of(prefix=""):
    return lambda index: [f"{prefix}i{each}" for each in index.tolist()]


def listed(shares, numbers):
    """Return place, item id and share of each listed item."""
    names = {number: name for name, number in numbers.items()}
    return sorted(
        (place, names[item], round(share, 6))
        for place, item, share in zip(shares.place.tolist(), shares.item.tolist(), shares.share.tolist(), strict=True)
    )


def test_every_item_with_a_share_is_listed_at_its_place():
    """Those without one are not; a logged item that the target cannot put there is not listed."""
    collector = ShareCollector(4)
    found = collector.collected(["i9", "i8"], chances(), ids_of())
    assert listed(found, collector.numbers) == [
        (0, "i4", 0.3), (0, "i7", 0.1), (0, "i9", 0.6), (1, "i4", 0.5), (1, "i7", 0.5),
    ]  # fmt: skip
    assert found.is_listed.tolist() == [True, False]
    assert [collector.numbers[each] for each in ("i9", "i8")] == found.chosen.tolist()


def test_a_list_is_cut_by_shares_whatever_was_logged():
    """The logged item of a small share stays out: a list that depends on the choice would bias DR."""
    share = SHARE[:1]
    lists = []
    for item in ("i7", "i4", "i9", "gone"):
        collector = ShareCollector(2)
        found = collector.collected([item], chances(share), ids_of())
        lists.append(listed(found, collector.numbers))
        assert found.is_listed.tolist() == [item in ("i4", "i9")]
    assert lists == [[(0, "i4", 0.3), (0, "i9", 0.6)]] * 4


def test_items_are_numbered_by_id_not_by_index():
    """A state that numbers items anew does not mix them up."""
    collector = ShareCollector(4)
    first = collector.collected(["i9"], chances(SHARE[:1]), ids_of())
    again = collector.collected(["i9"], chances(SHARE[:1], (1, 2, 3, 0)), lambda index: [
        {1: "i7", 2: "i8", 3: "i9", 0: "i4"}[each] for each in index.tolist()
    ])  # fmt: skip
    assert listed(first, collector.numbers) == listed(again, collector.numbers)
    assert first.chosen.tolist() == again.chosen.tolist()


def test_slates_of_one_unit_are_in_one_fold():
    """The fold follows from the unit alone, and slates keep their order and their length."""
    collector = ShareCollector(4)
    long = collector.collected(["i9", "i8"], chances(), ids_of())
    short = collector.collected(["i4"], chances(SHARE[:1]), ids_of())
    units = [f"u{number % 50}" for number in range(100)]
    found = slate_items(units, [long, short] * 50, 2)
    assert found.fold[:50].tolist() == found.fold[50:].tolist()
    assert set(found.fold.tolist()) == set(range(FOLDS))
    assert (found.chosen[:, 1] >= 0).tolist() == [True, False] * 50
    assert found.row.tolist()[:8] == [0] * 5 + [1] * 3
    moved = slate_items([*units[1:], "u0"], [long, short] * 50, 2)
    assert moved.fold.tolist() == [*found.fold.tolist()[1:], found.fold[0]]


def test_a_request_without_candidates_lists_nothing():
    """The target has none there: the slate says nothing, and is no fault."""
    found = ShareCollector(4).collected(["i1", "i2"], chances(np.zeros((2, 0)), ()), ids_of())
    assert (len(found.item), found.is_listed.tolist()) == (0, [False, False])


@pytest.mark.parametrize("slates, places", [(1, 1), (20_000, 20), (200_000, 100), (0, 1)])
def test_lists_fit_into_memory(slates, places):
    """No more items are listed than the maximum, but for one a place."""
    a_place = ShareCollector.of(slates, places).listed_a_place
    assert 1 <= a_place <= target_shares.LISTED_A_PLACE_MAX
    assert a_place == 1 or a_place * slates * places <= target_shares.LISTED_MAX
