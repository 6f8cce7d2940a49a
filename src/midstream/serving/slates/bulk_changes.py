"""Hot routes that change many items or users in one stream, and what a change is as an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from midstream.serving.events.bulk import Bulk, BulkHow
from midstream.serving.http.parsing import UNREADABLE
from midstream.serving.http.responses import Handler
from midstream.serving.slates.hot_routes import post_bulk

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class CatalogueSubject:
    """Subject of a group of routes: items or users."""

    kind: str
    """Its events' ``type``."""
    plural: str

    @property
    def id_field(self) -> str:
        """Name of its id in events, paths and answers."""
        return f"{self.kind}_id"


ITEM = CatalogueSubject("item", "items")
USER = CatalogueSubject("user", "users")


def bulk_routes(bulk: Bulk) -> Mapping[str, Mapping[str, Handler]]:
    """Return path, method and handler of the routes that change many items or users in one stream."""

    def change(noun: CatalogueSubject, operation: str) -> Handler:
        how = BulkHow(only=noun.kind, operation=operation, rewrite=partial(as_lines, noun=noun, operation=operation))
        return lambda scope, receive: post_bulk(bulk, scope, receive, how)

    return {f"/v1/{noun.plural}": {"PUT": change(noun, "put"), "PATCH": change(noun, "patch")} for noun in (ITEM, USER)}


def as_lines(body: bytes, noun: CatalogueSubject, operation: str) -> bytes:
    """Return NDJSON as events of the noun's type, line by line."""
    return b"\n".join(as_event(line, noun, operation) if line.strip() else b"" for line in body.split(b"\n"))


def as_event(piece: bytes, noun: CatalogueSubject, operation: str) -> bytes:
    """Return an object of a body as an event of the noun's type; what is no object stays as it is, to be refused."""
    try:
        fields = _attributes.decode(piece)
    except UNREADABLE:
        return piece
    # What a client names itself comes later and wins: another type is then refused, field by field.
    return msgspec.json.encode({"type": noun.kind, "operation": operation} | fields)
