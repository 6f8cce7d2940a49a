"""Keys of a data folder as a process that serves it watches them: by the machine's clocks."""

import time

from midstream.engine.folder import DataFolder
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch


def watch_keys(data: DataFolder) -> KeyWatch:
    """Return the keys of a folder, which are read again when they change.

    Raises:
        ConfigInvalid: The file of keys cannot be read.
    """
    return KeyWatch(KeyFile(data.root), time.monotonic, lambda: time.time_ns() // 1_000_000)
