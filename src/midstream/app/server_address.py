"""Address file of a data folder's server: a small file beside the lock, while the server runs.

With it ``midstream import`` in another terminal finds the server that has the folder open and sends through it. Only
the holder of the folder's lock writes or removes it. A killed server leaves it behind, and then the address may be
another server's. So the name of the log and the process are compared with those at the address before anything is sent.
"""

import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self

import msgspec

from midstream.app.machine_user import machine_user
from midstream.core.errors import Fault, LogDamaged, ServerMismatch
from midstream.engine.folder import DataFolder
from midstream.engine.types import Liveness
from midstream.events.disk import RealDisk
from midstream.events.file_modes import open_file
from midstream.events.processes.process_ids import is_running
from midstream.events.segments.log_identity import read_identity
from midstream.serving.access.key_file import operator_key

PAGE = "/docs/cli.md"
KEY_VARIABLE = "MIDSTREAM_KEY"
"""Environment variable with the API key for a server that is named by its URL."""
ANSWER_S_MAX = 60.0
"""As long as for the request that follows: an overloaded server answers this as fast as it can."""
_NAME = "server.url"
_CHARS_MAX = 1_000
_LINES = 3


class Address(msgspec.Struct, frozen=True):
    """Address of a server, and the identity to compare."""

    url: str
    log: str
    """Public name of its log."""
    pid: int
    """The process that has the folder open."""


def read_address(data: Path) -> Address | None:
    """Return the address that was published, None when there is none. It may be of a server that died."""
    try:
        lines = (data / _NAME).read_text("ascii")[:_CHARS_MAX].split()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if len(lines) != _LINES or not lines[0].startswith("http://") or not lines[2].isdecimal():
        return None
    return Address(lines[0], lines[1], int(lines[2]))


def publish(data: Path, address: Address) -> None:
    """Write the address down, whole or not at all, for the eyes of its owner."""
    fresh = data / f"{_NAME}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(open_file(fresh, os.O_WRONLY | os.O_EXCL), "w", encoding="ascii") as file:
        file.write(f"{address.url}\n{address.log}\n{address.pid}\n")
    fresh.rename(data / _NAME)


def withdraw(data: Path) -> None:
    """Take the address away."""
    (data / _NAME).unlink(missing_ok=True)


class FolderServerUrl(str):
    """URL of a folder's server, with the headers by which commands of this machine are let in."""

    __slots__ = ("headers",)
    headers: Mapping[str, str]

    def __new__(cls, url: str, key: str) -> Self:
        """Return the URL of a server that asks for ``key``; empty = it asks for none."""
        made = super().__new__(cls, url)
        made.headers = {"midstream-user": machine_user(), **({"authorization": f"Bearer {key}"} if key else {})}
        return made


def server_headers(url: str) -> Mapping[str, str]:
    """Return the headers for requests to a server: for one that was named by its URL, the key of the environment."""
    if isinstance(url, FolderServerUrl):
        return url.headers
    key = os.environ.get(KEY_VARIABLE, "")
    return {"authorization": f"Bearer {key}"} if key else {}


def server_of(data: DataFolder) -> FolderServerUrl | None:
    """Return the URL of the server that has a folder open, after comparing its identity; None = there is none.

    Every command that sends through a server calls this first.

    Raises:
        ConfigInvalid: The file of API keys cannot be read.
        ServerMismatch: Another server answers at the address, or none, although its process exists. Nothing was sent.
    """
    address = read_address(data.root)
    if address is None:
        return None
    wanted = Liveness("live", _name_of(data) or address.log, address.pid)
    came = _said_at(address.url, wanted)
    if not came:
        key = operator_key(data.root)
        # What /health/live says is public: a program at the port of a killed server can say it too.
        return FolderServerUrl(address.url, key) if not key or is_running(address.pid) else None
    if not is_running(address.pid):
        return None
    right = (
        f"The server of {data.root.parent}: log {wanted.log}, process {wanted.pid}. If that one is gone, remove "
        f"{data.root / _NAME} and try again; if it listens elsewhere now, start it anew."
    )
    raise ServerMismatch((Fault(f"{data.root / _NAME}", came, right, PAGE),))


def _said_at(url: str, wanted: Liveness) -> str:
    """Return what is wrong with who answers at an address; empty = it is the wanted one."""
    import httpx

    try:
        answer = httpx.get(f"{url}/health/live", timeout=ANSWER_S_MAX)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        return f"{url} does not answer: {error}."
    try:
        told = msgspec.json.decode(answer.content, type=Liveness) if answer.status_code == HTTPStatus.OK else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = None
    if told is None:
        return f"{url} answers {answer.status_code}, and not as a server of midstream does."
    if told != wanted:
        return f"{url} is the server of another folder: log {told.log or 'unknown'}, process {told.pid}."
    return ""


def _name_of(data: DataFolder) -> str:
    """Return the public name of a folder's log; empty = there is none, or it cannot be read."""
    try:
        identity = read_identity(data.log, RealDisk())
    except LogDamaged:
        return ""
    return "" if identity is None else identity.public_name
