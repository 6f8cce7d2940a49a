"""Texts of items get their vectors: each text once, whatever restarts, and through the log as any event."""

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.vectors import attribute_encoding
from midstream.engine.vectors.attribute_encoding import BATCH_MAX
from midstream.engine.vectors.document_room import document_bytes_max
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.isolated_texts import TRIES_MAX
from midstream.engine.vectors.text_cache import TextCache
from midstream.engine.vectors.text_encoding import TextEncoding
from midstream.events.memory import MemoryLog
from midstream.state.items.items import Items
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig

ATTRIBUTE = EncodedAttribute("meaning", ("title", "tags"), "letters")
ITEMS = msgspec.structs.replace(SMALL.items, attributes={"meaning": "vector:3"})
CONCERN = "text_encoding-meaning"
CONFIG: Config = msgspec.structs.replace(SMALL, items=ITEMS)


class Letters:
    """An encoder that counts letters, and what it was asked."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, name: str, texts: Sequence[str]):
        """Count a, b and all others."""
        assert name == "letters"
        assert len(texts) <= BATCH_MAX
        if self.error is not None:
            raise self.error
        self.asked.extend(texts)
        return np.array([self.vector(text) for text in texts], dtype=np.float32)

    @staticmethod
    def vector(text):
        """The counts, a third each, so that digits are cut."""
        return [text.count("a") / 3, text.count("b") / 3, len(text) / 3]


def item(name, **attributes):
    """An item event."""
    return {"type": "item", "item_id": name, "attributes": attributes}


def held(rig, *names):
    """The vectors that the state holds, None = none."""
    items = rig.engine.fold.items
    found = items.vectors("meaning", rig.engine.fold.vocabulary.item_indices(names))
    return [None if np.isnan(each).any() else each.tolist() for each in found]


def expected(text):
    """What an item of a text should have."""
    return pytest.approx(Letters.vector(text), rel=1e-5)


def run(work, path, encoder, log=None, config=CONFIG):
    """Run an engine with the service until the work is done."""

    async def whole(rig):
        service = TextEncoding(rig.engine, (ATTRIBUTE,), encoder, TextCache(path / "texts.sqlite"))
        service.start()
        try:
            return await work(rig, service)
        finally:
            await service.stop()

    rig = Rig(config=config, log=MemoryLog() if log is None else log)
    catch_up(rig.engine.fold, rig.log.read, rig.log.end)
    return rig.run(whole)


def test_each_text_is_encoded_once(tmp_path):
    """Two items of one text share its vector, a changed text gets another, what has no text has none."""
    encoder = Letters()

    async def work(rig, service):
        await rig.engine.record(
            rig.batch(
                item("one", title="ab"), item("two", title="ab"), item("none", price=3), item("tags", tags=["a", "b"])
            )
        )
        await wait_on_loop(lambda: held(rig, "one", "tags") == [expected("ab"), expected("a\nb")])
        assert held(rig, "two", "none") == [expected("ab"), None]
        assert sorted(encoder.asked) == ["a\nb", "ab"]
        await rig.engine.record(rig.batch({**item("one", title="b"), "operation": "patch"}))
        await wait_on_loop(lambda: held(rig, "one") == [expected("b")])
        await rig.engine.record(rig.batch({**item("two", price=7), "operation": "patch"}))
        await asyncio.sleep(0.5)
        assert held(rig, "two") == [expected("ab")]
        assert (len(encoder.asked), service.encoded_count, service.recorded_count) == (3, 3, 4)

    run(work, tmp_path, encoder)


def test_a_new_state_encodes_nothing_again(tmp_path):
    """Also one whose log has lost the vectors: the file has them."""
    encoder = Letters()

    async def fill(rig, service):
        await rig.engine.record(rig.batch(item("one", title="aab")))
        await wait_on_loop(lambda: held(rig, "one") == [expected("aab")])
        await wait_on_loop(lambda: service.recorded_count == 1)

    run(fill, tmp_path, encoder)
    run(fill, tmp_path, encoder)
    assert encoder.asked == ["aab"]


def test_many_items_go_in_batches(tmp_path):
    """All of them, whatever the size of a batch."""
    encoder = Letters()
    names = [f"i{number}" for number in range(150)]

    async def work(rig, _service):
        await rig.engine.record(rig.batch(*(item(name, title=f"a{number}") for number, name in enumerate(names))))
        await wait_on_loop(lambda: None not in held(rig, *names))
        assert len(encoder.asked) == len({*encoder.asked}) == 150

    run(work, tmp_path, encoder)


def test_vectors_are_recorded_a_few_at_a_time(tmp_path):
    """In the order in which items are looked at; others have their turn on the event loop between two of these."""
    names = [f"i{number}" for number in range(150)]

    async def work(rig, _service):
        await rig.engine.record(rig.batch(*(item(name, title=f"a{number}") for number, name in enumerate(names))))
        begin = rig.log.end
        await wait_on_loop(lambda: None not in held(rig, *names))
        found = [each for _, each in rig.log.read(begin, 1_000)]
        counts = [len(each.rows) for each in found]
        assert sum(counts) == 150
        assert max(counts) == 16

    run(work, tmp_path, Letters())


def test_a_failure_is_told_and_tried_again(tmp_path):
    """Health names it; when the encoder is back, items get their vectors."""
    encoder = Letters()
    encoder.error = OSError("no weights")

    async def work(rig, _service):
        await rig.engine.record(rig.batch(item("one", title="a")))
        await wait_on_loop(lambda: "no weights" in rig.engine.concerns.get("background-text_encoding_meaning", ""))
        assert held(rig, "one") == [None]
        encoder.error = None
        await wait_on_loop(lambda: held(rig, "one") == [expected("a")])

    run(work, tmp_path, encoder)


def test_a_text_is_of_attributes_in_order():
    """Of lists of texts too; what is no text is left out, and what is too long is cut."""

    class Told(Items):
        """Documents alone."""

        def __init__(self, document):
            self._document = document

        def document(self, index):
            return self._document

    words = EncodedAttribute("meaning", ("title", "tags", "text"))
    assert words.text(Told({"text": "c", "title": "a", "tags": ["b", 3, " "]}), 0) == "a\nb\nc"
    assert words.text(Told({"title": " ", "tags": 7, "text": None}), 0) == ""
    assert len(words.text(Told({"title": "x" * 100_000}), 0)) == 20_000


def test_a_text_has_a_key_of_its_encoder():
    """Another encoder's vector is never taken for it."""
    other = msgspec.structs.replace(ATTRIBUTE, model="words")
    assert ATTRIBUTE.key("a") != ATTRIBUTE.key("b")
    assert ATTRIBUTE.key("a") != other.key("a")
    assert ATTRIBUTE.key("\ud800") == ATTRIBUTE.key("\ud800")


class Brittle(Letters):
    """One that fails with a text at fault in whatever company, and whose child is killed now and then."""

    def __init__(self, *faulty, kills=0):
        """Name the texts at fault, and how many children are killed first."""
        super().__init__()
        self.faulty = faulty
        self.kills = kills
        self.calls = 0

    async def __call__(self, name, texts):
        """Count, or fail."""
        self.calls += 1
        if self.kills:
            self.kills -= 1
            raise OSError("killed")
        found = await super().__call__(name, texts)
        if any(each in texts for each in self.faulty):
            raise OSError("no such letter")
        return found


def test_a_text_that_fails_costs_no_other_its_vector(tmp_path):
    """It is halved out of its batch, named with its item, and not tried again; a changed text is."""
    encoder = Brittle("bad", "worse")
    names = [f"i{number}" for number in range(60)]

    async def work(rig, _service):
        await rig.engine.record(rig.batch(*(item(name, title=f"a{name}") for name in names)))
        await rig.engine.record(rig.batch(item("bad", title="bad"), item("worse", title="worse")))
        await wait_on_loop(lambda: None not in held(rig, *names))
        await wait_on_loop(lambda: CONCERN in rig.engine.concerns)
        await wait_on_loop(lambda: "vector: 2, the last" in rig.engine.concerns[CONCERN])
        told = rig.engine.concerns[CONCERN]
        assert "'bad'" in told or "'worse'" in told
        assert "no such letter" in told
        assert held(rig, "bad", "worse") == [None, None]
        calls = encoder.calls
        await rig.engine.record(rig.batch({**item("bad", price=7), "operation": "patch"}))
        await asyncio.sleep(0.5)
        assert encoder.calls == calls
        assert not rig.engine.concerns.get("background-text_encoding_meaning")
        await rig.engine.record(rig.batch(item("bad", title="b"), item("worse", title="ab")))
        await wait_on_loop(lambda: held(rig, "bad", "worse") == [expected("b"), expected("ab")])
        await wait_on_loop(lambda: CONCERN not in rig.engine.concerns)

    run(work, tmp_path, encoder)


def test_many_texts_that_fail_cost_no_other_its_vector(tmp_path):
    """Health names one after the first call, and counts all of them in the end."""
    bad = [f"bad{number}" for number in range(20)]
    encoder = Brittle(*bad)
    names = [f"i{number}" for number in range(130)]

    async def work(rig, service):
        await rig.engine.record(rig.batch(*(item(name, title=name) for name in (*bad, *names))))
        await wait_on_loop(lambda: "no such letter" in rig.engine.concerns.get(CONCERN, ""))
        assert encoder.calls <= TRIES_MAX + 1
        await wait_on_loop(lambda: "vector: 20, the last" in rig.engine.concerns[CONCERN])
        assert None not in held(rig, *names)
        assert service.recorded_count == 130

    run(work, tmp_path, encoder)


def test_a_killed_child_says_nothing_of_its_text(tmp_path):
    """A single text is tried again before it is at fault."""
    encoder = Brittle()

    async def work(rig, _service):
        await rig.engine.record(rig.batch(item("one", title="ab")))
        await wait_on_loop(lambda: held(rig, "one") == [expected("ab")])

    encoder.kills = 0
    asked = []
    plain = Letters.__call__

    async def once(self, name, texts):
        asked.append(tuple(texts))
        if asked.count(("ab",)) == 1 and texts == ["ab"]:
            raise OSError("killed")
        return await plain(self, name, texts)

    encoder.__class__ = type("Once", (Letters,), {"__call__": once})
    run(work, tmp_path, encoder)
    assert asked == [("ab",), ("a",), ("ab",)]


def test_a_vector_with_a_number_that_is_none_is_at_fault(tmp_path):
    """Nothing of it is recorded."""

    class Broken(Letters):
        @staticmethod
        def vector(text):
            return [float("nan") if text == "bad" else 1.0, 0.0, 0.0]

    async def work(rig, _service):
        await rig.engine.record(rig.batch(item("bad", title="bad"), item("one", title="a")))
        await wait_on_loop(lambda: held(rig, "one") == [[1.0, 0.0, 0.0]])
        assert held(rig, "bad") == [None]
        await wait_on_loop(lambda: CONCERN in rig.engine.concerns)
        assert "'bad': its vector has a number that is not finite" in rig.engine.concerns[CONCERN]

    run(work, tmp_path, Broken())


def test_an_attribute_that_fails_stops_no_other(tmp_path):
    """Each has a service, a wait and a health of its own."""
    other = EncodedAttribute("second", ("title",), "broken")
    attributes = {"meaning": "vector:3", "second": "vector:3"}
    config = msgspec.structs.replace(SMALL, items=msgspec.structs.replace(SMALL.items, attributes=attributes))
    letters = Letters()

    async def encode(name, texts):
        if name == "broken":
            raise OSError("no weights")
        return await letters(name, texts)

    async def whole(rig):
        def is_held(text):
            return held(rig, "one") == [expected(text)]

        service = TextEncoding(rig.engine, (other, ATTRIBUTE), encode, TextCache(tmp_path / "texts.sqlite"))
        service.start()
        try:
            for number in range(3):
                await rig.engine.record(rig.batch(item("one", title="a" * number + "b")))
                await wait_on_loop(partial(is_held, "a" * number + "b"))
                await wait_on_loop(
                    lambda: "no weights" in rig.engine.concerns.get("background-text_encoding_second", "")
                )
            assert "background-text_encoding_meaning" not in rig.engine.concerns
        finally:
            await service.stop()

    Rig(config=config).run(whole)


def test_a_vector_that_its_document_has_no_room_for_is_not_recorded(tmp_path):
    """Not once, however often the server starts; health names the item, and all others get theirs."""
    encoder, log = Letters(), MemoryLog()

    async def fill(rig):
        for number in range(8):
            await rig.engine.record(rig.batch({**item("big", **{f"f{number}": "x" * 2_000}), "operation": "patch"}))
        fold = rig.engine.fold
        rest = document_bytes_max(fold) - len(fold.items.document_text(0)) - 70
        await rig.engine.record(rig.batch({**item("big", more="y" * rest, title="ab"), "operation": "patch"}))
        assert fold.items.refused_documents_count == 0

    async def work(rig, service):
        if rig.engine.fold.items.count:
            await rig.engine.record(rig.batch({**item("small", title="b"), "operation": "patch"}))
        else:
            await fill(rig)
            await rig.engine.record(rig.batch(item("small", title="b")))
        await wait_on_loop(lambda: held(rig, "small") == [expected("b")])
        await wait_on_loop(lambda: CONCERN in rig.engine.concerns)
        told = rig.engine.concerns[CONCERN]
        assert "vector: 1, the last of them 'big': its document would be longer than 16,462 bytes" in told
        assert rig.engine.fold.items.refused_documents_count == 0
        assert held(rig, "big") == [None]
        return service.recorded_count

    assert run(work, tmp_path, encoder, log) == 1
    assert run(work, tmp_path, encoder, log) == 0
    assert sorted(encoder.asked) == ["ab", "b"]


def test_a_vector_that_all_documents_leave_no_room_for_is_not_recorded(tmp_path):
    """Nor one that was refused all the same; when there is room again the next change of the item brings it."""
    limits = msgspec.structs.replace(CONFIG.limits, document_bytes_max=540)
    config = msgspec.structs.replace(CONFIG, limits=limits)

    async def work(rig, service):
        await rig.engine.record(rig.batch(item("one", title="ab")))
        await wait_on_loop(lambda: held(rig, "one") == [expected("ab")])
        await rig.engine.record(rig.batch(item("two", title="b")))
        await wait_on_loop(lambda: CONCERN in rig.engine.concerns)
        assert "'two': the documents of all items have no room left" in rig.engine.concerns[CONCERN]
        assert service.recorded_count == 1
        assert rig.engine.fold.items.refused_documents_count == 0

    run(work, tmp_path, Letters(), config=config)


def test_a_vector_that_the_state_refused_is_a_fault(tmp_path, monkeypatch):
    """Where the room was taken by something else in the meantime."""
    monkeypatch.setattr(attribute_encoding, "refusal", lambda *_: "")
    limits = msgspec.structs.replace(CONFIG.limits, document_bytes_max=260)
    config = msgspec.structs.replace(CONFIG, limits=limits)

    async def work(rig, service):
        await rig.engine.record(rig.batch(item("one", title="ab")))
        await wait_on_loop(lambda: "'one': the state has refused it" in rig.engine.concerns.get(CONCERN, ""))
        assert (service.recorded_count, rig.engine.fold.items.refused_documents_count) == (1, 1)
        await asyncio.sleep(0.5)
        assert service.recorded_count == 1

    run(work, tmp_path, Letters(), config=config)
