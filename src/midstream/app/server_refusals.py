"""Requests to the server that has a folder open, and its refusals (problem documents) as errors of this process."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from midstream.app.server_address import server_headers
from midstream.core.answers.problems import Problem
from midstream.core.errors import (
    Fault,
    Invalid,
    ItemUnknown,
    MidstreamError,
    ModelUnfit,
    Overloaded,
    PlacementChanged,
    RequestInvalid,
    StoreUnavailable,
)

if TYPE_CHECKING:
    import httpx

_KINDS: Mapping[str, type[Invalid]] = {
    "urn:midstream:placement-changed": PlacementChanged,
    "urn:midstream:model-refused": ModelUnfit,
    "urn:midstream:not-found": ItemUnknown,
}
"""Of a refusal with faults, what it is here: the request was right, and what it met there was not as it was thought."""
_SHOWN_CHARACTERS = 300
"""Of an answer that is no problem document, such as that of a proxy."""
TRIES_MAX = 60
"""A minute of a server that has no room."""


@contextmanager
def server_client(
    url: str, answer_s_max: float = 60.0, note: str | Callable[[], str] = ""
) -> "Generator[httpx.Client]":
    """Open a client of the server that has the folder open.

    Raises:
        StoreUnavailable: It does not answer; the text ends with ``note``, such as how much was done before.
    """
    import httpx

    try:
        with httpx.Client(base_url=url, headers=server_headers(url), timeout=answer_s_max) as client:
            yield client
    except httpx.TransportError as error:
        message = f"{url} has the folder open and does not answer: {error}{note if isinstance(note, str) else note()}"
        raise StoreUnavailable(message) from error


def answers(send: "Callable[[], httpx.Response]", url: str, note: str = "") -> "Iterator[httpx.Response]":
    """Yield each answer to a request that is sent again while the server is overloaded; the last one is another.

    Raises:
        Overloaded: It was so ``TRIES_MAX`` times; the text ends with ``note``.
    """
    for _ in range(TRIES_MAX):
        answer = send()
        yield answer
        if answer.status_code not in (429, 503):
            return
        time.sleep(float(answer.headers.get("retry-after", "1")))
    message = f"{url} was overloaded {TRIES_MAX} times{note}"
    raise Overloaded(message)


def server_answer(
    url: str | None,
    answer_s_max: float,
    ask: "Callable[[httpx.Client], httpx.Response]",
    refusal: "Callable[[httpx.Response, str], MidstreamError]",
) -> bytes | None:
    """Return the answer of the server that has a folder open; None = ``url`` is None, as there is no server.

    Raises:
        MidstreamError: What ``refusal`` makes of an answer that is no success.
        StoreUnavailable: The server does not answer.
    """
    if not url:
        return None
    with server_client(url, answer_s_max) as client:
        answer = ask(client)
    if not answer.is_success:
        raise refusal(answer, url)
    return answer.content


def unavailable(answer: "httpx.Response", url: str, note: str = "") -> StoreUnavailable:
    """Return the error of a server that answers and does not do it; ``note`` is a sentence behind it."""
    return StoreUnavailable(f"{url} answered {answer.status_code}: {reason_of(answer)}{note}")


def faults_of(problem: Problem) -> tuple[Fault, ...]:
    """Return the faults of a problem document."""
    return tuple(Fault(each.pointer, each.came, each.right, each.page) for each in problem.errors)


def refusal_of(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return the error of a refusal: the faults of the request, or that ``url`` cannot do it."""
    problem = problem_of(answer)
    if problem is not None and problem.errors:
        kind = _KINDS.get(problem.type, RequestInvalid)
        return kind(faults_of(problem))
    return unavailable(answer, url)


def reason_of(answer: "httpx.Response") -> str:
    """Return why in words."""
    problem = problem_of(answer)
    return answer.text[:_SHOWN_CHARACTERS] if problem is None else problem.detail.rstrip(".")


def problem_of(answer: "httpx.Response") -> Problem | None:
    """Return the problem document of an answer; None = it has none, such as that of a proxy."""
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
