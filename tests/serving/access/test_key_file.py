"""The file of keys: no secret in it but the operator's, for its owner alone, whole under changes from all sides."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from midstream.core.errors import ConfigInvalid, NotFound
from midstream.serving.access.api_keys import KeyWish, digest_of
from midstream.serving.access.key_file import KeyFile, operator_key


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "data")


def test_secret_is_not_kept(file):
    """What is kept is the hash; the text is long enough that nobody tries."""
    made = file.create(KeyWish("shop", ("read",)), 1, "cli:ann")
    prefix, key_id, secret = made.key.split("_", 2)
    assert (prefix, key_id) == ("ms", made.stored.id)
    assert len(secret) == 43
    text = file.path.read_text()
    assert secret not in text
    assert digest_of(made.key) in text


def test_file_is_for_its_owner(file):
    """Also where it was wider before, and its lock has no secret."""
    file.create(KeyWish("shop", ("read",)), 1, "cli:ann")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_file_without_sessions_is_one_of_earlier_releases(file):
    """They refuse a field that they do not know, so it is there while a browser is signed in alone."""
    made = file.create(KeyWish("shop", ("read",)), 1, "cli:ann")
    assert json.loads(file.path.read_text()).keys() == {"operator", "keys", "version"}
    token = file.begin_session(made.stored.id, 1)
    assert "sessions" in json.loads(file.path.read_text())
    file.end_session(token)
    assert json.loads(file.path.read_text()).keys() == {"operator", "keys", "version"}


def test_operator_key_is_the_files(file):
    """Commands of the machine read it; without a file they send none."""
    assert operator_key(file.path.parent) == ""
    file.create(KeyWish("shop", ("read",)), 1, "cli:ann")
    first = operator_key(file.path.parent)
    file.create(KeyWish("other", ("read",)), 1, "cli:ann")
    assert first.startswith("ms_operator_")
    assert operator_key(file.path.parent) == first


@pytest.mark.parametrize(
    "wish,where",
    [
        (KeyWish("", ("read",)), "NAME"),
        (KeyWish("a b", ("read",)), "NAME"),
        (KeyWish("a", ()), "--scope"),
        (KeyWish("a", ("raed",)), "--scope"),
        (KeyWish("a", ("recommend:",)), "--scope"),
        (KeyWish("a", ("read:home",)), "--scope"),
        (KeyWish("a", ("read",), origins=("https://shop.example",)), "--scope"),
        (KeyWish("a", ("recommend",), origins=("https://shop.example/",)), "--origin"),
        (KeyWish("a", ("recommend",), origins=("shop.example",)), "--origin"),
        (KeyWish("a", ("recommend",), origins=("*",)), "--origin"),
        (KeyWish("a", ("recommend",), origins=("null",)), "--origin"),
    ],
)
def test_wrong_wishes_are_refused_by_option(file, wish, where):
    """Nothing is written then."""
    with pytest.raises(ConfigInvalid) as refused:
        file.create(wish, 1, "cli:ann")
    assert where in {each.where for each in refused.value.faults}
    assert file.read() is None or not file.read().keys


def test_name_is_free_again_when_its_key_is_revoked(file):
    """So a list shows which is meant; what is revoked stays in it."""
    file.create(KeyWish("shop", ("read",)), 1, "cli:ann")
    with pytest.raises(ConfigInvalid, match="shop is the name"):
        file.create(KeyWish("shop", ("read",)), 2, "cli:ann")
    file.revoke("shop", 3, "cli:bob")
    file.create(KeyWish("shop", ("read",)), 4, "cli:ann")
    assert [each.state(5) for each in file.read().keys] == ["revoked", "live"]
    assert file.read().keys[0].revoked_by == "cli:bob"
    with pytest.raises(NotFound):
        file.revoke("nothing", 6, "cli:ann")


def test_changes_at_once_are_all_kept(file):
    """Each reads what the one before wrote."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: file.create(KeyWish(f"k{number}", ("read",)), 1, "cli:ann"), range(40)))
    assert len({each.id for each in file.read().keys}) == 40


def test_damaged_file_is_refused_with_its_place(file):
    """A start says what to do."""
    file.path.parent.mkdir(parents=True)
    file.path.write_text('{"operator": 1}')
    with pytest.raises(ConfigInvalid, match=r"keys\.json"):
        file.read()


def test_rotated_key_ends_after_the_grace(file):
    """Both are valid until then; the new one may do what the old one might, for as long a time."""
    wish = KeyWish("shop", ("recommend:home", "read"), expires_in_ms=1_000, quota_per_second=5.0, quota_burst=7)
    old = file.create(wish, 1_000, "cli:ann")
    new = file.rotate("shop", 300, 1_500, "cli:bob")
    stored = {each.id: each for each in file.read().keys}
    before, after = stored[old.stored.id], stored[new.stored.id]
    assert (before.expires_ms, after.expires_ms) == (1_800, 2_500)
    assert (after.scopes, after.quota_per_second, after.quota_burst) == (before.scopes, 5.0, 7)
    assert new.key != old.key
    assert [before.state(1_799), before.state(1_800), after.state(1_800)] == ["live", "expired", "live"]
    file.rotate("shop", 0, 1_600, "cli:bob")
    assert [each.state(1_600) for each in file.read().keys] == ["expired", "expired", "live"]


def test_rotation_shortens_and_never_lengthens(file):
    """A key that ends before the grace does so all the same."""
    old = file.create(KeyWish("shop", ("read",), expires_in_ms=100), 1_000, "cli:ann")
    file.rotate(old.stored.id, 5_000, 1_050, "cli:ann")
    assert file.read().keys[0].expires_ms == 1_100


def test_file_that_root_writes_is_the_folders_owners(file, monkeypatch):
    """A server of another user reads the next change too: the file of keys and its lock are of the folder's owner."""
    given = set()

    def note(descriptor, *owner):
        given.add((Path(f"/proc/self/fd/{descriptor}").readlink().name, owner))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", note)
    file.create(KeyWish("shop", ("read",)), 1, "cli:test")
    status = file.path.parent.stat()
    owner = (status.st_uid, status.st_gid)
    assert given == {(".keys.json.part", owner), ("keys.lock", owner)}
    assert file.path.stat().st_mode & 0o777 == 0o600
