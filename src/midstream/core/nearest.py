"""The known name that comes nearest to one that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Nearest: "…".`` to put behind an error's text, or nothing when no name is near.

    Example:
        >>> nearest("sesion_knn", ["popular", "session_knn"])
        ' Nearest: "session_knn".'
        >>> nearest("x", ["popular"])
        ''
    """
    # Words longer than any name of ours are not compared: the cost is the product of the lengths.
    found = get_close_matches(name[:64], list(known), n=1, cutoff=0.6)
    return f' Nearest: "{found[0]}".' if found else ""
