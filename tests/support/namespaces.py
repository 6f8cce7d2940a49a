"""Network of namespaces on one machine: a bridge, and for each member a namespace with a link that tests cut.

Needs root and ``ip netns``. Names begin with the id of the process that made them; what a killed process left is
removed by the next one.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.libraries import missing

_PREFIX = "ms"
_COMMAND_S_MAX = 30
_SUBNET = "10.213.{}."
"""A private range that few machines use; the third number follows from the process."""


def _ip(*words: str, check: bool = True) -> str:
    ran = subprocess.run(
        ["ip", *words], capture_output=True, text=True, timeout=_COMMAND_S_MAX, check=False, stdin=subprocess.DEVNULL
    )
    if check and ran.returncode:
        message = f"ip {' '.join(words)}: {ran.stderr.strip()}"
        raise OSError(message)
    return ran.stdout


def require_namespaces() -> None:
    """Skip a test where namespaces cannot be had; it fails in CI."""
    if os.geteuid() or not shutil.which("ip"):
        missing("network namespaces need root and `ip netns`")
    try:
        _remove_left()
        name = f"{_PREFIX}{os.getpid()}-try"
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except OSError as error:
        missing(f"network namespaces cannot be made here: {error}")


def _remove_left() -> None:
    """Remove what processes left that are gone."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _ip("netns", "del", name, check=False)
    for path in Path("/sys/class/net").glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX)
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _ip("link", "del", path.name, check=False)


@dataclass(frozen=True)
class Member:
    """One machine of the network."""

    namespace: str
    link: str
    """Its end of the cable on the bridge's side."""
    address: str

    def command(self, *words: str) -> list[str]:
        """Return a command that runs inside; its process id is that of the program."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def cut(self) -> None:
        """Take its link down: nothing gets in or out, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def heal(self) -> None:
        """Take its link up."""
        _ip("link", "set", self.link, "up")


@dataclass
class Network:
    """A bridge and its members, removed at the end of a ``with`` block. This machine has an address in it as well."""

    names: Sequence[str]
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    _undo: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Make it."""
        pid = os.getpid()
        bridge, subnet = f"{_PREFIX}{pid}", _SUBNET.format(pid % 250)
        with ExitStack() as undo:
            _ip("link", "add", bridge, "type", "bridge")
            undo.callback(_ip, "link", "del", bridge, check=False)
            _ip("addr", "add", f"{subnet}254/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            for number, name in enumerate(self.names, start=1):
                self.members[name] = self._member(undo, bridge, number, f"{subnet}{number}")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self._undo.close()

    def _member(self, undo: ExitStack, bridge: str, number: int, address: str) -> Member:
        namespace, link = f"{bridge}-{number}", f"v{os.getpid()}n{number}"
        _ip("netns", "add", namespace)
        undo.callback(_ip, "netns", "del", namespace, check=False)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", bridge)
        _ip("link", "set", link, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        return Member(namespace, link, address)
