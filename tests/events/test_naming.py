"""Which texts have one of many ids in them is what looking for one after another says."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.events.naming import Naming

# Few characters, of one to four bytes each, so that ids begin alike, overlap, and stand across the ends of texts.
short = st.text("ab\u00e9\U0001f600", max_size=4)
long = st.builds(lambda start, end: start + "customer-" + end, short, short)


@given(st.lists(short | long, max_size=8), st.lists(st.lists(short | long, max_size=5).map("".join), max_size=8))
def test_found_wherever_they_stand(ids, texts):
    """At the beginning, at the end, within a word, and never across two texts; an empty id is nowhere."""
    expected = [any(each in text for each in ids if each) for text in texts]
    assert Naming(ids).found_in(texts).tolist() == expected


def test_never_across_two_texts():
    """What ends one text and begins the next is no id, long or short."""
    assert Naming(["ab", "customer-12"]).found_in(["xa", "b", "of customer-1", "2"]).tolist() == [False] * 4


def test_half_a_surrogate_pair_is_a_character():
    """As some clients send it."""
    assert Naming(["\ud83d"]).found_in(["a\ud83db", "b"]).tolist() == [True, False]
