"""Which texts name an id: in whatever place one can be, and in none of those where only its characters stand."""

import json
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.events.dead_letters.id_search import IdSearch

IDS = ("a", "7", "ann@example.com", "anné", "user 4711", "\U0001f600", 'say "hi"', "back\\slash", "x" * 128, "u0061")
NEAR = (
    *("an", "aa", "77", "ann@example.com.au", "annex", "an a b", "call ann@example.com", "A", "user 47110", "a."),
    *("x" * 127, "xa7"),
)
"""Values that are no id, with the characters of one, or nearly."""
OWN = ("type", "user_id", "item_id", "context", "attributes", "from", "available", "a-field", "type of a user")
names = st.sampled_from(OWN)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda each: each != 7)
values = st.recursive(
    st.sampled_from(NEAR) | st.booleans() | st.none() | floats,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
events = st.dictionaries(names, values, max_size=5)


def escaped(user_id):
    """Return a text as escapes alone, an astral character as two."""
    units = user_id.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))


def packed(user_id):
    """Return bytes that an export writes of a served record, as it writes them."""
    return b64encode(msgspec.msgpack.encode([7, {"of": [user_id]}])).decode()


FIELDS = {
    "value": lambda user_id: {"context": {"mail": user_id}},
    "field of its own": lambda user_id: {"session_id": user_id},
    "name": lambda user_id: {"context": {user_id: 1.5}},
    "deep": lambda user_id: {"attributes": {"of": [{"who": [[{"is": user_id}]]}]}},
    "in a list": lambda user_id: {"attributes": {"friends": ["b", user_id, "c"]}},
    "json within": lambda user_id: {"attributes": json.dumps({"mail": user_id})},
    "json in json within": lambda user_id: {"attributes": json.dumps({"of": json.dumps([user_id])})},
    "packed": lambda user_id: {"content_base64": packed(user_id)},
}
"""An id in what an event has."""
TEXTS = {
    "number": lambda user_id, body: f'{{"user_id": {user_id}.0, "of": {body}}}',
    "escaped": lambda user_id, body: f'{{"user_id": "{escaped(user_id)}", "of": {body}}}',
    "twice": lambda user_id, body: f'{{"user_id": {json.dumps(user_id)}, "user_id": "annex", "of": {body}}}',
    "cut": lambda user_id, body: f'{{"user_id": {json.dumps(user_id)}, "of": {body[:-1]}',
    "broken": lambda user_id, body: f"{{'user_id': {json.dumps(user_id)},, {body}",
    "utf-16": lambda user_id, body: f'{{"user_id": {json.dumps(user_id)}, "of": {body}'.encode("utf-16-le").decode(),
    "cells": lambda user_id, _: f"view,{user_id},lamp",
    "logfmt": lambda user_id, _: f"type=view user_id={user_id} item_id=lamp",
}
"""An id in a text around one."""


def planted(event, user_id, how):
    """Return the text of an event with an id in it, in some way."""
    if how in FIELDS:
        return json.dumps(event | FIELDS[how](user_id), ensure_ascii=len(event) % 2 == 0)
    return TEXTS[how](user_id, json.dumps(event))


@pytest.mark.parametrize("how", [*FIELDS, *TEXTS])
@given(event=events, user_id=st.sampled_from(IDS))
def test_an_id_is_found_wherever_it_may_stand(how, event, user_id):
    """In each field, at each depth, in each way to write it, in what can be read and in what cannot."""
    user_id = "7" if how == "number" else user_id
    text = planted(event, user_id, how)
    naming = IdSearch([user_id, "nobody"])
    assert naming.touched(["", text, "{}"])[1]
    assert naming.is_named_in(text)


@given(st.lists(events, max_size=4), st.sets(st.sampled_from(IDS)))
def test_what_only_has_its_characters_is_no_id(found, ids):
    """Within words, with other letters, in prose, as a name that each event has, as a number that counts something."""
    naming = IdSearch([*ids, "type", "user_id", "context", "from", "available"])
    for event in found:
        counts = {"value": 7, "quantity": 7.0, "position": 7, "time": 7}
        assert not naming.is_named_in(json.dumps({"type": "view", "user_id": "annex", **event, **counts}))


@pytest.mark.parametrize(
    "text", ["view,xa,lamp", "b-a,c.a,a@b", "{'user_id': 'annex',", "ann@example.com.au;77", "a_7 7a"]
)
def test_a_word_of_what_cannot_be_read_is_an_id_as_a_whole(text):
    """Neither its beginning, nor its end, nor a part of it."""
    assert not any(IdSearch([each]).is_named_in(text) for each in IDS)


def test_sentences_of_ours_name_what_they_quote():
    """A reason's own words are nobody's, nor are numbers of places and names of our fields."""
    naming = IdSearch(["a", "user_id", "7", "ann"])
    assert not naming.is_quoted_in('Text of 1 to 128 characters; "an ann" is not a field. Nearest: "user_id".')
    assert naming.is_quoted_in('"ann" is not a field.')
    assert naming.is_quoted_in('"\\u0061" came.')
    assert not naming.is_step_of("/events/7/user_id")
    assert not naming.is_step_of("a: 7")
    assert naming.is_step_of("line 7: /context/ann")
    assert IdSearch(["a/b~c"]).is_step_of("/context/a~1b~0c")


short = st.text("abé\U0001f600", max_size=4)
long = st.builds(lambda start, end: start + "customer-" + end, short, short)


@given(st.lists(short | long, max_size=8), st.lists(st.lists(short | long, max_size=5).map("".join), max_size=8))
def test_what_is_looked_at_twice_has_the_characters(ids, texts):
    """At the beginning, at the end, within a word, and never across two texts; an empty id is nowhere."""
    expected = [any(each in text for each in ids if each) for text in texts]
    assert IdSearch(ids).touched(texts).tolist() == expected


def test_never_across_two_texts():
    """What ends one text and begins the next is no id, long or short."""
    assert IdSearch(["ab", "customer-12"]).touched(["xa", "b", "of customer-1", "2"]).tolist() == [False] * 4


def test_half_a_surrogate_pair_is_a_character():
    """As some clients send it."""
    naming = IdSearch(["\ud83d"])
    assert naming.touched(["a\ud83db", "b"]).tolist() == [True, False]
    assert naming.is_named_in('{"user_id": "\\ud83d"}')


def test_any_depth_is_read_or_taken_for_what_cannot_be():
    """An event that nests deeper than Python reads is looked through word by word."""
    deep = "[" * 100_000 + '"ann", "a"' + "]" * 100_000
    assert IdSearch(["ann"]).is_named_in(deep)
    assert not IdSearch(["an"]).is_named_in(deep)
