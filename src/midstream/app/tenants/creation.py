"""Creation of a tenant on the disk: folder, configuration, settings and first key, or nothing of them."""

import shutil
import time
from typing import Final

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key
from midstream.app.config.reader import read_config
from midstream.app.opening import CONFIG_NAME
from midstream.app.tenants.folders import TenantFile, TenantFolders
from midstream.core.errors import MidstreamError
from midstream.serving.tenants.types import TenantWish

KEY_NAME: Final = "owner"
"""Of the first key of a created tenant."""


def make_tenant(folders: TenantFolders, wish: TenantWish) -> str:
    """Make the folder of a tenant; return its first key. Any thread may call it.

    Raises:
        ConfigInvalid: The configuration cannot be used; nothing was made.
        FileExistsError: The folder is there already.
        OSError: The disk.
    """
    created_ms = time.time_ns() // 1_000_000
    folder = folders.create(wish.name, wish.configuration, TenantFile(created_ms=created_ms, quota=wish.quota))
    try:
        if wish.configuration:
            read_config(folder / CONFIG_NAME)
        return create_key(folder, key_wish(KEY_NAME, ("admin",))).key
    except MidstreamError:
        shutil.rmtree(folder)
        raise
