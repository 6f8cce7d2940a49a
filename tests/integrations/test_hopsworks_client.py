"""The fake of Hopsworks has the signatures of the client's own source, and each call that is made fits them."""

import ast
import inspect
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.feature_stores.feast_repository import RepositoryOptions, write_repository
from midstream.core.errors import Invalid
from midstream.integrations.hopsworks import feature_groups, fetch
from midstream.integrations.hopsworks.feature_groups import insert_history
from tests.support.fakes.hopsworks import FakeFeatureView, FakeLibrary
from tests.support.feast_shop import VIEWS, write_shop
from tests.support.libraries import library
from tests.support.services.beside import BESIDE

SOURCES = {
    "login": ("hopsworks/__init__.py", None),
    "get_feature_store": ("hopsworks_common/project.py", "Project"),
    "get_feature_view": ("hsfs/feature_store.py", "FeatureStore"),
    "init_serving": ("hsfs/feature_view.py", "FeatureView"),
    "get_feature_vectors": ("hsfs/feature_view.py", "FeatureView"),
    "get_or_create_feature_group": ("hsfs/feature_store.py", "FeatureStore"),
    "insert": ("hsfs/feature_group.py", "FeatureGroup"),
}
"""Where each call that is made is defined in the client: file and class."""


@pytest.fixture
def client():
    """The folder of the client's source."""
    return BESIDE["hopsworks"].required()


def parameters(folder: Path, name: str) -> dict[str, str | None]:
    """Names of the parameters of a function of the client, with their defaults as source; None = there is none."""
    path, of = SOURCES[name]
    tree = ast.parse((folder / path).read_text("utf-8"))
    body = tree.body
    if of is not None:
        body = next(each.body for each in body if isinstance(each, ast.ClassDef) and each.name == of)
    found = next(each for each in body if isinstance(each, ast.FunctionDef) and each.name == name)
    told = found.args
    plain = [*told.posonlyargs, *told.args]
    defaults = [None] * (len(plain) - len(told.defaults)) + [ast.unparse(each) for each in told.defaults]
    later = [None if each is None else ast.unparse(each) for each in told.kw_defaults]
    names = [each.arg for each in (*plain, *told.kwonlyargs)]
    return {key: value for key, value in zip(names, [*defaults, *later], strict=True) if key != "self"}


@pytest.mark.integration
@pytest.mark.parametrize(
    "fake, name",
    [
        (FakeLibrary, "login"),
        (FakeLibrary, "get_feature_store"),
        (FakeLibrary, "get_feature_view"),
        (FakeFeatureView, "init_serving"),
        (FakeFeatureView, "get_feature_vectors"),
    ],
)
def test_a_fake_takes_what_the_client_takes(client, fake, name):
    """Each parameter of the fake is one of the client, with the same default."""
    theirs = parameters(client, name)
    for key, own in list(inspect.signature(getattr(fake, name)).parameters.items())[1:]:
        assert key in theirs, f"{name} has no {key}"
        default = None if own.default is inspect.Parameter.empty else repr(own.default)
        assert theirs[key] == default, f"{name}({key}={theirs[key]})"


def calls(module, name):
    """Keywords of each call of a name in one of our modules."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield [each.arg for each in node.keywords if each.arg], len(node.args)


@pytest.mark.integration
@pytest.mark.parametrize("name", SOURCES)
def test_each_call_fits_the_clients_signature(client, name):
    """All keywords are parameters of it, and all parameters without a default are given."""
    theirs = parameters(client, name)
    made = [each for module in (fetch, feature_groups) for each in calls(module, name)]
    assert made, name
    for keywords, positional in made:
        given = {*list(theirs)[:positional], *keywords}
        assert given <= theirs.keys(), name
        assert {key for key, default in theirs.items() if default is None} <= given, name


@pytest.mark.integration
@pytest.mark.parametrize("error", ["RestAPIError", "FeatureStoreException"])
def test_errors_are_where_they_are_looked_for(client, error):
    """The module that re-exports them is that of the client."""
    assert re.search(rf"^class {error}\(", (client / "hopsworks_common/client/exceptions.py").read_text(), re.MULTILINE)
    assert (client / "hopsworks/client").is_dir() or (client / "hopsworks/client.py").exists()


class FakeGroup:
    """``hsfs.feature_group.FeatureGroup``."""

    def __init__(self):
        self.frames = []

    def insert(self, features, *, wait=False):
        assert not wait
        self.frames.append(features)


class FakeStore:
    """``hsfs.feature_store.FeatureStore``."""

    def __init__(self):
        self.groups = {}
        self.options = {}

    def get_or_create_feature_group(self, name, version, **options):
        self.options[name, version] = options
        return self.groups.setdefault(name, FakeGroup())


@pytest.mark.integration
def test_history_is_inserted_view_by_view(tmp_path, monkeypatch):
    """Keys, times and values of each view, in pieces; the view of everybody has a key of its own."""
    library("pandas")
    monkeypatch.setattr(feature_groups, "ROWS_MAX", 100)
    write_shop(tmp_path / "shop", 300)
    told = write_repository(tmp_path / "shop", tmp_path / "repository", RepositoryOptions())
    store = FakeStore()
    assert insert_history(store, tmp_path / "repository", version=3, online_enabled=False) == told.rows
    for view, (keys, columns) in VIEWS.items():
        options = store.options[f"midstream_{view}", 3]
        assert options["primary_key"] == list(keys) or (view, options["primary_key"]) == ("shop", ["shop"])
        assert (options["event_time"], options["online_enabled"]) == ("event_timestamp", False)
        frames = store.groups[f"midstream_{view}"].frames
        assert all(len(each) <= 100 for each in frames)
        table = pa.concat_tables(pa.Table.from_pandas(each, preserve_index=False) for each in frames)
        written = pq.read_table(tmp_path / "repository" / "data" / f"{view}.parquet")
        assert table.select([*keys, *columns]).to_pylist() == written.select([*keys, *columns]).to_pylist()
        assert set(table["shop"].to_pylist()) == {"shop"} if view == "shop" else "shop" not in table.column_names


def test_a_folder_without_an_export_is_refused(tmp_path):
    """With what is right."""
    with pytest.raises(Invalid, match="midstream feast export"):
        insert_history(FakeStore(), tmp_path)
