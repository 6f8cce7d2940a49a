"""The disk of a simulated machine: real files, and beside them what of those a power loss would leave.

The files are those that everything else (snapshots, history, a child) reads by itself; each is what the page cache
would show. A forgetful disk follows every call and knows what is durable. When the power goes, the files are made what
one of its crash states says. One ``SimulatedDisk`` belongs to one process: when that dies its calls do nothing more.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from midstream.events.disk import Bytes, RealDisk
from tests.support.dice import Dice
from tests.support.disks import ForgetfulDisk
from tests.support.fuzz.weather import Spell, Weather


class PowerOut(BaseException):
    """The process that makes this call is dead. No handler of the engine is to see it as a failure of the disk."""


@dataclass(slots=True)
class Machine:
    """What outlives a process: the files and what of them is durable."""

    dice: Dice
    weather: Weather
    shadow: ForgetfulDisk = field(default_factory=lambda: ForgetfulDisk(records=False))

    def lose_power(self) -> None:
        """Leave of every file that is written through a disk what a power loss may leave."""
        before = self.shadow.contents()
        self.shadow = self.shadow.power_loss(self.dice.below)
        left = self.shadow.contents()
        for path in before.keys() | left.keys():
            if not path.parent.is_dir():
                continue  # removed with all that was in it, as the log before a rewrite is
            if path in left and (path.exists() or path not in before):
                path.write_bytes(left[path])
            elif path not in left:
                path.unlink(missing_ok=True)


class SimulatedDisk:
    """The calls of one process."""

    def __init__(
        self, machine: Machine, on_death: Callable[[], None], on_failed_sync: Callable[[Path], None] = lambda _: None
    ) -> None:
        """Work on ``machine``; call ``on_death`` when a call is the last one that this process makes.

        ``on_failed_sync`` is told of which file a sync failed.
        """
        self._machine = machine
        self._on_death = on_death
        self._on_failed_sync = on_failed_sync
        self._real = RealDisk()
        self._files: dict[int, tuple[int, Path]] = {}
        """Real descriptor to the shadow's handle (-1 = a lock) and the path."""
        self._lost: set[int] = set()
        self.is_dead = False
        self.calls_left: int | None = None
        """Changes that this process still makes; the power goes in the last one. None = no end in sight."""
        self.complaint = ""
        """What was done that never may be done; empty = nothing."""

    def release(self) -> None:
        """Close what the process had open, as the system does for the dead."""
        self.is_dead = True
        for file in self._files:
            self._real.close(file)
        self._files.clear()

    def make_folder(self, folder: Path) -> None:
        """Create a folder."""
        self._live()
        self._real.make_folder(folder)
        self._machine.shadow.make_folder(folder)

    def list_folder(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        self._meet(Spell.READ)
        return self._real.list_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        """Make names durable."""
        self._meet(Spell.NAMES)
        self._last_call()
        self._machine.shadow.sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, or a folder, whose new name is durable at once."""
        self._live()
        if old.is_dir():
            self._real.rename(old, new)
            self._last_call()
            return
        self._adopt(old)
        self._real.rename(old, new)
        self._machine.shadow.rename(old, new)
        self._last_call()

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self._live()
        self._adopt(path)
        self._real.unlink(path)
        self._machine.shadow.unlink(path)
        self._last_call()

    def size(self, path: Path) -> int:
        """Return the number of bytes in a file."""
        self._meet(Spell.READ)
        return self._real.size(path)

    def read(self, path: Path, start: int, length: int) -> bytes:
        """Return bytes of a file."""
        self._meet(Spell.READ)
        return self._real.read(path, start, length)

    def open(self, path: Path, *, alone: bool = False) -> int:
        """Open a file for writing."""
        self._meet(Spell.FULL, errno.ENOSPC)
        self._adopt(path)
        file = self._real.open(path, alone=alone)
        self._files[file] = (self._machine.shadow.open(path), path)
        self._last_call()
        return file

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all parts, or some of their bytes and fail."""
        self._live()
        data = b"".join(parts)
        for spell, number in ((Spell.FULL, errno.ENOSPC), (Spell.WRITE, errno.EIO)):
            if self._machine.weather.strikes(spell):
                self._put(file, data[: self._machine.dice.below(len(data) + 1)], start)
                self._fail(number)
        self._put(file, data, start)
        self._last_call()

    def truncate(self, file: int, length: int) -> None:
        """Cut a file."""
        self._live()
        self._real.truncate(file, length)
        self._machine.shadow.truncate(self._files[file][0], length)
        self._last_call()

    def sync(self, file: int) -> None:
        """Make contents durable; or fail, and with it lose them while the files still show them."""
        self._live()
        if file in self._lost:
            self.complaint = f"{self._files[file][1].name} was synced again after a sync of it had failed"
        if self._machine.weather.strikes(Spell.SYNC):
            self._machine.shadow.lose(self._files[file][0])
            self._lost.add(file)
            self._on_failed_sync(self._files[file][1])
            self._fail(errno.EIO)
        done = self._machine.dice.chance(0.5)
        if done:
            self._machine.shadow.sync(self._files[file][0])
        self._last_call()
        if not done:
            self._machine.shadow.sync(self._files[file][0])

    def close(self, file: int) -> None:
        """Release a file or a lock; the dead have released everything."""
        if self.is_dead:
            return
        handle, _ = self._files.pop(file)
        self._lost.discard(file)
        self._real.close(file)
        if handle >= 0:
            self._machine.shadow.close(handle)

    def is_at(self, file: int, path: Path) -> bool:
        """Return whether a path still leads to an open file."""
        self._live()
        return self._real.is_at(file, path)

    def lock(self, path: Path, folder: Path) -> int:
        """Take a lock."""
        self._live()
        file = self._real.lock(path, folder)
        self._files[file] = (-1, path)
        return file

    def _put(self, file: int, data: bytes, start: int) -> None:
        self._real.write(file, [data], start)
        self._machine.shadow.write(self._files[file][0], [data], start)

    def _adopt(self, path: Path) -> None:
        """Know a file that came from elsewhere, such as a folder that was renamed."""
        if path.exists():
            self._machine.shadow.adopt(path, path.read_bytes())

    def _live(self) -> None:
        if self.is_dead:
            raise PowerOut

    def _meet(self, spell: Spell, number: int = errno.EIO) -> None:
        self._live()
        if self._machine.weather.strikes(spell):
            self._fail(number)

    def _fail(self, number: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    def _last_call(self) -> None:
        """Die in the middle of this change, if it is the one."""
        if self.calls_left is None:
            return
        self.calls_left -= 1
        if self.calls_left <= 0:
            self.release()
            self._on_death()
            raise PowerOut
