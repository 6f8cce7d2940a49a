"""The versions that are compared: this tree, and the files of another revision in a folder of their own.

Both run under the Python and the libraries of this tree's environment, with the same programs of measuring; only the
package differs. A revision is unpacked once and kept, so that its machine code is compiled once.
"""

import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import cache

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Checkout:
    """One version."""

    name: str
    revision: str
    """Its hash, with ``+`` where the tree has changes beside it."""
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of a child that runs this version's package, with its bytecode kept, whatever the environment here says."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        places = (self.root / "src", ROOT / "benchmarks", ROOT)
        bytecode = cache.cache_folder() / "bytecode"
        return {**kept, "PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONPYCACHEPREFIX": str(bytecode)}


def here() -> Checkout:
    """Return this tree."""
    changed = "+" if git("status", "--porcelain", "--untracked-files=no").strip() else ""
    return Checkout("here", git("rev-parse", "HEAD").strip() + changed, ROOT)


def of(name: str) -> Checkout:
    """Return a revision, unpacked beside the fetched servers.

    Raises:
        subprocess.CalledProcessError: There is no such revision.
    """
    revision = git("rev-parse", "--verify", f"{name}^{{commit}}").strip()

    def unpack(folder: Path) -> None:
        packed = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")

    return Checkout(name, revision, cache.fetch(f"bench-{revision[:12]}", revision, unpack))


def locks_differ(one: Checkout, other: Checkout) -> bool:
    """Return whether two versions name different libraries."""
    found = [hashlib.sha256((each.root / "requirements.lock").read_bytes()).digest() for each in (one, other)]
    return found[0] != found[1]


def git(*words: str) -> str:
    """Return what git says of this tree; nothing where it is no checkout of git but a folder of files."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
