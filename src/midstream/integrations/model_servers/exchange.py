"""One exchange with a model server, whatever carries it: what is sent, what comes back, and answers that are wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from midstream.core.errors import MidstreamError

T = TypeVar("T")
ANSWER_BYTES_MAX = 1 << 20
"""Of one answer, its other outputs included: 1,500 rows of 24 numbers as JSON, each of 25 bytes, are 0.9 MB. To read as
much takes 7 ms."""
VALUES_MAX = 40_000
"""Of one answer of JSON, as those. Lists of one number each take 15 ms, objects 25 ms."""
TOLD_CHARACTERS_MAX = 80
"""Of what a server said: the reason of a failure has 120."""
OK = 200


class AnswerInvalid(MidstreamError):
    """A model server answered, and not with one number for each row."""


class CallFailed(Exception):
    """A call over gRPC ended with a status; the connection says whose."""


@dataclass(frozen=True, slots=True)
class Call:
    """A question to a server."""

    target: str
    """Path of HTTP, or the whole name of a method of gRPC."""
    body: bytes = b""
    """Empty = it only asks whether the model is ready."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What came back."""

    status: int
    """Of HTTP; 200 of an answer of gRPC, whose other statuses are exceptions."""
    headers: Mapping[str, str]
    """By names in small letters."""
    body: bytes


def require_ok(reply: ServerReply) -> None:
    """Refuse the answer of a server that says that it failed.

    Raises:
        AnswerInvalid: It does; with the beginning of what it said.
    """
    if reply.status != OK:
        raise AnswerInvalid(f"it answered {reply.status}: {shown(reply.body)}".rstrip(" :"))


def shown(body: bytes) -> str:
    """Return the beginning of a text of a server, on one line."""
    text = body[: 4 * TOLD_CHARACTERS_MAX].decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:TOLD_CHARACTERS_MAX]


def json_of(body: bytes, kind: type[T]) -> T:
    """Return what a body of JSON says.

    Raises:
        AnswerInvalid: It is no JSON of the type, or has too many values.
    """
    if (values := body.count(b",")) >= VALUES_MAX:
        raise AnswerInvalid(f"JSON of {values + 1} values came, and at most {VALUES_MAX} are read")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise AnswerInvalid(f"JSON: {str(error) or type(error).__name__}"[:TOLD_CHARACTERS_MAX]) from error
