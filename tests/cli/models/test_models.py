"""``midstream models`` shows and changes which versions answer, with or without a server that has the folder open."""

import json
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote, registry_of
from midstream.cli.app import main
from midstream.cli.demo.server import running_server
from midstream.models.artifact.artifact import Manifest
from midstream.models.artifact.memory import held_bytes
from midstream.models.model import is_item_model
from tests.support.fakes.models import CONFIG, publish_chain, publish_linear, write_folder, write_ranked
from tests.support.ids import KEY
from tests.support.patience import wait_until

JSON = {"content-type": "application/json"}


@pytest.fixture
def models(tmp_path, capfd):
    """Return a function that runs a command below ``models`` and gives exit status and output."""
    write_folder(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(["models", *words, "-f", str(tmp_path)])
        said = capfd.readouterr()
        return left.value.code, said.out + said.err

    return call


def asked(url):
    """Return what the server answers somebody who looked at something."""
    body = json.dumps({"placement": "home", "user_id": "ann", "n": 3}).encode()
    with urlopen(Request(f"{url}/v1/recommendations", body, JSON)) as answer:  # noqa: S310  our own server
        return json.loads(answer.read())


def record_of(url, request_id):
    """Return the served record of a request, which is appended some milliseconds after the answer."""
    found = {}

    def is_there():
        with suppress(HTTPError), urlopen(f"{url}/v1/requests/{request_id}") as told:  # noqa: S310  our own server
            found.update(json.loads(told.read()))
        return found

    wait_until(is_there)
    return found


def test_versions_are_promoted_with_and_without_a_server(tmp_path: Path, models) -> None:
    """List, show, compare, promote, rollback say the same of the folder and of its server."""
    registry = registry_of(tmp_path)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2)
    status, out = models("promote", "near", "1", "--json")
    found = json.loads(out.strip().splitlines()[-1])
    assert (status, found["serving"], found["aliases"]) == (0, first, {"champion": first})
    with open_shop(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": f"item-{number}"} for number in range(4)])
        assert shop.recommend("home", user_id="ann").models == {"near": first}
    status, out = models("compare", "near")
    assert (status, "metric ndcg@20" in out, "option step" in out, second in out) == (0, True, True, True)
    with running_server(tmp_path, lambda _: None) as url:
        assert asked(url)["models"] == {"near": first}
        status, out = models("promote", "near")
        assert (status, f"in service: {second}" in out) == (0, True)
        answer = asked(url)
        assert answer["models"] == {"near": second}
        assert record_of(url, answer["request_id"])["models"] == {"near": second}
        status, out = models("list", "--json")
        assert json.loads(out.strip().splitlines()[-1])["models"][0]["serving"] == second
        status, out = models("rollback", "near")
        assert (status, asked(url)["models"]) == (0, {"near": first})
        status, out = models("promote", "near", "9")
        assert (status, "no version" in out) == (1, True)
    status, out = models("show", "near")
    assert (status, first in out, "champion" in out, "in service" in out) == (0, True, True, False)
    status, out = models("list")
    assert (status, "near" in out, "champion" in out) == (0, True, True)
    assert models("show", "nobody")[0] == 1


def test_a_model_without_versions_is_not_found_and_named(models) -> None:
    """By every command that needs one, in a folder in which nothing was ever published."""
    assert models("list") == (0, "no model: none is published, and midstream.toml has no [[models]]\n")
    for command in ("compare", "show", "promote", "export"):
        status, out = models(command, "nobody")
        assert (status, "'nobody'" in out, "Models: none" in out) == (1, True, True), command


def test_a_ranker_without_its_columns_is_refused_in_four_parts(tmp_path: Path, models) -> None:
    """The command says the same of it whether a server has the folder open or not."""
    write_ranked(tmp_path)
    publish_linear(registry_of(tmp_path), ("views", "carts"))
    alone = models("promote", "ranker")
    assert alone[0] == 1
    for part in ("$.placements.home.scorers[0].name", 'reads "views"', "It has: carts", "midstream docs models"):
        assert part in alone[1]
    with running_server(tmp_path, lambda _: None) as url:
        assert models("promote", "ranker") == alone
        with pytest.raises(HTTPError) as caught, urlopen(Request(f"{url}/v1/models/ranker/promote", b"{}", JSON)):  # noqa: S310  our own server
            pytest.fail("it was promoted")
        with caught.value as refused:
            problem = json.loads(refused.read())
        assert (caught.value.code, problem["type"]) == (409, "urn:midstream:model-refused")
        assert problem["pointer"] == "$.placements.home.scorers[0].name"


def test_size_lists_models_below_the_tables(tmp_path: Path, capfd) -> None:
    """What the champion holds, and two of the most that one may; a shadow takes nothing, a damaged one 0."""
    write_folder(tmp_path)
    (tmp_path / "midstream.toml").write_text(
        f"[registry]\nversion_bytes_max = 5_000_000\n{CONFIG}[[models]]\nname = 'other'\nkind = 'als'\n"
    )
    registry = registry_of(tmp_path)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2, items=20)
    promote(tmp_path, config_of(tmp_path), "near", first)
    promote(tmp_path, config_of(tmp_path), "near", second, "shadow")

    def sizes():
        with pytest.raises(SystemExit):
            main(["size", "--json", "-f", str(tmp_path)])
        return json.loads(capfd.readouterr().out)

    found = sizes()
    assert list(found)[-3:] == ["all tables", "models.near", "models.other"]
    model = registry.load("near", first).model
    assert is_item_model(model)
    model.vocabulary.under(KEY)  # as who serves it does
    held = held_bytes(model)
    assert found["models.near"] == {"bytes_now": held, "bytes_max": 20_000_000}
    assert found["models.other"] == {"bytes_now": 0, "bytes_max": 20_000_000}
    (registry.folder / "near" / first / "manifest.json").write_bytes(b"{}")
    assert sizes()["models.near"]["bytes_now"] == 0


def test_versions_are_carried_elsewhere(tmp_path: Path, models) -> None:
    """What export writes, import takes in; nothing is promoted by that."""
    registry = registry_of(tmp_path)
    version = publish_chain(registry, 1)
    status, out = models("export", "near", "-o", str(tmp_path / "a.tar"))
    assert (status, "a.tar" in out) == (0, True)
    registry.remove("near", version)
    status, out = models("import", str(tmp_path / "a.tar"))
    assert (status, out.split()) == (0, ["near", version])
    assert registry.versions("near") == [version]
    (tmp_path / "a.tar").write_bytes(b"something else")
    assert models("import", str(tmp_path / "a.tar"))[0] == 1


def test_a_model_that_was_never_trained_is_listed_with_what_to_do(tmp_path: Path, models) -> None:
    """Beside those that have versions; JSON has what is published."""
    with (tmp_path / "midstream.toml").open("a") as file:
        file.write("[[models]]\nname = 'taste'\nkind = 'als'\n")
    status, out = models("list")
    assert (status, "taste" in out, "no version; midstream train taste" in " ".join(out.split())) == (0, True, True)
    version = publish_chain(registry_of(tmp_path), 1)
    status, out = models("list")
    assert (status, version in out, "midstream train taste" in out, "train near" in out) == (0, True, True, False)
    assert [each["name"] for each in json.loads(models("list", "--json")[1])["models"]] == ["near"]
    status, out = models("show", "taste")
    assert (status, "midstream train taste" in out) == (1, True)


def test_a_version_is_shown_a_fact_a_line(tmp_path: Path, models) -> None:
    """However narrow the screen is: name and value stand on one line, the version on one of its own."""
    version = publish_chain(registry_of(tmp_path), 1)
    status, out = models("show", "near")
    lines = [line.split() for line in out.splitlines()]
    assert (status, lines[:2]) == (0, [["near"], [version]])
    assert [line[0] for line in lines[2:6]] == ["alias", "kind", "made", "size"]
    assert ["kind", "item_to_item"] in lines
    (manifest,) = registry_of(tmp_path).manifests("near")
    assert isinstance(manifest, Manifest)
    assert [line[0] for line in lines[6:]] == list(manifest.metrics)
    (registry_of(tmp_path).folder / "near" / version / "manifest.json").write_bytes(b"{}")
    status, out = models("show", "near")
    assert (status, "    invalid  " in out) == (0, True)
