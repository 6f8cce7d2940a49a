"""Routes of sinks: list, detail, and an order to write all rows anew."""


def test_lists_sinks_and_shows_one(client):
    """Both with the state and the position; an unknown name is a 404."""
    (listed,) = client.get("/v1/sinks").json()["sinks"]
    assert listed == client.get("/v1/sinks/profiles").json()
    assert (listed["state"], listed["log_position"], listed["is_complete"]) == ("idle", 100, True)
    assert client.get("/v1/sinks/other").status_code == 404


def test_an_order_begins_with_all_rows(client):
    """Accepted with the state after it; an unknown name is a 404, and a field that is none a 400."""
    answer = client.ask("POST", "/v1/sinks/profiles/backfill")
    assert (answer.status_code, answer.json()["pass_done"]) == (202, 0)
    assert not client.get("/v1/sinks/profiles").json()["is_complete"]
    assert client.ask("POST", "/v1/sinks/other/backfill").status_code == 404
    assert client.ask("POST", "/v1/sinks/profiles/backfill?all=1").status_code == 400
