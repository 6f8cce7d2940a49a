"""Dead letters of a folder, and the erasure of those that name erased users, while events and requests continue."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from midstream.core.errors import Fault, Invalid
from midstream.engine.erasure.eraser import Forget
from midstream.engine.folder import DataFolder
from midstream.events.dead_letters.dead_letters import DeadLetters, files_of
from midstream.events.disk import Disk, RealDisk

ROUNDS_MAX = 3
"""In each of which 16 MiB of new letters came: then all else waits until it is done."""
_OVER = "over"


def letters_of(data: DataFolder, disk: Disk) -> DeadLetters:
    """Return the dead letters of a folder.

    Raises:
        Invalid: Their file cannot be read.
    """
    try:
        return DeadLetters(data.dead_letters, disk)
    except OSError as error:
        right = "A file that this user may read and write, or none."
        raise Invalid(
            (Fault(str(data.dead_letters), f"It cannot be read: {error}.", right, "/docs/data.md"),)
        ) from error


async def forget_in_pieces(letters: DeadLetters, user_ids: Sequence[str]) -> int:
    """Drop the letters that name an id, on other threads; what is added or sent again meanwhile is not lost.

    Returns:
        How many were dropped.

    Raises:
        OSError: A file could not be written; such letters may be there still.
    """
    there = letters.disk.list_folder(letters.path.parent)
    if not any(each.name in there for each in files_of(letters.path)):
        return 0
    for _ in range(ROUNDS_MAX):
        forgetting = letters.begin_forgetting(user_ids)
        pieces = forgetting.pieces()
        while await asyncio.to_thread(next, pieces, _OVER) != _OVER:
            pass
        if letters.end_forgetting(forgetting):
            await asyncio.to_thread(forgetting.secure)
            return len(forgetting.dropped)
    return letters.forget(user_ids)


def forgetting(path: Path) -> Forget:
    """Return what drops the letters that name erased users from files that nobody has open."""

    async def forget(user_ids: Sequence[str]) -> int:
        letters = await asyncio.to_thread(DeadLetters, path, RealDisk())
        try:
            return await forget_in_pieces(letters, user_ids)
        finally:
            letters.close()

    return forget
