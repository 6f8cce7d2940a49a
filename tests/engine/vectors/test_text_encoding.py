"""Texts of items get their vectors: each text once, whatever restarts, and through the log as any event."""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.text_cache import TextCache
from midstream.engine.vectors.text_encoding import BATCH_MAX, TextEncoding
from midstream.state.items.items import Items
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig

ATTRIBUTE = EncodedAttribute("meaning", ("title", "tags"), "letters")
ITEMS = msgspec.structs.replace(SMALL.items, attributes={"meaning": "vector:3"})
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


def run(work, path, encoder):
    """Run an engine with the service until the work is done."""

    async def whole(rig):
        service = TextEncoding(rig.engine, (ATTRIBUTE,), encoder, TextCache(path / "texts.sqlite"))
        service.start()
        try:
            await work(rig, service)
        finally:
            await service.stop()

    Rig(config=CONFIG).run(whole)


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


def test_a_failure_is_told_and_tried_again(tmp_path):
    """Health names it; when the encoder is back, items get their vectors."""
    encoder = Letters()
    encoder.error = OSError("no weights")

    async def work(rig, _service):
        await rig.engine.record(rig.batch(item("one", title="a")))
        await wait_on_loop(lambda: "no weights" in rig.engine.concerns.get("background-text_encoding", ""))
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
