"""The page about HTTP says what the server does: every route, metric, option and error, and its commands work."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from midstream.engine.folder import DataFolder
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.monitoring.metrics import Metrics
from midstream.serving.http import closing_answers, problems
from midstream.serving.options import ServerOptions
from tests.support.fakes.shelves import PEER_KEY, SNAPSHOT

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
TEXT = PAGE.read_text("utf-8")


def commands():
    """Return every curl of the page as method, path, body and headers, in order."""
    found = []
    (json_header,) = re.findall(r"^JSON='(.*)'$", TEXT, re.MULTILINE)
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        words = shlex.split(block)
        starts = [place for place, word in enumerate(words) if word == "curl"]
        for start, stop in pairwise([*starts, len(words)]):
            _, *rest = words[start:stop]
            body = rest[rest.index("-d") + 1] if "-d" in rest else ""
            method = rest[rest.index("-X") + 1] if "-X" in rest else "POST" if body else "GET"
            sent = [
                rest[place + 1].replace("$JSON", json_header).replace("$PEER_KEY", PEER_KEY).split(": ")
                for place, word in enumerate(rest)
                if word == "-H"
            ]
            (path,) = (word.removeprefix("$SERVER") for word in rest if word.startswith("$SERVER"))
            found.append((method, path, body, dict(sent)))
    return found


def test_every_route_has_a_heading(client):
    """A heading for each method of each path, and none for what is not there."""
    paths = client.get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^## ([A-Z]+ /.*)$", TEXT, re.MULTILINE)) == routes


def test_every_command_works_in_order(make_client, engine, tmp_path):
    """Each curl of the page, one after another on a new shop, is answered with 2xx; each route has one."""
    data = DataFolder(tmp_path / "data")
    client = make_client(engine, dead_letters=DeadLetters(tmp_path / "dead", RealDisk()), data=data)
    request_id = ""
    for method, path, body, headers in commands():
        asked = path.replace("$REQUEST_ID", request_id).replace("$SNAPSHOT", SNAPSHOT)
        if body:  # what curl sends where nothing is said
            headers.setdefault("content-type", "application/x-www-form-urlencoded")
        answer = client.ask(method, asked, content=body.encode(), headers=headers)
        assert answer.status_code in {200, 202}, (method, path, answer.text)
        if path == "/v1/recommendations":
            request_id = answer.json()["request_id"]
    tried = {(method, re.sub(r"[?].*", "", path)) for method, path, *_ in commands()}
    assert len(tried) == len(re.findall(r"^## [A-Z]+ /", TEXT, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(Metrics(CollectorRegistry()).names()))
def test_every_metric_is_in_the_table(name):
    """By its name in the scraped text."""
    assert f"`{name}`" in TEXT or f"`{name}_info`" in TEXT


@pytest.mark.parametrize("name", ServerOptions.__struct_fields__)
def test_every_option_is_named(name):
    """Each option of ``[server]``."""
    assert f"`{name}`" in TEXT


def test_every_error_is_in_the_table():
    """Each ``type`` of a problem document with its status, and none that there is not."""
    rows = dict(re.findall(r"^\| `urn:midstream:([a-z-]+)` \| (\d+) \|", TEXT, re.MULTILINE))
    faces = {face.slug: str(face.status) for face in problems._FACES}
    ends = {
        each.reason.replace("_", "-"): str(each.reply.status)
        for each in vars(closing_answers).values()
        if isinstance(each, closing_answers.ClosingAnswer)
    }
    assert len(ends) == 4
    assert rows == faces | ends | {"nothing-taken": "422"}
