"""Authors of placements and experiments: a key is named by its own name, whatever name its holder writes."""

import pytest

from midstream.serving.access.callers import Caller, as_header, from_header
from midstream.serving.access.key_ring import OPERATOR_WHO

PLACEMENT = {"slate_size": 3}
EXPERIMENT = {"placement": "home", "variants": [{"name": "a"}, {"name": "b"}]}
EVE = {"author": "eve"}
CHANGES = [
    ("PUT", "/v1/placements/home", {"placement": PLACEMENT, **EVE}),
    ("POST", "/v1/experiments/size", {**EXPERIMENT, **EVE}),
    ("POST", "/v1/experiments/size/ramp", {"ramp": [{"exposed": 0.5}], **EVE}),
    ("POST", "/v1/experiments/size/stop", {"reason": "harm", **EVE}),
    ("PUT", "/v1/holdout", {"share": 0.1, "placements": ["home"], **EVE}),
]


def authors(answer):
    """Return the newest author of an answer of any of the routes."""
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["versions"][-1]["author"] if "versions" in found else found["author"]


def change_all(keyed, key):
    """Return the author that each change of placements and experiments leaves."""
    return [authors(keyed.ask(key, *each)) for each in CHANGES]


def test_without_keys_an_author_stays_as_written(keyed):
    """Nobody is known there, so nothing is proven."""
    assert change_all(keyed, "") == ["eve"] * len(CHANGES)


def test_key_that_names_another_author_is_named_itself(keyed):
    """In each answer, in what a reader gets later, and on pages of the console."""
    key, reader = keyed.make("placements", name="shop-team"), keyed.make("read", name="reader")
    assert change_all(keyed, key) == ["key shop-team: eve"] * len(CHANGES)
    assert authors(keyed.ask(reader, "GET", "/v1/placements/home")) == "key shop-team: eve"
    assert keyed.ask(reader, "GET", "/v1/experiments").json()["holdout"]["author"] == "key shop-team: eve"
    for page in ("/console/placements", "/console/experiments"):
        assert "key shop-team: eve" in keyed.ask(reader, "GET", page).text
    given_back = keyed.ask(key, "DELETE", "/v1/placements/home?author=eve&note=as+before")
    assert authors(given_back) == "key shop-team: eve"


def test_author_that_looks_like_a_key_stands_behind_the_real_one(keyed):
    """The beginning is the server's own, and a name of a key has no colon."""
    key = keyed.make("placements", name="shop-team")
    body = {"placement": PLACEMENT, "author": "key owner: ann"}
    assert authors(keyed.ask(key, "PUT", "/v1/placements/home", body)) == "key shop-team: key owner: ann"


@pytest.mark.parametrize("author", ["", " "])
def test_key_is_no_author_by_itself(author):
    """A change without a name is refused as before: the engine sees it as it came."""
    assert Caller("key:1f", "", frozenset(), key_name="shop-team").sign(author) == author


@pytest.mark.parametrize(
    "caller,author",
    [
        (Caller("key:1f", "", frozenset({"placements"}), key_name="shop-team"), "key shop-team: eve"),
        (Caller("token:auth0|7", "", frozenset({"placements"})), "token auth0|7: eve"),
        (Caller(f"{OPERATOR_WHO}:ann", "", frozenset({"admin"})), "eve"),
    ],
)
def test_caller_is_the_same_in_another_process(caller, author):
    """A follower passes the key's name on; a command of the machine has the rights of its user, and no other name."""
    assert caller.sign("eve") == author
    assert from_header(as_header(caller)).sign("eve") == author
