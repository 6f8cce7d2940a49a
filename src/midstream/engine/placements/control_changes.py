"""Changes of control documents and plans as one: durable in the log, folded, and in service when they return.

First the configuration is written down, then the events of the change are one frame of the log, and between two turns
the plans are swapped. So a refusal changes nothing, and after a crash behind the frame the next start finds the change,
as it folds the events.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from midstream.core.errors import ConfigInvalid, Fault, Overloaded, StoreUnavailable
from midstream.core.kinds import Kind
from midstream.engine.active_config import Service
from midstream.engine.engine import Engine
from midstream.engine.rebuild.rebuilder import Rebuilder
from midstream.events.faults import shown
from midstream.events.schema import Event, build
from midstream.monitoring.facts import Fact, FieldValue
from midstream.state.control.placements import (
    BYTES_MAX,
    CONTENT_BYTES_MAX,
    PLACEMENTS_MAX,
    TEXT_BYTES_MAX,
    PlacementControl,
    encode_placement,
    placement_body,
)

PAGE = "/docs/placements.md"
FULL = "as many placements are kept as may be; give back those that are not needed"


@dataclass(frozen=True, slots=True)
class Said:
    """Author and note of a change, and the version on which it is based."""

    author: str
    note: str = ""
    if_version: int | None = None
    """The newest version known to the author, 0 = none; another one refuses the change. None = any."""


class ControlChanges:
    """Changes of the documents that the state keeps, with the plans that follow from them."""

    def __init__(self, engine: Engine, rebuilder: Rebuilder, write: Callable[[Service], None]) -> None:
        """Change the plans that ``rebuilder`` has in service; ``write`` writes a configuration down."""
        self._engine = engine
        self._rebuilder = rebuilder
        self._write = write

    def content(self, name: str) -> str:
        """Return what is said now of a document; empty = nothing."""
        versions = self._engine.fold.placements.versions(name)
        return versions[-1].content if versions else ""

    def body(self, name: str, content: str, said: Said) -> PlacementControl:
        """Return the body of the control event of a change.

        Raises:
            ConfigInvalid: The document is too long.
            Overloaded: There is no place for it.
        """
        if (size := len(content.encode())) > CONTENT_BYTES_MAX:
            right = f"At most {CONTENT_BYTES_MAX:,} bytes; a longer one can stand in midstream.toml."
            raise ConfigInvalid((Fault("$", f"It has {size:,} bytes as JSON.", right, PAGE),))
        table = self._engine.fold.placements
        versions = table.versions(name)
        body = placement_body(name, versions[-1].version + 1 if versions else 1, content, said.author, said.note)
        if not table.takes(body):
            raise Overloaded(FULL)
        return body

    def require_room(self, bodies: Sequence[PlacementControl]) -> None:
        """Refuse a change of several documents that may not find a place for each of them.

        Raises:
            Overloaded: It may not, also if older versions could make room.
        """
        table = self._engine.fold.placements
        held = {each.name for each in table.current if each.content} | {each.name for each in bodies if each.content}
        size = sum(each.text_bytes for each in table.rows)
        size += sum(len(f"{each.name}{each.content}{each.author}{each.note}".encode()) for each in bodies)
        if len(held) > PLACEMENTS_MAX or size > BYTES_MAX:
            raise Overloaded(FULL)

    async def apply(self, bodies: Sequence[PlacementControl], made: Service) -> None:
        """Make a change durable, all of it or nothing, and put its plans in service; be ``alone``.

        Args:
            bodies: Of the documents that change; none = what is said of them already.
            made: Configuration and plans with them.

        Raises:
            StoreUnavailable: The configuration could not be stored.
            AppendFailed: The log could not be made durable.
        """
        try:
            await asyncio.to_thread(self._write, made)
        except OSError as error:
            message = f"the configuration could not be written down: {error}"
            raise StoreUnavailable(message) from error
        await _to_its_end(self._said_and_served(bodies, made))
        await self._rebuilder.remember()

    async def _said_and_served(self, bodies: Sequence[PlacementControl], made: Service) -> None:
        """Record a change and swap the plans; nothing is awaited between the two."""
        if bodies:
            await self._engine.record(build(tuple(Event(Kind.CONTROL, body=encode_placement(body)) for body in bodies)))
        for body in bodies:
            if self.content(body.name) != body.content:
                message = f"the event that changes the placement {body.name!r} was folded and no row of it is there"
                raise AssertionError(message)
        self._rebuilder.swap_plans(made)
        for body in bodies:
            fields: dict[str, FieldValue] = {"placement": body.name, "version": body.version}
            event = "placement_set" if body.content else "placement_removed"
            self._engine.facts.note(Fact(event, fields=fields, key=f"{body.name} {body.version}"))


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Complete a change that must not be interrupted: a cancelled caller ends after it."""
    task = asyncio.create_task(work, name="midstream-placing")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


def require_texts(name: str, said: Said, note_at: str = "/note") -> None:
    """Refuse a change without an author, or with a text that is too long to be kept or cannot be printed as it stands.

    Args:
        name: Of what changes.
        said: Author and note.
        note_at: Pointer to the note.

    Raises:
        ConfigInvalid: Every fault is named.
    """
    faults: list[Fault] = []
    for where, text in (("/author", said.author), (note_at, said.note), ("name", name)):
        size = len(text.encode(errors="replace"))
        if size > TEXT_BYTES_MAX:
            faults.append(Fault(where, f"It has {size:,} bytes.", f"At most {TEXT_BYTES_MAX:,}.", PAGE))
    for where, text in (("/author", said.author), (note_at, "".join(said.note.replace("\r\n", "\n").split("\n")))):
        if not text.isprintable():  # a terminal would do what its control characters say
            faults.append(Fault(where, f"{shown(text)} came.", "Text without control characters.", PAGE))
    if not said.author.strip():
        faults.append(Fault("/author", "It is empty.", "Who changes it, such as ann@shop.example.", PAGE))
    if faults:
        raise ConfigInvalid(tuple(faults))
