"""``midstream serve``: HTTP server of a folder until Ctrl-C."""

import gc
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from midstream.cli.console import HERE, Folder, out, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress
from midstream.core.errors import ConfigInvalid, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midstream.app.config.schema import Config
    from midstream.app.server.serve import Ready, Stopped
    from midstream.serving.options import ServerOptions

app = typer.Typer()
EXAMPLE = "example.ndjson"
JSON = "content-type: application/json"
ON_SCREEN = (
    "starting",
    "recovered",
    "started",
    "torn_tail_dropped",
    "snapshot_passed_by",
    "configuration_waits",
    "stopped",
)
"""Lines of the log that this command says in words where it talks to a person."""
START_ALLOCATIONS = 1_000_000
"""New containers between two looks for cycles until requests are taken: a start makes 370,000 that stay, and to look
through them takes a tenth of its time. A server that is ready has its own number."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  named, not bound to
Host = Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on; default: [server] host.")]
Port = Annotated[
    int | None, typer.Option(metavar="PORT", help="Port to listen on, 0 = any free port; default: [server] port.")
]
Privileged = Annotated[bool, typer.Option("--privileged", help="Allow a port below 1,024, such as 80.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Allow a --host that other machines reach, without an API key.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Additional host name of requests, such as that of a proxy; repeatable. IP addresses need none.",
    ),
]
Further = Annotated[
    int | None,
    typer.Option(
        "--followers", metavar="N", min=0, max=64, help="Additional processes that answer; default: [server] followers."
    ),
]

Tenants = Annotated[
    Path | None,
    typer.Option(
        "--tenants", metavar="FOLDER", help="Serve all tenants of a folder, each below /t/NAME/, in one process."
    ),
]


class Level(StrEnum):
    """The level from which on lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Format(StrEnum):
    """The form of lines of the log."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


LogLevel = Annotated[
    Level | None,
    typer.Option(help="Lowest level of log lines; default: [server] log_level."),
]
LogFormat = Annotated[
    Format | None,
    typer.Option(help="Format of log lines; auto: text on a terminal, else JSON; default: [server] log_format."),
]


@app.command(
    "serve",
    cls=CommandHelp,
    epilog="""
    midstream serve
      Prints the address, an event and a request to try.
    midstream serve --folder shop --port 0 --followers 1
      Takes any free port, and answers in two processes.
    midstream serve --tenants shops
    """,
)
def command(
    folder: Folder = HERE,
    host: Host = None,
    port: Port = None,
    insecure: Insecure = False,
    privileged: Privileged = False,
    allow_host: AllowHost = None,
    followers: Further = None,
    tenants: Tenants = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the HTTP server until Ctrl-C.

    The server records events and answers requests for recommendations. An acknowledged event is on the disk, so
    stopping the server loses none. Log lines are written to standard error.
    """
    gc.set_threshold(START_ALLOCATIONS)
    said: dict[str, object] = {"host": host, "port": port, "followers": followers}
    said |= {"insecure": insecure or None, "privileged": privileged or None}
    said |= {"log_level": log_level and log_level.value, "log_format": log_format and log_format.value}
    if tenants is not None:
        _serve_tenants(tenants, said, allow_host or ())
        return
    _serve(folder, *_chosen(folder, said, allow_host or ()))


def _serve_tenants(folder: Path, said: Mapping[str, object], allow_hosts: Sequence[str]) -> None:
    """Serve a folder of tenants until a signal, and print where they are."""
    from midstream.app.tenants.serve import root_config, serve_tenants
    from midstream.monitoring.logs import LogOptions, logging_to

    if said["followers"]:
        right = "serve --tenants without it: the tenants share one process."
        raise ConfigInvalid((Fault("--followers", f"{said['followers']} came.", right, "/docs/tenants.md"),))
    if not folder.is_dir():
        right = "A folder that is there: a typing error is to make no new one."
        raise ConfigInvalid((Fault("--tenants", f"There is no folder {folder}.", right, "/docs/tenants.md"),))
    options = _options(root_config(folder), said, allow_hosts)

    def ready(url: str, count: int) -> None:
        out.print(f"serving {count} tenants of {folder.resolve().name} at {url}/t/NAME/", markup=False)
        out.print(f"in a browser: {url}/console, with a key that this makes:", markup=False)
        out.print(f"  midstream keys create console --scope admin --folder {shlex.quote(str(folder))}", markup=False)
        out.print(f"midstream tenants create NAME --folder {shlex.quote(str(folder))} makes a tenant", markup=False)
        out.print("\nCtrl-C stops", markup=False)

    with logging_to(sys.stderr, LogOptions(options.log_level, options.log_format, "", ON_SCREEN)):
        serve_tenants(folder, options, ready)


def _serve(folder: Path, config: "Config", options: "ServerOptions") -> None:
    """Serve until a signal, and print what a person wants to know; lines of the log stand alone where they are JSON."""
    from midstream.app.server.serve import serve_folder
    from midstream.monitoring.logs import LogOptions, is_text, logging_to

    log = LogOptions(options.log_level, options.log_format, "leader" if options.followers else "", ON_SCREEN)
    words = say if is_text(log, sys.stderr) else _unsaid
    words("starting; the first start on a machine compiles for about a minute")
    with logging_to(sys.stderr, log), progress(has_lines=False) as bar:

        def ready(told: "Ready") -> None:
            bar.stop()
            print_ready(told, folder, options.host, words)

        stopped = serve_folder(folder, config, options, ready, notify_of(bar))
    print_stopped(stopped, words)


def _unsaid(_text: str) -> None:
    """Say nothing: lines of the log have it, and nothing else stands between them."""


def _chosen(folder: Path, said: Mapping[str, object], allow_hosts: Sequence[str]) -> "tuple[Config, ServerOptions]":
    """Return the configuration of a folder, and how it is to be served.

    Raises:
        ConfigInvalid: What is wrong with the file and with what was said, together.
    """
    from midstream.app.config.schema import Config
    from midstream.app.opening import DATA_NAME, config_of
    from midstream.serving.access.key_file import KeyFile
    from midstream.serving.options import address_faults

    faults: list[Fault] = []
    config = Config()
    try:
        config = config_of(folder)
    except ConfigInvalid as error:
        faults.extend(error.faults)
    options = _options(config, said, allow_hosts)
    has_keys = config.identity.is_on or KeyFile(folder / DATA_NAME).path.exists()  # the server reads them itself
    faults.extend(address_faults(options, has_keys=has_keys))
    if faults:
        raise ConfigInvalid(tuple(faults))
    return config, options


def _options(config: "Config", said: Mapping[str, object], allow_hosts: Sequence[str]) -> "ServerOptions":
    """Return the configuration's options with what was said instead, and hosts that are allowed beside its own."""
    chosen = {name: value for name, value in said.items() if value is not None}
    hosts = (*config.server.allow_hosts, *allow_hosts)
    return msgspec.structs.replace(config.server, allow_hosts=hosts, **chosen)


def print_ready(ready: "Ready", folder: Path, host: str, say: Callable[[str], None] = say) -> None:
    """Say where the server is and what to try; ``say`` gets what the log has as well."""
    out.print(f"serving {folder.resolve().name} at {ready.url}, docs at {ready.url}/docs", markup=False)
    out.print(f"in a browser: {ready.url}/console", markup=False)
    if beyond := reach_text(host, ready.url):
        out.print(beyond, markup=False)
    out.print(f"log position {ready.log_position}, started in {ready.started.seconds:.1f} s", markup=False)
    if ready.started.torn_tail:
        say(f"an interrupted write was dropped, nothing acknowledged was in it: {ready.started.torn_tail}")
    if ready.started.instead_of:
        say(
            f"midstream.toml asks for another state: configuration {ready.started.config_hash} serves as before until "
            f"that of {ready.started.instead_of} is rebuilt; GET {ready.url}/v1/rebuild says how far it is"
        )
    for reason in ready.started.refused_snapshots:
        say(f"a snapshot was passed by: {reason}")
    for line in first_requests(ready, folder):
        out.print(line, markup=False)
    out.print("\nCtrl-C stops", markup=False)


def reach_text(host: str, url: str) -> str:
    """Return at which addresses it listens beside that of ``url``; empty = at none."""
    from midstream.serving.options import is_loopback

    port = url.rpartition(":")[2]
    if is_loopback(host):
        return ""
    if host in EVERYWHERE:
        return f"listening on {host}, port {port}: every address of this machine, also from outside"
    return f"listening on {host}, port {port}, also from outside"


def first_requests(ready: "Ready", folder: Path) -> "Iterator[str]":
    """Yield an event and a question to try, as lines that can be copied; before them what brings an example."""
    from midstream.app.server.first_requests import first_event, first_question

    example = first_item_of_example(folder)
    if ready.log_position == 0 and example:
        yield f"\nnothing is in the log yet; in another terminal:\n  midstream import {EXAMPLE}"
    elif ready.log_position == 0:
        yield "\nnothing is in the log yet; a file of events: midstream import FILE"
    event = first_event(ready.config, ready.item_id or example or "lamp", is_known=ready.item_id is not None)
    body = shlex.quote(msgspec.json.encode(event).decode())
    yield f"\nan event:\n  curl -s {ready.url}/v1/events -H '{JSON}' -d {body}"
    yield f"a recommendation:\n  curl -s '{ready.url}/v1/recommendations?{first_question(ready.placements)}'"


def first_item_of_example(folder: Path) -> str | None:
    """Return an item that the example knows; None where it is not there."""
    path = folder / EXAMPLE
    if not path.exists():
        return None
    with path.open("rb") as file:
        line = file.readline()
    try:
        return str(msgspec.json.decode(line, type=dict[str, object])["item_id"])
    except (msgspec.MsgspecError, KeyError):
        return None


def print_stopped(stopped: "Stopped | None", say: Callable[[str], None] = say) -> None:
    """Say what was saved; ``say`` gets what the log has as well. None = it was stopped at its start.

    Raises:
        typer.Exit: With 1, where it may not be there at the next start.
    """
    if stopped is None:
        out.print("stopped at its start; all that was acknowledged is in the log", markup=False)
        return
    counted = f"stopped at log position {stopped.log_position}: {stopped.recorded} events since the start"
    if not stopped.flaw:
        out.print(f"{counted}, all of them durable; the next start begins with {_start(stopped)}", markup=False)
    if stopped.mismatch:
        say(f"the last snapshot differs from the live state, which is a bug: {stopped.mismatch}")
    if stopped.flaw:
        say(f"{counted}; the next start may not find all that is in the log: {stopped.flaw}")
        raise typer.Exit(1)


def _start(stopped: "Stopped") -> str:
    """Return what the next start reads."""
    rest = stopped.log_position - stopped.snapshot_position
    if not stopped.snapshot_position:
        return f"the log, {rest} events"
    return f"the snapshot at {stopped.snapshot_position}" + (f" and {rest} events" if rest else "")
