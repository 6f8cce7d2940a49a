"""Openings of a hosted engine that fail."""

import asyncio

import pytest

from midstream.app.server.hosted_engine import HostedEngine
from midstream.core.errors import ConfigInvalid


def test_keys_that_cannot_be_read_keep_no_folder(tmp_path):
    """Once the file is mended, the same object opens the folder."""
    hosted = HostedEngine(tmp_path)
    keys = tmp_path / "data" / "keys.json"
    keys.parent.mkdir()
    keys.write_text("{")

    async def play():
        with pytest.raises(ConfigInvalid):
            async with hosted:
                pass
        keys.unlink()
        async with hosted:
            return hosted.is_open

    assert asyncio.run(play())
