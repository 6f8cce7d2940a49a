"""Lock files: one artifact a line, as coordinates and SHA-256, in pip's format. No address stands in them.

Where an artifact comes from is the affair of the client that fetches it; what it must be stands here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).with_name("locks")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """One file that a package is made of."""

    coordinates: str
    """In the words of its client: ``group:name:type[:classifier]:version``, or ``name==version``."""
    sha256: str

    def line(self) -> str:
        """Write it as pip does."""
        return f"{self.coordinates} --hash=sha256:{self.sha256}\n"


def path_of(name: str) -> Path:
    """Return the path of a package's lock."""
    return LOCKS / f"{name}.lock"


def read_lock(name: str) -> list[Artifact]:
    """Read the lock of a package."""
    lines = path_of(name).read_text("utf-8").splitlines()
    split = (line.split(" --hash=sha256:") for line in lines if line and not line.startswith("#"))
    return [Artifact(coordinates, sha256) for coordinates, sha256 in split]


def write_lock(name: str, artifacts: Iterable[Artifact]) -> int:
    """Write the lock of a package; return how many artifacts it has."""
    lines = sorted(each.line() for each in artifacts)
    path_of(name).write_text(f"# Made by scripts/services lock {name}.\n{''.join(lines)}", "utf-8")
    return len(lines)


def key_of(name: str) -> str:
    """Return what changes with the lock of a package."""
    return sha256_of(path_of(name))


def sha256_of(path: Path) -> str:
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
