"""``/v1/placements``: what is known, set, given back and tried out, and what stands against it, with its status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ConfigInvalid, Fault, Overloaded, PlacementChanged, RebuildRunning, RequestInvalid
from midstream.core.paths import step, steps
from midstream.engine.requests.faults import json_pointer, path_of
from midstream.serving.app import asgi

PUT = {"placement": {"slate_size": 3}, "author": "ann"}
FAULT = Fault("$.weights.x", '"x" is not a source of this placement.', "Sources: popular", "/docs/sources.md")


def test_a_placement_is_set_shown_and_given_back(client):
    """A change answers with the placement as it is then; the list says where each comes from."""
    assert client.get("/v1/placements/home").status_code == 404
    first = client.ask("PUT", "/v1/placements/home", json={**PUT, "note": "fewer"}).json()
    assert (first["origin"], first["in_force"]) == ("api", {"slate_size": 3})
    (version,) = first["versions"]
    assert (version["version"], version["author"], version["note"]) == (1, "ann", "fewer")
    assert client.get("/v1/placements/home").json() == first
    found = client.get("/v1/placements").json()
    assert [(each["placement"], each["origin"]) for each in found["placements"]] == [
        ("default", "file"),
        ("home", "api"),
    ]
    assert found["aside"] == []
    gone = client.ask("DELETE", "/v1/placements/home?author=bob&note=no").json()
    assert [(each["author"], each["content"]) for each in gone["versions"]] == [
        ("ann", {"slate_size": 3}),
        ("bob", None),
    ]
    assert client.ask("DELETE", "/v1/placements/home?author=bob").status_code == 404
    assert client.get("/v1/placements/home").json() == gone


def test_a_preview_has_two_slates(client):
    """The one of today is null where there is none."""
    for name, today in (("default", True), ("home", False)):
        answer = client.post(
            f"/v1/placements/{name}/preview", {"placement": {}, "question": {"user_id": "ann", "n": 3}}
        )
        assert answer.status_code == 200
        assert (answer.json()["preview"]["request_id"], answer.json()["today"] is not None) == ("", today)


@pytest.mark.parametrize(
    "body,pointer",
    [
        (b"[]", ""),
        (b"\xff", ""),
        ({"placement": {}}, "/author"),
        ({"author": "ann"}, "/placement"),
        ({**PUT, "if_version": -1}, "/if_version"),
        ({**PUT, "atuhor": "ann"}, "/atuhor"),
        ({**PUT, "note": 7}, "/note"),
        (b'{"author": "ann", "placement": {"filter": "\xd8"}}', "/placement"),
        (b'{"author": "ann", "placement": {"slate_size": 1e999}}', "/placement"),
    ],
)
def test_a_body_that_says_something_else_is_refused(client, body, pointer):
    """400 with a pointer, and nothing is changed."""
    answer = client.ask(
        "PUT", "/v1/placements/home", **({"content": body} if isinstance(body, bytes) else {"json": body})
    )
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    assert client.get("/v1/placements/home").status_code == 404


@pytest.mark.parametrize(
    "question",
    [
        {"events": []},
        {"placement": "x"},
        {"min_log_position": "x"},
        {"n": 0},
        {"deadline": "soon"},
        {"explain": True},
        {"reasons": "en"},
        {"cursor": True},
        {"cursor": "AK36gLsWTrawHPFX55Cj7Y6ZUIkmZ-a1AAEAAYg2wDv5Yzc1"},
    ],
)
def test_a_preview_refuses_what_it_does_not_take(client, question):
    """Events, another placement, a position to wait for, and what no question may have."""
    answer = client.post("/v1/placements/home/preview", {"placement": {}, "question": question})
    assert answer.status_code == 400
    assert next(iter(question)) in answer.json()["pointer"]


def test_a_preview_takes_no_field_in_its_query(client):
    """What stands there would be taken for what counts."""
    answer = client.post("/v1/placements/home/preview?n=3", {"placement": {}, "question": {}})
    assert (answer.status_code, answer.json()["pointer"]) == (400, "n")
    assert client.post("/v1/placements/home/preview", {"placement": {}, "question": {}}).status_code == 200


def test_failures_have_their_status(client):
    """Each with the four parts where something in the request is wrong; pages of other sites are 403."""
    for failure, status, slug in (
        (ConfigInvalid((FAULT,)), 400, "invalid"),
        (PlacementChanged((FAULT,)), 409, "placement-changed"),
        (RebuildRunning("a rebuild to 12ab is folding, 40% done"), 409, "rebuild-running"),
        (Overloaded("as many placements are kept as may be"), 503, "overloaded"),
    ):
        client.placing.failure = failure
        answer = client.ask("PUT", "/v1/placements/home", json=PUT)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:midstream:{slug}")
        if status == 400:
            assert {answer.json()[each] for each in ("pointer", "came", "right", "page")} == {
                "/placement/weights/x",
                FAULT.came,
                FAULT.right,
                FAULT.page,
            }
    for method in ("PUT", "DELETE"):
        answer = client.ask(method, "/v1/placements/home", json=PUT, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
    assert client.ask("DELETE", "/v1/placements/home?author=ann&if_version=x").json()["pointer"] == "if_version"


@pytest.mark.parametrize(
    "where, pointer",
    [
        ("$", "/placement"),
        ("$.rules[0].name", "/placement/rules/0/name"),
        ('$.weights["a.b[0]/~c"]', "/placement/weights/a.b[0]~1~0c"),
        ("$.name", "name"),
        ("/author", "/author"),
        ("/if_version", "/if_version"),
        ("/filter", "/question/filter"),
        ("/context/a~1b", "/question/context/a~1b"),
        ("/question/explain", "/question/explain"),
        ("name", "name"),
        ("midstream.toml: $.features[0]", "midstream.toml: $.features[0]"),
    ],
)
@pytest.mark.parametrize("kind", [ConfigInvalid, RequestInvalid, PlacementChanged])
def test_pointers_lead_into_the_body(client, kind, where, pointer):
    """Wherever the fault was found: in the placement, in the question, or in what says who changes it."""
    client.ask("PUT", "/v1/placements/home", json=PUT)
    client.placing.failure = kind((Fault(where, "came", "right", "/docs/placements.md"),))
    put = client.ask("PUT", "/v1/placements/home", json=PUT).json()
    preview = client.post("/v1/placements/home/preview", {"placement": {}}).json()
    for problem in (put, preview):
        assert (problem["pointer"], problem["errors"][0]["pointer"]) == (pointer, pointer)
    gone = client.ask("DELETE", "/v1/placements/home?author=x").json()
    assert gone["pointer"] == where.removeprefix("/")


@given(st.text(max_size=8) | st.integers(0, 99).map(str))
def test_a_pointer_to_any_key_leads_to_it_and_back(key):
    """Through the server and without it a fault of one key has one place, and that place is found."""
    where = f"$.sources[3]{step(key)}"
    assert steps(where) == ["sources", 3, key]
    pointer = json_pointer(where)
    assert [each.replace("~1", "/").replace("~0", "~") for each in pointer.split("/")[1:]] == ["sources", "3", key]
    assert path_of(pointer, {"sources": [{}, {}, {}, {key: {}}]}) == where


def test_a_name_that_the_placement_repeats_is_pointed_at_there(client):
    """One that only the path has is the step of the path."""
    client.ask("PUT", "/v1/placements/home", json=PUT)
    client.placing.failure = ConfigInvalid((Fault("$.name", "came", "right", "/docs/placements.md"),))
    body = {**PUT, "placement": {"name": "home"}}
    assert client.ask("PUT", "/v1/placements/home", json=body).json()["pointer"] == "/placement/name"
    assert client.ask("PUT", "/v1/placements/home", json=PUT).json()["pointer"] == "name"


def test_a_server_whose_placements_are_fixed_says_so(client):
    """They are listed, and none can be set."""
    client.app = asgi(client.engine, client.engine.accept)
    found = client.get("/v1/placements").json()["placements"]
    told = [(each["placement"], each["origin"]) for each in found]
    assert told == [("default", "file"), ("search", "file"), ("similar", "file")]
    assert client.ask("PUT", "/v1/placements/home", json=PUT).status_code == 404
