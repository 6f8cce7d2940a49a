"""Words in chunks are those of one sorted list, after any insertions and removals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.search import sorted_words
from midstream.state.search.sorted_words import SortedWords

WORDS = st.text(alphabet="abé𝔸", min_size=1, max_size=5)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    """Make many chunks of few words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_words, "CHUNK_WORDS_MAX", 4)
        yield


@given(st.sets(WORDS, max_size=30), st.lists(WORDS, max_size=60), WORDS | st.just(""))
def test_beginnings_are_those_of_a_plain_scan(first, changes, text):
    """A word that comes again is taken out; each beginning names its words in order."""
    numbers = {word: number for number, word in enumerate(sorted(first))}
    words = SortedWords(numbers)
    for number, word in enumerate(changes, 100):
        if word in numbers:
            words.remove(word)
            del numbers[word]
        else:
            words.add(word, number)
            numbers[word] = number
    expected = [numbers[word] for word in sorted(numbers) if word.startswith(text)]
    assert words.beginning_with(text).tolist() == expected


def test_short_chunks_are_united():
    """The number of chunks follows that of words, in whatever order they leave."""
    words = SortedWords({f"w{number:03d}": number for number in range(200)})
    for number in range(200):
        if number % 20:
            words.remove(f"w{number:03d}")
    assert len(words._chunks) <= 10
    assert words.beginning_with("w").tolist() == list(range(0, 200, 20))
