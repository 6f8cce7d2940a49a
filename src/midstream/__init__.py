"""midstream: a real-time recommendation engine. The next request sees the last click.

Example:
    >>> import tempfile, midstream
    >>> with tempfile.TemporaryDirectory() as folder, midstream.open(folder) as shop:
    ...     _ = shop.record([{"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}])
    ...     [item.id for item in shop.recommend(user_id="bob", n=5).items]
    ['mug']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from midstream.app.config import Config
    from midstream.engine.shop import Shop

__all__ = ["open"]


def open(folder: str | Path, config: Config | None = None) -> Shop:  # noqa: A001  read as ``midstream.open``
    """Open a folder for a program that embeds the engine; use what is returned in a ``with`` block.

    Args:
        folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it is not there.
        config: Instead of the file.

    Raises:
        ConfigInvalid: The configuration cannot be used; every fault is named.
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
    """
    # Here, because every module of the package imports this one first.
    from midstream.app.running import open_shop

    return open_shop(folder, config)
