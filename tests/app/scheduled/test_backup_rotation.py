"""Scheduled backups: dated copies of which the newest stay, each restored once before an older one goes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from midstream.app.opening import open_shop
from midstream.app.operate.backup import back_up
from midstream.app.operate.rebuild import verify
from midstream.app.operate.restore import restore
from midstream.app.scheduled import backup_rotation as module
from midstream.app.scheduled.backup_rotation import BackupOrder, ScheduledBackup, scheduled_backup
from midstream.core.errors import Invalid, LogDamaged, LogRewritten
from tests.support.fakes.rebuilds import write_config

DAY_S = 86_400


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with some events."""
    folder = tmp_path / "shop"
    folder.mkdir()
    write_config(folder)
    with open_shop(folder) as opened:
        opened.record([{"type": "view", "user_id": f"u{number}", "item_id": "mug"} for number in range(20)])
    return folder


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock whose every look is a day later."""
    stamps = iter(range(1_764_000_000, 1_800_000_000, DAY_S))

    def gmtime(_seconds: float | None = None, real: Any = time.gmtime) -> time.struct_time:
        return real(next(stamps))  # type: ignore[no-any-return]

    monkeypatch.setattr(time, "gmtime", gmtime)


def backed_up(shop: Path, **order: Any) -> ScheduledBackup:
    return scheduled_backup(shop, shop.parent / "copies", BackupOrder(keep=2, **order))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have files made under another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def metrics_of(path: Path) -> dict[str, float]:
    """Return the samples of a file as the node exporter reads it."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(path.read_text("utf-8"))
        for sample in family.samples
    }


@pytest.mark.usefixtures("nights")
def test_the_newest_copies_stay_and_each_was_restored(shop: Path, tmp_path: Path) -> None:
    """Of three nights two copies stay, other files too; nothing of a drill is left; metrics say when and how much."""
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "mine.tar").write_text("not a dated copy")
    made = [backed_up(shop, drill=True, metrics=tmp_path / "backup.prom") for _ in range(3)]
    assert [each.removed for each in made] == [(), (), (made[0].path.name,)]
    names = {each.name for each in (tmp_path / "copies").iterdir()}
    assert names == {"mine.tar", made[1].path.name, made[2].path.name}
    assert len({each.digest for each in made}) == 1
    assert made[0].digest
    found = metrics_of(tmp_path / "backup.prom")
    assert abs(found["midstream_backup_timestamp_seconds"] - time.time()) < DAY_S
    assert found["midstream_backup_log_position"] == made[2].log_position == 20
    assert found["midstream_backup_bytes"] == made[2].bytes
    assert found["midstream_restore_drill_success"] == 1
    restore(made[2].path, tmp_path / "again")


@pytest.mark.usefixtures("nights")
def test_a_copy_of_another_state_removes_nothing(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drill is an error in four parts, the metrics say 0, and older copies stay."""
    first, second = backed_up(shop), backed_up(shop)
    monkeypatch.setattr(module, "verify", lambda *arguments: replace(verify(*arguments), from_the_beginning="other"))
    with pytest.raises(Invalid, match="its log to other"):
        backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert metrics_of(tmp_path / "backup.prom")["midstream_restore_drill_success"] == 0
    assert first.path.exists()
    assert second.path.exists()


@pytest.mark.usefixtures("nights")
def test_a_copy_that_cannot_be_restored_removes_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte that changed on the disk of the copies is found, since every byte is compared."""
    first, _ = backed_up(shop), backed_up(shop)

    def damaged(folder: Path, path: Path, notify: Any) -> Any:
        made = back_up(folder, path, notify)
        content = bytearray(path.read_bytes())
        at = content.index(b"view = ") if b"view = " in content else content.index(b"mug")
        content[at] ^= 1
        path.write_bytes(content)
        return made

    monkeypatch.setattr(module, "back_up", damaged)
    with pytest.raises(Invalid, match="could not be restored"):
        backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert metrics_of(tmp_path / "backup.prom")["midstream_restore_drill_success"] == 0
    assert first.path.exists()
    assert not list((tmp_path / "copies").glob(".drill-*"))


@pytest.mark.usefixtures("nights")
@pytest.mark.parametrize(
    "part, error",
    [
        ("restore", LogDamaged("bytes differ")),
        ("verify", LogRewritten("other bytes")),
        ("TemporaryDirectory", OSError(28, "No space left on device")),
    ],
)
def test_a_drill_that_fails_in_any_way_is_no_success(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    """The success of the night before is not left in the metrics, the error names the copy, and all copies stay."""
    made = backed_up(shop), backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert metrics_of(tmp_path / "backup.prom")["midstream_restore_drill_success"] == 1

    def failing(*_arguments: Any, **_options: Any) -> Any:
        raise error

    monkeypatch.setattr(module, part, failing)
    with pytest.raises(Invalid, match=r"It could not be restored: .*(bytes|space)"):
        backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert metrics_of(tmp_path / "backup.prom")["midstream_restore_drill_success"] == 0
    assert all(each.path.exists() for each in made)


@pytest.mark.usefixtures("nights")
def test_a_defect_of_a_drill_is_loud_and_no_success(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expects goes on, after the metrics were written."""
    backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")

    def failing(*_arguments: Any) -> Any:
        message = "a defect"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(module, "verify", failing)
    with pytest.raises(ZeroDivisionError):
        backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert metrics_of(tmp_path / "backup.prom")["midstream_restore_drill_success"] == 0


@pytest.mark.parametrize("mask", [0o077, 0o022, 0])
def test_others_read_the_metrics_and_no_copy(shop: Path, tmp_path: Path, mask: int) -> None:
    """Whatever the umask of a timer or of cron: the node exporter is another user."""
    with umask(mask):
        made = backed_up(shop, drill=True, metrics=tmp_path / "backup.prom")
    assert f"{(tmp_path / 'backup.prom').stat().st_mode & 0o777:o}" == "644"
    assert f"{made.path.stat().st_mode & 0o777:o}" == "600"
