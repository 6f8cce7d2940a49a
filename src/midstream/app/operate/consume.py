"""Consumption by hand: the inputs of a folder, until a signal, or until all that is there is read.

Where a server has the folder open, it reads them; then its progress is followed.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inputs.services import require_secrets, with_inputs
from midstream.app.opening import DATA_NAME, open_running
from midstream.app.operate.followed_inputs import followed
from midstream.app.server_address import server_of
from midstream.core.errors import FolderLocked, NotFound
from midstream.core.nearest import nearest
from midstream.engine.child_process import Notify, nobody
from midstream.engine.engine import EngineOptions
from midstream.engine.folder import DataFolder
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.instance import Instance
from midstream.engine.types import InputView

LOOK_S = 0.1
"""Between two looks at the inputs."""
FAILING_S_MAX = 30.0
"""A run to the end gives up an input that failed for so long, or whose messages the broker keeps back: nobody waits at
a terminal for a broker that is gone, or for a transaction that is never ended."""
STANDING_BY_S_MAX = 10.0
"""A run to the end gives up an input that another node reads after so long: the lease of a node that is gone has run
out by then, and this one reads."""
Progress = Callable[[Sequence[InputView]], None]


@dataclass(frozen=True, slots=True)
class ConsumeOptions:
    """Which inputs, and for how long."""

    names: tuple[str, ...] = ()
    """Empty = all."""
    until_end: bool = False
    """End when every input has read what its topic has."""


@dataclass(frozen=True, slots=True)
class Consumed:
    """Result of a run."""

    inputs: tuple[InputView, ...]
    """As they stood at its end."""
    at_end: bool
    """Whether every input had read what its topic had."""
    log_position: int
    seconds: float
    server: str = ""
    """Address of the server that has the folder open and read them; empty = this process did."""


def consume(
    folder: Path,
    config: Config,
    options: ConsumeOptions,
    tell: Progress,
    notify: Notify = nobody,
) -> Consumed:
    """Read inputs into the log of a folder until SIGINT or SIGTERM, or until their ends; follow a server that does.

    Args:
        folder: Of the data.
        config: Of that folder.
        options: Which inputs, and for how long.
        tell: Called several times a second with the state of each input.
        notify: Receives the progress of the fold before.

    Raises:
        NotFound: There is no input of a name, or none at all.
        ConfigInvalid: A secret is not in the environment.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        StoreUnavailable: The server that has the folder open does not answer any more, or an input of it has stalled.
    """
    chosen = _chosen(config, options.names)
    data = DataFolder(folder / DATA_NAME)
    if server_of(data) is None:  # else the secrets are the server's
        require_secrets(chosen.inputs)
    try:
        opened = open_running(folder, config, EngineOptions(logs_served=False), notify=notify)
    except FolderLocked:
        url = server_of(data)
        if url is None:
            raise
        return asyncio.run(_followed(url, [each.name for each in chosen.inputs], options, tell))
    require_secrets(chosen.inputs)  # the server may have ended in between
    running, group = with_inputs(opened, chosen)
    return asyncio.run(_consumed(running, group, options, tell))


def _chosen(config: Config, names: Sequence[str]) -> Config:
    """Return the configuration with some of its inputs."""
    known = {each.name: each for each in config.inputs}
    for name in names or ([] if known else [""]):
        if name not in known:
            what = (
                f'"{name}" is no input of midstream.toml.{nearest(name, known)}' if name else "there is no [[inputs]]"
            )
            message = f"{what} Inputs: {', '.join(known) or 'none'}; see midstream docs inputs"
            raise NotFound(message)
    return msgspec.structs.replace(config, inputs=tuple(known[name] for name in dict.fromkeys(names or known)))


async def _consumed(running: Instance, group: InputGroup, options: ConsumeOptions, tell: Progress) -> Consumed:
    began, ends = time.monotonic(), _ending()
    async with running:
        good_s: dict[str, float] = {}
        while not ends.is_set():
            views = group.views()
            tell(views)
            if options.until_end and _is_over(views, group, good_s):
                break
            await asyncio.sleep(LOOK_S)
        views, at_end = tuple(map(_explained, group.views())), group.is_at_end
    return Consumed(views, at_end, running.engine.fold.log_position, time.monotonic() - began)


async def _followed(url: str, names: Sequence[str], options: ConsumeOptions, tell: Progress) -> Consumed:
    began, good_s = time.monotonic(), dict[str, float]()

    def is_given_up(view: InputView) -> bool:
        return view.state == "stopped" or _is_given_up(view, good_s)

    done = await followed(url, names, _ending(), tell, is_given_up if options.until_end else None)
    views = tuple(map(_explained, done.views))
    return Consumed(views, done.at_end, done.log_position, time.monotonic() - began, url)


def _ending() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    ends, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ends.set)
    return ends


def _is_over(views: Sequence[InputView], group: InputGroup, good_s: dict[str, float]) -> bool:
    """Return whether every input has nothing left that it can read, or was given up."""
    is_given_up = {each.name: _is_given_up(each, good_s) for each in views}
    return all(group.is_idle(name) or is_given_up[name] for name in is_given_up)


def _is_given_up(view: InputView, good_s: dict[str, float]) -> bool:
    """Return whether an input failed, waited for the broker or stood by, for as long as that is waited for."""
    now_s = time.monotonic()
    is_kept_back = view.state == "reading" and bool(view.problem)
    if view.state not in {"failing", "standing_by"} and not is_kept_back:
        good_s[view.name] = now_s
        return False
    limit_s = STANDING_BY_S_MAX if view.state == "standing_by" else FAILING_S_MAX
    return now_s - good_s.setdefault(view.name, now_s) > limit_s


def _explained(view: InputView) -> InputView:
    """Return a view that says of an input which stands by that another node reads it."""
    if view.state != "standing_by":
        return view
    owner = f"the node {view.owner}" if view.owner else "another node"
    problem = f"{owner} of the shared log reads it, and this one stands by: its events come through that log"
    return replace(view, problem=problem)
