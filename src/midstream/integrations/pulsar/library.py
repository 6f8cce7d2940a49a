"""Import of the client library, which an extra brings."""

from typing import Any

from midstream.core.errors import ExtraMissing


def pulsar() -> Any:  # noqa: ANN401  the library has no types
    """Return ``pulsar``, the binding of Pulsar's client in C++.

    Raises:
        ExtraMissing: The extra ``pulsar`` is not installed.
    """
    try:
        import pulsar as library  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        message = "Pulsar needs the extra `pulsar`: pip install 'midstream[pulsar]'"
        raise ExtraMissing(message) from error
    return library
