import json

import pytest

from midstream.core.kinds import Operation
from midstream.engine.folder import DataFolder
from midstream.events.values import merged_id
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import LOOK_S, KeyWatch
from midstream.serving.console import routes as console_routes
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import RequestOrigin
from tests.support.fakes.engine import FakeEngine

NOW_MS = 1_800_000_000_000


class Clocks:
    """Clocks that stand until a test moves them."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds

    def wall_ms(self):
        return NOW_MS + int((self.seconds - 1_000.0) * 1_000)

    def look(self):
        """Go on until the file is looked at again."""
        self.seconds += LOOK_S


class Ids:
    """Ids of the events that an engine was given, and those that a test takes for merged."""

    def __init__(self, engine, merged):
        self.engine = engine
        self.merged = merged
        self.table_size = 200_000

    def merges(self):
        return [each for each in self.engine.events if each.operation == Operation.MERGE]

    def is_merged(self, user_id):
        return user_id in self.merged or any(merged_id(each.body) == user_id for each in self.merges())

    def is_known(self, user_id):
        return any(each.user_id == user_id for each in self.engine.events)

    def merged_count(self, user_id):
        return sum(each.user_id == user_id for each in self.merges())

    def merged_max(self):
        return self.table_size


class KeyedClient:
    """Asks an app behind the gate of keys, with the keys of a folder."""

    def __init__(self, client, folder, options=None, tokens=None):
        options = options or ServerOptions(allow_hosts=("test",))
        self.client = client
        self.file = KeyFile(folder)
        self.clocks = client.engine.clocks
        self.behind = client.app._app
        self.watch = KeyWatch(self.file, self.clocks.monotonic, self.clocks.wall_ms, tokens=tokens)
        self.merged: set[str] = set()
        self.users = Ids(client.engine, self.merged)
        self.gate = KeyGate(self.behind, self.watch, options, self.users)
        client.app = RequestOrigin(self.gate, options)

    def make(self, *scopes, name="", **wish):
        """Make a key that the gate knows already; return its text."""
        made = self.file.create(
            KeyWish(name or f"k{len(self.keys)}", scopes, **wish), self.clocks.wall_ms(), "cli:test"
        )
        self.look()
        return made.key

    def look(self):
        """Have the file looked at."""
        self.clocks.look()
        return self.watch.ring()

    @property
    def keys(self):
        stored = self.file.read()
        return stored.keys if stored else ()

    def ask(self, key, method, path, body=None, headers=(), **options):
        sent = {"authorization": f"Bearer {key}"} if key else {}
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.client.ask(method, path, content=content, headers={**sent, **dict(headers)}, **options)


class TimedEngine(FakeEngine):
    """An engine whose wall clock is that of the keys."""

    def __init__(self, clocks):
        super().__init__()
        self.clocks = clocks

    def clock(self):
        return self.clocks.wall_ms()


@pytest.fixture
def engine():
    """An engine made of dicts."""
    return TimedEngine(Clocks())


@pytest.fixture
def client(make_client, engine, tmp_path):
    """An app that has the file of the keys."""
    return make_client(engine, data=DataFolder(tmp_path / "data"))


@pytest.fixture(autouse=True)
def ended_streams(monkeypatch):
    """The stream of live figures ends when it begins: a test that reads it to its end would wait for a minute."""
    monkeypatch.setattr(console_routes, "STREAM_S_MAX", 0)


@pytest.fixture
def keyed(client, tmp_path):
    """An app behind the gate, without a key so far."""
    return KeyedClient(client, tmp_path / "data")


@pytest.fixture
def make_keyed(client, tmp_path):
    """Put the gate in front of an app, with options."""

    def made(tokens=None, **options):
        return KeyedClient(client, tmp_path / "data", ServerOptions(allow_hosts=("test",), **options), tokens)

    return made
