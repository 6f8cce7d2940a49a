"""Snapshot publisher: copies the newest snapshot of a node to the shared place, in a child process.

An upload takes network and processor for as long as the state is large, so a child does it, as it does all such work.
One that fails is named in health and tried again, with the newest snapshot then.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from midstream.core.errors import StoreUnavailable
from midstream.engine import child_process
from midstream.engine.child_process import WorkOrder
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots import snapshots

CHILD = "midstream.app.replicas.publish_worker"
UPLOAD_BYTES = 6
"""Random, in the name of an upload: uploads of one position and version by a few nodes."""
LOOK_S = 2.0
"""Between two looks for a newer snapshot: reading the names of a folder."""
CHILD_S_MAX = 3_600
"""3 GB at 1 MB/s; a child that takes longer hangs."""


class PublishOrder(WorkOrder, frozen=True):
    """Order of the child."""

    snapshot: str
    """Name of the local snapshot."""
    address: str
    keep: int
    upload: str
    """Name of the upload, its own alone."""
    node: str = ""
    """Before it, and before the names of all uploads of this node; empty = what earlier ones left is not looked for."""


class PublishReport(msgspec.Struct, frozen=True):
    """Report of the child."""

    name: str
    bytes: int
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """Place of published snapshots, and their number."""

    address: str
    keep: int = 2
    node: str = ""
    """In the names of uploads: letters, digits and dashes, unlike those of other nodes."""


class SnapshotPublisher:
    """Background service of one node."""

    def __init__(
        self, engine: Engine, data: DataFolder, options: PublishOptions, entropy: Callable[[int], bytes]
    ) -> None:
        """Publish the snapshots of ``data``, of the fold version that ``engine`` has in service.

        Args:
            engine: Its health names what fails.
            data: Of the engine.
            options: Place and number.
            entropy: Names each upload.
        """
        self._entropy = entropy
        self._engine = engine
        self._data = data
        self._options = options
        self._published = ""
        self._service = engine.supervise("publish_snapshot", self.publish_newest, LOOK_S)

    @property
    def published(self) -> str:
        """Name of the newest snapshot that was published by this process, empty = none."""
        return self._published

    def start(self) -> None:
        """Begin to publish while serving."""
        self._service.start()

    async def stop(self) -> None:
        """Publish no more; a child at work is ended, and what it stored counts as nothing."""
        await self._service.stop()

    async def publish_newest(self) -> None:
        """Publish the newest snapshot, unless it was.

        Raises:
            StoreUnavailable: It could not be; the reason is the child's.
        """
        version = self._engine.fold.settings.version()
        names = [name for name in snapshots.names(self._data.snapshots) if snapshots.version_of(name) == version]
        if not names or names[0] == self._published:
            return
        kept, upload = self._options, self._entropy(UPLOAD_BYTES).hex()
        order = PublishOrder(str(self._data.root), names[0], kept.address, kept.keep, upload, kept.node)
        ended = await child_process.run(CHILD, order, time_s_max=CHILD_S_MAX)
        if not ended.line:
            message = f"{self._options.address}: snapshot {names[0]} was not published: {ended.reason}"
            raise StoreUnavailable(message)
        self._published = names[0]
