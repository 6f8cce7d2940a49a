"""Routes of outputs: how each stands, and an operator's order."""

import pytest


def test_outputs_are_listed_and_read_by_name(client):
    """With position and lag; another name is a 404."""
    (told,) = client.get("/v1/outputs").json()["outputs"]
    assert client.get("/v1/outputs/slates").json() == told
    assert (told["name"], told["state"], told["log_position"], told["lag_events"]) == ("slates", "delivering", 40, 60)
    assert client.get("/v1/outputs/nothing").status_code == 404


def test_an_output_is_moved(client):
    """The answer is the output as it stands then."""
    for to, position in ((42, 42), ("beginning", 0), ("now", 100)):
        assert client.post("/v1/outputs/slates/position", {"to": to}).json()["log_position"] == position


@pytest.mark.parametrize("body", [{}, {"to": "soon"}, {"to": 101}, {"to": 1.5}, {"to": 3, "more": 1}])
def test_what_cannot_be_a_position_is_refused(client, body):
    """Nothing is moved."""
    assert client.post("/v1/outputs/slates/position", body).status_code == 400
    assert client.get("/v1/outputs/slates").json()["log_position"] == 40
