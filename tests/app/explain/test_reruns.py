"""Logged requests are run again on the state of then: identical to the bit, or what differs is named."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.explain.reruns import Reruns, find_request, logged_requests
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import loaded_state
from midstream.core.answers.explanations import FieldDifference
from midstream.core.errors import NotFound
from midstream.engine.circuit_breaker import BENCHED
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots import worker
from midstream.engine.snapshots.worker import SnapshotOrder
from midstream.events.served_body import ServedBody, decode_body, encode_body
from midstream.ranking.explain.differences import differences
from midstream.ranking.record.served import _NOBODY
from midstream.state.settings import encode_settings
from tests.support.busy import NAMES, Busy, served_shop

REQUESTS = 500
HAPPENED = {
    "of a page": 30, "behind another": 20, "of given items": 8, "with more behind": 8, "going on": 25, "of nobody": 15,
    "with features": 10, "served_lately": 2, "acted": 10, "request_filter": 20, "page": 20,
    "flaky raised": 15, "flaky benched": 2, "picky raised": 3, "waiting raised": 2, "selector raised": 4,
    "voucher": 15, "opening": 6, "sale": 6, "app": 2, "cheap": 15, "share": 6, "fresh": 12, "diversity": 20,
    "caps.tags": 6, "caps.category": 5,
    "merge": 2, "erase": 2, "set": 5, "given back": 2, "many": 4, "delete": 1, "item": 20, "new": 8, "user": 6,
}  # fmt: skip
"""What the shop was to be busy with, and how often at least."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Busy:
    """A shop that was busy, closed."""
    return served_shop(tmp_path_factory.mktemp("busy"), REQUESTS)


@pytest.fixture
def busy(shop) -> tuple[Path, Config, list[str]]:
    """Its folder, whose log holds the requests, its configuration, and the ids of the requests."""
    return shop.folder, shop.config, shop.ids


def told_of(logged: ServedBody) -> Iterator[str]:
    """Yield what a record is an example of."""
    shapes = {
        "of a page": logged.page_id, "behind another": logged.spare, "of given items": logged.given,
        "with more behind": logged.order_lengths, "going on": logged.continues, "of nobody": logged.user_id is None,
        "with features": logged.feature_values,
    }  # fmt: skip
    yield from (name for name, is_there in shapes.items() if is_there)
    yield from (name for name, count in logged.removed.items() if count)
    yield from {f"{part} {'benched' if reason == BENCHED else 'raised'}" for part, reason in logged.failures}
    yield from {"caps.category" if rule.startswith("caps.category.") else rule for rule in logged.trace_rules}


def test_every_logged_request_is_answered_the_same_again(shop):
    """In all shapes and placements, with and without a ranker, whatever happened between: not a bit is another."""
    bodies = logged_requests(LogView(shop.folder), shop.config, 10_000)
    assert {decode_body(body).request_id for body in bodies} == set(shop.ids)
    assert len(bodies) >= REQUESTS
    reruns = Reruns(shop.folder)
    told = [reruns.again(body) for body in bodies]
    assert {each.logged.request_id: each.differences for each in told if each.differences} == {}
    assert all(each.is_identical for each in told)
    assert {each.logged.scorer for each in told} == {"blend", "ranker", "waiting", "objectives"}
    assert {each.logged.placement for each in told} == set(NAMES)
    assert len({each.logged.models.get("ranker") for each in told if each.logged.scorer == "ranker"}) == 2
    assert len({each.logged.fold_version for each in told}) == 2
    assert any("ease" in each.logged.retrieved for each in told)
    assert len({each.logged.log_position for each in told}) > REQUESTS // 3
    happened = shop.did + Counter(name for each in told for name in told_of(each.logged))
    assert {name: count for name, count in HAPPENED.items() if happened[name] < count} == {}


def test_old_versions_of_a_placement_answer_their_requests(shop):
    """A placement was set and given back while questions were under way: each is run again by what answered it."""
    told = [decode_body(body) for body in logged_requests(LogView(shop.folder), shop.config, 10_000)]
    assert len({each.config_hash for each in told}) > shop.did["set"]
    assert shop.config.config_hash in {each.config_hash for each in told}


def test_one_is_found_by_its_id(busy):
    """A request alone is run again from the nearest snapshot, or the beginning, and another text is not found."""
    folder, config, ids = busy
    body = find_request(LogView(folder), config, ids[-1])
    told = Reruns(folder).again(body)
    assert told.is_identical
    assert told.served is not None
    assert told.served.query.request_id == ids[-1]
    with pytest.raises(NotFound, match="older than what is kept"):
        find_request(LogView(folder), config, "nobody")


def test_the_nearest_snapshot_is_gone_on_from(busy, tmp_path, monkeypatch):
    """Not the newest: one from after the request is of no use. The answer is the same to the bit."""
    folder, config, _ = busy
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    bodies = logged_requests(LogView(folder), config, 10_000)
    positions = [decode_body(body).log_position for body in bodies]
    middle, late = positions[REQUESTS // 3], positions[2 * REQUESTS // 3]
    for position in (middle, late):
        worker.run(
            SnapshotOrder(
                str(copy / "data"), position, encode_settings(settings_of(DataFolder(copy / "data"), config)), 2
            )
        )
    began: list[int] = []

    def loading(*asked):
        loaded = loaded_state(*asked)
        began.append(loaded.fold.log_position)
        return loaded

    monkeypatch.setattr("midstream.app.explain.reruns.loaded_state", loading)
    for place in (REQUESTS // 2, 7 * REQUESTS // 10, REQUESTS // 4):
        assert Reruns(copy).again(bodies[place]).is_identical
    assert began == [middle, late, 0]


def changed(body: bytes, **changes: object) -> bytes:
    """Return a record that says something else."""
    return encode_body(msgspec.structs.replace(decode_body(body), **changes))


def test_what_is_gone_is_named(busy, tmp_path):
    """A configuration, a fold version, a model or a placement that is not there any more says which it is."""
    folder, config, _ = busy
    body = next(
        each for each in logged_requests(LogView(folder), config, 10_000) if decode_body(each).scorer == "ranker"
    )
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    reruns = Reruns(copy)
    for change, field in (
        ({"config_hash": "0" * 16}, "config_hash"),
        ({"fold_version": "other"}, "fold_version"),
        ({"models": {"ranker": "0009-000000000000"}}, "models.ranker"),
        ({"placement": "gone"}, "placement"),
    ):
        told = reruns.again(changed(body, **change))
        assert (told.differences[0].field, told.served, told.is_identical) == (field, None, False)
    shutil.rmtree(DataFolder(copy / "data").models / "ranker")
    assert Reruns(copy).again(body).differences[0].field == "models.ranker"
    with pytest.raises(NotFound, match="erased"):
        reruns.again(changed(body, request_id=""))


def test_what_differs_in_the_answer_is_named(busy):
    """Field by field, with the place in the slate."""
    folder, config, ids = busy
    body = find_request(LogView(folder), config, ids[3])
    then = decode_body(body)
    other = ("nobody", *then.ids[1:])
    told = Reruns(folder).again(changed(body, ids=other, tier="reduced"))
    assert told.served is not None
    assert told.differences == (
        FieldDifference("tier", "reduced", "full"),
        FieldDifference("ids[0]", "nobody", then.ids[0]),
    )


def test_bits_count():
    """NaN is NaN, and 0 is not −0: what a comparison of numbers would not see is seen."""
    folder_free = decode_body(encode_body(blank()))
    zero, minus = np.array([0.0], "<f4").tobytes(), np.array([-0.0], "<f4").tobytes()
    first, second = (msgspec.structs.replace(folder_free, scores=each) for each in (zero, minus))
    assert differences(first, first) == ()
    assert differences(first, second) == (FieldDifference("scores[0]", "0", "-0"),)
    later = [msgspec.structs.replace(folder_free, order_scores=each) for each in (zero, minus)]
    assert differences(*later) == (FieldDifference("order_scores[0]", "0", "-0"),)
    assert differences(first, msgspec.structs.replace(first, scores=zero * 2))[0].then == "nothing"


def blank():
    """Return a record of nothing but one item."""
    return msgspec.structs.replace(_NOBODY, request_id="r", placement="p", slate_size=1, ids=("a",), source_bits=(0,))
