"""Pages of one placement: what is asked for by the form is previewed beside today's slate, or refused at its field."""

import re
from html import unescape
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

import midstream
from midstream.serving.access.console_session import CONSOLE_PATH
from tests.support.patience import wait_until

HOSTILE = '<img src=x onerror="alert(1)">'
CONFIG = """\
[items.attributes]
price = "number"

[[placements]]
name = "home"
sources = [{kind = "popular"}]
slate_size = 4
"""
CHANGE = f"{CONSOLE_PATH}/placements/home/change"


def part(number, pattern, text):
    """Return a group of what a pattern finds; the test fails here where it finds nothing."""
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found[number]


@pytest.fixture
def shop(tmp_path):
    """A shop with a placement in its file, and items with titles."""
    (tmp_path / "midstream.toml").write_text(CONFIG)
    with TestClient(midstream.asgi(tmp_path), base_url="http://localhost") as client:
        titles = [HOSTILE if number == 3 else f"Lamp {number}" for number in range(6)]
        items = [
            {"type": "item", "item_id": f"i{number}", "attributes": {"title": title, "price": number}}
            for number, title in enumerate(titles)
        ]
        acts = [
            {"type": "view", "user_id": "ann", "item_id": f"i{number}", "event_id": f"{number}-{count}"}
            for number in range(6)
            for count in range(number + 1)
        ]
        assert client.post("/v1/events", json=[*items, *acts]).json()["recorded"] == len(items) + len(acts)
        yield client


def fields_of(text):
    """Return what a browser sends of the form on a page."""
    form = text[text.index('<form class="placement"') :].split("</form>")[0]
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        said = dict(re.findall(r'(\w[\w-]*)="([^"]*)"', tag))
        if said.get("type") != "checkbox" or re.search(r"\schecked", tag):
            found[unescape(said["name"])] = unescape(said["value"])
    for name, value in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>([^<]*)</textarea>', form):
        found[name] = unescape(value)
    return found


def loaded(shop):
    return fields_of(shop.get(f"{CONSOLE_PATH}/placements/home").text)


def looked_at(shop, fields, **changed):
    """Return the page of a change, as it comes without a script."""
    told = {**fields, **{name.replace("__", "."): text for name, text in changed.items()}}
    return shop.get(f"{CHANGE}?{urlencode(told)}")


def set_home(shop, **settings):
    placement = {"sources": [{"kind": "popular"}], **settings}
    answer = shop.put("/v1/placements/home", json={"placement": placement, "author": "bob", "note": "sale"})
    assert answer.status_code == 200, answer.text


def test_a_change_is_shown_beside_today(shop):
    """Lined up by position, with titles, what moved and what leaves; both have their own number of items."""
    answer = looked_at(shop, loaded(shop), slate_size="2", filter="item.price < 5")
    assert answer.status_code == 200
    rows = re.findall(r'<tr><td class="n">(\d+)(.*?)</tr>', answer.text, re.DOTALL)
    assert [int(each[0]) for each in rows] == [0, 1, 2, 3]
    texts = [" ".join(re.sub(r"<[^>]*>", " ", unescape(each[1]).replace(HOSTILE, "hostile")).split()) for each in rows]
    assert texts == [
        "i5 Lamp 5 leaves i4 Lamp 4 up 1",
        "i4 Lamp 4 i3 hostile up 1",
        "i3 hostile –",
        "i2 Lamp 2 leaves –",
    ]
    assert "<img" not in answer.text
    assert "Number of items<td>4<td>2" in answer.text
    assert shop.get("/v1/placements/home").json()["in_force"]["slate_size"] == 4


def test_what_the_page_sets_is_what_it_previewed(shop):
    """The document of its form is that in force but for the change, and the route takes it."""
    before = shop.get("/v1/placements/home").json()["in_force"]
    text = looked_at(shop, loaded(shop), slate_size="2").text
    sent = unescape(part(1, r"name=\"placement\" data-type=\"json\" value='([^']*)'", text))
    version = int(part(1, r'name="if_version" data-type="number" value="(\d+)"', text))
    body = f'{{"placement": {sent}, "author": "eve", "if_version": {version}}}'
    answer = shop.put("/v1/placements/home", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["in_force"] == {**before, "slate_size": 2}


@pytest.mark.parametrize(
    "name, typed, pointer, right",
    [
        ("filter", "item.price <", "/placement/filter", "Something is missing"),
        ("slate_size", "many", "/placement/slate_size", "A whole number from 1 to 100."),
        ("exclude.view", "30x", "/placement/exclude/view", "such as 30m"),
        ("source.popular.limit", "0", "/placement/sources/0/limit", "1"),
        ("source.popular.weight", "-1", "/placement/weights/popular", "A number from 0"),
        ("cap.0.max", "0", "/placement/caps/0/max", "from 1 to 100"),
        ("deadline", "soon", "/placement/deadline", "A duration"),
    ],
)
def test_a_wrong_value_is_told_at_its_field(shop, name, typed, pointer, right):
    """Where, what came, what would be right and the page, tied to the field; nothing can be set from that page."""
    answer = looked_at(shop, loaded(shop), **{name.replace(".", "__"): typed})
    assert answer.status_code == 400
    field = part(0, rf'<(?:input|textarea)[^>]*name="{re.escape(name)}"[^>]*>', answer.text)
    assert 'aria-invalid="true"' in field
    told = part(1, r'aria-describedby="(\S+)', field)
    fault = unescape(answer.text.split(f'id="{told}">')[1].split("</p>")[0])
    assert fault.startswith(f"<code>{pointer}")
    assert right in fault
    assert 'href="/docs/' in fault
    assert 'data-method="PUT"' not in answer.text
    assert fields_of(answer.text)[name] == typed
    there = re.findall(r'href="#([^"]*)"', answer.text.split('role="alert"')[1].split("</div>")[0])
    assert part(1, r' id="([^"]*)"', field) in there  # the notice leads to it


def test_a_wrong_user_is_told_at_its_field(shop):
    """It is no part of the placement, and of the form."""
    answer = looked_at(shop, loaded(shop), user="x" * 300, slate_size="2")
    assert answer.status_code == 400
    assert re.search(r'<input id="user"[^>]*aria-describedby="user-fault-1 "', answer.text)
    assert "/question/user_id" in answer.text


def test_a_change_of_somebody_else_is_not_covered(shop):
    """The page says who changed what meanwhile, keeps what was typed over what is in force, and sets nothing."""
    fields = loaded(shop)
    set_home(shop, slate_size=3, filter="item.price > 0")
    answer = looked_at(shop, fields, slate_size="2")
    assert answer.status_code == 409
    assert "Version 1 by bob" in answer.text
    assert "(sale)" in answer.text
    assert 'data-method="PUT"' not in answer.text
    merged = fields_of(answer.text)
    assert (merged["slate_size"], merged["filter"]) == ("2", "item.price > 0")
    assert "Filter<td>–<td>item.price &gt; 0" in answer.text
    assert "Number of items<td>4<td>3" in answer.text
    assert merged["base"] != fields["base"]
    assert looked_at(shop, merged).status_code == 200


def test_a_change_of_a_version_that_is_gone_says_so(shop):
    """No digest is taken for another one."""
    answer = looked_at(shop, loaded(shop), base="0" * 16, slate_size="2")
    assert answer.status_code == 409
    assert "in the address of this page" in answer.text


def test_a_form_that_nobody_changed_sets_nothing(shop):
    """Without a preview; and without fields it is the page of the placement."""
    text = looked_at(shop, loaded(shop)).text
    assert "Nothing differs" in text
    assert 'data-method="PUT"' not in text
    assert "Edit as JSON" in shop.get(CHANGE).text
    assert shop.get(f"{CONSOLE_PATH}/placements/nothing/change?base=1").status_code == 404


def test_requests_have_titles(shop):
    """In the list, in the record and in what somebody would see now."""
    answer = shop.get("/v1/recommendations?placement=home").json()
    wait_until(lambda: shop.get(f"/v1/requests/{answer['request_id']}").status_code == 200)
    record = shop.get(f"{CONSOLE_PATH}/requests/{answer['request_id']}").text
    for text in (
        record,
        shop.get(f"{CONSOLE_PATH}/requests?ask=1&placement=home").text,
        shop.get(f"{CONSOLE_PATH}/requests").text,
    ):
        assert '<span class="title">Lamp 5</span>' in text
        assert "<img" not in text
