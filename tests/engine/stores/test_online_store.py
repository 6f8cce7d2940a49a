"""Values that every online store can hold, and those that are refused or written as missing."""

import pytest

from midstream.engine.stores.online_store import TEXT_BYTES_MAX, StoreKind, StoreValue, is_storable


@pytest.mark.parametrize(
    "kind, value, is_right",
    [
        ("text", "x" * TEXT_BYTES_MAX, True),
        ("text", "x" * (TEXT_BYTES_MAX + 1), False),
        ("text", "a\0b", False),
        ("text", "\ud800", False),
        ("texts", ["a", "b"], True),
        ("texts", ["a", "b\0"], False),
        ("integer", 2**63 - 1, True),
        ("integer", 2**63, False),
        ("number", float("inf"), True),
        ("number", float("nan"), True),
        ("text", None, True),
    ],
)
def test_a_store_holds_what_its_kind_allows(kind: StoreKind, value: StoreValue, is_right: bool) -> None:
    """A NUL and half of a surrogate pair are in no store, nor is a text that is too long."""
    assert is_storable(kind, value) is is_right
