"""Acts of a log are those that the state has seen, whatever the batches, and histories are theirs in log order."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.erasure.redaction import Hidden
from midstream.events.schema import Event, build, cut, event_at
from midstream.models.descriptions import Description
from midstream.models.items.ease import EaseOptions, fit_ease
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import blanked_body
from midstream.state.ids.id_indexing import VocabularyCount
from midstream.state.settings import FoldSettings
from midstream.training.datasets import ActOptions, ActReader, Acts
from tests.support.collisions import twin_of
from tests.support.events import cuts, event_batches, tiny_settings
from tests.support.frozen_shop import SMALL, START_MS
from tests.support.ids import KEY, hash_of

WEIGHTS = {"view": 1.0, "click": 1.0, "cart": 3.0, "purchase": 8.0}
ALL = ActOptions(WEIGHTS)


def read(batch: EventBatch, options: ActOptions, settings: FoldSettings, edges: Sequence[int] = ()) -> Acts:
    """Return the acts of a log that is read in some batches."""
    hidden = Hidden(lambda: [(LogPosition(0), batch)], settings.limits.event_ids_max, KEY)
    reader = ActReader(Fold(settings), options, hidden.of)
    for start, stop in pairwise((0, *edges, len(batch))):
        reader.add(LogPosition(start), cut(batch, start, stop))
    return reader.acts()


def act(user: str, item: str, action: str = "view", session: str = "") -> Event:
    """Return an interaction."""
    return Event(Kind.INTERACTION, action=action, user_id=user, item_id=item, session_id=session)


def log_of(*events: Event) -> EventBatch:
    """Return events of which each comes a minute after the one before."""
    return build([each._replace(log_time_ms=START_MS + 60_000 * number) for number, each in enumerate(events)])


def told(acts: Acts, history_acts_max: int = 100) -> dict[int, str]:
    """Return the items of each history, by whose it is."""
    histories, whose = acts.histories(history_acts_max)
    ids = acts.vocabulary.ids
    return {
        int(owner): "".join(ids[row] for row in histories.part(number, number + 1).row.tolist())
        for number, owner in enumerate(whose.tolist())
    }


def of(**histories: str) -> dict[int, str]:
    """Return histories of user ids, by hash."""
    return {hash_of(user): items for user, items in histories.items()}


def test_histories_are_acts_that_weigh_something_in_log_order() -> None:
    """By user, or by session where no user is known; acts against an item and those of nobody are left out."""
    log = log_of(
        act("ann", "a"),
        act("bob", "b", "purchase"),
        act("ann", "c", "dismiss"),
        act("ann", "b"),
        act("", "a", session="s"),
        act("", "a"),
        act("ann", "z", "wave"),
        Event(Kind.IMPRESSION, user_id="ann", item_id="d"),
    )
    acts = read(log, ALL, SMALL)
    assert told(acts) == of(ann="ab", bob="b", s="a")
    assert acts.left_out == {"of_nobody": 1}
    assert acts.vocabulary.ids == ["a", "b"]
    assert acts.weight.tolist() == [1.0, 8.0, 1.0, 1.0]
    assert acts.log_time_ms == (START_MS, START_MS + 240_000)


def test_sessions_are_those_of_the_state() -> None:
    """By id, or of a user until there is silence."""
    log = [
        *(act("ann", "a"), act("ann", "b"), act("bob", "c", session="s"), act("", "d", session="s")),
        *(Event(Kind.TICK) for _ in range(40)),
        act("ann", "c"),
    ]
    acts = read(log_of(*log), replace(ALL, by_session=True), SMALL)
    assert sorted(told(acts).values()) == ["ab", "c", "cd"]


def test_merged_users_are_one_and_deleted_ones_begin_anew() -> None:
    """Whichever came first, the acts or the merge."""
    merge = Event(Kind.USER, Operation.MERGE, user_id="ann", body=b'{"from":"x"}')
    delete = Event(Kind.USER, Operation.DELETE, user_id="bob")
    log = log_of(act("x", "a"), act("ann", "b"), merge, act("x", "c"), act("bob", "a"), delete, act("bob", "b"))
    acts = read(log, ALL, SMALL)
    assert acts.left_out == {"user_deleted": 1}
    assert told(acts) == of(ann="abc", bob="b")


def test_an_open_session_goes_on_when_its_visitor_becomes_known() -> None:
    """As in the state: what was begun under one id is one history with what follows under the other."""
    merge = Event(Kind.USER, Operation.MERGE, user_id="ann", body=b'{"from":"x"}')
    log = log_of(act("x", "a"), merge, act("ann", "b"))
    assert sorted(told(read(log, replace(ALL, by_session=True), SMALL)).values()) == ["ab"]


def test_deleted_items_are_left_out_and_those_that_came_back_are_not() -> None:
    """What holds at the end counts."""
    put, delete = (Event(Kind.ITEM, each, item_id="a", body=b"{}") for each in (Operation.PUT, Operation.DELETE))
    log = [act("ann", "a"), act("ann", "b"), delete]
    acts = read(log_of(*log), ALL, SMALL)
    assert told(acts) == of(ann="b")
    assert acts.left_out == {"item_deleted": 1}
    assert acts.vocabulary.ids == ["b"]
    assert told(read(log_of(*log, put, act("bob", "a")), ALL, SMALL)) == of(ann="ab", bob="a")


def test_erased_users_are_nobody_and_copies_count_once() -> None:
    """Acts before the erase are gone, those after it are a new start."""
    copy = act("bob", "b")._replace(event_id="e-1")
    log = log_of(
        act("ann", "a", session="s"),
        act("", "b", session="s"),
        copy,
        Event(Kind.ERASE, user_id="ann"),
        copy,
        act("ann", "c"),
    )
    acts = read(log, ALL, SMALL)
    assert told(acts) == of(bob="b", ann="c")
    assert acts.left_out == {"erased": 2}


@pytest.mark.parametrize("is_hidden", [True, False])
def test_late_copies_of_who_is_known_by_hashes_alone_teach_nothing(is_hidden: bool) -> None:
    """Whether somebody says that they are hidden or the erase that was carried out refuses them: acts, and merges."""
    blanked = Event(Kind.ERASE, body=blanked_body([hash_of("ann")]))
    late = act("ann", "a")._replace(event_time_ms=START_MS)
    merge = Event(Kind.USER, Operation.MERGE, user_id="bob", body=b'{"from":"ann"}', event_time_ms=START_MS)
    batch = log_of(blanked, late, merge, act("ann", "b"), act("bob", "c"))
    hidden = Hidden(lambda: [(LogPosition(0), batch)], SMALL.limits.event_ids_max, KEY)
    assert hidden.of(LogPosition(0), batch).tolist() == [False, True, True, False, False]
    nothing = np.zeros(len(batch), dtype=np.bool_)
    reader = ActReader(Fold(SMALL), ALL, hidden.of if is_hidden else lambda _first, _batch: nothing)
    reader.add(LogPosition(0), batch)
    acts = reader.acts()
    assert told(acts) == of(ann="b", bob="c")
    assert acts.left_out == {"erased": 1}


@pytest.mark.parametrize("unknown_items", ["hold", "reject"])
def test_items_that_are_never_served_are_not_learned(unknown_items: str) -> None:
    """Where the catalogue decides what may be served."""
    settings = msgspec.structs.replace(SMALL, unknown_items=unknown_items)
    put = Event(Kind.ITEM, Operation.PUT, item_id="a", body=b"{}")
    assert told(read(log_of(put, act("ann", "a"), act("ann", "b")), ALL, settings)) == of(ann="a")


def test_a_range_is_of_the_log_and_the_newest_are_kept() -> None:
    """By position, by log time, by number of all and of each history; what is left out for room is counted."""
    log = log_of(*(act("ann", each) for each in "abcdefgh"))
    minute = 60_000

    def items(**options: int) -> str:
        return told(read(log, replace(ALL, **options), SMALL, (3, 6)))[hash_of("ann")]  # type: ignore[arg-type]

    assert items(first=2, stop=5) == "cde"
    assert items(since_ms=START_MS + 2 * minute, until_ms=START_MS + 5 * minute) == "cde"
    acts = read(log, replace(ALL, acts_max=4), SMALL, (3, 6))
    assert told(acts) == of(ann="efgh")
    assert acts.left_out == {"older_than_the_newest_kept": 4}
    assert told(acts, 2) == of(ann="gh")


def test_a_cut_in_time_has_its_share_of_the_acts_behind_it() -> None:
    """What is fitted on is older than what is asked for."""
    acts = read(log_of(*(act(each, "a") for each in "pqrstuvwxy")), ALL, SMALL)
    assert acts.cut(0.3) == 7
    assert len(acts.interactions(10, acts.cut(0.3)).histories) == 7
    assert len(acts.histories(10, first=acts.cut(0.3))[0]) == 3
    assert acts.cut(0.0) == 10
    nothing = read(log_of(Event(Kind.TICK)), ALL, SMALL)
    assert nothing.cut(0.3) == 0
    assert len(nothing.histories(10)[0]) == 0


@given(event_batches(people=True), st.data(), st.booleans())
def test_acts_are_those_of_the_state_whatever_the_batches(
    batch: EventBatch, data: st.DataObject, by_session: bool
) -> None:
    """Event by event beside the state: what it folds, of whom it is at the end, and of which items that are there."""
    settings = tiny_settings()
    settings = msgspec.structs.replace(settings, limits=msgspec.structs.replace(settings.limits, aliases_max=100))
    options = replace(ALL, by_session=by_session)
    acts = read(batch, options, settings, data.draw(cuts(len(batch)))[1:-1])
    whole = read(batch, options, settings)
    assert (acts.owner == whole.owner).all()
    assert acts.position.tolist() == whole.position.tolist()
    assert acts.vocabulary == whole.vocabulary
    assert acts.left_out == whole.left_out
    if not by_session:
        ids = acts.vocabulary.ids
        found = [(position, ids[row]) for position, row in zip(acts.position.tolist(), acts.item.tolist(), strict=True)]
        assert list(zip(found, acts.owner.tolist(), strict=True)) == plain(batch, settings)


def plain(batch: EventBatch, settings: FoldSettings) -> list[tuple[tuple[int, str], int]]:
    """Return position, item and user of each act, one event at a time."""
    fold = Fold(settings)
    hidden = Hidden(lambda: [(LogPosition(0), batch)], settings.limits.event_ids_max, KEY)
    kept: dict[int, tuple[str, str]] = {}
    for position in range(len(batch)):
        event = event_at(batch, position)
        before = int(fold.vocabulary.counts[VocabularyCount.DUPLICATE] + fold.vocabulary.counts[VocabularyCount.ERASED])
        fold.apply(LogPosition(position), build([event]))
        after = int(fold.vocabulary.counts[VocabularyCount.DUPLICATE] + fold.vocabulary.counts[VocabularyCount.ERASED])
        if after != before or hidden(event, position):
            continue
        if event.kind == Kind.USER and event.operation == Operation.DELETE:
            user = fold.vocabulary.user_hash_of(event.user_id)
            kept = {at: act for at, act in kept.items() if not act[0] or fold.vocabulary.user_hash_of(act[0]) != user}
        is_act = event.kind == Kind.INTERACTION and event.action in WEIGHTS and (event.user_id or event.session_id)
        if is_act and fold.vocabulary.item_index(event.item_id) >= 0:
            kept[position] = (event.user_id, event.item_id)
    vocabulary = fold.vocabulary
    return [
        ((at, item), vocabulary.user_hash_of(user) if user else hash_of(event_at(batch, at).session_id))
        for at, (user, item) in kept.items()
        if fold.items.exists(vocabulary.item_index(item))
    ]


def test_the_catalogue_is_there_with_what_it_says_where_a_model_reads_it() -> None:
    """Items without an act too, as they are at the end; not deleted ones; acts are those of the same items."""

    def put(item: str, body: bytes, operation: Operation = Operation.PUT) -> Event:
        return Event(Kind.ITEM, operation=operation, item_id=item, body=body)

    log = log_of(
        put("a", b'{"title": "old", "colour": "red"}'),
        act("ann", "seen"),
        put("b", b'{"colour": "blue"}'),
        put("gone", b'{"colour": "blue"}'),
        act("ann", "b"),
        put("a", b'{"title": "new", "colour": "red"}'),
        put("gone", b"{}", Operation.DELETE),
    )
    settings = msgspec.structs.replace(tiny_settings(), attributes={"colour": "category"})
    acts = read(log, replace(ALL, is_described=True), settings)
    assert list(acts.vocabulary.ids) == ["a", "seen", "b"]
    assert acts.described == (Description(("colour=red",), "new"), Description(), Description(("colour=blue",)))
    assert acts.interactions(9).described == acts.described
    assert [acts.vocabulary.ids[row] for row in acts.item.tolist()] == ["seen", "b"]
    plain = read(log, ALL, settings)
    assert (list(plain.vocabulary.ids), plain.described) == (["seen", "b"], ())


def test_one_click_on_a_made_id_ends_no_training() -> None:
    """It has the XXH64 of an item of the catalogue: both are learned of, each in a row of its own."""
    item = "best-seller-0001"
    made = twin_of(item)
    log = log_of(act("ann", item), act("ann", "b"), act("bob", item), act("bob", "b"), act("mallory", made))
    acts = read(log, ALL, SMALL)
    assert sorted(acts.vocabulary.ids) == sorted((item, made, "b"))
    assert acts.left_out == {}
    model = fit_ease(acts.interactions(100), EaseOptions())
    rows = model.vocabulary.under(KEY).rows_of(np.array([hash_of(each) for each in (item, made)], dtype=np.uint64))
    assert [model.vocabulary.id_of(row) for row in rows.tolist()] == [item, made]


def test_acts_on_an_id_whose_hash_another_item_has_are_left_out_and_counted() -> None:
    """As if two ids collided by chance: the one that came first is learned of, and nothing raises."""
    fold = Fold(SMALL)
    fold.apply(LogPosition(0), log_of(act("ann", "first")))
    arrays = {name: each.copy() for name, each in fold.arrays().items()}
    arrays["vocabulary.item_hash"][0] = hash_of("other")
    colliding = Fold(SMALL)
    colliding.restore(arrays)
    reader = ActReader(colliding, ALL, lambda _, batch: np.zeros(len(batch), dtype=np.bool_))
    reader.add(LogPosition(1), log_of(act("ann", "other"), act("ann", "third"), act("bob", "third")))
    acts = reader.acts()
    assert acts.vocabulary.ids == ["third"]
    assert acts.left_out == {"without_room_for_the_item": 1}
    assert len(fit_ease(acts.interactions(100), EaseOptions()).vocabulary) == 1
