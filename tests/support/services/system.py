"""The contract of a system that tests start: how it is had, configured, started, asked and stopped."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Site:
    """The place of one server: its folder, its package and where it listens."""

    folder: Path
    """Configuration, data and log, of this server alone."""
    package: Path
    """What was fetched; only read."""
    host: str
    ports: Mapping[str, int]

    @property
    def data(self) -> Path:
        """The folder of its data, which only the server writes."""
        return self.folder / "data"

    def write(self, name: str, text: str) -> Path:
        """Write a file of configuration."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path


class Package(Protocol):
    """What a system is made of, pinned by hash in a lock file beside these modules."""

    @property
    def name(self) -> str:
        """The system's name."""
        ...

    @property
    def version(self) -> str:
        """The version that the lock names."""
        ...

    def find(self) -> Path:
        """Return its folder.

        Raises:
            Unavailable: It was not fetched.
        """
        ...

    def fetch(self) -> Path:
        """Bring it onto this machine unless it is there; return its folder.

        Raises:
            Unavailable: A client is missing, an artifact is not served, or a hash differs.
        """
        ...

    def lock(self) -> int:
        """Write its lock anew; return how many artifacts it has."""
        ...


class System(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def package(self) -> Package:
        """What it is made of."""
        ...

    @property
    def port_names(self) -> Sequence[str]:
        """Names of its ports, that of clients first."""
        ...

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that ends it in order."""
        ...

    def prepare(self, site: Site) -> None:
        """Write the configuration; make what a new folder needs.

        Raises:
            ServiceFault: A program that makes it failed.
        """
        ...

    def command(self, site: Site) -> list[str]:
        """Return program and arguments.

        Raises:
            Unavailable: What it runs on is missing.
        """
        ...

    def ask(self, site: Site) -> None:
        """Ask it as a client does.

        Raises:
            OSError: Nobody listens, or answers in time.
            NotReady: It answers, but not yet as it should.
        """
        ...
