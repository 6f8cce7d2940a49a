"""Inputs of a folder: how they stand, and an operator's word, through the server that has it open or without one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inputs.services import input_of, require_secrets
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import DATA_NAME, open_running
from midstream.app.server_address import server_of
from midstream.app.server_refusals import refusal_of, server_answer
from midstream.core.errors import FolderLocked, NotFound
from midstream.core.nearest import nearest
from midstream.engine.engine import EngineOptions
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.types import InputView, PartitionView

ANSWER_S_MAX = 60.0
"""A broker that does not answer is waited for three times ten seconds."""
_PATH = "/v1/inputs"


class _Listed(msgspec.Struct, frozen=True):
    """Answer of the route."""

    inputs: tuple[InputView, ...]


def inputs_of(folder: Path, config: Config) -> tuple[InputView, ...]:
    """Return how the inputs of a folder stand; without a server their positions alone, of which no broker is asked.

    Raises:
        LogDamaged: The log cannot be read.
        StoreUnavailable: The server that has the folder open does not answer.
    """
    url = server_of(DataFolder(folder / DATA_NAME))
    content = server_answer(url, ANSWER_S_MAX, lambda client: client.get(_PATH), refusal_of)
    if content is not None:
        return msgspec.json.decode(content, type=_Listed).inputs
    rows = state_of(folder, config, LogView(folder)).fold.inputs.rows
    known = {each.input: each for each in rows}
    topics = {each.name: each.topic for each in config.inputs}
    topics |= {name: row.topic for name, row in known.items() if name not in topics}
    return tuple(
        InputView(
            name,
            topic,
            "offline",
            tuple(PartitionView(*each) for each in (known[name].next.items() if name in known else ())),
            0,
            0,
            0,
            "no server has the folder open",
        )
        for name, topic in topics.items()
    )


def move_input(folder: Path, config: Config, name: str, positions: Mapping[str, str] | str) -> InputView:
    """Have an input read on from other positions; durable on return.

    Args:
        folder: Of the data.
        config: Of that folder.
        name: Of the input.
        positions: By partition; or ``earliest``, ``latest`` or milliseconds since 1970 for all partitions.

    Raises:
        NotFound: There is no input of that name.
        Invalid: The broker has no such partition or position; nothing was changed.
        MidstreamError: The broker, or the server that has the folder open, does not answer.
    """
    options = next((each for each in config.inputs if each.name == name), None)
    if options is None:
        known = [each.name for each in config.inputs]
        message = f'"{name}" is no input of midstream.toml.{nearest(name, known)} Inputs: {", ".join(known) or "none"}'
        raise NotFound(message)
    require_secrets((options,))
    try:
        running = open_running(folder, config, EngineOptions(logs_served=False))
    except FolderLocked:
        url = server_of(DataFolder(folder / DATA_NAME))
        if url is None:
            raise
        body = {"to": positions} if isinstance(positions, str) else {"positions": positions}
        path = f"{_PATH}/{name}/positions"
        content = server_answer(url, ANSWER_S_MAX, lambda client: client.post(path, json=body), refusal_of)
        return msgspec.json.decode(content or b"", type=InputView)

    async def moved(running: Instance) -> InputView:
        async with running:
            one = input_of(running, options)
            try:
                return await one.move(positions)
            finally:
                await one.stop()

    return asyncio.run(moved(running))
