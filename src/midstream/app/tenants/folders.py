"""Layout of a folder of tenants: one whole shop folder for each tenant, and what belongs to the root.

``tenants/NAME`` is a shop as ``midstream serve`` alone would open it, with ``tenant.json`` beside its configuration:
whether it is suspended, and its quota. There is no register to keep in step with the folders; a shop that is copied
here is a tenant at the next start. A deleted tenant is renamed into ``trash`` at once, and removed from there.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from midstream.app.opening import CONFIG_NAME, DATA_NAME
from midstream.core.errors import ConfigInvalid, Fault
from midstream.events.disk import RealDisk
from midstream.events.file_modes import give_folder, keep_owner, make_folder
from midstream.events.whole_file import WholeFile
from midstream.serving.tenants.types import NAME, PAGE, TenantQuota

TENANTS_MAX: Final = 1_000
"""Folders that are listed: a start opens one after another, 0.2 s each."""
_FILE_NAME: Final = "tenant.json"


class TenantFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of ``tenant.json``."""

    created_ms: int = 0
    """0 = not known: the folder was put here by hand."""
    is_suspended: bool = False
    reason: str = ""
    """Of the suspension."""
    quota: TenantQuota = TenantQuota()


_decode = msgspec.json.Decoder(TenantFile).decode


@dataclass(frozen=True, slots=True)
class TenantFolders:
    """Paths below the folder of all tenants."""

    root: Path

    @property
    def data(self) -> Path:
        """API keys of the root, its lock, its address and its audit."""
        return self.root / DATA_NAME

    @property
    def audit(self) -> Path:
        """Changes of tenants, one JSON object a line."""
        return self.data / "audit.ndjson"

    @property
    def exports(self) -> Path:
        """Archives of tenants."""
        return self.root / "exports"

    @property
    def trash(self) -> Path:
        """Folders of deleted tenants until they are removed."""
        return self.root / "trash"

    def of(self, name: str) -> Path:
        """Return the shop folder of a tenant."""
        return self.root / "tenants" / name

    def names(self) -> list[str]:
        """Return the names of all tenants in order.

        Raises:
            ConfigInvalid: There are more than may be.
        """
        folder = self.root / "tenants"
        entries = folder.iterdir() if folder.is_dir() else ()
        found = sorted(each.name for each in entries if each.is_dir() and NAME.fullmatch(each.name))
        if len(found) > TENANTS_MAX:
            came = f"{len(found):,} tenants are there."
            raise ConfigInvalid((Fault(str(folder), came, f"At most {TENANTS_MAX:,} a server.", PAGE),))
        return found

    def read(self, name: str) -> TenantFile:
        """Return the settings of a tenant; the defaults without a file.

        Raises:
            ConfigInvalid: Its content is no settings.
            OSError: The disk, or the file is another user's.
        """
        path = self.of(name) / _FILE_NAME
        try:
            return _decode(path.read_bytes())
        except FileNotFoundError:
            return TenantFile()
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            right = "The file of a backup; without one remove it, and suspend the tenant or set its quota again."
            raise ConfigInvalid((Fault(str(path), f"It cannot be read: {error}.", right, PAGE),)) from error

    def write(self, name: str, content: TenantFile) -> None:
        """Replace the settings of a tenant; the file belongs to the owner of the folder.

        Raises:
            OSError: The disk.
        """
        path = self.of(name) / _FILE_NAME
        with WholeFile(path) as file:
            keep_owner(file.fileno(), path)
            file.write(msgspec.json.format(msgspec.json.encode(content)))

    def create(self, name: str, configuration: str, content: TenantFile) -> Path:
        """Make the folder of a tenant and return it.

        Raises:
            FileExistsError: It is there already.
            OSError: The disk.
        """
        folder = self.of(name)
        make_folder(folder.parent)
        folder.mkdir()
        give_folder(folder)
        if configuration:
            (folder / CONFIG_NAME).write_text(configuration, "utf-8")
        self.write(name, content)
        return folder

    def discard(self, name: str, now_ms: int) -> Path:
        """Take the folder of a tenant out of service and return where it is now; a crash leaves it there.

        Raises:
            OSError: The disk.
        """
        make_folder(self.trash)
        gone = self.trash / f"{name}-{now_ms}"
        self.of(name).rename(gone)
        RealDisk().sync_folder(self.of(name).parent)
        return gone

    def trashed(self) -> list[Path]:
        """Return what lies in the trash.

        Raises:
            OSError: The disk.
        """
        return sorted(self.trash.iterdir()) if self.trash.is_dir() else []

    def empty_trash(self) -> dict[Path, OSError]:
        """Remove what lies in the trash; return what could not be removed.

        Raises:
            OSError: The trash itself cannot be read.
        """
        failures: dict[Path, OSError] = {}
        for each in self.trashed():
            try:
                remove(each)
            except OSError as error:
                failures[each] = error
        return failures


def remove(path: Path) -> None:
    """Remove a folder with all it has, a file, or a link, but not what that points at.

    Raises:
        OSError: The disk.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
