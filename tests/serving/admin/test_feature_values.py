"""Values of features over HTTP: events like any other, with what is wrong pointed at in what was sent."""

import httpx
import msgspec
import pytest

from midstream.app.config.schema import Placement
from midstream.app.opening import accept_of
from midstream.core.errors import FeatureFailed
from midstream.core.types import LogPosition
from midstream.features.kinds.kinds import Number
from midstream.serving.app import asgi
from tests.support.rig import SMALL, Rig

T = 1_767_225_600_000


def test_a_value_is_a_patch_of_what_the_feature_reads(client):
    """Of an item its attribute, of a user the field of the profile; once by its id; null takes it away."""
    sent = {"values": [{"id": "lamp", "value": 3.5, "event_id": "p1"}, {"id": "bulb", "value": 4}]}
    assert client.post("/v1/features/price", sent).json()["recorded"] == 2
    assert client.post("/v1/features/price", sent).json()["duplicates"] == 1
    assert client.get("/v1/items/lamp").json()["attributes"] == {"price": 3.5}
    assert client.post("/v1/features/is_member", {"values": [{"id": "ann", "value": True}]}).json()["recorded"] == 1
    assert client.get("/v1/users/ann").json()["attributes"] == {"member": True}
    assert client.post("/v1/features/brand", {"values": [{"id": "lamp", "value": "ikea"}]}).json()["recorded"] == 1
    assert client.get("/v1/items/lamp").json()["attributes"] == {"price": 3.5, "brand": "ikea"}
    assert client.post("/v1/features/price", {"values": [{"id": "lamp", "value": None}]}).json()["recorded"] == 1
    assert client.get("/v1/items/lamp").json()["attributes"] == {"brand": "ikea"}


def test_each_value_has_its_own_answer(client):
    """What cannot be kept is named by its place; the rest is recorded."""
    values = [
        {"id": "a", "value": "3"},
        {"id": "b", "value": 1},
        {"id": "", "value": 1},
        {"id": "c", "value": 2, "time": "yesterday"},
        {"id": "d", "value": True},
        {"id": "e", "value": 5},
    ]
    answer = client.post("/v1/features/price?results=all", {"values": values}).json()
    assert answer["recorded"] == 2
    assert [(each["index"], each["pointer"]) for each in answer["rejected"]] == [
        (0, "/values/0/value"),
        (2, "/values/2/id"),
        (3, "/values/3/time"),
        (4, "/values/4/value"),
    ]
    assert [(each["index"], each["outcome"]) for each in answer["results"]] == [
        (0, "rejected"),
        (1, "recorded"),
        (2, "rejected"),
        (3, "rejected"),
        (4, "rejected"),
        (5, "recorded"),
    ]
    assert [each.item_id for each in client.engine.events] == ["b", "e"]


def test_nothing_taken_is_a_422_and_a_dry_run_records_nothing(client):
    """As with events."""
    answer = client.post("/v1/features/price", {"values": [{"id": "a", "value": "x"}]})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:midstream:nothing-taken")
    dry = client.post(
        "/v1/features/price?dry_run=true", {"values": [{"id": "a", "value": 1}, {"id": "b", "value": ""}]}
    )
    assert (dry.json()["dry_run"], [each["index"] for each in dry.json()["rejected"]]) == (True, [1])
    assert client.engine.events == []


@pytest.mark.parametrize(
    "path, body, status, pointer",
    [
        ("price", {"values": [{"id": "a"}]}, 400, "/values/0/value"),
        ("price", {"values": [{"id": "a", "value": 1, "tme": 1}]}, 400, "/values/0/tme"),
        ("price", {"value": []}, 400, "/value"),
        ("price", [], 400, ""),
        ("price?dry_rum=true", {"values": []}, 400, "dry_rum"),
        ("price", {"values": [{"id": "a", "value": 1}] * 501}, 413, "/values"),
        ("item_views", {"values": [{"id": "a", "value": 1}]}, 400, "name"),
    ],
)
def test_what_is_wrong_as_a_whole_is_pointed_at(client, path, body, status, pointer):
    """Nothing is recorded."""
    answer = client.post(f"/v1/features/{path}", body)
    assert (answer.status_code, answer.json()["pointer"]) == (status, pointer)
    assert client.engine.events == []


def test_a_feature_that_is_not_declared_is_a_404(client):
    """With the nearest name."""
    answer = client.post("/v1/features/pric", {"values": []})
    assert answer.status_code == 404
    assert 'Nearest: "price"' in answer.json()["detail"]


def test_the_newest_time_wins():
    """On a real engine: an older value that comes later changes nothing."""
    config = msgspec.structs.replace(
        SMALL,
        items=msgspec.structs.replace(SMALL.items, attributes={"price": "number"}),
        features=(Number(name="price"),),
        placements=(Placement(features=("price",)),),
    )
    rig = Rig(config=config, now_ms=T)

    async def work(rig: Rig) -> list[object]:
        app = asgi(rig.engine, lambda: msgspec.structs.replace(accept_of(config), now_ms=rig.now_ms))
        found = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            for value, time in ((5, T - 1_000), (3, T - 5_000), (7, None)):
                sent = {"id": "lamp", "value": value} | ({} if time is None else {"time": time})
                answer = await http.post("/v1/features/price", json={"values": [sent]})
                assert answer.json()["recorded"] == 1, answer.text
                found.append((await http.get("/v1/items/lamp")).json()["attributes"]["price"])
        return found

    assert rig.run(work) == [5, 5, 7]
    assert rig.engine.fold.log_position == LogPosition(3)


def test_a_feature_that_cannot_be_read_is_no_reason_to_ask_again(client, monkeypatch):
    """500 with the text of what failed, and no time to come back at: the same question fails in the same way."""

    async def fails(*_asked):
        message = "at log position 7 features could not be read. features.views: ArithmeticError"
        raise FeatureFailed(message)

    monkeypatch.setattr(type(client.engine), "read_features", fails)
    answer = client.post("/v1/features/read", {"items": ["a"]})
    told = answer.json()
    assert (answer.status_code, told["type"]) == (500, "urn:midstream:feature-failed")
    assert "features.views: ArithmeticError" in told["detail"]
    assert "retry-after" not in answer.headers
    assert "retry_after" not in told


@pytest.mark.parametrize(
    "path, body, pointer, right",
    [
        ("/v1/features/read", {}, "/items", "A list of length up to 1,000."),
        ("/v1/features/price", {}, "/values", "A list: [ … ]."),
        ("/v1/features/price", {"values": [{"id": "a", "value": 1}, {"value": 1}]}, "/values/1/id", "A text."),
        ("/v1/users/ann/merge", {}, "/user_id", "A text."),
    ],
)
def test_what_is_missing_is_pointed_at(client, path, body, pointer, right):
    """The field itself, not the object that lacks it, and what it would be."""
    told = client.post(path, body).json()
    assert (told["pointer"], told["came"], told["right"]) == (pointer, "It is missing.", right)
