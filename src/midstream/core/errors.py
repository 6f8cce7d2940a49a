"""Expected errors: subclasses of ``MidstreamError``, on one screen.

Each names where the error is, what came, what would be right, and the page to read. Any other exception is a bug and
ends the task loudly.
"""

from dataclasses import dataclass

DOCUMENTATION_PATH = "/docs/"
"""Path below which a server answers with the pages of the documentation."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in what a caller sent or wrote, in four parts."""

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
    """Expected error, on which the caller can act; any other exception is a bug and ends the task."""


class SourceUnavailable(MidstreamError):
    """A source cannot propose now."""


class ModelUnavailable(MidstreamError):
    """No loaded artifact of that name and type."""


class ArtifactInvalid(MidstreamError):
    """Files of a model are damaged or do not match their manifest; the version in service stays."""


class ArtifactTooLarge(ArtifactInvalid):
    """A version of a model exceeds the maximum of bytes; none of it was read, and the version in service stays."""


class FitStopped(MidstreamError):
    """A training was cancelled, or reached its limit of time or memory; nothing was published."""


class ExtraMissing(MidstreamError):
    """A library that belongs to an extra is not installed; the text says which extra brings it."""


class TableMissing(MidstreamError):
    """No table of that type is folded."""


class ScoresUnavailable(MidstreamError):
    """A scorer cannot answer now."""


class LogDamaged(MidstreamError):
    """Bytes in the middle of the log do not match their checksum."""


class LogIncomplete(LogDamaged):
    """The log is missing, or ends before the durable position that other files of the data folder record."""


class LogRewritten(MidstreamError):
    """The log was rewritten while it was read; the reader has to begin again."""


class LogUnreadable(MidstreamError):
    """The log is sound, but a version of the program wrote it whose events this version does not read."""


class EventsGone(MidstreamError):
    """The requested events are older than the oldest event that retention kept."""


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
    """A new state could not be built or loaded; the state in service stays."""


class RewriteFailed(MidstreamError):
    """The log could not be rewritten; the log in use stays."""


class ExplanationFailed(MidstreamError):
    """The rerun of a logged request did not finish; nothing else depends on it."""


class ErasureRunning(MidstreamError):
    """A rewrite of the log is under way; there is one at a time."""


class RebuildRunning(MidstreamError):
    """A rebuild is under way; there is one at a time."""


class StoreUnavailable(MidstreamError):
    """The online store did not answer in time."""


class ShapeMismatch(MidstreamError):
    """A component returned another number of rows than it was given."""


class FeatureFailed(MidstreamError):
    """A feature cannot be read, and the result depends on it; ``__cause__`` is the original exception."""

    def __init__(self, message: str, parts: tuple[str, ...] = ()) -> None:
        """Keep the names of the parts that failed, as they stand in answers and metrics."""
        super().__init__(message)
        self.parts = parts


class NotFound(MidstreamError):
    """The name or id is unknown."""


class Invalid(MidstreamError):
    """Input that cannot be used, with every fault that was found."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        """Keep the faults; the text is all of them, one after another."""
        super().__init__()
        self.tell(faults)

    def tell(self, faults: tuple[Fault, ...]) -> None:
        """Replace the faults, after more of them are known."""
        self.args = ("\n".join(str(fault) for fault in faults),)
        self.faults = faults


class ItemUnknown(Invalid, NotFound):
    """A request is about an item that is not known, or was deleted."""


class ActUnknown(Invalid, NotFound):
    """No such act of a user is in the log, as far as it was searched."""


class ModelUnfit(Invalid, ArtifactInvalid):
    """A sound version of a model does not fit a placement that names the model; the version in service stays."""


class ConfigInvalid(Invalid):
    """The configuration cannot be used."""


class KeysUnreadable(ConfigInvalid):
    """The file of API keys cannot be read: damaged, or another user's. The keys that were read before hold."""


class AddressUnavailable(Invalid):
    """A server cannot listen at its address: another process has the port, or the address is not of this machine."""


class ServerMismatch(Invalid, StoreUnavailable):
    """Another server answers at the address, or no server answers although its process is running."""


class PlacementChanged(Invalid):
    """The placement changed after the version that the caller read; this change was not applied."""


class RequestInvalid(Invalid):
    """A request cannot be answered as it was asked."""


class TooLarge(Invalid):
    """A request exceeds a maximum size."""


class Overloaded(MidstreamError):
    """A queue is at its maximum; the caller may try again later."""


class ErasuresFull(Overloaded):
    """The maximum number of erased ids waits for a rewrite of the log; the caller may try again after it."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        """Keep the seconds until there is room."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
