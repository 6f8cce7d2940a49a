"""Texts about positions of an input: faults of an order, and what an input waits for or fails at."""

from collections.abc import Mapping, Sequence

from midstream.core.errors import Fault
from midstream.engine.inputs.broker_consumer import GonePosition, OpenedTopic

PAGE = "/docs/inputs.md"


def position_faults(positions: Mapping[str, str] | str, opened: OpenedTopic) -> tuple[Fault, ...]:
    """Return what an operator named and the broker does not have."""
    if isinstance(positions, str):
        return ()
    gone = {each.partition: each for each in opened.gone}
    partitions = sorted({*opened.next, *gone})
    faults = [
        Fault(f"/positions/{each}", f"The topic has no partition {each}.", f"Partitions: {', '.join(partitions)}", PAGE)
        for each in positions
        if each not in partitions
    ]
    faults += [
        Fault(f"/positions/{each}", f"{at} came.", f"From {gone[each].first} to {gone[each].end}.", PAGE)
        for each, at in positions.items()
        if each in gone
    ]
    return tuple(faults)


def stalled_text(name: str, topic: str, partitions: Sequence[str]) -> str:
    """Return what an input says of a client that returns nothing though there is something."""
    return (
        f"input {name!r} stands still: of partition {', '.join(partitions)} of {topic!r} the client returns nothing, "
        "and the broker has messages there; the client is made anew"
    )


def replaced_text(name: str, topic: str, stored: str, found: str) -> str:
    """Return what an input says whose topic was made anew."""
    return (
        f"input {name!r} has positions of topic {topic!r} with the id {stored}, and the broker has one with the id "
        f"{found or 'unknown'}: it was deleted and made again; order where to begin with `midstream inputs move {name}`"
    )


def log_topic_text(name: str, topic: str, found: str) -> str:
    """Return what an input says whose topic is that of the shared log."""
    return (
        f"input {name!r} is to read {topic!r}, which is the topic of the shared log ({found}): it would read the "
        "positions that it appends there, without end; nothing of it is read; name another topic in midstream.toml"
    )


def gone_text(name: str, gone: GonePosition) -> str:
    """Return what an input says whose position the broker does not have."""
    return (
        f"input {name!r} stopped in partition {gone.partition}: its position {gone.stored} is gone, the broker has "
        f"{gone.first} to {gone.end}; order where to go on with `midstream inputs move {name}`"
    )
