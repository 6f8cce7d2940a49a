"""Tenants that are created: what a sent configuration may name, and that nothing is left of one that cannot be."""

import errno
import getpass
from typing import Any

import msgspec
import pytest

from midstream.app.config.schema import Config
from midstream.app.tenants.creation import make_tenant
from midstream.app.tenants.orders import TenantOrders
from midstream.app.tenants.sent_configuration import IN_FOLDER, OF_MACHINE
from midstream.core.errors import ConfigInvalid
from midstream.core.field_bounds import without_bounds
from midstream.core.type_descriptions import origin_of
from midstream.core.type_faults import choice_of, is_struct
from midstream.serving.access.key_file import KeyFile
from midstream.serving.http.problems import TenantConflict
from midstream.serving.tenants.types import TenantWish
from tests.app.tenants.conftest import SMALL

TABLE = '[[tables]]\nname = "q"\nentity = "item"\npath = "{}"\ncolumns = ["score"]\n'
KAFKA = '[[inputs]]\nname = "c"\nkind = "kafka"\nservers = "localhost:1"\ntopic = "c"\n{}\n'
REACHING_OUT = {
    "a file of another tenant": TABLE.format("../blue/quality.csv"),
    "an absolute path": TABLE.format("/srv/quality.csv"),
    "a path that goes up in the middle": TABLE.format("data/../../blue/quality.csv"),
    "keys of an identity provider": '[identity]\nissuer = "i"\naudience = "a"\nkeys = "/srv/keys.json"\n'
    'scopes = { a = ["read"] }\n',
    "a baseline": '[monitoring]\nbaseline = "../blue/statistics.json"\n',
    "installed code": '[components]\nx = "typer.models:OptionInfo"\n',
    "code of a placement": '[[placements]]\nsources = [{ kind = "custom", path = "typer.models:OptionInfo" }]\n',
    "a variable of the environment": KAFKA.format('password_env = "PATH"\nsasl = "PLAIN"\nusername = "u"'),
    "a library of the broker's client": KAFKA.format('settings = { "plugin.library.paths" = "x" }'),
    "a collector of traces": '[tracing]\nendpoint = "http://10.0.0.1:4318/v1/traces"\n',
    "a place of snapshots": '[snapshots]\npublish = "file:///srv/other"\n',
}


def left_of(folders):
    """Return what is below the folder of tenants beside the root's own data, each path."""
    return sorted(
        str(each.relative_to(folders.root))
        for each in folders.root.rglob("*")
        if "data" not in each.relative_to(folders.root).parts and each.is_file()
    )


@pytest.mark.parametrize("told", REACHING_OUT.values(), ids=REACHING_OUT)
def test_a_sent_configuration_names_nothing_outside_of_its_folder(server, told):
    """It is refused with the setting, as nobody on the machine wrote it, and nothing is made."""

    async def create(server):
        return await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL + told})

    made = server.run(create)
    assert made.status == 400, made.body
    assert "over HTTP" in made.body.decode()
    assert (server.folders.names(), left_of(server.folders)) == ([], [])


MODEL = '[[models]]\nname = "near"\nkind = "ease"\ntime_max = "{}"\n'
PROBE = '[probe]\nevery = "{}"\n'


@pytest.mark.parametrize(
    "told, where, right",
    [
        (MODEL.format("7d"), "$.models[0].time_max", "1h at most"),
        (PROBE.format("29s"), "$.probe.every", "30s or more"),
    ],
)
def test_a_sent_configuration_holds_up_no_other_tenant(server, told, where, right):
    """Trainings have one turn of all tenants, and a probe has no quota: both are bounded, but on the machine."""

    async def create(server):
        return await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL + told})

    made = server.run(create)
    assert made.status == 400, made.body
    (fault,) = made.json()["errors"]
    assert where in fault["pointer"]
    assert right in made.body.decode()
    assert server.folders.names() == []
    make_tenant(server.folders, TenantWish("green", SMALL + told), "cli:x", is_sent=False)
    assert server.folders.names() == ["green"]


def test_a_sent_configuration_may_train_and_probe(server):
    """For an hour, and each 30 seconds."""
    told = SMALL + MODEL.format("1h") + PROBE.format("30s")
    make_tenant(server.folders, TenantWish("green", told), "key:x", is_sent=True)
    assert server.folders.names() == ["green"]


def test_every_setting_that_names_a_file_is_known():
    """A new setting of such a name is held to the rule, or the rule is told why not."""
    kinds: list[Any] = [Config]
    seen: set[Any] = set()
    names: set[str] = set()
    while kinds:
        for field in msgspec.structs.fields(kinds.pop()):
            plain, _ = without_bounds(field.type)
            inner = plain.__args__[0] if origin_of(plain) is tuple else plain
            names.add(field.encode_name)
            found = {each for each in choice_of(inner) if is_struct(each)} - seen
            seen |= found
            kinds.extend(found)
    like_files = {
        each for each in names if each.endswith(("file", "path", "_ca", "folder")) or each in {"keys", "golden"}
    }
    assert like_files <= IN_FOLDER | OF_MACHINE
    assert names >= IN_FOLDER | OF_MACHINE


@pytest.mark.parametrize(
    "told",
    [
        TABLE.format("quality.csv"),
        '[[trainings]]\nmodel = "taste"\nevery = "6h"\n',
        "[server]\nfollowers = 1\n",
        '[monitoring]\nbaseline = "none.json"\n',
    ],
)
def test_what_an_opening_would_refuse_is_not_created(server, told):
    """A file that is not there, a server of its own: a 400, no failed tenant."""

    async def create(server):
        return await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL + told})

    assert server.run(create).status == 400
    assert (server.folders.names(), left_of(server.folders)) == ([], [])


def test_a_component_that_is_none_is_not_created_on_the_files(tmp_path):
    """Without a server, too."""
    with pytest.raises(ConfigInvalid):
        TenantOrders(tmp_path).create(TenantWish("green", '[components]\nx = "os:system"\n'))
    assert TenantOrders(tmp_path).list() == []


def test_a_full_disk_leaves_no_half_of_a_tenant(server, monkeypatch):
    """Whatever ends the creation, nothing is there at the next start."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(KeyFile, "create", full)
    with pytest.raises(OSError, match="No space"):
        make_tenant(server.folders, TenantWish("green", SMALL), "key:x", is_sent=True)
    assert (server.folders.names(), left_of(server.folders)) == ([], [])


def test_a_user_without_a_name_makes_tenants(server, tmp_path, monkeypatch):
    """As in a container: the root's caller made the key; a command has the number of the user."""

    def unnamed():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", unnamed)

    async def create(server):
        made = await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL})
        return made.status, await server.ask("GET", "/t/green/v1/keys", key=made.json()["key"])

    status, keys = server.run(create)
    assert (status, keys.status) == (201, 200)
    assert TenantOrders(tmp_path).create(TenantWish("blue", SMALL)).tenant.state == "closed"
    assert "cli:uid-" in server.folders.audit.read_text()


def test_a_link_to_nothing_has_the_name(server):
    """A conflict, and the link is as it was."""
    place = server.folders.of("green")
    place.parent.mkdir()
    place.symlink_to("nowhere")

    async def create(server):
        return await server.root("POST", "/v1/tenants", {"name": "green"})

    made = server.run(create)
    assert (made.status, made.json()["type"]) == (409, "urn:midstream:tenant-conflict")
    assert place.is_symlink()
    with pytest.raises(TenantConflict):
        make_tenant(server.folders, TenantWish("green"), "key:x", is_sent=False)
