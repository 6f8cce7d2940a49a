"""Feast repository of a shop: store configuration, definitions and the Parquet history that they name.

It is text that ``feast apply`` reads; Feast itself is not needed to write it. Types are those that are served: ids are
strings, values float32.

Reference: https://docs.feast.dev/reference/feature-repository
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from midstream.app.feature_stores.entity_views import KEYS, PAGE, TIMESTAMP, EntityView, views_of
from midstream.app.feature_stores.value_history import HistoryRange, write_history
from midstream.app.opening import DATA_NAME
from midstream.app.point_in_time.api import past_of
from midstream.app.server_address import read_address
from midstream.core.errors import Fault, Invalid
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.events.whole_file import OPEN_MODE, WholeFile
from midstream.integrations.feast.tags import BOOLEAN, COMPUTED, FEATURE_TAG, FORM_TAG, SETTABLE, VIEW_TAG

STORE_FILE, DEFINITIONS_FILE, DATA, VIEWS_FILE = "feature_store.yaml", "features.py", "data", "views.json"
SERVICE = "midstream"
"""Name of the feature service with all views."""
DEFAULT_URL = "http://127.0.0.1:8000"
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,62}")
_MARK = '"""Feast definitions of the features of a midstream shop'
"""Begins a file of definitions that may be replaced."""


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """Options of the command."""

    moments: HistoryRange = field(default_factory=HistoryRange)
    features: tuple[str, ...] | None = None
    """Names of features; None = all."""
    url: str = ""
    """Address of the server that answers; empty = the one that has the folder open, or the default."""
    project: str = ""
    """Name of the Feast project; empty = made of the folder's name."""
    config: Path | None = None
    """Declares the features; None = that of the folder."""


@dataclass(frozen=True, slots=True)
class RepositorySummary:
    """Result of an export."""

    project: str
    url: str
    rows: Mapping[str, int]
    """Of the history of each view."""
    left_out: tuple[str, ...]
    """Columns that read the request, which no view has."""
    is_store_kept: bool = False
    """Whether ``feature_store.yaml`` was there, and stays as it is."""


class ViewTable(msgspec.Struct, frozen=True):
    """What is known of a file of history, for other feature stores than Feast."""

    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    timestamp: str = TIMESTAMP


def write_repository(
    folder: Path, target: Path, options: RepositoryOptions, notify: Notify = nobody
) -> RepositorySummary:
    """Write a Feast repository; the folder is made if it is not there.

    A registry and the store configuration stay, with what was changed in it. Definitions and history that were written
    here are replaced.

    Raises:
        Invalid: Options or features are not as they should be, or files of others would be replaced.
    """
    project = _project_of(folder, options.project)
    _refuse_replacing(folder, target)
    past = past_of(folder, options.config)
    found = views_of(past.declared, options.features)
    data = target / DATA
    data.mkdir(parents=True, exist_ok=True)
    rows = write_history(folder, past, found.views, options.moments, data, notify)
    url = options.url or _url_of(folder)
    tables = [ViewTable(each.name, each.keys, tuple(each.columns)) for each in found.views]
    _write(data / VIEWS_FILE, msgspec.json.format(msgspec.json.encode(tables), indent=1).decode() + "\n")
    is_kept = (target / STORE_FILE).exists()
    if not is_kept:
        _write(target / STORE_FILE, store_text(project, url, folder.absolute(), options.config))
    _write(target / DEFINITIONS_FILE, definitions_text(found.views))
    return RepositorySummary(project, url, rows, found.left_out, is_kept)


def _project_of(folder: Path, named: str) -> str:
    project = named or re.sub(r"\W+", "_", folder.absolute().name).strip("_") or "shop"
    if not _PROJECT.fullmatch(project):
        right = "Letters, digits and _, up to 63, and no _ at the beginning."
        raise Invalid((Fault("--project", f'"{project[:80]}" came.', right, PAGE),))
    return project


def _refuse_replacing(folder: Path, target: Path) -> None:
    """Raise ``Invalid`` where files are there that were not written here, or data of an engine."""
    data = target / DATA
    is_inside = target.resolve().is_relative_to((folder / DATA_NAME).resolve())
    has_log = any(DataFolder(each).log.exists() for each in (target, data))
    if is_inside or has_log or target.resolve() == folder.resolve():
        came = f"{target} is the folder of a shop."
        raise Invalid((Fault("DIR", came, "A folder of its own, such as repository.", PAGE),))
    definitions = target / DEFINITIONS_FILE
    is_own = definitions.is_file() and definitions.read_text("utf-8", "replace").startswith(_MARK)
    others = [each for each in (STORE_FILE, DEFINITIONS_FILE) if (target / each).exists()]
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        others.append(DATA)
    if others and not is_own:
        came = f"{target} has {' and '.join(others)} of another repository."
        raise Invalid((Fault("DIR", came, "An empty folder, or one that this command has written.", PAGE),))


def _url_of(folder: Path) -> str:
    address = read_address(DataFolder(folder / DATA_NAME).root)
    return DEFAULT_URL if address is None else address.url


def _write(path: Path, text: str) -> None:
    with WholeFile(path, OPEN_MODE) as file:
        file.write(text.encode())


def store_text(project: str, url: str, folder: Path, config: Path | None = None) -> str:
    """Return ``feature_store.yaml``. A text in JSON is one in YAML."""
    lines = [
        f"project: {json.dumps(project)}",
        "provider: local",
        "registry: data/registry.db",
        "online_store:",
        "    type: midstream.feast.online_store.MidstreamOnlineStore",
        f"    url: {json.dumps(url)}",
        "offline_store:",
        "    type: midstream.feast.offline_store.MidstreamOfflineStore",
        f"    folder: {json.dumps(str(folder))}",
        *([] if config is None else [f"    config: {json.dumps(str(config.absolute()))}"]),
        "entity_key_serialization_version: 3",
    ]
    return "\n".join(lines) + "\n"


def definitions_text(views: Sequence[EntityView]) -> str:
    """Return ``features.py``: entities, a view and a push source each, and one service of all."""
    owners = [each for each in KEYS if any(each in view.owners for view in views)]
    lines = [
        f"{_MARK}: written by `midstream feast export`, which replaces it.",
        "",
        "Values that change with every event are read from the server (online store) and from its log (offline store).",
        '"""',
        "",
        "from datetime import timedelta",
        "from pathlib import Path",
        "",
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType",
        "from feast.types import Float32",
        "",
        f'DATA = Path(__file__).parent / "{DATA}"',
        "",
    ]
    for each in owners:
        told = f'name="{each}", join_keys=["{KEYS[each]}"], value_type=ValueType.STRING'
        lines.append(f"{each}_entity = Entity({told})")
    for view in views:
        lines += ["", *_view_lines(view)]
    names = ", ".join(f"{each.name}_view" for each in views)
    lines += ["", f'service = FeatureService(name="{SERVICE}", features=[{names}])']
    return "\n".join(lines) + "\n"


def _view_lines(view: EntityView) -> list[str]:
    name = view.name
    tags = {VIEW_TAG: SETTABLE if view.is_settable else COMPUTED}
    return [
        f"{name}_history = FileSource(",
        f'    name="{name}_history", path=str(DATA / "{name}.parquet"), timestamp_field="{TIMESTAMP}"',
        ")",
        f'{name}_push = PushSource(name="{name}_push", batch_source={name}_history)',
        f"{name}_view = FeatureView(",
        f'    name="{name}",',
        f"    entities=[{', '.join(f'{each}_entity' for each in view.owners)}],",
        "    ttl=timedelta(0),",
        "    schema=[",
        *(
            f'        Field(name="{each}", dtype=Float32, tags={json.dumps(_tags(view, each))}),'
            for each in view.columns
        ),
        "    ],",
        f"    source={name}_push,",
        f"    tags={json.dumps(tags)},",
        ")",
    ]


def _tags(view: EntityView, column: str) -> dict[str, str]:
    told = {FEATURE_TAG: view.columns[column]}
    return {**told, FORM_TAG: BOOLEAN} if view.is_settable and column in view.truths else told
