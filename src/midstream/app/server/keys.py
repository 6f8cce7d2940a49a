"""Keys of a data folder as a process that serves it watches them: by the machine's clocks."""

import time

from midstream.engine.folder import DataFolder
from midstream.integrations.identity_provider import IdentityProvider
from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.access.key_uses import KeyUses

NO_PROVIDER = IdentityOptions()


def watch_keys(
    data: DataFolder, process: str = "leader", *, identity: IdentityOptions = NO_PROVIDER, is_closed: bool = False
) -> KeyWatch:
    """Return the keys of a folder, which are read again when they change; ``process`` notes when they are used.

    With ``is_closed`` the server asks for keys already: a missing file opens nothing. Where tokens of an identity
    provider are taken, every caller needs a key or a token from the start: the file is made, with the key of commands.

    Raises:
        ConfigInvalid: The file of keys cannot be read.
        ExtraMissing: Tokens are to be taken, and what checks them is not installed.
    """
    file, uses = KeyFile(data.root), KeyUses(data.root, process)
    provider = IdentityProvider(identity, data.root.parent, time.monotonic, _wall_ms) if identity.is_on else None
    if provider is not None:
        file.require()
    tokens = None if provider is None else provider.identify
    return KeyWatch(file, time.monotonic, _wall_ms, uses, is_closed=is_closed, tokens=tokens)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
