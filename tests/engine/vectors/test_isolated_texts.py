"""Texts at fault are alone in the end, however many they are, and every call comes nearer to it."""

import asyncio
import threading

import numpy as np
import pytest

from midstream.engine.vectors import isolated_texts
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.isolated_texts import PROBE, TRIES_MAX, IsolatedTexts
from midstream.engine.vectors.text_cache import TextCache

ATTRIBUTE = EncodedAttribute("meaning", ("title",), "letters")
COUNT = 256
TEXTS = [f"t{number:03}" for number in range(COUNT)]


class Faulty:
    """An encoder that fails with some texts, and what it was asked."""

    def __init__(self, faulty):
        """Name them."""
        self.faulty = set(faulty)
        self.asked = []

    async def __call__(self, name, texts):
        """Give one vector to each."""
        assert name == "letters"
        self.asked.append(tuple(texts))
        if self.faulty.intersection(texts):
            message = "no such letter"
            raise OSError(message)
        return np.ones((len(texts), 2), dtype=np.float32)


def encoded(texts, some=TEXTS):
    """What one call gives."""
    return asyncio.run(texts.encoded(ATTRIBUTE, some))


@pytest.mark.parametrize("is_spread", [False, True], ids=["front", "spread"])
@pytest.mark.parametrize("fault_count", [1, 16, 64, 256])
def test_however_many_are_at_fault_all_others_get_their_vectors(tmp_path, fault_count, is_spread):
    """Each call names a text at fault or is the last, and no part is tried twice but a text that is alone."""
    faulty = TEXTS[:: COUNT // fault_count] if is_spread else TEXTS[:fault_count]
    encode = Faulty(faulty)
    texts = IsolatedTexts(encode, TextCache(tmp_path / "texts.sqlite"))
    failed_before, calls = 0, 0
    while True:
        found = encoded(texts)
        calls += 1
        assert len(found.failed) > failed_before
        failed_before = len(found.failed)
        if failed_before + len(found.vectors) == COUNT:
            break
    assert sorted(found.failed) == faulty
    assert set(found.failed.values()) == {"OSError: no such letter"}
    assert sorted(found.vectors) == sorted(set(TEXTS) - set(faulty))
    tries = [each for each in encode.asked if each != (PROBE,)]
    assert all(tries.count(each) == (2 if each[0] in faulty and len(each) == 1 else 1) for each in tries)
    assert len(encode.asked) - len(tries) <= calls == -(-len(tries) // TRIES_MAX)
    before = len(encode.asked)
    encoded(texts)
    assert len(encode.asked) == before


def test_a_good_half_is_in_the_cache_at_once(tmp_path):
    """Whatever ends the call in its middle."""
    path = tmp_path / "texts.sqlite"
    kept = []

    class Watching(Faulty):
        """One that looks into the cache."""

        async def __call__(self, name, texts):
            """Look, then encode."""
            kept.append(len(TextCache(path).get([ATTRIBUTE.key(text) for text in TEXTS])))
            return await super().__call__(name, texts)

    encoded(IsolatedTexts(Watching(TEXTS[:1]), TextCache(path)))
    assert kept == sorted(kept)
    assert len(set(kept)) == 9


def test_a_new_text_does_not_wait_for_those_at_fault(tmp_path):
    """It is tried first, by itself, beside what earlier calls left."""
    encode = Faulty(TEXTS)
    texts = IsolatedTexts(encode, TextCache(tmp_path / "texts.sqlite"))
    encoded(texts)
    before = len(encode.asked)
    found = encoded(texts, [*TEXTS, "new"])
    assert "new" in found.vectors
    assert ("new",) in encode.asked[before : before + 3]


def test_digits_are_cut_beside_the_event_loop(tmp_path, monkeypatch):
    """It takes 60 ms at 256 vectors of 384 numbers."""
    threads = []

    def noted(each):
        threads.append(threading.current_thread())
        return each

    monkeypatch.setattr(isolated_texts, "_rounded", noted)
    assert len(encoded(IsolatedTexts(Faulty(()), TextCache(tmp_path / "texts.sqlite"))).vectors) == COUNT
    assert threads != [threading.main_thread()]
    assert len(threads) == 1
