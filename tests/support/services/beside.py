"""Systems that are libraries in folders beside ``.venv``: their versions, and how far they are tested."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.libraries import missing
from tests.support.services.record import note

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class BesideLibrary:
    """A package with a lock and a folder of its own."""

    name: str
    """Of its lock, its folder and its row."""
    how: str = "server-tested"
    """How far its tests go."""
    package: str = ""
    """In the lock; empty = of that name too."""

    @property
    def folder(self) -> Path:
        """Where scripts/test-integrations installs it."""
        return ROOT / f".venv-{self.name}"

    def locked(self, root: Path = ROOT) -> str:
        """Return the version in its lock; empty = there is none."""
        lock = root / "scripts" / f"{self.name}.lock"
        found = (
            re.search(rf"^{self.package or self.name}==(\S+)", lock.read_text("utf-8"), re.MULTILINE)
            if lock.exists()
            else None
        )
        return found[1] if found else ""

    def required(self) -> Path:
        """Return its folder, and say that the test under way is given it; skip where it is not, in CI fail."""
        found = [each.name for each in self.folder.glob(f"{self.name}-*.dist-info")]
        if not found:
            missing(f"{self.name} is not installed; scripts/test-integrations installs it")
        note(self.name, found[0].removeprefix(f"{self.name}-").removesuffix(".dist-info"))
        return self.folder


FEAST = BesideLibrary("feast")
BESIDE: Mapping[str, BesideLibrary] = {
    each.name: each
    for each in (FEAST, BesideLibrary("hopsworks", "contract-tested"), BesideLibrary("spark", package="pyspark"))
}
"""Those with a row, by name."""
