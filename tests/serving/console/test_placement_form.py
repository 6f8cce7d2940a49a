"""Form of a placement: it changes what was changed in it and nothing else, and names the field of a fault."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.effective import content_of, read_placement
from midstream.serving.console.placement_form import changed_settings, digest, form_of, laid_over, texts_of
from midstream.serving.console.slate_rows import title_of

ACTIONS = ("cart", "purchase", "view")
RICH = {
    "sources": [
        {"kind": "trending", "half_life": "1h", "limit": 30},
        {"kind": "editorial"},
        {"kind": "popular", "name": "old_hands"},
    ],
    "weights": {"trending": 0.5, "elsewhere": 2.0},
    "editorial": ["lamp"],
    "filter": "item.price < 20\nand item.available",
    "exclude": {"purchase": "30d", "impression": 5},
    "selector": {"kind": "epsilon_greedy", "epsilon": 0.2},
    "caps": [{"attribute": "category", "max": 3, "within": "24h"}, {"attribute": "brand", "max": 2}],
    "diversity": {"attribute": "category", "weight": 0.25, "method": "dpp"},
    "rules": [{"kind": "boost", "name": "sale", "where": "item.on_sale", "factor": 2.0}],
    "slate_size": 12,
}
SETTINGS: tuple[dict[str, object], ...] = (RICH, {}, {"sources": []})
DOCUMENTS = [json.loads(content_of(read_placement("home", each))) for each in SETTINGS]


def bytes_of(document):
    """Return a document as it is sent."""
    return json.dumps(document)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_form_that_nobody_changed_gives_the_same_bytes(document):
    """With the texts of its fields, without any, and with line ends as browsers send them."""
    before = bytes_of(document)
    texts = texts_of(document, ACTIONS)
    for told in (texts, {}, {name: f" {text}\r\n".replace("\n", "\r\n") for name, text in texts.items()}):
        assert bytes_of(laid_over(document, ACTIONS, told).document) == before
        assert changed_settings(texts, told) == []
    assert bytes_of(document) == before


CHANGES = [
    ({"slate_size": "5"}, ("slate_size",), 5),
    ({"slate_size": "five"}, ("slate_size",), "five"),
    ({"filter": ""}, ("filter",), None),
    ({"filter": "item.price > 1"}, ("filter",), "item.price > 1"),
    ({"deadline": "80ms"}, ("deadline",), "80ms"),
    ({"exclude.view": "1d"}, ("exclude", "view"), "1d"),
    ({"exclude.impression": "6"}, ("exclude", "impression"), 6),
    ({"source.trending.limit": "31"}, ("sources", 0, "limit"), 31),
    ({"source.old_hands.weight": "0.75"}, ("weights", "old_hands"), 0.75),
    ({"selector.epsilon": "0.3"}, ("selector", "epsilon"), 0.3),
    ({"cap.0.max": "4"}, ("caps", 0, "max"), 4),
    ({"cap.2.attribute": "colour", "cap.2.max": "1"}, ("caps", 2), {"attribute": "colour", "max": 1}),
    ({"diversity.weight": "0.5"}, ("diversity", "weight"), 0.5),
    ({"diversity.weight": "", "diversity.attribute": ""}, ("diversity",), None),
]


@pytest.mark.parametrize("told, steps, value", CHANGES)
def test_a_field_changes_its_setting_alone(told, steps, value):
    """All others keep their bytes, those of the same part that the form does not have too."""
    document = DOCUMENTS[0]
    made = laid_over(document, ACTIONS, {**texts_of(document, ACTIONS), **told}).document
    wanted = deepcopy(document)
    at = wanted
    for step in steps[:-1]:
        at = at[step]
    if isinstance(at, list) and steps[-1] == len(at):
        at.append(value)
    else:
        at[steps[-1]] = value
    assert bytes_of(made) == bytes_of(wanted)
    labels = [each.label for each in changed_settings(texts_of(document, ACTIONS), told)]
    assert len(labels) == len(set(labels)) == len(told)


def test_an_emptied_field_is_left_out():
    """So the default is in force, and an act or a cap is not one any more."""
    emptied = {
        "slate_size": "",
        "exclude.purchase": "",
        "source.trending.weight": "",
        "cap.0.attribute": "",
        "cap.0.max": "",
    }
    made = laid_over(DOCUMENTS[0], ACTIONS, emptied).document
    assert "slate_size" not in made
    assert made["exclude"] == {"impression": 5}
    assert made["weights"] == {"elsewhere": 2.0}
    assert [each["attribute"] for each in made["caps"]] == ["brand"]


def test_sources_are_switched_off_and_on():
    """One that is off goes, one that is on comes last with its default, and the others stay as they were."""
    document = DOCUMENTS[0]
    told = {**texts_of(document, ACTIONS), "source.trending.on": "", "source.session_knn.on": "on"}
    draft = laid_over(document, ACTIONS, told)
    assert draft.document["sources"] == [*document["sources"][1:], {"kind": "session_knn"}]
    assert draft.field_of("/sources/2/limit") == "source.session_knn.limit"
    assert [each.name for each in form_of(draft.document, ACTIONS).sources][-2:] != ["session_knn"] * 2


@pytest.mark.parametrize(
    "pointer, name",
    [
        ("/filter", "filter"),
        ("/exclude/purchase", "exclude.purchase"),
        ("/sources/0/limit", "source.trending.limit"),
        ("/sources/2/half_life", "source.old_hands.on"),
        ("/weights/trending", "source.trending.weight"),
        ("/caps/1/max", "cap.1.max"),
        ("/diversity/attribute", "diversity.attribute"),
        ("/rules/0/where", None),
        ("/selector/pool", "selector.pool"),
        ("", None),
    ],
)
def test_a_fault_has_a_field(pointer, name):
    """The nearest one around it; None = it is said above the form."""
    assert laid_over(DOCUMENTS[0], ACTIONS, {}).field_of(pointer) == name


TEXTS = st.sampled_from(["", "5", "0.5", "on", "30d", "category", "x > 1", "nan", "1e999", "-1", " "])


@given(st.data())
def test_any_texts_make_a_document(data):
    """Whatever is typed: what is wrong with it is for the route to say. The texts of what was made are those typed."""
    document = data.draw(st.sampled_from(DOCUMENTS))
    names = sorted(texts_of(document, ACTIONS))
    told = data.draw(st.dictionaries(st.sampled_from(names), TEXTS))
    draft = laid_over(document, ACTIONS, told)
    again = texts_of(draft.document, ACTIONS) if set(draft.document) == set(document) else {}
    for name in {"filter", "deadline", "exclude.view", "exclude.purchase"} & set(again):
        typed = told.get(name, texts_of(document, ACTIONS)[name]).strip()
        assert again[name] == typed or float(again[name]) == float(typed)
    assert (digest(draft.document) == digest(document)) == (draft.document == document)


def test_a_title_is_short():
    """The first attribute that says what it is; a long text is cut."""
    assert title_of({"name": "n", "title": "t"}) == "t"
    assert title_of({"name": 5}) == "5"
    assert title_of({"colour": "red"}) == title_of(None) == ""
    assert len(title_of({"title": "x" * 200})) == 80
