"""Programs of docs/tasks/web-frameworks.md run as they are printed, and do what the page says."""

import importlib
import sys

import pytest
from fastapi.testclient import TestClient

from tests.support.pages import ROOT, blocks

PAGE = ROOT / "docs" / "tasks" / "web-frameworks.md"
VIEW = {"type": "view", "session_id": "s1", "item_id": "lamp", "event_id": "1"}
PROGRAMS = {block.file: block.text for block in blocks(PAGE) if block.language == "python"}


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Import a program of the page in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        path = tmp_path / name
        path.write_text(PROGRAMS[name])
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
        return importlib.import_module(path.stem)

    return load


def test_each_program_is_run_here():
    """A new one on the page wants a test here, or, for Flask, in tests/integrations/test_flask.py."""
    assert set(PROGRAMS) == {"shop_app.py", "mounted_app.py", "flask_app.py", "gunicorn.conf.py"}


def test_routes_of_the_application(loaded):
    """Shoppers have two routes, operators all, each with a key of their own; all are in the document."""
    with TestClient(loaded("shop_app.py").app, base_url="http://localhost") as client:
        shopper, operator = {"x-key": "public"}, {"x-key": "secret"}
        assert client.post("/v1/events", json=VIEW, headers=shopper).json()["recorded"] == 1
        assert client.get("/v1/recommendations?session_id=s2", headers=shopper).json()["items"][0]["id"] == "lamp"
        assert client.get("/v1/items/lamp", headers=shopper).status_code == 404
        assert client.get("/operation/v1/items/lamp", headers=shopper).status_code == 401
        assert client.get("/operation/v1/items/lamp", headers=operator).json()["item_id"] == "lamp"
        paths = client.get("/openapi.json").json()["paths"]
        assert {"/v1/events", "/v1/recommendations", "/operation/v1/events", "/operation/health/ready"} <= set(paths)


def test_a_mount_in_another_framework(loaded):
    """With a key in front, and the pages of midstream below it."""
    with TestClient(loaded("mounted_app.py").app, base_url="http://localhost") as client:
        key = {"x-key": "secret"}
        assert client.post("/recommendations/v1/events", json=VIEW).status_code == 401
        assert client.post("/recommendations/v1/events", json=VIEW, headers=key).json()["recorded"] == 1
        assert client.get("/recommendations/docs/http.md", headers=key).text.startswith("# HTTP")
        document = client.get("/recommendations/openapi.json", headers=key).json()
        assert document["servers"] == [{"url": "/recommendations"}]
