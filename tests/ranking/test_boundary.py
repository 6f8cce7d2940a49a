"""What is said of a component that failed: a reason that a record can hold, and a text that a sentence may follow."""

import pytest

from midstream.ranking.boundary import REASON_CHARACTERS_MAX, sentence, told_of


@pytest.mark.parametrize(
    "text, said",
    [
        ("no room", "no room."),
        ("It is full.", "It is full."),
        ("Full!", "Full!"),
        ("Is it full?", "Is it full?"),
        ("It raised KeyError: ", "It raised KeyError."),
        ("", "."),
    ],
)
def test_a_sentence_ends_once(text: str, said: str) -> None:
    """Also behind an error that says nothing."""
    assert sentence(text) == said


def test_a_reason_is_the_type_and_what_it_says_and_not_long() -> None:
    """Cut to what a served record may hold."""
    assert told_of(ValueError("no room")) == "ValueError: no room"
    assert told_of(ValueError("x" * 1_000)) == ("ValueError: " + "x" * 1_000)[:REASON_CHARACTERS_MAX]
