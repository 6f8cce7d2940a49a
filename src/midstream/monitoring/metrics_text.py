"""Text of a registry in turns of an event loop: a few families of metrics at a time, and other work in between.

The whole text takes 2 to 5 ms, for which answers would wait at each reading of the metrics. A family is read at one
moment, so the longest turn is that of the largest family: 13 ms with 100 placements. Two families may be apart by what
happened meanwhile, as those of any two readings are.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

TURN_BYTES = 4_096
"""Of a turn at least: about 0.4 ms. Each turn waits for one pass of the loop, so a busy server has few and not many."""


@dataclass(frozen=True, slots=True)
class _OneFamily(Collector):
    """A registry of one family that was read."""

    family: Metric

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        return (self.family,)


def turns_of(registry: CollectorRegistry) -> Iterator[bytes]:
    """Return the text of a registry in the Prometheus format, in parts of whole families, ``TURN_BYTES`` at least."""
    text = b""
    for family in registry.collect():
        text += generate_latest(_OneFamily(family))
        if len(text) >= TURN_BYTES:
            yield text
            text = b""
    if text:
        yield text


async def text_in_turns(registry: CollectorRegistry) -> bytes:
    """Return the text of a registry in the Prometheus format; the loop does other work between its parts."""
    return await joined_in_turns(turns_of(registry))


async def joined_in_turns(parts: Iterable[bytes]) -> bytes:
    """Return all parts in one; the loop does other work before each next one is made."""
    found: list[bytes] = []
    for part in parts:
        found.append(part)
        await asyncio.sleep(0)
    return b"".join(found)
