"""Fetch of columns from Redis or Valkey, in the layout of the shop: a hash an id, or a JSON object as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from midstream.core.errors import ShapeMismatch
from midstream.core.field_bounds import Name
from midstream.engine.stores.connector import Connector
from midstream.engine.stores.fetched_values import FetchedText, column_of, named_fields
from midstream.integrations.redis.connection import RedisServer, connection_of, hashes_of

PLACE = "{id}"
"""In a pattern of keys. Further braces are hash tags: ``item:{{id}}``."""
KEY = re.compile(r"[^\x00-\x20\x7f]{4,256}")


class RedisFetchOptions(RedisServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="redis"):
    """``component = { kind = "redis", … }``."""

    key: str = PLACE
    """Pattern of the keys, such as ``stock:{id}``."""
    layout: Literal["hash", "json"] = "hash"
    """A hash whose fields are the columns, or a text that is a JSON object."""
    fields: dict[Name, str] = msgspec.field(default_factory=dict[str, str])
    """Field of a column, where it has another name: ``{ stock = "qty" }``."""


class RedisFetch:
    """A ``Fetch`` of the columns of some ids in one round."""

    def __init__(self, options: RedisFetchOptions, kinds: Mapping[str, str]) -> None:
        """Prepare; nobody is asked."""
        self.options = options
        self.kinds = dict(kinds)
        self._fields = named_fields(kinds, options.fields)

    def __eq__(self, other: object) -> bool:
        """Return whether another one asks the same."""
        return isinstance(other, RedisFetch) and (self.options, self.kinds) == (other.options, other.kinds)

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> Connector[Any]:
        """Return the connector of the running event loop."""
        return connection_of(_server(self.options))

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Sequence[FetchedText]]:
        """Return each column; None = there is no such key or field."""
        keys = [self.options.key.replace(PLACE, each) for each in ids]
        ask = self._of_hashes if self.options.layout == "hash" else self._of_objects
        rows = await self.connection().call(lambda client: ask(client, keys))
        return {
            name: column_of(name, kind, [row[place] for row in rows], ids)
            for place, (name, kind) in enumerate(self.kinds.items())
        }

    async def _of_hashes(self, client: Any, keys: Sequence[str]) -> Sequence[Sequence[object]]:  # noqa: ANN401  of the library
        return await hashes_of(client, keys, self._fields)

    async def _of_objects(self, client: Any, keys: Sequence[str]) -> Sequence[Sequence[object]]:  # noqa: ANN401  as above
        told: Sequence[bytes | None] = await client.mget(keys)
        return [self._object(key, each) for key, each in zip(keys, told, strict=True)]

    def _object(self, key: str, told: bytes | None) -> Sequence[object]:
        if told is None:
            return (None,) * len(self._fields)
        try:
            found = msgspec.json.decode(told)
        except msgspec.DecodeError as error:
            message = f"key {key!r}: {error}"
            raise ShapeMismatch(message) from error
        if not isinstance(found, dict):
            message = f"key {key!r}: {type(found).__name__} came where a JSON object is right"
            raise ShapeMismatch(message)
        row = cast("dict[str, object]", found)
        return [row.get(each) for each in self._fields]


def _server(options: RedisFetchOptions) -> RedisServer:
    """Return what decides the connection alone: fetches of one server share its connections."""
    return RedisServer(**{each: getattr(options, each) for each in RedisServer.__struct_fields__})
