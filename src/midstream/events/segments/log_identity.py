"""Identity of a log: a random id and the generation, in one small file that is replaced as a whole.

The id is drawn when the log is made, seeds every checksum in it and ties snapshots to it. The generation counts how
often history was rewritten, so that a log position given out before is not taken for one of now.

The id is a secret: the key under which ids of users and items are hashed follows from it, and who has that key makes
ids that are taken for each other.
"""

from hashlib import blake2b
from pathlib import Path

import msgspec
import xxhash

from midstream.core.errors import LogDamaged
from midstream.events.disk import Disk
from midstream.events.siphash import KEY_BYTES

IDENTITY_NAME = "log.json"
LOG_ID_BYTES = 16
_NAME_BYTES = 16
_BYTES_MAX = 1024
"""The file has about 130 bytes; more is not ours."""


class LogIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file, ids and checksums as hex digits."""

    log_id: str
    generation: int
    checksum: str = ""
    """xxh3-128 of the two before it."""

    @property
    def id_bytes(self) -> bytes:
        """The log id as it stands in a segment's opening."""
        return bytes.fromhex(self.log_id)

    @property
    def id_key(self) -> str:
        """The key of ids, 32 hex digits: the same wherever a copy of the log is, and through a rewrite and a repair."""
        return blake2b(self.id_bytes, digest_size=KEY_BYTES, person=b"midstream ids").hexdigest()

    @property
    def public_name(self) -> str:
        """Public name of the log, 32 hex digits: neither the id nor the key follows from it."""
        return blake2b(self.id_bytes, digest_size=_NAME_BYTES, person=b"midstream name").hexdigest()


def identity_of(log_id: bytes, generation: int) -> LogIdentity:
    """Return the identity with its checksum."""
    text = log_id.hex()
    return LogIdentity(text, generation, xxhash.xxh3_128_hexdigest(f"{text} {generation}".encode()))


def read_identity(folder: Path, disk: Disk) -> LogIdentity | None:
    """Return the identity of the log in a folder, or None when the file is not there.

    Raises:
        LogDamaged: The file is not exactly as it was written.
    """
    if IDENTITY_NAME not in disk.list_folder(folder):
        return None
    written = disk.read(folder / IDENTITY_NAME, 0, _BYTES_MAX)
    try:
        read = msgspec.json.decode(written, type=LogIdentity)
        known = identity_of(read.id_bytes, read.generation)
    except (msgspec.MsgspecError, ValueError) as error:
        raise LogDamaged(_damaged(folder)) from error
    if msgspec.json.encode(known) != written or len(known.id_bytes) != LOG_ID_BYTES:
        raise LogDamaged(_damaged(folder))
    return known


def write_identity(folder: Path, disk: Disk, identity: LogIdentity) -> None:
    """Replace the identity: afterwards, and whenever it fails, one of the two is whole."""
    fresh = folder / f"{IDENTITY_NAME}.new"
    file = disk.open(fresh)
    try:
        disk.truncate(file, 0)
        disk.write(file, [msgspec.json.encode(identity)], 0)
        disk.sync(file)
    finally:
        disk.close(file)
    disk.rename(fresh, folder / IDENTITY_NAME)
    disk.sync_folder(folder)


def _damaged(folder: Path) -> str:
    return (
        f"{folder / IDENTITY_NAME}: not as it was written, so no segment can be checked against it. "
        "Nothing was changed. `midstream doctor --repair` takes the id from the segments and raises the generation"
    )
