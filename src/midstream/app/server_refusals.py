"""Refusals of a server (problem documents) as errors and texts of this process."""

from collections.abc import Mapping
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


def refusal_of(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return the error of a refusal: the faults of the request, or that ``url`` cannot do it."""
    problem = problem_of(answer)
    if problem is not None and problem.errors:
        kind = _KINDS.get(problem.type, RequestInvalid)
        return kind(tuple(Fault(each.pointer, each.came, each.right, each.page) for each in problem.errors))
    return StoreUnavailable(f"{url} answered {answer.status_code}: {reason_of(answer)}")


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
