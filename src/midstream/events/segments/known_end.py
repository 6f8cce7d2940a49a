"""Known durable end of a log by other files beside it: a log that ends before it has lost events.

A log that was cut at the end of a commit, or is gone, looks like a younger one, so nothing in it shows the loss. Every
file made of durable events has its log position, and that is the evidence.
"""

from dataclasses import dataclass
from pathlib import Path

from midstream.core.errors import LogIncomplete

PAGE = "/docs/data.md"


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """A log position before which all was durable once."""

    position: int = 0
    by: str = ""
    """The file with the position."""

    def require(self, folder: Path, end: int) -> None:
        """Raise unless a log reaches that far.

        Args:
            folder: Of the log.
            end: Position after its last sound event.

        Raises:
            LogIncomplete: It does not.
        """
        if end < self.position:
            came = f"the log ends at log position {end}; {self.by} was made of durable events up to {self.position}"
            raise LogIncomplete(incomplete(folder, came, f"events {end} to {self.position} are missing"))


def incomplete(where: Path, came: str, missing: str) -> str:
    """Return the message about an incomplete log, with its two remedies."""
    return (
        f"{where}: {came}, so {missing}. Nothing was changed. Restore a backup into an empty folder, or put back what "
        "was removed; `midstream doctor --repair` accepts the loss: the log goes on from where it ends, in a new "
        f"generation, and the snapshots of what is missing are set aside. {PAGE}"
    )
