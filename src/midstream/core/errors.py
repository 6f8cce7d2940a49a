"""Every expected failure, on one screen.

Each says where, what came, what would be right, and on which page to read more. Anything else that is raised is a
bug and ends the task loudly.
"""

from dataclasses import dataclass

DOCUMENTATION_PATH = "/docs/"
"""Path below which a server answers with the pages of the documentation."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with what a caller sent or wrote, in four parts."""

    where: str
    """A pointer into what came: ``$.placements[0].filter``, ``/events/3/item_id``, ``line 17``."""
    came: str
    right: str
    page: str
    """Address of a page on any server, relative to its root: ``/docs/events.md``, ``/docs/models.md#registry``."""

    def __str__(self) -> str:
        """Return the four parts as text of four lines at most."""
        return f"{self.where}\n  {self.came}\n  {self.right}\n  {docs_command(self.page)}"


def docs_command(page: str) -> str:
    """Return the command that prints a page, for readers who have no server to open its address at.

    Example:
        >>> docs_command("/docs/models.md#registry")
        'midstream docs models#registry'
    """
    if not page.startswith(DOCUMENTATION_PATH):
        return page
    return f"midstream docs {page.removeprefix(DOCUMENTATION_PATH).replace('.md', '', 1)}"


class MidstreamError(Exception):
    """Something the caller can act on; anything else is a bug and ends the task."""


class SourceUnavailable(MidstreamError):
    """A source cannot propose now."""


class ModelUnavailable(MidstreamError):
    """No loaded artifact of that name and type."""


class ArtifactInvalid(MidstreamError):
    """Files of a model that are damaged, or not what their manifest says; the version in service stays."""


class ArtifactTooLarge(ArtifactInvalid):
    """A version of a model with more bytes than may be; nothing was read of it, and the version in service stays."""


class FitStopped(MidstreamError):
    """A training was asked to stop, or came to the end of its time or memory; nothing was published."""


class ExtraMissing(MidstreamError):
    """A library that belongs to an extra is not installed; the text says which extra brings it."""


class TableMissing(MidstreamError):
    """No table of that type is folded."""


class ScoresUnavailable(MidstreamError):
    """A scorer cannot answer now."""


class LogDamaged(MidstreamError):
    """Bytes in the middle of the log do not match their checksum."""


class LogIncomplete(LogDamaged):
    """The log is gone, or ends before what other files of the data folder say was durable."""


class LogRewritten(MidstreamError):
    """Another writing of the log took the place of the one that was being read; read again from the beginning."""


class LogUnreadable(MidstreamError):
    """The log is sound, and written by a version of the program whose events this one does not read."""


class EventsGone(MidstreamError):
    """Events from before the oldest that retention kept are asked for."""


class AppendFailed(MidstreamError):
    """The log could not be made durable, and takes nothing more until it is opened anew."""


class DiskFull(AppendFailed):
    """No room for the frame; nothing of it was kept, and the next append may succeed."""


class CommitTooSlow(MidstreamError):
    """The events were not durable and applied in time; they may be later."""


class FolderLocked(MidstreamError):
    """Another process holds the data folder."""


class SnapshotInvalid(MidstreamError):
    """A snapshot does not match its manifest, or belongs to another log or fold version."""


class RebuildFailed(MidstreamError):
    """Another state could not be made or loaded; the one in service stays."""


class RewriteFailed(MidstreamError):
    """The log could not be written anew; the one in use stays."""


class ExplanationFailed(MidstreamError):
    """A logged request could not be run again to its end; nothing depends on it."""


class ErasureRunning(MidstreamError):
    """A rewrite of the log is under way; there is one at a time."""


class RebuildRunning(MidstreamError):
    """A rebuild is under way; there is one at a time."""


class StoreUnavailable(MidstreamError):
    """The online store did not answer in time."""


class ShapeMismatch(MidstreamError):
    """A component returned another number of rows than it was given."""


class FeatureFailed(MidstreamError):
    """A feature cannot be read, and what was asked for is nothing without it; what was raised there is the cause."""

    def __init__(self, message: str, parts: tuple[str, ...] = ()) -> None:
        """Keep the names of the parts that failed, as they stand in answers and metrics."""
        super().__init__(message)
        self.parts = parts


class NotFound(MidstreamError):
    """Nothing of that name or id is known."""


class Invalid(MidstreamError):
    """What came cannot be used; every fault found is named."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        """Keep the faults; the text is all of them, one after another."""
        super().__init__()
        self.tell(faults)

    def tell(self, faults: tuple[Fault, ...]) -> None:
        """Say these faults, once more of them are known."""
        self.args = ("\n".join(str(fault) for fault in faults),)
        self.faults = faults


class ItemUnknown(Invalid, NotFound):
    """A request is about an item that is not known, or was deleted."""


class ModelUnfit(Invalid, ArtifactInvalid):
    """A sound version of a model that a placement which names it could not use; the version in service stays."""


class ConfigInvalid(Invalid):
    """The configuration cannot be used."""


class AddressUnavailable(Invalid):
    """A server cannot listen where it is to: the port is another's, or the address is not of this machine."""


class ServerMismatch(Invalid, StoreUnavailable):
    """Who answers at a server's address is not that server, or nobody answers although its process is there."""


class PlacementChanged(Invalid):
    """Somebody changed the placement after the version that the caller looked at; nothing was changed now."""


class RequestInvalid(Invalid):
    """A request cannot be answered as it was asked."""


class TooLarge(Invalid):
    """More was sent than one request may hold."""


class Overloaded(MidstreamError):
    """A queue is at its maximum; the caller may try again later."""


class ErasuresFull(Overloaded):
    """As many erased ids as may wait for the log to be rewritten; the caller may try again when it was."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        """Keep the seconds until there is room."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
