"""Rejected events can be looked at and sent again, each recorded once, each refused one kept with its reason."""

import errno
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import DiskFull
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.events.wire import Accept
from midstream.serving.admin import dead_letters as routes
from midstream.serving.app import asgi
from tests.support.disks import DiskFault, FailingDisk, ForgetfulDisk
from tests.support.fakes.engine import FakeEngine

VIEW = {"type": "view", "user_id": "ann"}
WATCH = {"type": "watch", "user_id": "ann", "item_id": "film"}
"""Refused as long as no act is called so."""
PATH = Path("/data/dead-letters.ndjson")


class Changing(FakeEngine):
    """An engine whose terms may change."""

    terms: Accept | None = None

    def accept(self) -> Accept:
        return self.terms or super().accept()


class Shop:
    """An app whose terms may change, with its dead letters."""

    def __init__(self, make_client, **engine):
        self.letters = DeadLetters(PATH, ForgetfulDisk())
        self.client = make_client(Changing(**engine), dead_letters=self.letters)

    def allow(self, *actions):
        """Take these acts from here on."""
        terms = self.client.engine.accept()
        self.client.engine.terms = msgspec.structs.replace(terms, actions=terms.actions | set(actions))

    def send(self, *events):
        return self.client.post("/v1/events", list(events)).json()

    def retry(self, **asked):
        answer = self.client.post("/v1/dead-letters/retry", asked or {"all": True})
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def recorded(self):
        return [(each.action, each.item_id, each.event_time_ms) for each in self.client.engine.events if each.action]

    def metric(self, name):
        text = self.client.get("/metrics").text
        return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)]


@pytest.fixture
def shop(make_client):
    """An app whose terms may change."""
    return Shop(make_client)


def test_pages_are_the_newest_first_and_meet(shop):
    """Each letter on one page, with its reason and the beginning of the event; a limit is kept."""
    shop.send(*(WATCH | {"item_id": f"i{number}" * 90} for number in range(7)))
    found, after = [], ""
    while True:
        page = shop.client.get(f"/v1/dead-letters?limit=3{after}").json()
        assert page["kept"] == 7
        assert page["bytes_kept"] == shop.letters.counts.bytes_kept
        found += page["letters"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert [each["number"] for each in found] == [7, 6, 5, 4, 3, 2, 1]
    assert found[0]["reason"]["where"] == "/6/type"
    assert len(found[0]["raw"]) == routes.RAW_SHOWN_MAX
    whole = shop.client.get("/v1/dead-letters/7").json()
    assert json.loads(whole["raw"]) == WATCH | {"item_id": "i6" * 90}
    assert found[0]["characters_cut"] == len(whole["raw"]) - routes.RAW_SHOWN_MAX


@pytest.mark.parametrize("path", ["?limit=0", "?limit=1001", "?limit=x", "?after=-1", "?after=", "?page=2"])
def test_pages_that_are_none_are_refused(shop, path):
    """With a pointer to the field."""
    answer = shop.client.get(f"/v1/dead-letters{path}")
    assert answer.status_code == 400
    assert answer.json()["pointer"] == path[1:].partition("=")[0]


@pytest.mark.parametrize("number", ["2", "0", "x", "-1", "9" * 40, "%E2%82%AC"])
def test_a_letter_that_is_not_there_is_404(shop, number):
    """Whatever is asked for."""
    shop.send(WATCH)
    assert shop.client.get(f"/v1/dead-letters/{number}").status_code == 404


@pytest.mark.parametrize(
    "asked", [{}, {"all": True, "numbers": [1]}, {"numbers": []}, {"numbers": ["1"]}, {"number": 1}]
)
def test_a_retry_says_which(shop, asked):
    """Numbers or all, not both, not neither."""
    assert shop.client.post("/v1/dead-letters/retry", asked).status_code == 400


def test_a_retry_has_a_maximum(shop, monkeypatch):
    """More numbers are an error; ``all`` goes as far and says from where to go on."""
    monkeypatch.setattr(routes, "RETRY_MAX", 3)
    shop.send(*[WATCH] * 7)
    shop.allow("watch")
    assert shop.client.post("/v1/dead-letters/retry", {"numbers": [1, 2, 3, 4]}).status_code == 400
    first = shop.retry(all=True)
    assert (first["tried"], first["recorded"], first["last"]) == (3, 3, 3)
    assert shop.retry(all=True, after=first["last"])["last"] == 6
    assert shop.retry(all=True, after=6)["tried"] == 1
    assert shop.retry(all=True, after=7) == {
        "tried": 0,
        "recorded": 0,
        "duplicates": 0,
        "refused": 0,
        "missing": [],
        "last": None,
    }


def test_what_is_right_today_is_recorded_and_leaves(shop):
    """At the time at which it came; what is still wrong stays under its number with the reason of today."""
    shop.send(WATCH | {"event_id": "e1"}, WATCH | {"colour": "red"}, 5, WATCH)
    assert shop.metric("midstream_dead_letters_kept") == [4.0]
    nothing = shop.retry()
    assert (nothing["tried"], nothing["refused"]) == (4, 4)
    shop.allow("watch")
    done = shop.retry(numbers=[4, 2, 1, 99, 3])
    assert (done["recorded"], done["refused"], done["missing"]) == (2, 2, [99])
    assert shop.recorded == [("watch", "film", shop.client.engine.clock())] * 2
    left = shop.client.get("/v1/dead-letters").json()["letters"]
    assert [(each["number"], each["tries"], each["reason"]["where"]) for each in left] == [
        (3, 2, "/2"),
        (2, 2, "/colour"),
    ]
    assert shop.metric("midstream_dead_letters_kept") == [2.0]
    assert shop.metric("midstream_dead_letters_bytes") == [float(shop.letters.counts.bytes_kept)]
    assert shop.metric('midstream_dead_letters_retried_total{outcome="recorded"}') == [2.0]
    assert shop.metric('midstream_dead_letters_retried_total{outcome="refused"}') == [6.0]
    assert shop.metric("midstream_dead_letters_total") == [4.0]


def test_a_letter_that_was_recorded_before_is_not_recorded_again(shop):
    """When the file still has it although the log has the event: with an id of its own, and without."""
    shop.send(WATCH | {"event_id": "e1"}, WATCH)
    before = shop.letters.read()
    shop.allow("watch")
    assert shop.retry()["recorded"] == 2
    old = DeadLetters(PATH, ForgetfulDisk())
    old.add(before)
    engine = shop.client.engine
    shop.client.app = asgi(engine, engine.accept, service=IngestService(engine, dead_letters=old))
    done = shop.retry()
    assert (done["recorded"], done["duplicates"]) == (0, 2)
    assert len(shop.recorded) == 2
    assert old.read() == []


def test_a_mended_event_that_is_no_utf_8_is_refused(shop):
    """With its place."""
    shop.send(WATCH)
    body = b'{"numbers":[1],"event":{"type":"view","user_id":"\xff"}}'
    answer = shop.client.post("/v1/dead-letters/retry", body)
    assert (answer.status_code, answer.json()["pointer"]) == (400, "/event")
    assert len(shop.letters.read()) == 1


def test_an_order_s_refused_item_is_a_letter_of_its_own(make_client):
    """The others are recorded once; the item follows once the catalogue has it."""
    shop = Shop(make_client, unknown_items_are_refused=True)
    shop.client.ask("PUT", "/v1/items/a", content=b"{}")
    shop.send(VIEW | {"items": [{"item_id": "a"}, {"item_id": "b"}, {"item_id": "c"}]})
    assert [each.item for each in shop.letters.read()] == [1, 2]
    shop.client.ask("PUT", "/v1/items/c", content=b"{}")
    done = shop.retry()
    assert (done["recorded"], done["refused"]) == (1, 1)
    assert [item for _, item, _ in shop.recorded] == ["a", "c"]
    assert [(each.number, each.reason.where) for each in shop.letters.read()] == [(1, "/item_id")]


def test_a_refused_order_that_is_taken_in_part_leaves_letters_of_the_rest(make_client):
    """Refused as a whole first; later some of its items are known."""
    shop = Shop(make_client, unknown_items_are_refused=True)
    shop.client.ask("PUT", "/v1/items/a", content=b"{}")
    shop.send(WATCH | {"item_id": None, "items": [{"item_id": "a"}, {"item_id": "b"}]})
    shop.allow("watch")
    assert shop.retry()["recorded"] == 1
    (letter,) = shop.letters.read()
    assert (letter.number, letter.item) == (2, 1)
    shop.client.ask("PUT", "/v1/items/b", content=b"{}")
    assert shop.retry()["recorded"] == 1
    assert [item for _, item, _ in shop.recorded] == ["a", "b"]
    assert shop.letters.read() == []


def test_an_id_that_has_other_content_stays_a_letter(shop):
    """With that as its reason: the first stays."""
    shop.send(VIEW | {"item_id": "a", "event_id": "e"}, WATCH | {"event_id": "e"})
    shop.allow("watch")
    assert shop.retry()["refused"] == 1
    assert shop.letters.read()[0].reason.where == "/event_id"


def test_a_full_disk_loses_no_letter(shop):
    """The answer is that of any event; all can be tried again."""
    shop.send(WATCH, WATCH)
    shop.allow("watch")
    shop.client.engine.failure = DiskFull("full")
    assert shop.client.post("/v1/dead-letters/retry", {"all": True}).status_code == 507
    assert len(shop.letters.read()) == 2
    shop.client.engine.failure = None
    assert shop.retry()["recorded"] == 2


def mend(shop, number, event, status=200):
    """Send an event in place of that of a letter."""
    answer = shop.client.post("/v1/dead-letters/retry", {"numbers": [number], "event": event})
    assert answer.status_code == status, answer.text
    return answer.json()


def remove(shop, status=200, **asked):
    """Remove letters."""
    answer = shop.client.post("/v1/dead-letters/remove", asked)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_mended_letter_leaves_once_its_event_is_recorded(shop):
    """With the time at which the letter came; what came first is not sent again, and no other letter goes."""
    shop.send(WATCH, WATCH)
    done = mend(shop, 1, VIEW | {"item_id": "film"})
    assert done == {"tried": 1, "recorded": 1, "duplicates": 0, "refused": 0, "missing": [], "last": 1}
    assert shop.recorded == [("view", "film", shop.client.engine.clock())]
    assert [each.number for each in shop.letters.read()] == [2]
    assert shop.metric("midstream_dead_letters_kept") == [1.0]
    assert shop.metric('midstream_dead_letters_retried_total{outcome="recorded"}') == [1.0]
    shop.allow("watch")
    assert shop.retry(numbers=[1])["missing"] == [1]
    assert len(shop.recorded) == 1


@pytest.mark.parametrize(
    "event, pointer",
    [
        (WATCH, "/event/type"),
        (VIEW | {"colour": "red"}, "/event/colour"),
        ({"events": [VIEW]}, "/event"),
        (5, "/event"),
        (None, "/event"),
        ([VIEW], "/event"),
    ],
)
def test_a_mended_event_that_is_refused_leaves_the_letter_as_it_was(shop, event, pointer):
    """With the fault in the answer, and no second letter."""
    shop.send(WATCH)
    before = shop.letters.read()
    assert mend(shop, 1, event, 400)["pointer"] == pointer
    assert shop.letters.read() == before
    assert not shop.recorded


def test_an_event_mends_one_letter_that_is_there(shop):
    """Nothing is recorded without a letter, nor for several."""
    shop.send(WATCH, WATCH)
    mend(shop, 3, VIEW, 404)
    mend(shop, -1, VIEW, 404)
    for asked in ({"numbers": [1, 2]}, {"all": True}):
        answer = shop.client.post("/v1/dead-letters/retry", asked | {"event": VIEW})
        assert (answer.status_code, answer.json()["pointer"]) == (400, "/event")
    assert not shop.recorded
    assert len(shop.letters.read()) == 2


@pytest.mark.parametrize("time", [{}, {"time": 1_767_225_600_000}])
def test_one_event_is_recorded_of_a_letter_that_comes_back(shop, time):
    """As the file of before has it: the same event is a duplicate, and neither another nor the first is recorded."""
    shop.send(WATCH)
    before = shop.letters.read()
    mend(shop, 1, VIEW | {"item_id": "film"} | time)
    for again, outcome in (({"item_id": "film"}, "duplicates"), ({"item_id": "other"}, "refused")):
        old = DeadLetters(PATH, ForgetfulDisk())
        old.add(before)
        engine = shop.client.engine
        shop.client.app = asgi(engine, engine.accept, service=IngestService(engine, dead_letters=old))
        answer = mend(shop, 1, VIEW | again | time, 400 if outcome == "refused" else 200)
        assert answer.get("pointer") == ("/event/event_id" if outcome == "refused" else None)
        assert (old.read() == []) == (outcome == "duplicates")
    shop.allow("watch")
    assert shop.retry()["refused"] == 1
    assert len(shop.recorded) == 1


def test_the_rejected_item_of_an_order_is_mended_alone(make_client):
    """The other items are in the log already."""
    shop = Shop(make_client, unknown_items_are_refused=True)
    shop.client.ask("PUT", "/v1/items/a", content=b"{}")
    shop.send(VIEW | {"items": [{"item_id": "b"}, {"item_id": "a"}]})
    (letter,) = shop.letters.read()
    mend(shop, 1, json.loads(letter.raw) | {"items": [{"item_id": "a", "quantity": 3}, {"item_id": "a"}]})
    assert [item for _, item, _ in shop.recorded] == ["a", "a"]
    assert shop.letters.read() == []


def test_removed_letters_are_not_sent_again(shop):
    """Each number once; what was not there is named, and the gauge follows."""
    shop.send(*[WATCH] * 4)
    assert remove(shop, numbers=[2, 9, 3, 2]) == {"removed": 2, "missing": [9], "last": 9}
    assert shop.metric("midstream_dead_letters_kept") == [2.0]
    shop.allow("watch")
    assert shop.retry()["recorded"] == 2
    assert remove(shop, numbers=[1]) == {"removed": 0, "missing": [1], "last": 1}
    assert remove(shop, all=True) == {"removed": 0, "missing": [], "last": None}


def test_a_removal_has_a_maximum(shop, monkeypatch):
    """All of them in parts, with the number to go on from."""
    monkeypatch.setattr(routes, "RETRY_MAX", 3)
    shop.send(*[WATCH] * 5)
    for wrong in ({}, {"numbers": [1], "all": True}, {"numbers": [1, 2, 3, 4]}, {"numbers": [1], "event": VIEW}):
        remove(shop, 400, **wrong)
    assert remove(shop, all=True, after=1) == {"removed": 3, "missing": [], "last": 4}
    assert [each.number for each in shop.letters.read()] == [1, 5]


@pytest.mark.parametrize("mended", [False, True])
def test_a_letter_that_was_answered_to_be_gone_is_gone_after_a_power_loss(make_client, mended):
    """Its line is synced before the answer."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk)
    client = make_client(Changing(), dead_letters=letters)
    client.post("/v1/events", [WATCH, WATCH])
    letters.secure()
    path, body = (
        ("retry", {"numbers": [1], "event": VIEW | {"item_id": "film"}}) if mended else ("remove", {"numbers": [1]})
    )
    assert client.post(f"/v1/dead-letters/{path}", body).status_code == 200
    for left in disk.crash_states():
        assert [each.number for each in DeadLetters(PATH, left).read()] == [2]


@pytest.mark.parametrize("kind", ["write", "sync"])
@pytest.mark.parametrize("mended", [False, True])
def test_a_disk_that_takes_no_removal_is_said(make_client, kind, mended):
    """With a status that has the request sent again; then it is done, and nothing is recorded twice."""
    inner = ForgetfulDisk()
    disk = FailingDisk(inner)
    letters = DeadLetters(PATH, disk)
    client = make_client(Changing(), dead_letters=letters)
    client.post("/v1/events", [WATCH, WATCH])
    letters.secure()
    disk.fail(DiskFault(kind, error=errno.ENOSPC, for_good=True))
    path, body = (
        ("retry", {"numbers": [1], "event": VIEW | {"item_id": "film"}}) if mended else ("remove", {"numbers": [1]})
    )
    assert client.post(f"/v1/dead-letters/{path}", body).status_code == 507
    disk.heal()
    again = client.post(f"/v1/dead-letters/{path}", body)
    assert again.status_code == (404 if mended and kind == "sync" else 200)
    if not mended and kind == "write":  # a further sync proves nothing
        assert all([each.number for each in DeadLetters(PATH, left).read()] == [2] for left in inner.crash_states())
    assert [each.number for each in letters.read()] == [2]
    assert len([each for each in client.engine.events if each.action]) == int(mended)


events = st.lists(
    st.sampled_from([WATCH, WATCH | {"event_id": "a"}, WATCH | {"event_id": "b"}, VIEW, WATCH | {"x": 1}, 5, "x"]),
    max_size=8,
)


@given(events, st.lists(st.booleans(), max_size=3))
def test_nothing_disappears_and_nothing_is_doubled(make_client, sent, rounds):
    """Whatever is sent and however often it is tried: each letter is recorded once, or is there."""
    shop = Shop(make_client)
    if sent:
        shop.send(*sent)
    began = len(shop.letters.read())
    duplicates = recorded = 0
    for allowed in rounds:
        if allowed:
            shop.allow("watch")
        done = shop.retry()
        assert done["tried"] == done["recorded"] + done["duplicates"] + done["refused"]
        duplicates, recorded = duplicates + done["duplicates"], recorded + done["recorded"]
    assert recorded + duplicates + len(shop.letters.read()) == began
    assert len(shop.recorded) == recorded


def test_where_none_are_kept_there_are_none(client):
    """A list that is empty, and nothing to send again."""
    assert client.get("/v1/dead-letters").json() == {"letters": [], "kept": 0, "bytes_kept": 0, "next": None}
    assert client.get("/v1/dead-letters/1").status_code == 404
    assert client.post("/v1/dead-letters/retry", {"all": True}).status_code == 404
    assert client.post("/v1/dead-letters/remove", {"all": True}).status_code == 404


def test_reading_does_not_disturb_the_writer(make_client, tmp_path):
    """On real files, beside the process that has them open."""
    letters = DeadLetters(tmp_path / "dead", RealDisk())
    client = make_client(FakeEngine(), dead_letters=letters)
    client.post("/v1/events", [WATCH])
    assert len(client.get("/v1/dead-letters").json()["letters"]) == 1
    client.post("/v1/events", [WATCH])
    assert len(client.get("/v1/dead-letters").json()["letters"]) == 2
    letters.close()
