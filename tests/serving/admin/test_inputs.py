"""Routes of inputs: how each stands, and an operator's word."""

import pytest


def test_inputs_are_listed_and_read_by_name(client):
    """With position and lag of each partition; another name is a 404."""
    (told,) = client.get("/v1/inputs").json()["inputs"]
    assert client.get("/v1/inputs/clicks").json() == told
    assert (told["name"], told["state"], told["lag"]) == ("clicks", "reading", 120)
    assert told["partitions"][0] == {"partition": "0", "position": "40", "lag": 60, "gone": ""}
    assert client.get("/v1/inputs/nothing").status_code == 404


def test_an_input_is_moved_by_partition_or_as_a_whole(client):
    """The answer is the input as it stands then."""
    moved = client.post("/v1/inputs/clicks/positions", {"positions": {"1": "42"}}).json()
    assert [each["position"] for each in moved["partitions"]] == ["40", "42"]
    for place, position in (("earliest", "0"), ("latest", "100"), ("1700000000000", "50")):
        moved = client.post("/v1/inputs/clicks/positions", {"to": place}).json()
        assert [each["position"] for each in moved["partitions"]] == [position, position]


@pytest.mark.parametrize(
    "body,pointer",
    [
        ({}, "/to"),
        ({"to": "latest", "positions": {"0": "1"}}, "/to"),
        ({"to": "soon"}, "/to"),
        ({"positions": {"0": "999"}}, "/positions/0"),
        ({"positions": {"0": 1}}, "/positions/0"),
    ],
)
def test_what_cannot_be_a_position_is_refused(client, body, pointer):
    """With its place; nothing is moved."""
    answer = client.post("/v1/inputs/clicks/positions", body)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    assert client.get("/v1/inputs/clicks").json()["partitions"][0]["position"] == "40"
