"""Logged requests are run again on the state of then: identical to the bit, or what differs is named."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from midstream.app.config import Config
from midstream.app.inspection import LogView
from midstream.app.reruns import Reruns, find_request, logged_requests
from midstream.app.running import loaded_state
from midstream.core.errors import NotFound
from midstream.engine import snapshot_child
from midstream.engine.folder import DataFolder
from midstream.engine.snapshot_child import Order
from midstream.events.served_body import decode_body, encode_body
from midstream.ranking.differences import Difference, differences
from midstream.state.settings import encode_settings
from midstream.testing.busy import NAMES, served_shop

REQUESTS = 200


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> tuple[Path, Config, list[str]]:
    """A folder whose log holds the requests of a busy shop."""
    folder = tmp_path_factory.mktemp("busy")
    return (folder, *served_shop(folder, REQUESTS))


def test_every_logged_request_is_answered_the_same_again(busy):
    """By all placements, with and without a ranker, whatever happened between: not a bit is another."""
    folder, config, ids = busy
    bodies = logged_requests(LogView(folder), config, 10_000)
    assert {decode_body(body).request_id for body in bodies} == set(ids)
    reruns = Reruns(folder)
    told = [reruns.again(body) for body in bodies]
    assert [each.differences for each in told] == [()] * REQUESTS
    assert all(each.is_identical for each in told)
    assert {each.logged.scorer for each in told} == {"blend", "ranker"}
    assert {each.logged.placement for each in told} == set(NAMES)
    assert len({each.logged.log_position for each in told}) > REQUESTS // 2


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
        snapshot_child.run(Order(str(copy / "data"), position, encode_settings(config.fold_settings()), 2))
    began: list[int] = []

    def loading(*asked):
        loaded = loaded_state(*asked)
        began.append(loaded.fold.log_position)
        return loaded

    monkeypatch.setattr("midstream.app.reruns.loaded_state", loading)
    for place in (REQUESTS // 2, REQUESTS - 1, REQUESTS // 4):
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
        Difference("tier", "reduced", "full"),
        Difference("ids[0]", "nobody", then.ids[0]),
    )


def test_bits_count():
    """NaN is NaN, and 0 is not −0: what a comparison of numbers would not see is seen."""
    folder_free = decode_body(encode_body(blank()))
    zero, minus = np.array([0.0], "<f4").tobytes(), np.array([-0.0], "<f4").tobytes()
    first, second = (msgspec.structs.replace(folder_free, scores=each) for each in (zero, minus))
    assert differences(first, first) == ()
    assert differences(first, second) == (Difference("scores[0]", "0", "-0"),)
    assert differences(first, msgspec.structs.replace(first, scores=zero * 2))[0].then == "nothing"


def blank():
    """Return a record of nothing."""
    from midstream.events.served_body import RECORD_VERSION, ServedBody

    return ServedBody(
        RECORD_VERSION, 0, "r", "p", None, None, 1, 0, 0, (), (), None, {}, {}, "", "", "", "", 0, 0, (), {}, {}, (),
        ("a",), b"", b"", (0,),
    )  # fmt: skip
