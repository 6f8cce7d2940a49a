"""The real server with a log that has room for little and syncs slowly: ``python crowded_server.py serve …``."""

import runpy
import time

from midstream.engine.ingest import served_buffer, writer
from midstream.events import disk

QUEUE_EVENTS_MAX = 24
KEPT_EVENTS_MAX = 6
SYNC_S = 0.05


def crowd() -> None:
    """Let few events wait for the log, keep few served records beside them, and take long for each sync."""
    writer.QUEUE_EVENTS_MAX = QUEUE_EVENTS_MAX
    served_buffer.KEPT_EVENTS_MAX = KEPT_EVENTS_MAX
    served_buffer.LOT_EVENTS_MAX = 4
    sync = disk.RealDisk.sync

    def slowly(self: disk.RealDisk, file: int) -> None:
        time.sleep(SYNC_S)
        sync(self, file)

    disk.RealDisk.sync = slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    crowd()
    runpy.run_module("midstream", run_name="__main__")
