"""Feast reads a shop: live values under its names, pushes as events, and history equal to ``features as-of``."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

import midstream
from midstream.app.feature_stores.feast_repository import RepositoryOptions, write_repository
from midstream.app.feature_stores.value_history import HistoryRange
from midstream.app.server_address import read_address
from midstream.core.durations import Duration
from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.connector import closing_runner
from midstream.integrations.feast.fetch import FeastFetch, FeastFetchOptions
from tests.support.feast_process import FeastFailed, command, environment, opened, run_feast
from tests.support.feast_shop import ITEMS, OF_KEYS_ALONE, START_MS, USERS, VIEWS, write_shop
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.beside import FEAST

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
EVENTS, QUESTIONS = 3_000, 10_000
REFS = [f"{view}:{column}" for view, (_, columns) in VIEWS.items() for column in columns]
COLUMNS = [each.partition(":")[2] for each in REFS]
MOVED_BY_TIME = {"recent_1h", "recent_1d", "recent_fading_2h", "purchase_rate", "idle", "colour_affinity"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a log of the past."""
    FEAST.required()
    folder = tmp_path_factory.mktemp("feast") / "shop"
    write_shop(folder, EVENTS)
    return folder


@pytest.fixture(scope="module")
def server(shop):
    """A server of the folder, asked over HTTP."""
    with serving(shop) as client:
        yield client


@contextmanager
def serving(folder):
    """Serve a folder until the block ends."""
    words = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said)
    try:
        wait_until(lambda: read_address(folder / "data") or process.poll() is not None)
        address = read_address(folder / "data")
        assert address is not None, (folder / "said.txt").read_text()
        with httpx.Client(base_url=address.url, timeout=PATIENCE_S) as client:
            wait_until(lambda: client.get("/health/ready").status_code == 200)
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def repository(shop, server, tmp_path_factory):
    """The repository of the served folder, applied and opened by Feast."""
    assert server.get("/health/ready").status_code == 200
    target = tmp_path_factory.mktemp("repository")
    write_repository(shop, target, RepositoryOptions())
    run_feast("-c", str(target), "apply")
    with opened(target, target / "said.txt") as found:
        yield found


@pytest.fixture(autouse=True)
def feast():
    """Each test of this file is one of Feast, in the version that is there."""
    return FEAST.required()


def test_feast_has_the_views_with_names_and_types_as_exported(repository):
    """Entities, columns and their order, as the registry has them."""
    found = repository.ask("views")
    assert {name: (tuple(each["keys"]), tuple(each["columns"])) for name, each in found.items() if name != "shop"} == {
        name: each for name, each in VIEWS.items() if name != "shop"
    }
    assert tuple(found["shop"]["columns"]) == VIEWS["shop"][1]
    assert {kind for each in found.values() for kind in each["columns"].values()} == {"Float32"}
    assert {kind for each in found.values() for kind in each["key_types"]} == {"String"}


def rows(users, items):
    """Entity rows: each user with each item."""
    pairs = [(user, item) for user in users for item in items]
    return {
        "user_id": [user for user, _ in pairs],
        "item_id": [item for _, item in pairs],
        "session_id": [f"s{user[1:]}-0" for user, _ in pairs],
    }


def read(server, entities):
    """The same by our route, a call for each user and session."""
    found: dict[str, list[float | None]] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(zip(entities["user_id"], entities["session_id"], strict=True)):
        groups.setdefault(key, []).append(place)
    for (user, session), places in groups.items():
        items = [entities["item_id"][each] for each in places]
        body = {"user_id": user, "session_id": session, "items": items}
        answer = server.post("/v1/features/read", json=body).raise_for_status().json()
        for name, at in ((each, answer["features"].index(each)) for each in COLUMNS):
            column = found.setdefault(name, [None] * len(entities["item_id"]))
            for place, item in zip(places, answer["items"], strict=True):
                column[place] = item["values"][at]
    return found


def check_equal(found, expected, names=tuple(COLUMNS)):
    """Hold values of Feast to ours: float32 to the bit, but for what moves between two reads."""
    for name in names:
        told, own = (np.array(each[name], dtype=np.float32) for each in (found, expected))
        if name in MOVED_BY_TIME:
            np.testing.assert_allclose(told, own, rtol=1e-3, atol=60.0 if name == "idle" else 1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(told, own, err_msg=name)


@pytest.mark.parametrize("do", ["online", "online_async"])
def test_online_values_are_those_of_the_server(server, repository, do):
    """Of 20 users with 50 items each, in their order, by a service of all views and by names of columns."""
    entities = rows([f"u{each}" for each in range(20)], [f"i{each}" for each in range(50)])
    found = repository.ask(do, entities=entities)
    expected = read(server, entities)
    check_equal(found, expected)
    assert [found["user_id"], found["item_id"]] == [entities["user_id"], entities["item_id"]]
    some = repository.ask(do, entities=entities, features=["item:views", "user_item:seen"])
    assert set(some) >= {"views", "seen"}
    assert not set(some) & (set(COLUMNS) - {"views", "seen"})
    check_equal(some, expected, ("views", "seen"))
    ended = VIEWS["session"][1] + VIEWS["session_item"][1]
    for name in set(COLUMNS) - set(ended):  # there is something to be compared
        values = {each for each in found[name] if each is not None}
        assert values, name
        assert len(values) > 1 or name in VIEWS["shop"][1] or name in MOVED_BY_TIME, name


def test_an_entity_that_nobody_named_is_not_found(repository):
    """With no time; one that is known has the time of the state."""
    entities = {"item_id": ["i1", "nobody"], "user_id": ["u1", "nobody"]}
    found = repository.ask("proto", entities=entities, features=["item:views", "user:user_views"])
    present, not_found = 1, 3
    assert found["views"]["statuses"] == [present, not_found]
    assert found["user_views"]["statuses"] == [present, not_found]
    assert found["views"]["seconds"][1] == 0
    assert abs(found["views"]["seconds"][0] - time.time()) < 10 * 86_400 or found["views"]["seconds"][0] > 0


def test_full_names_have_the_view(repository):
    """As Feast writes them."""
    found = repository.ask("online", entities={"item_id": ["i1"]}, features=["item:views"], full=True)
    assert set(found) == {"item_id", "item__views"}


def test_values_move_with_every_click(server, shop, repository):
    """The next read sees it, in Feast as here, and as ``features as-of`` of now has it."""
    entities = rows(["u3", "u4"], ["i5", "i6"])
    before = repository.ask("online", entities=entities)
    for number in range(5):
        event = {"type": "view", "user_id": "u3", "session_id": "s3-0", "item_id": "i5", "event_id": f"click{number}"}
        assert server.post("/v1/events", json=event).json()["recorded"] == 1
        found = repository.ask("online", entities=entities)
        assert found["views"] == [
            each + number + 1 if item == "i5" else each
            for each, item in zip(before["views"], entities["item_id"], strict=True)
        ]
        assert found["seen"] == [before["seen"][0] + number + 1, *before["seen"][1:]]
        assert found["user_views"][:2] == [each + number + 1 for each in before["user_views"][:2]]
        assert found["all_views"] == [each + number + 1 for each in before["all_views"]]
        check_equal(found, as_of_now(shop, entities))


def as_of_now(shop, entities):
    """What ``features as-of`` gives for the newest state."""
    count = len(entities["item_id"])
    table = pa.table({**entities, "time": [int(time.time() * 1_000) + 1] * count})
    found = midstream.features_as_of(shop, table)
    return {name: found[name].to_numpy() for name in COLUMNS}


def test_a_push_of_attributes_is_an_event(server, shop, repository):
    """Read at once, in the history from then on and not before, and counted once when it comes again."""
    entities = rows(["u2"], ["i7", "i8"])
    before = repository.ask("online", entities=entities)
    now_ms = int(time.time() * 1_000)
    pushed = {"item_id": ["i7", "i8"], "price": [123.5, None], "fresh": [1.0, 0.0]}
    repository.ask("push", source="item_attributes_push", columns=pushed, time_ms=now_ms)
    repository.ask("push", source="user_profile_push", columns={"user_id": ["u2"], "years": [99.0]}, time_ms=now_ms)
    found = repository.ask("online", entities=entities)
    assert found["price"] == [123.5, before["price"][1]]
    assert found["fresh"] == [1.0, 0.0]
    assert found["years"] == [99.0, 99.0]
    check_equal(found, as_of_now(shop, entities))
    before_repeat = events_by_outcome(server)
    repository.ask("push", source="item_attributes_push", columns=pushed, time_ms=now_ms)
    now = events_by_outcome(server)
    assert now["duplicate"] == before_repeat["duplicate"] + 3
    assert now["recorded"] == before_repeat["recorded"] + 2, "who asked, for each of the two columns, and no value"
    then = historical(repository, [("u2", "i7", now_ms - 60_000), ("u2", "i7", now_ms + 60_000)])
    assert then["price"].to_pylist() == [before["price"][0], 123.5]


def events_by_outcome(server) -> dict[str, float]:
    """Events that the server was sent since its start, by what became of them: served records and ticks are none."""
    text = server.get("/metrics").raise_for_status().text
    families = {each.name: each for each in text_string_to_metric_families(text)}
    samples = families["midstream_events"].samples
    return {each.labels["outcome"]: each.value for each in samples if each.name == "midstream_events_total"}


def pushing(source, to="ONLINE", **columns):
    """A push of one row."""
    told = {name: [value] for name, value in columns.items()}
    return {"do": "push", "source": source, "columns": told, "time_ms": int(time.time() * 1_000), "to": to}


MATERIALIZE = {"do": "materialize", "since_ms": 1_700_000_000_000, "until_ms": 1_790_000_000_000}
"""Of all views, or of those that it names: settable ones alone may be pushed, and are not written from a history."""


@pytest.mark.parametrize(
    "ask, words",
    [
        (pushing("user_push", user_id="u1", user_views=7.0, user_paid=1.0), "made of events"),
        (pushing("item_attributes_push", item_id="i1", price=1.0, fresh=0.5), "0.5 came where a truth is right"),
        (pushing("item_attributes_push", "OFFLINE", item_id="i1", price=1.0, fresh=1.0), "history is the log"),
        (MATERIALIZE, "materialization has nothing"),
        ({**MATERIALIZE, "views": ["item_attributes"]}, "item_attributes: .* materialization has nothing"),
        ({**MATERIALIZE, "views": ["user_profile"]}, "user_profile: .* materialization has nothing"),
    ],
)
def test_what_would_be_no_count_of_anything_is_refused(server, repository, ask, words):
    """With the reason and what to do instead; nothing of it is in the log."""

    def position() -> str:
        found: str = server.post("/v1/features/read", json={"items": ["i1"]}).json()["log_position"]
        return found

    def asked() -> bool:
        before = position()
        with pytest.raises(FeastFailed, match=words):
            repository.ask(**ask)
        return position() == before

    assert any(asked() for _ in range(3)), "a tick of the clock comes between at most once"


def test_a_row_without_an_id_has_no_values(repository):
    """The others have theirs; an id that is no text is an error, as it is in the history."""
    found = repository.ask("online", entities={"item_id": ["i1", None, "", "i2"]}, features=["item:views"])
    assert [each is None for each in found["views"]] == [False, True, True, False]
    told = historical(repository, [("u2", "i7", START_MS + 9_000_000), ("u2", None, START_MS + 9_000_000)])
    assert told["views"].is_valid().to_pylist() == [True, False]
    assert told["user_views"].is_valid().to_pylist() == [True, True]
    assert told["seen"].is_valid().to_pylist() == [True, False]


def historical(repository, asked, **told):
    """Values of Feast at (user, item, time) questions, in their order."""
    users, items, times = zip(*asked, strict=True)
    frame = {
        "user_id": users,
        "item_id": items,
        "session_id": [f"s{each[1:]}-0" for each in users],
        "event_timestamp": pa.array(times, pa.timestamp("ms", "UTC")),
        "number": list(range(len(asked))),
    }
    place = repository.folder
    pq.write_table(pa.table(frame), place / "questions.parquet")
    out = place / "answers.parquet"
    repository.ask("historical", questions=str(place / "questions.parquet"), out=str(out), **told)
    table = pq.read_table(out)
    return table.take(pa.array(np.argsort(table["number"].to_numpy()), pa.int64()))


@pytest.fixture(scope="module")
def asked(shop):
    """10,000 questions at times of events, right behind them, and between; some of what nobody named."""
    rng = np.random.default_rng(9)
    times = midstream.read_events(shop, kinds=["interaction"])["log_time"].to_numpy()[50 : EVENTS - 50]
    chosen = rng.choice(times, QUESTIONS) + rng.choice([0, 1, 2, 500, 7_200_000], QUESTIONS)
    users = [f"u{each}" for each in rng.integers(0, USERS + 3, QUESTIONS)]
    items = [f"i{each}" for each in rng.integers(0, ITEMS + 3, QUESTIONS)]
    return list(zip(users, items, chosen.tolist(), strict=True))


def as_questions(asked):
    """The same as a table of ``features as-of``."""
    users, items, times = zip(*asked, strict=True)
    return pa.table(
        {"user_id": users, "item_id": items, "session_id": [f"s{each[1:]}-0" for each in users], "time": times}
    )


@pytest.fixture(scope="module")
def ours(shop, asked):
    """Their answers."""
    return midstream.features_as_of(shop, as_questions(asked))


def differing(found, expected, names):
    """Number of rows that differ in each column, where some do: float32 to the bit, null = NaN."""
    told = {}
    for name in names:
        pairs = (np.asarray(each[name].to_numpy(zero_copy_only=False), dtype=np.float32) for each in (found, expected))
        theirs, own = pairs
        told[name] = int(np.sum(~((theirs == own) | (np.isnan(theirs) & np.isnan(own)))))
    return {name: count for name, count in told.items() if count}


def test_history_equals_features_as_of(repository, asked, ours):
    """All columns of 10,000 rows to the bit, in the order of the questions, whatever moves them."""
    found = historical(repository, asked)
    assert not differing(found, ours, COLUMNS)
    assert found["item_id"].to_pylist() == [item for _, item, _ in asked]
    for name in COLUMNS:  # there is something to be compared
        known = np.asarray(ours[name])
        known = known[~np.isnan(known)]
        assert len(known) > QUESTIONS // 50, name
        assert len(np.unique(known)) > 1, name
    full = historical(repository, asked[:50], features=["item:views", "user_item:seen"], full=True)
    assert {"item__views", "user_item__seen"} < set(full.column_names)


@contextmanager
def repository_of_files(shop, target, moments):
    """A repository whose offline store is Feast's own for files."""
    write_repository(shop, target, RepositoryOptions(moments))
    path = target / "feature_store.yaml"
    lines = path.read_text().splitlines()
    kept = [
        each for each in lines if "midstream.feast.offline_store" not in each and not each.startswith("    folder:")
    ]
    path.write_text("\n".join(kept).replace("offline_store:", "offline_store:\n    type: duckdb") + "\n")
    run_feast("-c", str(target), "apply")
    with opened(target, target / "said.txt") as found:
        yield found


def test_feasts_own_join_of_the_history_equals_features_as_of(shop, asked, ours, tmp_path):
    """Of all columns that only events about a key move, at 10,000 moments, most of which no row has."""
    with repository_of_files(shop, tmp_path, HistoryRange()) as files:
        refs = [f"{view}:{each}" for view, names in OF_KEYS_ALONE.items() for each in names]
        found = historical(files, asked, features=refs)
    # Where Feast has no row a count of ours is 0 for an id that was named otherwise.
    zeros = {"views", "user_views", "seen", "visitors", "all_views", "worth"}
    names = [each.partition(":")[2] for each in refs]
    table = {name: filled(found[name], ours[name]) if name in zeros else found[name] for name in names}
    assert not differing(table, ours, names)


def filled(values, expected):
    """Values with 0 where there is no row and ours is 0."""
    told = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float32)
    own = expected.to_numpy()
    return pa.array(np.where(np.isnan(told) & (own == 0), np.float32(0), told))


def test_feasts_own_join_at_the_times_of_a_file_is_exact_for_all_columns(shop, asked, ours, tmp_path):
    """What fades, ages and is of windows too."""
    path = tmp_path / "questions.parquet"
    pq.write_table(as_questions(asked), path)
    with repository_of_files(shop, tmp_path / "files", HistoryRange(path)) as files:
        found = historical(files, asked)
    assert not differing(found, ours, COLUMNS)


def test_a_server_that_is_gone_is_named(shop, tmp_path):
    """With its address."""
    write_repository(shop, tmp_path, RepositoryOptions(url="http://127.0.0.1:1"))
    run_feast("-c", str(tmp_path), "apply")
    said = r"midstream at http://127\.0\.0\.1:1: ConnectError"
    with opened(tmp_path, tmp_path / "said.txt") as found, pytest.raises(FeastFailed, match=said):
        found.ask("online", entities={"item_id": ["i1"]}, features=["item:views"])


@contextmanager
def feature_server(folder):
    """Run Feast's feature server over a repository until the block ends; yield its address."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
    words = command("-c", str(folder), "serve", "--host", "127.0.0.1", "--port", str(port), "--no-access-log")
    with (folder / "served.txt").open("w") as said:
        process = subprocess.Popen(words, env=environment(), stdout=said, stderr=said, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_well(url) or process.poll() is not None)
        assert process.poll() is None, (folder / "served.txt").read_text()
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(PATIENCE_S)


def is_well(url):
    """Whether a server answers."""
    try:
        return httpx.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


def run(work):
    """Run on an event loop of its own, whose connections are closed."""
    with closing_runner() as runner:
        return runner.run(work)


def test_a_fetch_reads_feasts_feature_server(server, repository):
    """Of 200 items in one call; what Feast has is the shop's own here, so values can be compared."""
    ids = [f"i{each}" for each in range(200)]
    expected = read(server, rows(["u1"], ids))
    kinds = {"seen_often": "number", "fresh": "boolean"}
    fields = {"seen_often": "item:views", "fresh": "item_attributes:fresh"}
    with feature_server(repository.folder) as url:
        patient = Duration("60s")
        found = run(FeastFetch(FeastFetchOptions(url, fields=fields, give_up=patient), kinds).fetch(ids))
        assert found["seen_often"] == expected["views"]
        assert found["fresh"] == [None if each is None else bool(each) for each in expected["fresh"]]
        assert any(found["fresh"])
        assert None in found["fresh"]
        unknown = FeastFetchOptions(url, fields={"x": "nothing:x"}, give_up=patient)
        with pytest.raises(StoreUnavailable, match="nothing"):
            run(FeastFetch(unknown, {"x": "number"}).fetch(ids))
