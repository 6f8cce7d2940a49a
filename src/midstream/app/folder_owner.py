"""One owner of a data folder: the refusal of a second one, with what workers of a web server can do instead."""

from collections.abc import Generator
from contextlib import contextmanager

from midstream.core.errors import FolderLocked

RIGHT = (
    "A folder has one owner. A web server with the engine in its process runs one worker; several workers call "
    "midstream serve over HTTP: midstream docs tasks/web-frameworks"
)


@contextmanager
def one_owner() -> Generator[None]:
    """Open a folder in the block for a program that embeds the engine.

    Raises:
        FolderLocked: As in the block, with what is to be done.
    """
    try:
        yield
    except FolderLocked as error:
        message = f"{error}. {RIGHT}"
        raise FolderLocked(message) from error
