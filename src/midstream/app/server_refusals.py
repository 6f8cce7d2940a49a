"""HTTP client of the server that has a folder open; its refusals (problem documents) are errors of this process."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from midstream.core.errors import (
    Fault,
    Invalid,
    ItemUnknown,
    MidstreamError,
    ModelUnfit,
    PlacementChanged,
    RequestInvalid,
    StoreUnavailable,
)
from midstream.serving.http.problems import Problem

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


@contextmanager
def server_client(url: str, answer_s_max: float, note: Callable[[], str] = str) -> "Generator[httpx.Client]":
    """Open an HTTP client for a server that has a folder open.

    Args:
        url: Of the server.
        answer_s_max: Longest wait for an answer.
        note: Sentence behind the error, such as how much was done before.

    Raises:
        StoreUnavailable: The server does not answer.
    """
    import httpx

    try:
        with httpx.Client(base_url=url, timeout=answer_s_max) as client:
            yield client
    except httpx.TransportError as error:
        message = f"{url} has the folder open and does not answer: {error}{note()}"
        raise StoreUnavailable(message) from error


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
