"""Numbers that a test knows to be there."""


def known(value: float | None) -> float:
    """Return a number that is there; where it is not, the test fails here."""
    assert value is not None
    return value
