"""Requests of the task pages: each ``curl`` to the server is a request that the routes take."""

import re

import pytest

from tests.support.fakes.engine import FakePlan
from tests.support.pages import TASKS, blocks, commands

PLACEMENT = re.compile(r'\[\[placements\]\]\nname = "(\w+)"')
SERVER = "$SERVER"
ITEMS = ("lamp-012", "lamp-018", "lamp-029", "lamp-030", "chair-021")
ELSEWHERE = ("http://gorse:8088/",)


def requests_of(page):
    """Return method, target and body of each ``curl`` of a page to the server."""
    found = []
    for block in blocks(page):
        for words in commands(block) if block.language == "sh" else ():
            target = next((word for word in words if word.startswith(SERVER)), None)
            if words[0] != "curl" or target is None:
                assert words[0] != "curl" or any(word.startswith(ELSEWHERE) for word in words), words
                continue
            body = words[words.index("-d") + 1] if "-d" in words else None
            assert body is None or "content-type: application/json" in words
            method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
            found.append((method, target.removeprefix(SERVER), body))
    return found


def placements_of(page):
    """Return the names of the placements that a page declares."""
    return [name for block in blocks(page) for name in PLACEMENT.findall(block.text)]


REQUESTS = [
    pytest.param(page, *request, id=f"{page.stem}-{number}")
    for page in TASKS
    for number, request in enumerate(requests_of(page), 1)
]


def test_requests_are_found():
    """Most pages have one; another way to write them would leave nothing to send."""
    assert len({each.values[0] for each in REQUESTS}) >= 6


@pytest.mark.parametrize("page,method,target,body", REQUESTS)
def test_request_is_taken(engine, client, page, method, target, body):
    """It has a route, its fields, names and kinds are right, and its placement is one of the page or built in."""
    engine.swap(engine.fold, {**engine.plans, **{name: FakePlan(name) for name in placements_of(page)}})
    client.post("/v1/items", [{"item_id": item_id, "attributes": {"price": 10}} for item_id in ITEMS])
    client.post("/v1/events", {"type": "view", "user_id": "u1", "item_id": ITEMS[0]})
    request_id = client.post("/v1/recommendations", {"user_id": "u1"}).json()["request_id"]
    target, body = (
        text and text.replace("$REQUEST_ID", request_id).replace("REQUEST_ID", request_id) for text in (target, body)
    )
    answer = client.ask(method, target, content=body)
    assert answer.status_code in {200, 202}, answer.text
    assert not answer.json().get("rejected"), answer.text
    assert not [each for each in answer.json().get("slates", ()) if "problem" in each], answer.text
