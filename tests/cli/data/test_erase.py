"""``midstream erase`` forgets users of a folder, with or without a server that has it open."""

import json
from urllib.request import urlopen

import pytest

from midstream.app.opening import open_shop
from midstream.app.server_address import Address, publish
from midstream.cli.app import main
from midstream.cli.demo.server import running_server


@pytest.fixture
def erase(tmp_path, capfd):
    """Return a function that erases users and gives exit status, output and what was said."""

    def call(*users):
        with pytest.raises(SystemExit) as left:
            main(["erase", *users, "-f", str(tmp_path), "--json"])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    return call


def test_users_are_erased_in_the_folder_and_through_its_server(tmp_path, erase):
    """Each with the ids that were merged into it; ids of any text; what is no id erases nobody."""
    merge = {"type": "user", "operation": "merge", "user_id": "a/b %", "attributes": {"from": "anon"}}
    with open_shop(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": user, "item_id": "lamp"} for user in ("anon", "bob", "cy")])
        shop.record(merge)
    status, _, err = erase("bob", "x" * 129)
    assert (status, "user_id" in err) == (2, True)
    status, out, _ = erase("bob")
    (found,) = json.loads(out)["erased"]
    assert (status, found["user_id"], found["ids_count"], found["erase_by"][-1]) == (0, "bob", 1, "Z")
    with running_server(tmp_path, lambda _: None) as url:
        status, out, _ = erase("a/b %", "cy")
        assert (status, [each["ids_count"] for each in json.loads(out)["erased"]]) == (0, [2, 1])
        with urlopen(f"{url}/v1/erasures") as answer:  # noqa: S310  our own server
            assert [each["ids_count"] for each in json.loads(answer.read())["erasures"]] == [1, 2, 1]
    with open_shop(tmp_path) as shop:
        assert [shop.user(user) for user in ("anon", "a/b %", "bob", "cy")] == [None] * 4
        live = shop.running.engine.liveness
        publish(tmp_path / "data", Address("http://127.0.0.1:9", live.log, live.pid))
        status, _, err = erase("dee")
        assert (status, "does not answer" in err) == (1, True)
