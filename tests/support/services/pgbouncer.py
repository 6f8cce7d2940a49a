"""PgBouncer in front of the PostgreSQL in the folder beside its own: a transaction gets any free session of a pool."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.debian import DebianPackage
from tests.support.services.faults import ServiceFault
from tests.support.services.postgresql import USER, as_other_user, run_query
from tests.support.services.system import Package, Site

PACKAGE = DebianPackage("pgbouncer", ("pgbouncer", "libevent-2.1-7", "libc-ares2"))


@dataclass(frozen=True)
class PgBouncer:
    """One pooler, with few sessions, so that clients meet in them."""

    name: str = "pgbouncer"
    package: Package = PACKAGE
    port_names: Sequence[str] = ("client",)
    stop_signal: signal.Signals = signal.SIGINT
    """Does not wait for clients to leave."""
    sessions: int = 2

    def prepare(self, site: Site) -> None:
        """Write its configuration."""
        ports = site.folder.parent / "postgresql" / "ports.json"
        if not ports.exists():
            message = "pgbouncer needs a postgresql, which was not started"
            raise ServiceFault(message)
        port = json.loads(ports.read_text("utf-8"))["client"]
        site.write(
            "pgbouncer.ini",
            "[databases]\n"
            f"* = host={site.host} port={port} user={USER}\n"
            "[pgbouncer]\n"
            f"listen_addr = {site.host}\n"
            f"listen_port = {site.ports['client']}\n"
            "unix_socket_dir =\n"
            "auth_type = any\n"
            "pool_mode = transaction\n"
            "log_connections = 0\n"
            "log_disconnections = 0\n"
            "log_pooler_errors = 0\n"
            f"default_pool_size = {self.sessions}\n",
        )

    def command(self, site: Site) -> list[str]:
        """Return the command of the pooler, with the libraries that came with it behind those of the machine."""
        libraries = ":".join(str(each) for each in site.package.glob("usr/lib/*-linux-gnu"))
        path = f"LD_LIBRARY_PATH={os.environ.get('LD_LIBRARY_PATH', '')}:{libraries}".replace("=:", "=")
        program = str(site.package / "usr" / "sbin" / "pgbouncer")
        return ["env", path, *as_other_user(), program, str(site.folder / "pgbouncer.ini")]

    def ask(self, site: Site) -> None:
        """Run a query through it."""
        run_query(site)
