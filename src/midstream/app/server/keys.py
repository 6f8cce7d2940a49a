"""Keys of a data folder as a process that serves it watches them: by the machine's clocks."""

import time

from midstream.engine.folder import DataFolder
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.access.key_uses import KeyUses


def watch_keys(data: DataFolder, process: str = "leader", *, is_closed: bool = False) -> KeyWatch:
    """Return the keys of a folder, which are read again when they change; ``process`` notes when they are used.

    With ``is_closed`` the server asks for keys already: a missing file opens nothing.

    Raises:
        ConfigInvalid: The file of keys cannot be read.
    """
    uses = KeyUses(data.root, process)
    return KeyWatch(KeyFile(data.root), time.monotonic, lambda: time.time_ns() // 1_000_000, uses, is_closed=is_closed)
