"""Tokens say nothing to a caller, come back as they went, and cannot be made up."""

from base64 import urlsafe_b64decode
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid
from midstream.engine.tokens import RequestIds, parse_position, position_token


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1))
def test_a_position_comes_back(generation: int, position: int) -> None:
    """Every position of every generation reads back, in 16 characters."""
    token = position_token(generation, position)
    assert len(token) == 16
    assert parse_position(token, generation, position) == position


@given(st.text(max_size=40))
@example("0" * 16)
def test_other_texts_are_refused(text: str) -> None:
    """What is no token is refused by name, never by another exception; twelve bytes may be one elsewhere."""
    try:
        assert parse_position(text, 2**31, -1) is None
    except RequestInvalid as error:
        assert "min_log_position" in str(error)  # noqa: PT017  it may also be none
    else:
        assert len(urlsafe_b64decode(text)) == 12


def test_the_future_is_refused_and_another_generation_is_unknown() -> None:
    """A token of the future is a mistake of the caller; one from before a rewrite or a restore is not."""
    assert parse_position(position_token(1, 5), 2, 9) is None
    assert parse_position(position_token(3, 50), 2, 9) is None
    with pytest.raises(RequestInvalid, match="future"):
        parse_position(position_token(2, 10), 2, 9)


def test_no_request_id_begins_as_an_option_does() -> None:
    """So it can stand behind any command as it is."""
    random = iter(range(256))
    ids = RequestIds(b"a" * 32, lambda count: bytes((next(random),)) + bytes(count - 1))
    made = [ids.make()[0] for _ in range(256)]
    assert not any(each.startswith("-") for each in made)
    assert all(map(ids.are_ours, made))


@given(st.binary(min_size=16, max_size=16), st.integers(0, 191))
def test_a_request_id_cannot_be_made_up(random: bytes, bit: int) -> None:
    """An id is known by its own key alone, and no flipped bit of it is."""
    ids = RequestIds(b"a" * 32, lambda _: random)
    request_id, seed = ids.make()
    assert 0 <= seed < 2**63
    assert ids.are_ours(request_id)
    assert not RequestIds(b"b" * 32, lambda _: random).are_ours(request_id)
    place, flip = divmod(bit, 6)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(request_id[place]) ^ (1 << flip)]
    assert not ids.are_ours(request_id[:place] + other + request_id[place + 1 :])


@pytest.mark.parametrize(
    "change", [lambda text: f"{text[:5]}!{text[5:]}", "{}====".format, "{}\n".format, " {}".format]
)
def test_a_request_id_has_one_spelling(change: Callable[[str], str]) -> None:
    """A text that only decodes to a request id is none: the answer that it should name would not be found."""
    ids = RequestIds(b"a" * 32, bytes)
    request_id, _ = ids.make()
    assert not ids.are_ours(change(request_id))


@given(st.text(max_size=50))
def test_any_text_may_be_asked(text: str) -> None:
    """Asking about a text that is no request id says no."""
    assert not RequestIds(b"a" * 32, bytes).are_ours(text)
