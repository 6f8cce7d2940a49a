"""Text encoding: vectors of the texts of items, computed once for each text and written into vector attributes.

Each attribute has a service of its own (``attribute_encoding``), so one that fails does not stop the others. Their
children run one at a time.
"""

from collections.abc import Sequence

from midstream.engine.engine import Engine
from midstream.engine.vectors.attribute_encoding import AttributeEncoding
from midstream.engine.vectors.encoded_attribute import EncodedAttribute
from midstream.engine.vectors.isolated_texts import Encode, IsolatedTexts
from midstream.engine.vectors.text_cache import TextCache


class TextEncoding:
    """An ``EngineService``."""

    def __init__(
        self, engine: Engine, attributes: Sequence[EncodedAttribute], encode: Encode, cache: TextCache
    ) -> None:
        """Prepare the services of all attributes."""
        self._texts = IsolatedTexts(encode, cache)
        self._attributes = tuple(AttributeEncoding(engine, each, self._texts) for each in attributes)

    def start(self) -> None:
        """Begin on the running event loop; without an attribute nothing runs."""
        for each in self._attributes:
            each.service.start()

    async def stop(self) -> None:
        """End it, with its child."""
        for each in self._attributes:
            await each.service.stop()

    @property
    def encoded_count(self) -> int:
        """Texts that a child has encoded."""
        return self._texts.encoded_count

    @property
    def recorded_count(self) -> int:
        """Item events with a vector that were recorded."""
        return sum(each.recorded_count for each in self._attributes)
