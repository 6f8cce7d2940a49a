"""Creation of a tenant on the disk: folder, configuration, settings and first key, or nothing of them.

The folder is made beside those of the tenants and renamed into its place as the last step: a crash, a full disk or a
faulty configuration leaves no half of a tenant that the next start would open.
"""

import os
import shutil
import time
from errno import EEXIST, ENOTDIR, ENOTEMPTY
from pathlib import Path
from typing import Final

from midstream.app.access.key_wishes import key_wish
from midstream.app.drift_watch import baseline_of
from midstream.app.golden_files import require_golden
from midstream.app.inputs.services import require_secrets
from midstream.app.opening import DATA_NAME, config_of, service_of
from midstream.app.server.hosted_engine import require_hosted
from midstream.app.server.keys import watch_keys
from midstream.app.tenants.folders import TenantFile, TenantFolders
from midstream.app.tenants.sent_configuration import require_of_folder
from midstream.core.errors import Fault
from midstream.engine.folder import DataFolder
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder
from midstream.serving.access.key_file import KeyFile
from midstream.serving.http.problems import TenantConflict
from midstream.serving.tenants.types import PAGE, TenantWish

KEY_NAME: Final = "owner"
"""Of the first key of a created tenant."""
_MAKING: Final = "making"
"""Folder beside ``tenants`` where a tenant is made."""
_TAKEN: Final = frozenset((EEXIST, ENOTEMPTY, ENOTDIR))


def make_tenant(folders: TenantFolders, wish: TenantWish, who: str, *, is_sent: bool) -> str:
    """Make the folder of a tenant; return its first key. Any thread may call it, for a name one at a time.

    Args:
        folders: Of all tenants.
        wish: Name, configuration and quota.
        who: Made the key, for the list of keys.
        is_sent: Whether the configuration came over HTTP; such a one names nothing outside of its folder.

    Raises:
        ConfigInvalid: The configuration cannot be used; nothing was made.
        TenantConflict: Something has the name already.
        OSError: The disk; nothing was made.
    """
    place = folders.root / _MAKING / wish.name
    created_ms = time.time_ns() // 1_000_000
    try:
        shutil.rmtree(place, ignore_errors=True)  # of a crash
        folder = TenantFolders(place).create(
            wish.name, wish.configuration, TenantFile(created_ms=created_ms, quota=wish.quota)
        )
        key = KeyFile(folder / DATA_NAME).create(key_wish(KEY_NAME, ("admin",)), created_ms, who).key
        _check(folder, is_sent=is_sent)
        _put(folder, folders.of(wish.name))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return key


def _check(folder: Path, *, is_sent: bool) -> None:
    """Refuse a configuration that an opening of the folder would refuse, before any of its code is imported."""
    config = config_of(folder)
    if is_sent:
        require_of_folder(config)
    require_hosted(config.server)
    require_secrets(config.inputs)
    require_secrets(config.outputs, name="outputs")
    watch_keys(DataFolder(folder / DATA_NAME), identity=config.identity, is_closed=True)
    baseline_of(require_golden(config, folder), folder)
    service_of(folder, config, config.fold_settings())


def _put(folder: Path, target: Path) -> None:
    """Move a folder to its place, where nothing is yet: no folder, and no link either."""
    make_folder(target.parent)
    try:
        if os.path.lexists(target):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(target))
        folder.rename(target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        came = f'"{target.name}" is the name of a tenant, or of something else in the folder of tenants.'
        raise TenantConflict((Fault("/name", came, "Another name.", PAGE),)) from error
    RealDisk().sync_folder(target.parent)
