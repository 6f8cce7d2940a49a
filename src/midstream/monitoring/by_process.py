"""Merge of several metrics texts into one: each sample gets a label, ``process`` or ``tenant``.

Prometheus requires the samples of one metric together, with one description, so the texts are merged metric by metric.
Nothing is aggregated: a query decides between sum and maximum. A hundred tenants take 0.1 s, so the event loop does
other work between each few hundred lines.
"""

from collections.abc import Callable, Iterator, Mapping

from midstream.monitoring.metrics_text import joined_in_turns

LEADER = "leader"
_HELP = b"# HELP "
_OF_THE_LEADER = tuple(
    b"midstream_" + name
    for name in (
        *(b"accepts_events", b"append_failures", b"commit_events", b"configuration", b"dead_letters", b"erasure"),
        *(
            b"events",
            b"feature_parity_",
            b"follower_",
            b"history",
            b"outcome_",
            b"rebuild",
            b"seal",
            b"snapshot",
            b"sync_seconds",
        ),
    )
)
"""Prefixes of metrics of the process that owns the log alone, which would stay 0 in others; and of sums over the
log, which are equal in all."""
TURN_LINES = 1_024
"""Of a turn: 0.5 to 1 ms. A hundred tenants have 130 turns, and each waits for one pass of the loop."""


async def merged(texts: Mapping[str, bytes]) -> bytes:
    r"""Return the metrics of all processes.

    Args:
        texts: By name of the process, each in the Prometheus text format as the client library writes it.

    Example:
        >>> import asyncio
        >>> text = b"# HELP a Words.\n# TYPE a gauge\na 1.0\n"
        >>> print(asyncio.run(merged({"leader": text, "follower-1": text})).decode(), end="")
        # HELP a Words.
        # TYPE a gauge
        a{process="leader"} 1.0
        a{process="follower-1"} 1.0
    """
    turns = _merged("process", texts, lambda process, name: process != LEADER and name.startswith(_OF_THE_LEADER))
    return await joined_in_turns(turns)


async def merged_tenants(own: bytes, texts: Mapping[str, bytes]) -> bytes:
    r"""Return the metrics of a server and of all tenants, each sample of a tenant with the label ``tenant``.

    Args:
        own: Text of the server itself, whose samples get no label.
        texts: By name of the tenant.

    Example:
        >>> import asyncio
        >>> text = b"# HELP a Words.\n# TYPE a gauge\na 1.0\n"
        >>> print(asyncio.run(merged_tenants(text, {"red": text})).decode(), end="")
        # HELP a Words.
        # TYPE a gauge
        a 1.0
        a{tenant="red"} 1.0
    """
    return await joined_in_turns(_merged("tenant", {"": own, **texts}, lambda _tenant, _name: False))


def _merged(label_name: str, texts: Mapping[str, bytes], leaves_out: Callable[[str, bytes], bool]) -> Iterator[bytes]:
    """Yield the merged texts in parts, which are empty while the texts are read; an empty name gets no label."""
    heads: dict[bytes, list[bytes]] = {}
    samples: dict[bytes, list[bytes]] = {}
    for value, text in texts.items():
        label = b'%b="%b"' % (label_name.encode(), value.encode()) if value else b""
        name = b""
        is_first = False
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith(_HELP):
                name = line.split(b" ", 3)[2]
                is_first = name not in heads
                heads.setdefault(name, [])
                samples.setdefault(name, [])
            is_left_out = leaves_out(value, name)
            if line.startswith(b"#"):
                heads[name].extend([line] if is_first and not is_left_out else ())
            elif not is_left_out:
                samples[name].append(_labelled(line, label) if label else line)
            if number % TURN_LINES == 0:
                yield b""
        yield b""
    for name, head in heads.items():
        lines = [*head, *samples[name]]
        for first in range(0, len(lines), TURN_LINES):
            yield b"".join(b"%b\n" % line for line in lines[first : first + TURN_LINES])


def _labelled(sample: bytes, label: bytes) -> bytes:
    """Return a sample with a further label, before those that it has."""
    end_of_name = min(place for place in (sample.find(b"{"), sample.find(b" ")) if place >= 0)
    name, rest = sample[:end_of_name], sample[end_of_name:]
    if rest.startswith(b"{"):
        return b"%b{%b,%b" % (name, label, rest[1:])
    return b"%b{%b}%b" % (name, label, rest)
