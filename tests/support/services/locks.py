"""Lock files: one artifact a line, as coordinates and SHA-256, in pip's format. No address stands in them.

Where an artifact comes from is the affair of the client that fetches it; what it must be stands here.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.services.faults import Unavailable

LOCKS = Path(__file__).with_name("locks")
_STAMP = "lock.sha256"
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


def cache_folder() -> Path:
    """Return where packages are kept: ``$MIDSTREAM_SERVICES``, or a folder of the user's cache."""
    named = os.environ.get("MIDSTREAM_SERVICES")
    return Path(named).absolute() if named else Path.home() / ".cache" / "midstream-services"


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


def sha256_of(path: Path) -> str:
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def find(name: str) -> Path:
    """Return the folder of a package that was fetched by the lock as it is now.

    Raises:
        Unavailable: It was not.
    """
    folder = _folder(name)
    stamp = folder / _STAMP
    if not stamp.is_file() or stamp.read_text("ascii") != sha256_of(path_of(name)):
        message = f"{name} is not on this machine: scripts/services fetch {name} brings it"
        raise Unavailable(message)
    return folder


def fetch(name: str, bring: Callable[[Path], None]) -> Path:
    """Return the folder of a package; where it is missing, ``bring`` fills an empty one, which then takes its place.

    A fetch that was interrupted leaves nothing that is taken for a package.
    """
    try:
        return find(name)
    except Unavailable:
        folder = _folder(name)
    with _empty(folder.with_name(f"{name}.{os.getpid()}")) as made:
        bring(made)
        (made / _STAMP).write_text(sha256_of(path_of(name)), "ascii")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


@contextmanager
def _empty(folder: Path) -> Generator[Path]:
    """Give an empty folder, of which nothing stays unless it was moved."""
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder(name: str) -> Path:
    return cache_folder() / "packages" / name
