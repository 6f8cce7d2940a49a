"""Packages of this machine's release of Debian, unpacked beside it: nothing is installed, no service is started.

They have no lock: a release takes back a version when the next one mends it, and apt proves what it brings by the
release's own signature.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import cache
from tests.support.services.faults import Unavailable

RUN_S_MAX = 600


@dataclass(frozen=True)
class DebianPackage:
    """A program and the libraries that a machine may lack."""

    name: str
    packages: Sequence[str]
    version: str = "of Debian"

    def find(self) -> Path:
        """Return its folder."""
        return cache.find(self.name, self._key)

    def fetch(self) -> Path:
        """Bring the packages, unless they are there."""
        return cache.fetch(self.name, self._key, self._bring)

    def lock(self) -> int:
        """Leave it to the release."""
        return 0

    @property
    def _key(self) -> str:
        return hashlib.sha256(" ".join(self.packages).encode()).hexdigest()

    def _bring(self, folder: Path) -> None:
        if shutil.which("apt-get") is None:
            message = f"{self.name} comes from Debian, and this machine has no apt-get"
            raise Unavailable(message)
        download = ["apt-get", "download", "--quiet", *self.packages]
        if _run(download, folder).returncode and os.geteuid() == 0:
            _run(["apt-get", "update", "--quiet"], folder)  # a machine that is new knows no package
        if not list(folder.glob("*.deb")) and (ran := _run(download, folder)).returncode:
            message = f"apt-get failed:\n{ran.stderr[-2_000:]}"
            raise Unavailable(message)
        for each in folder.glob("*.deb"):
            unpacked = _run(["dpkg-deb", "--extract", str(each), str(folder)], folder)
            if unpacked.returncode:
                message = f"dpkg-deb failed:\n{unpacked.stderr[-2_000:]}"
                raise Unavailable(message)
            each.unlink()


PROMETHEUS = DebianPackage("prometheus", ("prometheus",))
"""With promtool, which tests rules; its daemon is not started."""
NGINX = DebianPackage("nginx", ("nginx",))
CADDY = DebianPackage("caddy", ("caddy",))


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
