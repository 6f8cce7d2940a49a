"""Documents of core come in, calls of a shop's program go to a server over HTTP, blocking or on an event loop."""

from midstream.client.async_client import AsyncClient
from midstream.client.blocking_client import Client
from midstream.client.client_errors import (
    AccessDenied,
    AnswerPending,
    AnswerUnreadable,
    BufferEnded,
    BufferFull,
    ClientError,
    EventsRejected,
    IdUnknown,
    InvalidRequest,
    KeyRejected,
    QuotaExceeded,
    RequestRefused,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnreachable,
    StateConflict,
)
from midstream.client.event_batches import BufferOptions, EventOutcome
from midstream.client.exchange import ClientOptions

__all__ = [
    "AccessDenied",
    "AnswerPending",
    "AnswerUnreadable",
    "AsyncClient",
    "BufferEnded",
    "BufferFull",
    "BufferOptions",
    "Client",
    "ClientError",
    "ClientOptions",
    "EventOutcome",
    "EventsRejected",
    "IdUnknown",
    "InvalidRequest",
    "KeyRejected",
    "QuotaExceeded",
    "RequestRefused",
    "RequestTooLarge",
    "ServerBusy",
    "ServerFailed",
    "ServerUnreachable",
    "StateConflict",
]
