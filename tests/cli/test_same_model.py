"""One truth about which model answers: ``recommend``, ``check``, ``explain``, HTTP and Python name the same version."""

import json

import httpx
import pytest

from midstream.app.explain.explain import explain_request
from midstream.app.opening import config_of, open_shop
from midstream.app.operate.model_registry import promote, registry_of
from midstream.cli.app import main
from midstream.serving.app import asgi
from tests.support.fakes.models import publish_chain, run_folder, write_folder


@pytest.fixture
def run(tmp_path, capfd):
    """Return a function that runs a command on the folder and gives exit status, what it printed, and what it said."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main([*words, "-f", str(tmp_path)])
        said = capfd.readouterr()
        return left.value.code, said.out, said.err

    write_folder(tmp_path)
    with open_shop(tmp_path) as shop:
        shop.record([{"type": "item", "item_id": f"item-{n}", "operation": "put", "attributes": {}} for n in range(9)])
        shop.record({"type": "view", "user_id": "ann", "item_id": "item-2"})
    return call


def over_http(folder):
    """Return the answer to a question over HTTP, and its record."""

    async def work(running):
        app = asgi(running.engine, lambda: running.service.accept)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            question = {"placement": "home", "user_id": "ann", "n": 3}
            return (await client.post("/v1/recommendations", json=question)).json()

    return run_folder(folder, work)


def test_all_name_the_version_that_was_promoted(tmp_path, run):
    """And answer with it: the item one step further on comes first wherever it is asked."""
    version = publish_chain(registry_of(tmp_path), 1)
    publish_chain(registry_of(tmp_path), 2)
    promote(tmp_path, config_of(tmp_path), "near", version)
    with open_shop(tmp_path) as shop:
        answer = shop.recommend("home", user_id="ann", n=3)
    assert (answer.tier, answer.models, answer.items[0].id) == ("full", {"near": version}, "item-3")
    web = over_http(tmp_path)
    assert (web["tier"], web["models"], web["items"][0]["id"]) == ("full", {"near": version}, "item-3")
    status, out, said = run("recommend", "home", "--user", "ann", "-n", "3", "--json")
    told = json.loads(out)
    assert (status, told["tier"], told["models"], told["items"][0]["id"]) == (0, "full", {"near": version}, "item-3")
    assert "warning" not in said
    assert version in run("recommend", "home", "--user", "ann")[2]
    status, out, _ = run("check", "--json")
    assert (status, json.loads(out)["models"]) == (0, {"home": {"near": version}})
    found = {each["part"]: each["problem"] or each["warning"] for each in json.loads(out)["findings"]}
    assert found[f"model near {version}"] == found["near"] == found["a dry query"] == ""
    again = explain_request(tmp_path, answer.request_id)
    assert again.identical
    assert again.why is not None
    assert (again.slate[0], again.why.models) == ("item-3", {"near": version})
    assert f"near {version}" in run("explain", answer.request_id)[2]


@pytest.mark.parametrize("trained", [False, True])
def test_a_model_that_is_not_there_yet_is_a_warning(tmp_path, run, trained):
    """It says what to do next, and the status is 0: configured before trained is no fault. With --strict it is 1."""
    if trained:
        publish_chain(registry_of(tmp_path), 1)
    remedy = "midstream models promote near" if trained else "midstream train near, then midstream models promote near"
    status, out, said = run("recommend", "home", "--user", "ann", "--json")
    assert (status, json.loads(out)["tier"], json.loads(out)["models"]) == (0, "floor", {})
    assert f"warning: model near: no version is {'in service' if trained else 'there yet'}" in said
    assert remedy in said
    status, out, _ = run("check", "--json")
    findings = json.loads(out)["findings"]
    assert (status, [each for each in findings if each["problem"]]) == (0, [])
    warnings = {each["part"]: each["warning"] for each in findings if each["warning"]}
    assert warnings.keys() == {"near", "model near", "a dry query"}
    assert remedy in warnings["model near"]
    assert "tier floor" in warnings["a dry query"]
    assert run("check", "--strict")[0] == 1
    assert over_http(tmp_path)["tier"] == "floor"


@pytest.mark.parametrize("promoted", [False, True])
def test_a_version_that_cannot_be_loaded_is_an_error(tmp_path, run, promoted):
    """Whether it was promoted or would be next; the command that answers says so too."""
    registry = registry_of(tmp_path)
    version = publish_chain(registry, 1)
    if promoted:
        promote(tmp_path, config_of(tmp_path), "near", version)
    for path in (registry.folder / "near" / version).iterdir():
        if path.suffix != ".json":
            path.write_bytes(b"\0" * path.stat().st_size)
    status, out, said = run("check")
    assert status == 1
    assert "cannot be loaded" in out + said or "is refused" in out + said
    status, _, said = run("recommend", "home", "--user", "ann")
    assert status == 0
    assert "warning: model near: " in said
    assert version in said


def test_what_a_part_of_ones_own_breaks_is_no_lack_of_a_model(tmp_path, run):
    """A part that names no model and fails is a problem, with whichever error."""
    path = tmp_path / "components.py"
    path.write_text(path.read_text().replace("return (self.model,)", "return ()"))
    status, out, _ = run("check", "--json")
    assert status == 1
    assert any("ModelUnavailable" in each["problem"] for each in json.loads(out)["findings"])
