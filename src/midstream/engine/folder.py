"""What lies where in a data folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The paths of one engine's data. One process at a time has it open."""

    root: Path

    @property
    def log(self) -> Path:
        """Segment files."""
        return self.root / "log"

    @property
    def snapshots(self) -> Path:
        """Snapshots of the state."""
        return self.root / "snapshots"

    @property
    def dead_letters(self) -> Path:
        """Rejected events with their reasons."""
        return self.root / "dead-letters.ndjson"

    def key(self, entropy: Callable[[int], bytes]) -> bytes:
        """Return the secret that tags request ids, made with ``entropy`` at the first start, readable by its owner."""
        path = self.root / "key"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(entropy(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        return path.read_bytes()
