"""Keys by the command line: what is printed once, listed, revoked, and sent by commands of the machine."""

import json

import httpx
import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key, keys_of, revoke_key
from midstream.app.server_address import KEY_VARIABLE, FolderServerUrl, server_headers
from midstream.app.server_refusals import server_client
from midstream.cli.app import main
from midstream.core.errors import ConfigInvalid, NotFound


def ran(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main(words)
    told = capsys.readouterr()
    return left.value.code, told.out, told.err


def test_key_is_printed_once_and_listed_without_its_secret(tmp_path, capsys):
    """Standard output has the key alone, so that a shell can keep it."""
    folder = str(tmp_path)
    status, out, _ = ran(capsys, "keys", "create", "shop", "--scope", "events:write", "--expires", "90d", "-f", folder)
    assert status == 0
    key = out.strip()
    assert key.startswith("ms_")
    status, out, _ = ran(capsys, "keys", "list", "--json", "-f", folder)
    (shown,) = json.loads(out)["keys"]
    assert (shown["name"], shown["state"], shown["scopes"]) == ("shop", "live", ["events:write"])
    assert shown["expires_ms"] - shown["created_ms"] == 90 * 86_400_000
    assert key.split("_", 2)[2] not in out
    assert "digest" not in shown
    status, out, _ = ran(capsys, "keys", "revoke", "shop", "-f", folder)
    assert status == 0
    assert keys_of(tmp_path)[0].state == "revoked"
    status, _, err = ran(capsys, "keys", "revoke", "shop", "-f", folder)
    assert status == 1
    assert "No live key" in err


@pytest.mark.parametrize(
    "wrong",
    [("--scope", "raed"), ("--scope", "read", "--expires", "soon"), ("--scope", "read", "--quota", "many")],
)
def test_wrong_options_are_refused_in_four_parts(tmp_path, capsys, wrong):
    """Nothing is written."""
    status, _, err = ran(capsys, "keys", "create", "shop", *wrong, "-f", str(tmp_path))
    assert status == 2
    assert f"where: {wrong[-2]}" in err
    assert not keys_of(tmp_path)


def test_revoking_by_id_leaves_others(tmp_path):
    """An id names one key."""
    first = create_key(tmp_path, key_wish("a", ("read",)))
    create_key(tmp_path, key_wish("b", ("read",)))
    revoke_key(tmp_path, first.stored.id)
    assert [each.state for each in keys_of(tmp_path)] == ["revoked", "live"]
    with pytest.raises(NotFound):
        revoke_key(tmp_path, "c")
    with pytest.raises(ConfigInvalid):
        create_key(tmp_path, key_wish("b", ("read",)))


def test_commands_send_the_operators_key_and_who_runs_them(monkeypatch):
    """To the server of the folder; to one that is named by its URL they send the key of the environment."""
    sent = []
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    real = httpx.Client

    def client(**options):
        def answer(request):
            sent.append(request.headers)
            return httpx.Response(200)

        return real(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr("httpx.Client", client)
    with server_client(FolderServerUrl("http://127.0.0.1:1", "ms_operator_x")) as asking:
        asking.get("/v1/models")
    assert (sent[0]["authorization"], sent[0]["midstream-user"]) == ("Bearer ms_operator_x", "ann")
    assert server_headers(FolderServerUrl("http://127.0.0.1:1", "")) == {"midstream-user": "ann"}
    assert server_headers("http://shop:1") == {}
    monkeypatch.setenv(KEY_VARIABLE, "ms_a_b")
    assert server_headers("http://shop:1") == {"authorization": "Bearer ms_a_b"}
