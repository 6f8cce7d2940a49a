"""Ids are hashed under a key of the log: what is beside it reads them so, and nobody else learns the key."""

import shutil
from pathlib import Path

import pytest

from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning, state_of
from midstream.app.opening import DATA_NAME, config_of, open_shop
from midstream.app.operate.model_registry import promote
from midstream.app.operate.rebuild import rebuild
from midstream.app.point_in_time.lookup import Past
from midstream.app.training.run import train
from midstream.core.types import Query, TimestampMs
from midstream.engine.folder import DataFolder
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import identity_of, read_identity
from midstream.retrieval.item_model import Ease
from midstream.state.structures.hashing import NO_KEY, id_hash

TOML = """
[[tables]]
name = "quality"
path = "quality.csv"
entity = "item"
id = "item_id"
time = "time"

[[features]]
name = "stars"
kind = "external"
table = "quality"
columns = ["stars"]

[[placements]]
name = "home"
sources = [{ kind = "ease", model = "near" }]
features = ["stars"]
log_features = 1.0

[[models]]
name = "near"
kind = "ease"
"""
ITEMS = "abcdef"


def shop_in(folder: Path) -> Path:
    """Make a folder with a log in which items are acted on by the same users."""
    folder.mkdir()
    (folder / "midstream.toml").write_text(TOML)
    rows = [f"{item},1700000000000,{place}" for place, item in enumerate(ITEMS)]
    (folder / "quality.csv").write_text("\n".join(["item_id,time,stars", *rows]))
    with open_shop(folder) as shop:
        shop.record([{"type": "item", "item_id": each} for each in ITEMS])
        acts = [(user, ITEMS[(user + place) % len(ITEMS)]) for user in range(12) for place in range(3)]
        shop.record([{"type": "click", "user_id": f"u{user}", "item_id": item} for user, item in acts])
    rebuild(folder, config_of(folder))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two folders of the same events; in the first a model was trained."""
    place = tmp_path_factory.mktemp("keys")
    one, other = shop_in(place / "one"), shop_in(place / "other")
    train(one, config_of(one), "near")
    return one, other


def test_the_key_and_the_name_follow_from_the_id_and_not_from_each_other() -> None:
    """Those of a log stay as it is rewritten; another log has others."""
    one, again, other = identity_of(bytes(16), 0), identity_of(bytes(16), 7), identity_of(b"\x01" + bytes(15), 0)
    assert (one.id_key, one.public_name) == (again.id_key, again.public_name)
    found = {one.log_id, one.id_key, one.public_name, other.log_id, other.id_key, other.public_name, NO_KEY}
    assert len(found) == 6  # the log id of zeros is what stands for no key
    assert {len(each) for each in found} == {32}


def test_each_folder_has_hashes_of_its_own_and_the_state_of_its_log(folders: tuple[Path, Path]) -> None:
    """A start finds the snapshot of before; folded from the beginning it is the same state."""
    hashes, versions = [], []
    for folder in folders:
        config, data = config_of(folder), DataFolder(folder / DATA_NAME)
        identity = read_identity(data.log, RealDisk())
        assert identity is not None
        settings = settings_of(data, config)
        assert settings.id_key == identity.id_key != config.fold_settings().id_key
        found = state_of(folder, config, LogView(folder))
        assert 0 < found.snapshot_position <= found.fold.log_position
        assert state_from_the_beginning(folder, config, LogView(folder)).digest() == found.fold.digest()
        assert found.fold.vocabulary.item_hash[0] == id_hash("a", settings.hash_key())
        hashes.append(found.fold.vocabulary.item_hash.tolist())
        versions.append(settings.version())
    assert not set(hashes[0]) & set(hashes[1])
    assert versions[0] != versions[1]


def test_a_model_of_one_folder_answers_in_another_and_tables_are_read_in_both(folders: tuple[Path, Path]) -> None:
    """Models know items by text: the source proposes the same items, which no popularity could."""
    one, other = folders
    shutil.copytree(one / DATA_NAME / "models", other / DATA_NAME / "models")
    proposed = []
    for folder in folders:
        promote(folder, config_of(folder), "near")
        with open_shop(folder) as shop:
            assert shop.recommend("home", user_id="u0", n=3).items
            engine = shop.running.engine
            query = Query("", "home", "u0", None, 3, TimestampMs(engine.clock()), 0)
            found = Ease(model="near").retrieve(engine.fold.moment(query, engine.plans["home"].models))
            proposed.append(sorted(engine.fold.vocabulary.item_ids(found.item_index)))
    assert proposed[0] == proposed[1] == sorted(set(ITEMS) - set(ITEMS[:3]))


def test_features_of_tables_are_those_of_their_files(folders: tuple[Path, Path]) -> None:
    """As of a past moment, under the key of the log; NaN would be of an id that is not found."""
    past = Past(folders[0], config_of(folders[0]))
    (table,) = past.declared.tables
    fold = state_of(folders[0], config_of(folders[0]), LogView(folders[0])).fold
    assert set(fold.vocabulary.item_hash.tolist()) == set(table.versions.keys.tolist())


def test_no_file_of_a_model_says_the_id_of_the_log(folders: tuple[Path, Path]) -> None:
    """A version may be given to others, who are told the log by its public name."""
    data = DataFolder(folders[0] / DATA_NAME)
    identity = read_identity(data.log, RealDisk())
    assert identity is not None
    content = b"".join(path.read_bytes() for path in data.models.rglob("*") if path.is_file())
    secrets = (identity.log_id.encode(), identity.id_bytes, identity.id_key.encode(), bytes.fromhex(identity.id_key))
    assert not any(each in content for each in secrets)
    assert identity.public_name.encode() in content
