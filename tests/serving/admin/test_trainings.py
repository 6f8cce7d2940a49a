"""Routes of continuous training: what comes next, what was decided with its figures, and a training now."""

from tests.serving.conftest import Client
from tests.support.fakes.engine import FakeEngine


def test_trainings_are_listed_shown_and_ordered() -> None:
    """An order waits for its turn: 202."""
    client = Client(FakeEngine())
    (told,) = client.get("/v1/trainings").json()["trainings"]
    assert (told["model"], told["state"], told["next_ms"]) == ("ranker", "waits", 7)
    (decision,) = client.get("/v1/trainings/ranker").json()["decisions"]
    assert decision["gates"] == [
        {"name": "offline", "outcome": "refused", "figure": -0.2, "bound": -0.05, "text": "it is worse"}
    ]
    answer = client.ask("POST", "/v1/trainings/ranker/run")
    assert (answer.status_code, answer.json()["state"], client.trainings.orders) == (202, "queued", ["ranker"])


def test_an_unknown_model_is_named_and_a_busy_one_waits() -> None:
    """404 with what there is; 503 while a candidate is tried; a body says nothing."""
    client = Client(FakeEngine())
    for method, path in (("GET", "/v1/trainings/far"), ("POST", "/v1/trainings/far/run")):
        answer = client.ask(method, path)
        assert (answer.status_code, "there are ranker" in answer.json()["detail"]) == (404, True)
    client.trainings.is_busy = True
    assert client.ask("POST", "/v1/trainings/ranker/run").status_code == 503
    assert client.post("/v1/trainings/ranker/run", {"now": True}).status_code == 400
