"""``/v1/models``: what is known, what is promoted, and what stands against it, each with its status."""

import re

import pytest

from midstream.core.errors import ArtifactInvalid, ExtraMissing, Fault, ModelUnfit, Overloaded
from midstream.serving.app import asgi


def test_models_are_shown_promoted_and_rolled_back(client):
    """A change answers with the model as it is then; a body without fields, or none, means the newest champion."""
    (model,) = client.get("/v1/models").json()["models"]
    first = model["serving"]
    assert client.get("/v1/models/near").json() == model
    second = client.post("/v1/models/near/promote", {"version": "2", "alias": "champion"}).json()
    assert (second["serving"], second["previous"]) == (model["previous"]["champion"], {"champion": first})
    assert client.post("/v1/models/near/rollback", b"").json()["serving"] == first
    assert client.post("/v1/models/near/promote", {}).json()["serving"] != first


@pytest.mark.parametrize("body", [b"[]", b'{"version": 7}', b'{"versoin": "7"}', b"\xff", b'{"alias": null}'])
def test_a_body_that_says_something_else_is_refused(client, body):
    """400, and nothing is changed."""
    before = client.get("/v1/models").json()
    for verb in ("promote", "rollback"):
        problem = client.post(f"/v1/models/near/{verb}", body).json()
        assert problem["status"] == 400
        assert not re.search(r"codec|`str`|`int`", problem["detail"])
    assert client.get("/v1/models").json() == before


def test_failures_have_their_status(client):
    """Unknown models are 404, a refused version is 409, pages of other sites are 403."""
    assert client.get("/v1/models/nobody").status_code == 404
    assert client.post("/v1/models/nobody/promote", {}).status_code == 404
    for failure, status, slug in (
        (ArtifactInvalid("0002: weight.npy does not match its SHA-256"), 409, "model-refused"),
        (
            ModelUnfit((Fault("$.placements.home.scorers[0].name", "came", "right", "/docs/models.md"),)),
            409,
            "model-refused",
        ),
        (ExtraMissing("lightgbm"), 409, "extra-missing"),
        (Overloaded("192 aliases"), 503, "overloaded"),
    ):
        client.champions.failure = failure
        answer = client.post("/v1/models/near/promote", {})
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:midstream:{slug}")
    answer = client.post("/v1/models/near/promote", b"", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_a_server_without_a_folder_says_so(client):
    """404 where no models can be."""
    client.app = asgi(client.engine, client.engine.accept)
    assert client.get("/v1/models").status_code == 404
    assert client.post("/v1/models/near/promote", {}).status_code == 404
