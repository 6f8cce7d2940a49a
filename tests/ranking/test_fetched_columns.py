"""What a component returned is held to what was declared; anything else fails the call as a whole."""

import numpy as np
import pytest

from midstream.core.errors import ShapeMismatch
from midstream.ranking.fetched_columns import TEXT_BYTES_MAX, DeclaredFetch, rows_of

IDS = ("a", "b", "c")


def fetch(of="item", **columns):
    """Return a fetch of columns."""
    return DeclaredFetch("stock", of, columns or {"stock": "number"}, None, 0, 1.0, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "column",
    [
        [1.0, 2, None],
        (1, 2.0, float("nan")),
        np.array([1.0, 2.0, np.nan]),
        np.array([1.0, 2.0, np.nan], np.float32),
        [np.float32(1.0), np.int64(2), np.nan],
    ],
)
def test_numbers_come_as_lists_or_arrays_and_none_and_nan_are_unknown(column):
    """An id of which nothing is known has an empty row."""
    assert rows_of(fetch(), IDS, {"stock": column}) == {"a": {"stock": 1.0}, "b": {"stock": 2.0}, "c": {}}


def test_a_truth_of_an_item_is_a_number_and_of_a_user_a_truth():
    """Fields of items are numbers; a context has truths and texts."""
    came = {"sale": [True, False, None]}
    assert rows_of(fetch(sale="boolean"), IDS, came) == {"a": {"sale": 1.0}, "b": {"sale": 0.0}, "c": {}}
    user = rows_of(fetch("user", vip="boolean", tier="category"), ("ann",), {"vip": np.array([True]), "tier": ["gold"]})
    assert user == {"ann": {"vip": True, "tier": "gold"}}
    assert user["ann"]["vip"] is True


def test_a_row_cannot_be_written_to():
    """It is in the cache for others."""
    row = rows_of(fetch(), ("a",), {"stock": [1]})["a"]
    with pytest.raises(TypeError):
        row["stock"] = 2.0  # type: ignore[index]


@pytest.mark.parametrize(
    "kind, column",
    [
        ("number", [1.0, 2.0]),
        ("number", [1.0, 2.0, 3.0, 4.0]),
        ("number", np.ones((3, 1))),
        ("number", np.ma.masked_array(np.ones(3), mask=True)),
        ("number", [1.0, "2", 3.0]),
        ("number", [1.0, True, 3.0]),
        ("number", [1.0, float("inf"), 3.0]),
        ("number", "123"),
        ("number", {1.0, 2.0, 3.0}),
        ("number", None),
        ("boolean", [1, 0, 1]),
        ("category", ["a", 1, "c"]),
        ("category", ["a", "x" * (TEXT_BYTES_MAX + 1), "c"]),
    ],
)
def test_what_was_not_declared_fails_the_call(kind, column):
    """Another length, another kind, an infinity, a text that is too long."""
    with pytest.raises(ShapeMismatch):
        rows_of(fetch("user", stock=kind), IDS, {"stock": column})


@pytest.mark.parametrize(
    "came", [None, [1.0, 2.0, 3.0], {}, {"stok": [1, 2, 3]}, {"stock": [1, 2, 3], "price": [1, 2, 3]}]
)
def test_columns_are_those_that_were_declared(came):
    """None missing, none more."""
    with pytest.raises(ShapeMismatch):
        rows_of(fetch(), IDS, came)


def test_a_number_that_no_float_holds_fails_too():
    """Whatever is raised becomes the failure of the fetch."""
    with pytest.raises(OverflowError):
        rows_of(fetch(), ("a",), {"stock": [10**400]})
