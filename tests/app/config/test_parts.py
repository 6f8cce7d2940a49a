"""Configurations kept by content: what they cost, what is left of them, and what cannot be trusted."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from midstream.app import config_history
from midstream.app.config.effective import content_of, with_changes
from midstream.app.config.parts import PARTS_NAME, config_hashes, read_config_of, remove_configs, write_config
from midstream.app.config.schema import Config, Placement
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.state.settings import FoldSettings

FILE = Config()


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def large(number: int) -> Placement:
    """Return a placement of 45 kB that no other one is like."""
    return Placement(name=f"p{number}", editorial=tuple(f"item {number:02} {n:03} {'x' * 30}" for n in range(1_000)))


def remembered(data: DataFolder, changes: dict[str, Placement], end: int = 0) -> Config:
    """Keep what the default with some placements is; return it."""
    config = with_changes(FILE, changes)
    config_history.keep_config(data, config)
    span = config_history.Span(LogPosition(0), LogPosition(end))
    config_history.remember(data, FILE, FoldSettings(), span, config)
    return config


def one_after_another(data: DataFolder, placements: Iterator[Placement]) -> list[Config]:
    """Set placements; return the configurations that were in service."""
    changes: dict[str, Placement] = {}
    found: list[Config] = []
    for each in placements:
        changes[each.name] = each
        found.append(remembered(data, dict(changes), end=len(found)))
    return found


def test_many_large_placements_cost_about_what_was_sent(tmp_path: Path) -> None:
    """Forty of 45 kB, set one after another and then again in another way: no more than twice their bytes."""
    data = DataFolder(tmp_path)
    sent = [large(number) for number in range(40)]
    bytes_sent = sum(len(content_of(each)) for each in sent)
    configs = one_after_another(data, iter(sent))
    assert bytes_sent > 1_700_000
    assert bytes_of(data.configurations) < 1.1 * bytes_sent
    changed = [msgspec.structs.replace(each, slate_size=7) for each in sent[:10]]
    configs += one_after_another(data, iter([*sent, *changed]))[-10:]
    assert bytes_of(data.configurations) < 1.4 * bytes_sent  # 50 versions of 40
    for config in configs:
        assert config_history.config_named(data, config.config_hash) == config


def test_as_many_as_may_be_kept_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comes back equal, those too many are gone, and so are the parts of which nothing is left."""
    monkeypatch.setattr(os, "fsync", bool)
    monkeypatch.setattr(config_history, "KEPT_MAX", 100)
    data = DataFolder(tmp_path)
    versions = (Placement(name=f"p{n % 20}", slate_size=1 + n // 20, slate_size_max=100) for n in range(130))
    configs = one_after_another(data, versions)
    kept = [read_config_of(data.configurations, each.config_hash) for each in configs]
    assert kept == [*([None] * 29), *configs[29:]]  # 100 that were left, and the one in service
    named = {content_of(each) for config in (FILE, *configs[29:]) for each in config.placements}
    parts = {path.read_text() for path in (data.configurations / PARTS_NAME).iterdir()}
    assert {part for part in parts if '"deadline"' in part and '"server"' not in part} == named
    assert len(parts) == len(named) + 2  # the rest of the file's and of the effective one's


def test_a_part_stays_while_any_configuration_names_it(tmp_path: Path) -> None:
    """It goes with the last of them, whichever that is."""
    shared, own = Placement(name="shared"), Placement(name="own")
    both = with_changes(FILE, {"shared": shared, "own": own})
    one = with_changes(FILE, {"shared": shared})
    for config in (both, one):
        write_config(tmp_path, config)
    assert config_hashes(tmp_path) == {both.config_hash, one.config_hash}
    remove_configs(tmp_path, [both.config_hash])
    assert read_config_of(tmp_path, both.config_hash) is None
    assert read_config_of(tmp_path, one.config_hash) == one
    assert content_of(own) not in {path.read_text() for path in (tmp_path / PARTS_NAME).iterdir()}
    remove_configs(tmp_path, [one.config_hash])
    assert not list((tmp_path / PARTS_NAME).iterdir())


@pytest.mark.parametrize("where", ["list", "placement", "rest"])
@pytest.mark.parametrize("how", ["gone", "cut", "other", "deep", "a path"])
def test_what_is_not_as_it_was_written_is_not_there(tmp_path: Path, where: str, how: str) -> None:
    """Whichever file it is; written again it is whole, and what names a file elsewhere reads none."""
    config = with_changes(FILE, {"home": Placement(name="home")})
    write_config(tmp_path, config)
    path = tmp_path / f"{config.config_hash}.json"
    if where != "list":
        listed = msgspec.json.decode(path.read_bytes())
        digits = listed["rest"] if where == "rest" else listed["placements"][-1]
        path = tmp_path / PARTS_NAME / f"{digits}.json"
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": content[:-9],
                "other": content.replace(b"home", b"hume") if where == "placement" else b"{}",
                "deep": b"[" * 100_000,
                "a path": b'{"rest":"../x","placements":[]}',
            }[how]
        )
    (tmp_path / "x.json").write_bytes(b"{}")
    assert read_config_of(tmp_path, config.config_hash) is None
    assert read_config_of(tmp_path, "../x") is None


def test_what_a_crash_leaves_is_taken_along(tmp_path: Path) -> None:
    """Parts without a configuration: they count for nothing and go with the next that is removed."""
    old, new = with_changes(FILE, {"a": Placement(name="a")}), with_changes(FILE, {"b": Placement(name="b")})
    write_config(tmp_path, old)
    write_config(tmp_path, new)
    (tmp_path / f"{new.config_hash}.json").unlink()  # as if it had not been written yet
    assert config_hashes(tmp_path) == {old.config_hash}
    remove_configs(tmp_path, [old.config_hash])
    assert not list((tmp_path / PARTS_NAME).iterdir())
    write_config(tmp_path, new)
    assert read_config_of(tmp_path, new.config_hash) == new


def test_what_is_asked_for_each_placement_is_computed_once() -> None:
    """The hash and the half-lives of a configuration of many placements; of a changed one they are its own."""
    config = with_changes(FILE, {f"p{n}": Placement(name=f"p{n}") for n in range(9)})
    assert config.config_hash is config.config_hash
    assert config.half_lives() is config.half_lives()
    changed = msgspec.structs.replace(config, placements=())
    assert changed.config_hash != config.config_hash
    assert msgspec.json.decode(msgspec.json.encode(config, enc_hook=str)).keys() == set(Config.__struct_fields__)
