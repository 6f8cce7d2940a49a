"""Problem documents (RFC 9457): error answers, each with the four parts of a fault.

Reference: Nottingham, Wilde and Dalal, RFC 9457, Problem Details for HTTP APIs, 2023.
"""

import msgspec


class FaultBody(msgspec.Struct, frozen=True):
    """A fault as it is written: a JSON Pointer (or the name of a query field), and the other three parts."""

    pointer: str
    came: str
    right: str
    page: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An RFC 9457 document; the first fault's parts are at the top, all of them in ``errors``."""

    type: str
    title: str
    status: int
    detail: str
    page: str = ""
    pointer: str | None = None
    came: str = ""
    right: str = ""
    allowed: tuple[str, ...] = ()
    errors: tuple[FaultBody, ...] = ()
    errors_left_out: int = 0
    retry_after: int = 0
    """Seconds, as in the header of that name."""
