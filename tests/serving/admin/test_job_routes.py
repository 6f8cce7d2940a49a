"""Explanations and features of past moments: there, still being made, or refused, each with its status."""

import math

import msgspec
import pytest

from midstream.core.answers.slates import Slate
from midstream.core.errors import ExplanationFailed, NotFound
from midstream.engine.explain.past_features import PastQuestion
from midstream.engine.types import Answer, AnswerItem
from midstream.serving.app import asgi
from midstream.serving.slates.recommendations import slate_of

PATH = "/v1/requests/r-1/explanation"


def test_an_explanation_that_is_there(client):
    """200, as the child wrote it; items, each once, and the wait are passed on."""
    answer = client.get(f"{PATH}?item=a&item=b&item=a&wait=1500ms")
    assert (answer.status_code, answer.content) == (200, b'{"identical":true}')
    assert answer.headers["cache-control"] == "no-store"
    assert client.explainer.asked == [("r-1", ("a", "b"), 1.5)]
    client.get(PATH)
    assert client.explainer.asked[-1] == ("r-1", (), 2.0)


def test_one_that_is_being_made(client):
    """202 with how far it is, and where to ask again: the same question, whatever characters are in it."""
    client.explainer.is_slow = True
    answer = client.get("/v1/requests/r%2F1/explanation?item=%C3%A4")
    assert (answer.status_code, answer.json()) == (202, {"state": "waiting", "stage": "folding", "progress": 0.25})
    assert answer.headers["location"] == "/v1/requests/r%2F1/explanation?item=%C3%A4"
    assert client.explainer.asked[-1][:2] == ("r/1", ("ä",))


@pytest.mark.parametrize(
    "failure, status, slug",
    [(NotFound("erased"), 404, "not-found"), (ExplanationFailed("too long"), 500, "explanation-failed")],
)
def test_one_that_failed(client, failure, status, slug):
    """With the reason."""
    client.explainer.failure = failure
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:midstream:{slug}")
    assert str(failure) in answer.json()["detail"]


@pytest.mark.parametrize("query, pointer", [("wait=1h", "/wait"), ("wait=soon", "/wait"), ("item=", "/item")])
def test_what_cannot_be_asked(client, query, pointer):
    """Waits of half a minute at most, ids of a usable length."""
    assert client.get(f"{PATH}?{query}").json()["pointer"] == pointer
    many = client.get(PATH + "?" + "&".join(f"item=i{number}" for number in range(21)))
    assert (many.status_code, many.json()["came"]) == (400, "21 items came.")
    empty = client.get(f"{PATH}?item=a&item=")
    assert empty.json()["came"] == "One of 0 characters came."
    assert client.get(f"{PATH}?items=a").status_code == 400
    assert client.explainer.asked == []


def test_a_server_without_a_log_says_so(client):
    """404 where no request can be run again."""
    client.app = asgi(client.engine, client.engine.accept)
    assert client.get(PATH).status_code == 404


def test_answers_say_why_when_asked(client):
    """In a body and in a query string: an explanation of the slate, a reason of each item; unless asked nothing."""
    client.post("/v1/events", {"type": "view", "user_id": "ann", "item_id": "lamp"})
    plain = client.post("/v1/recommendations", {}).json()
    assert "explanation" not in plain
    assert "reason" not in plain["items"][0]
    for answer in (
        client.post("/v1/recommendations", {"explain": True, "reasons": "en"}).json(),
        client.get("/v1/recommendations?explain=true&reasons=en").json(),
    ):
        assert answer["items"][0]["reason"] == "lamp in en"
        assert answer["explanation"]["items"] == [{"id": "lamp", "outcome": "served", "because": "it is new"}]
        assert answer["explanation"]["request_id"] == answer["request_id"]
    assert client.get("/v1/items/lamp/similar?explain=true").json()["explanation"]
    assert client.post("/v1/recommendations", {"explain": "yes"}).status_code == 400


def test_an_item_without_a_score_and_what_could_not_be_explained_are_told():
    """A number that is none is null on the wire, as its type says, and reads back."""
    items = (AnswerItem("pin", math.nan, 0, None), AnswerItem("lamp", 0.5, 1, None))
    answer = Answer(
        "r", "default", items, "full", "0", None, 0, "c0ffee", (), unexplained={"reasons": "events arrived"}
    )
    told = msgspec.json.decode(msgspec.json.encode(slate_of(answer, None)), type=Slate)
    assert [each.score for each in told.items] == [None, 0.5]
    assert told.unexplained == {"reasons": "events arrived"}


AS_OF = "/v1/features/as-of"
MOMENT_MS = 1_700_000_000_000


def test_features_as_of_a_moment(client):
    """The question as it came, and the values as the child wrote them."""
    query = f"time={MOMENT_MS}&item=a&item=b&item=a&user_id=ann&session_id=s&feature=views"
    answer = client.get(f"{AS_OF}?{query}")
    assert answer.status_code == 200
    assert answer.json()["items"] == [{"id": "a", "values": [1.0]}, {"id": "b", "values": [1.0]}]
    assert client.past.asked == [PastQuestion(MOMENT_MS, ("a", "b"), "ann", "s", ("views",))]
    client.get(f"{AS_OF}?time=2023-11-14T22:13:20Z&item=a")
    assert client.past.asked[-1] == PastQuestion(MOMENT_MS, ("a",))


def test_features_that_are_being_read(client):
    """202 with how far it is, and where to ask again."""
    client.past.is_slow = True
    answer = client.get(f"{AS_OF}?time={MOMENT_MS}&item=a")
    assert (answer.status_code, answer.json()["stage"]) == (202, "folding")
    assert answer.headers["location"] == f"{AS_OF}?time={MOMENT_MS}&item=a"


@pytest.mark.parametrize(
    "query, pointer",
    [
        ("item=a", "time"),
        ("time=soon&item=a", "time"),
        ("time=1700000000&item=a", "time"),
        (f"time={MOMENT_MS}", "item"),
        (f"time={MOMENT_MS}&item=a&wait=1h", "/wait"),
        (f"time={MOMENT_MS}&" + "&".join(f"item={number}" for number in range(21)), "/item"),
    ],
)
def test_a_moment_that_cannot_be_asked_about(client, query, pointer):
    """Refused before a process is begun."""
    answer = client.get(f"{AS_OF}?{query}")
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    assert client.past.asked == []


def test_features_of_the_past_need_a_log(client):
    """404 where there is none in a folder."""
    client.app = asgi(client.engine, client.engine.accept)
    assert client.get(f"{AS_OF}?time={MOMENT_MS}&item=a").status_code == 404
