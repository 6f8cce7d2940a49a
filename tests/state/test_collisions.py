"""Ids that somebody made so that a hash without a key cannot tell them apart share nothing in the state."""

import msgspec
import numpy as np
import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.collisions import twin_of, twins
from tests.support.events import START_MS, served_body

ANN = "anna@example.com"
MALLORY = twin_of(ANN)
ITEM = "best-seller-0001"
MADE_ITEM = twin_of(ITEM)
NOW = TimestampMs(START_MS)
SETTINGS = FoldSettings(limits=StateLimits(users_max=200, items_max=200, click_items_max=200, event_ids_max=200))


def fold_of(*events):
    """Return the state after some events, each a batch of its own."""
    fold = Fold(SETTINGS)
    for event in events:
        fold.apply(fold.log_position, build([event._replace(log_time_ms=START_MS)]))
    return fold


def click(user="", item="", session="", event_id="", request=""):
    """Return an act."""
    kind, action = Kind.INTERACTION, "click"
    return Event(
        kind, action=action, user_id=user, item_id=item, session_id=session, event_id=event_id, request_id=request
    )


def test_users_have_each_their_own_row_and_one_is_erased_alone():
    """Neither reads what the other did, and the erasure of one leaves the other's row and sessions."""
    fold = fold_of(click(ANN, "a"), click(MALLORY, "b"))
    slots = [fold.vocabulary.user_index(each) for each in (ANN, MALLORY)]
    assert slots == [0, 1]
    seen = [fold.vocabulary.item_ids(fold.users.recent(slot).item_index) for slot in slots]
    assert seen == [["a"], ["b"]]
    fold.apply(fold.log_position, build([Event(Kind.ERASE, user_id=MALLORY, log_time_ms=START_MS)]))
    assert [fold.vocabulary.user_index(each) for each in (ANN, MALLORY)] == [0, -1]
    sessions = [fold.sessions.sessions_of(fold.vocabulary.user_hash_of(each), NOW) for each in (ANN, MALLORY)]
    assert [len(list(each)) for each in sessions] == [1, 0]


def test_sessions_are_two():
    """Each has its own items."""
    fold = fold_of(click(item="a", session=ANN), click(item="b", session=MALLORY))
    found = [fold.moment(Query("", "home", None, each, 5, NOW, 0), Models({})) for each in (ANN, MALLORY)]
    assert [fold.vocabulary.item_ids(each.recent_item_index) for each in found] == [["a"], ["b"]]


@pytest.mark.parametrize("field", ["event_id", "request"])
def test_events_of_made_ids_are_no_copies_of_each_other(field):
    """Both are counted; neither is a duplicate, nor a conflict."""
    fold = fold_of(click(ANN, "a", **{field: ITEM}), click(ANN, "a", **{field: MADE_ITEM}))
    counts = fold.counts()
    assert (counts["duplicate"], counts["conflict"]) == (0, 0)
    assert fold.users.counts(0)["click"] == 2


def test_events_without_an_id_are_told_apart_by_all_of_their_text():
    """Two acts that differ in a made id alone are two."""
    fold = fold_of(*(click(user, "a")._replace(event_time_ms=START_MS) for user in (ANN, MALLORY)))
    assert fold.counts()["duplicate"] == 0
    assert fold.vocabulary.user_count == 2


def test_items_are_two_and_outcomes_go_to_the_one_that_is_named():
    """Of a slate with both each has its own click, whichever stands first."""
    for ids in ((ITEM, MADE_ITEM), (MADE_ITEM, ITEM)):
        served = Event(Kind.SERVED, user_id=ANN, request_id="r", body=served_body("r", list(ids), "home", "plan"))
        fold = fold_of(click("u", ITEM), click("u", MADE_ITEM), served, click(ANN, MADE_ITEM, request="r"))
        assert [fold.vocabulary.item_index(each) for each in (ITEM, MADE_ITEM)] == [0, 1]
        assert fold.counts()["item_collision"] == 0
        (slates,) = fold.outcomes.held()
        acted = slates.outcome["bits"] == fold.outcomes.action_bit("click")
        assert [bool(each) for each in acted] == [each == MADE_ITEM for each in ids]
        index = fold.vocabulary.item_indices_of_hashes(fold.vocabulary.item_hash)
        assert index.tolist() == [0, 1]


def probes(hashes, table, wanted):
    """Return how many entries of a table are looked at until each hash is found."""
    mask, found = len(table) - 1, []
    for each in wanted:
        at = count = 0
        at = int(each) & mask
        while table[at] and hashes[table[at] - 1] != each:
            at, count = (at + 1) & mask, count + 1
        found.append(count + 1)
    return found


def test_many_ids_made_to_have_one_hash_lie_as_random_ones_do():
    """Counted in entries that are looked at, of items, users and events; of one hash it would be half of them each."""
    made = twins(ITEM, 60)
    chosen = [f"item-{number:011d}" for number in range(len(made))]
    sums = []
    for ids in (made, chosen):
        fold = fold_of(*(click(each, each, event_id=each) for each in ids))
        vocabulary, seen = fold.vocabulary, fold.event_ids.arrays()["id_hash"]
        assert vocabulary.item_count == vocabulary.user_count == len(seen) == len(ids)
        tables = (
            (vocabulary.item_hash, vocabulary._item_table),
            (vocabulary.arrays()["user_hash"], vocabulary._user_table),
            (seen, fold.event_ids._ring.table),
        )
        sums.append([sum(probes(hashes, table, hashes)) for hashes, table in tables])
    for of_made, of_chosen in zip(*sums, strict=True):
        assert of_made < 3 * len(made)
        assert abs(of_made - of_chosen) < len(made)


def test_ids_are_hashed_under_the_key_of_the_settings():
    """Another log has other hashes, another version, and the same answers."""
    other = msgspec.structs.replace(SETTINGS, id_key="5a" * 16)
    assert other.version() != SETTINGS.version()
    folds = [Fold(each) for each in (SETTINGS, other)]
    for fold in folds:
        fold.apply(LogPosition(0), build([click(ANN, ITEM)._replace(log_time_ms=START_MS)]))
    hashes = [fold.vocabulary.item_hash.tolist() for fold in folds]
    assert hashes[0] != hashes[1]
    assert [fold.vocabulary.item_index(ITEM) for fold in folds] == [0, 0]
    assert np.unique([fold.vocabulary.user_hash_of(ANN) for fold in folds]).size == 2
