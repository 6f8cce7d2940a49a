"""Error answers: RFC 9457 problem documents, each with the four parts of a fault.

One function maps every expected failure to a status and a document, so a failure looks the same on every route.
Unexpected exceptions are not mapped: they end the request loudly.

Reference: Nottingham, Wilde and Dalal, RFC 9457, Problem Details for HTTP APIs, 2023.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from midstream.core.answers.problems import FaultBody, Problem
from midstream.core.errors import (
    ActUnknown,
    AppendFailed,
    ArtifactInvalid,
    CommitTooSlow,
    DiskFull,
    ErasureRunning,
    ErasuresFull,
    ExplanationFailed,
    ExtraMissing,
    Fault,
    FeatureFailed,
    Invalid,
    ItemUnknown,
    KeysUnreadable,
    MidstreamError,
    ModelUnfit,
    NotFound,
    Overloaded,
    PlacementChanged,
    RebuildRunning,
    TooLarge,
)
from midstream.engine.replication.snapshot_store import PeerUnknown
from midstream.engine.requests.faults import FAULTS_MAX, NameUnknown
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.responses import Reply

PROBLEM_JSON = b"application/problem+json"


class BodyTooSlow(MidstreamError):
    """The body did not arrive in time."""


class MediaTypeUnsupported(Invalid):
    """The body is of a type, or packed in a way, that is not read."""


class CrossSite(Invalid):
    """A browser sends this for a page of another site."""


class Misdirected(Invalid):
    """It was sent to a name that is not this server's."""


class KeyNeeded(Invalid):
    """No key came, or one that is not known, expired or revoked: the answer does not say which."""


class ScopeMissing(Invalid):
    """The key is good, and does not allow this."""


class QuotaSpent(MidstreamError):
    """A caller exceeds its quota."""

    def __init__(self, retry_after_s: int) -> None:
        """Keep the time until the next token."""
        super().__init__(f"This caller's requests of now are used up; there is one again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class TenantUnavailable(MidstreamError):
    """The tenant is suspended, opens or could not be opened: it answers nothing now."""


class TenantConflict(Invalid):
    """A tenant has the name already, or is in a state in which this cannot be done."""


class MergeRefused(Invalid):
    """A page may not merge this id now."""


class RouteUnknown(Invalid):
    """No route has this path."""


class RefusedElsewhere(MidstreamError):
    """Another process of this server refused it, in an answer that is passed on as it came."""

    def __init__(self, reply: Reply) -> None:
        """Keep the answer."""
        super().__init__(reply.body.decode(errors="replace")[:500])
        self.reply = reply


class Disconnected(Exception):
    """The client is gone; there is no one to answer."""


class MethodNotAllowed(MidstreamError):
    """The path has routes, none of them for this method."""

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        """Keep the allowed methods, in order."""
        self.allowed = tuple(sorted(allowed))
        super().__init__(f"{method} came; this path takes {', '.join(self.allowed)}.")


def fault_body(fault: Fault) -> FaultBody:
    """Return the wire form of a fault."""
    return FaultBody(fault.where, fault.came, fault.right, fault.page)


@dataclass(frozen=True, slots=True)
class _Face:
    """How one class of failures looks from outside."""

    error: type[MidstreamError]
    status: int
    slug: str
    title: str
    retry_after: tuple[int, int] | None = None
    """Seconds from, to: spread, so that refused clients do not all retry at once."""


# The first that fits: subclasses stand before their parents.
_FACES = (
    _Face(TooLarge, 413, "too-large", "More came than one request may hold"),
    _Face(MediaTypeUnsupported, 415, "media-type", "The body's type or packing is not read"),
    _Face(CrossSite, 403, "cross-site", "Pages of other sites may not send this"),
    _Face(KeyNeeded, 401, "key-needed", "A key is needed"),
    _Face(ScopeMissing, 403, "scope-missing", "The key does not allow this"),
    _Face(PeerUnknown, 403, "peer-unknown", "Only nodes of the same shop may ask this"),
    _Face(Misdirected, 421, "misdirected", "The request was sent to another name"),
    _Face(RouteUnknown, 404, "route-unknown", "There is no such route"),
    _Face(ActUnknown, 404, "not-found", "Nothing of that name is known"),
    _Face(ItemUnknown, 404, "not-found", "Nothing of that name is known"),
    _Face(ModelUnfit, 409, "model-refused", "That version of the model is refused"),
    _Face(TenantConflict, 409, "tenant-conflict", "The tenant is not in a state for this"),
    _Face(MergeRefused, 409, "merge-refused", "A page may not merge this id now"),
    _Face(PlacementChanged, 409, "placement-changed", "Somebody else changed the placement"),
    _Face(KeysUnreadable, 503, "keys-unreadable", "The file of API keys cannot be read", (5, 15)),
    _Face(Invalid, 400, "invalid", "The request cannot be used"),
    _Face(NotFound, 404, "not-found", "Nothing of that name is known"),
    _Face(MethodNotAllowed, 405, "method-not-allowed", "This path does not take that method"),
    _Face(RebuildRunning, 409, "rebuild-running", "A rebuild is under way"),
    _Face(ErasureRunning, 409, "erasure-running", "A rewrite of the log is under way"),
    _Face(ExplanationFailed, 500, "explanation-failed", "The request could not be run again"),
    _Face(ArtifactInvalid, 409, "model-refused", "That version of the model is refused"),
    _Face(ExtraMissing, 409, "extra-missing", "A library that reads it is not installed"),
    _Face(BodyTooSlow, 408, "body-too-slow", "The body did not arrive in time"),
    # The same question fails in the same way, so nobody is asked to come again.
    _Face(FeatureFailed, 500, "feature-failed", "A feature cannot be read"),
    _Face(TenantUnavailable, 503, "tenant-unavailable", "This tenant does not answer now", (5, 15)),
    _Face(QuotaSpent, 429, "quota", "This caller asks too often"),
    _Face(DiskFull, 507, "disk-full", "There is no room for events", (5, 15)),
    _Face(AppendFailed, 503, "append-failed", "Events cannot be made durable", (5, 15)),
    _Face(CommitTooSlow, 503, "commit-too-slow", "Events were not durable in time", (2, 6)),
    _Face(ErasuresFull, 503, "overloaded", "Too much is waiting already"),
    _Face(Overloaded, 503, "overloaded", "Too much is waiting already", (1, 3)),
    _Face(MidstreamError, 503, "unavailable", "This cannot be answered now", (2, 6)),
)


def problem_of(error: MidstreamError) -> Problem:
    """Return the document of an expected failure."""
    face = next(face for face in _FACES if isinstance(error, face.error))
    faults = error.faults if isinstance(error, Invalid) else ()
    allowed = error.allowed if isinstance(error, (NameUnknown, MethodNotAllowed)) else ()
    first = faults[0] if faults else None
    retry_after = error.retry_after_s if isinstance(error, QuotaSpent | ErasuresFull) else 0
    if face.retry_after is not None:
        low, high = face.retry_after
        retry_after = low + secrets.randbelow(high - low + 1)
    return Problem(
        type=f"urn:midstream:{face.slug}",
        title=face.title,
        status=face.status,
        detail=f"{first.came} {first.right}" if first else str(error),
        page=first.page if first else PAGE,
        pointer=first.where if first else None,
        came=first.came if first else "",
        right=first.right if first else "",
        allowed=allowed,
        errors=tuple(fault_body(fault) for fault in faults[:FAULTS_MAX]),
        errors_left_out=max(0, len(faults) - FAULTS_MAX),
        retry_after=retry_after,
    )


def problem_reply(error: MidstreamError) -> Reply:
    """Return the whole answer to a request that failed as expected."""
    if isinstance(error, RefusedElsewhere):
        return error.reply
    problem = problem_of(error)
    headers: list[tuple[bytes, bytes]] = [(b"cache-control", b"no-store")]
    if problem.retry_after:
        headers.append((b"retry-after", b"%d" % problem.retry_after))
    if isinstance(error, MediaTypeUnsupported):
        headers.append((b"accept-encoding", b"gzip, zstd"))
    if isinstance(error, KeyNeeded):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if problem.status in {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}:
        # The rest of the body is not read: on this connection nothing else can follow.
        headers.append((b"connection", b"close"))
    return Reply(problem.status, msgspec.json.encode(problem), PROBLEM_JSON, tuple(headers))
