"""Selection of tests that run only when they are asked for: long proofs, and those that need programs of others."""

import pytest

LONG = "long"
"""Marker of long proofs: many seeds, many kills, whole data sets."""
INTEGRATION = "integration"
"""Marker of tests that need programs of others."""


def is_left_out(item: pytest.Item, markers: str, *, is_long: bool) -> bool:
    """Return whether a test is not asked for.

    Args:
        item: The test.
        markers: What ``-m`` says; empty = nothing.
        is_long: Whether long proofs are asked for, by ``--long`` or by the name of a test.
    """
    if item.get_closest_marker(INTEGRATION) and INTEGRATION not in markers:
        return True
    return item.get_closest_marker(LONG) is not None and not is_long and LONG not in markers
