"""``midstream tenants``: the same orders on the files of a folder and through its server."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from midstream.cli.app import main
from tests.app.tenants.conftest import SMALL

CONFIG = "small.toml"
START_S_MAX = 300
"""Of which all but some seconds is compiling, where nothing has compiled before."""


@pytest.fixture
def run(capfd, tmp_path):
    """Run a command on the folder of tenants; return its status and what it printed."""
    (tmp_path / CONFIG).write_text(SMALL)

    def call(*arguments, folder=tmp_path):
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--folder", str(folder)])
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out or printed.err

    return call


@contextmanager
def serving(option, folder, *, says):
    """Run a server in a process of its own, until the block ends."""
    command = [sys.executable, "-m", "midstream", "serve", option, str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(says)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_S_MAX)


@pytest.fixture
def server(tmp_path, run):
    """A server of the folder as a process of its own, stopped by a signal."""
    del run  # its file of a configuration is there
    with serving("--tenants", tmp_path, says="serving 0 tenants") as process:
        yield process


def states(run):
    """Return the states of all tenants by name."""
    return {each["name"]: each["state"] for each in json.loads(run("tenants", "list", "--json")[1])["tenants"]}


def orders(run, tmp_path, serving):
    """Give every order once; the states between them are those of a folder with or without a server."""
    assert states(run) == {}
    status, key = run("tenants", "create", "red", "--config", str(tmp_path / CONFIG), "--requests", "100")
    assert (status, key[:3]) == (0, "ms_")
    assert run("tenants", "create", "red")[0] > 0
    assert run("tenants", "create", "Red")[0] > 0
    assert states(run) == {"red": serving}
    assert run("tenants", "suspend", "red", "--reason", "unpaid")[0] == 0
    assert states(run) == {"red": "suspended"}
    assert run("tenants", "resume", "red")[0] == 0
    assert run("tenants", "quota", "red", "--events", "50")[0] == 0
    (view,) = json.loads(run("tenants", "list", "--json")[1])["tenants"]
    assert (view["state"], view["quota"]) == (serving, {"requests_per_second": 0.0, "events_per_second": 50.0})
    assert run("tenants", "resume", "blue")[0] > 0
    assert run("tenants", "delete", "red")[0] > 0
    assert states(run) == {"red": serving}


def deleted(run, tmp_path, exports=0):
    """Delete the tenant; all changes are in the audit, the newest first."""
    assert run("tenants", "delete", "red", "--confirm", "red")[0] == 0
    assert states(run) == {}
    assert list((tmp_path / "trash").iterdir()) == []
    changes = json.loads(run("tenants", "audit", "--json")[1])["changes"]
    assert [(each["method"], each["status"] < 300, each["who"][:4]) for each in changes] == [
        ("DELETE", True, "cli:"),
        *[("POST", True, "cli:")] * exports,
        ("PUT", True, "cli:"),
        ("POST", True, "cli:"),
        ("POST", True, "cli:"),
        ("POST", True, "cli:"),
    ]


def test_orders_on_the_files_of_a_folder(run, tmp_path):
    """Nothing is opened, and a server of one tenant alone is not robbed of its folder."""
    orders(run, tmp_path, "closed")
    deleted(run, tmp_path)


def test_orders_through_the_server(run, tmp_path, server):
    """Commands find it by its address; those of a shop find the tenant by the address in its own folder."""
    orders(run, tmp_path, "serving")
    shop = tmp_path / "tenants" / "red"
    events = tmp_path / "acts.ndjson"
    events.write_text('{"type": "view", "session_id": "s1", "item_id": "lamp"}\n')
    assert run("import", str(events), folder=shop)[0] == 0
    (view,) = json.loads(run("tenants", "list", "--json")[1])["tenants"]
    assert view["log_position"] > 0
    archive = tmp_path / "red.tar"
    assert run("tenants", "export", "red", "--output", str(archive))[0] == 0
    assert archive.stat().st_size > 0
    deleted(run, tmp_path, exports=1)
    assert server.poll() is None
    assert os.path.lexists(tmp_path / "data" / "server.url")


def test_a_hangup_ends_no_server(run, server):
    """As of a terminal that is closed: the tenants go on."""
    for _ in range(2):
        server.send_signal(signal.SIGHUP)
        assert states(run) == {}
    assert server.poll() is None


@pytest.fixture
def shop(tmp_path, run):
    """A server of one shop alone, in the folder of the commands."""
    del run  # as that of the tenants
    (tmp_path / "midstream.toml").write_text(SMALL)
    with serving("--folder", tmp_path, says="serving ") as process:
        yield process


def test_orders_to_the_server_of_one_shop_say_what_serves_tenants(run, tmp_path, shop):
    """Not that a path is none, which nobody typed."""
    for order in (("list",), ("create", "red")):
        status, said = run("tenants", *order)
        assert status > 0
        assert "serves one shop" in said
        assert "midstream serve --tenants" in said
        assert "/v1/tenants" not in said
    assert shop.poll() is None
    assert not (tmp_path / "tenants").exists()
