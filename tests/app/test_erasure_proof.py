"""The proof of an erasure: a user who came in by every way, and after the rewrite no byte of them in any file.

Whatever is of the user has one of two words in it that nothing else has. They are looked for in each file of the folder
and of a backup that is made afterwards: as they are, as JSON escapes, in UTF-16, in base64 at each of its three places,
in what Parquet, the log, and what is packed say when they are read.
"""

import asyncio
import gzip
import json
import tarfile
import zlib
from base64 import b64decode, b64encode

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.ingest.import_file import import_file
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import DATA_NAME, Outside, config_of, open_running
from midstream.app.operate.backup import back_up
from midstream.app.training.fit import Fitting, fit_and_publish
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine import child_process
from midstream.engine.engine import EngineOptions
from midstream.engine.erasure.log_rewrite import receipts
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots.base_state import everything
from midstream.engine.types import Ask
from midstream.events.arrow.arrow import decode_arrow
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter, read_letters
from midstream.events.disk import RealDisk
from midstream.events.json.decode import decode, decode_objects
from midstream.events.segments.log_repair import survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.models.model import QUIET
from tests.support.fakes.rebuilds import run_in_process

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
WORDS = ("zqxjk", "\u017e\u0153\u0142\u0111")
ANNA, ANON, MAIL = f"{WORDS[0]}-anna", f"{WORDS[1]} anonymous", f"{WORDS[0]}@example.com"
SESSION, CITY = f"session-{WORDS[0]}", f"{WORDS[1]}-Stadt"
TOML = """
[limits]
users_max = 300
items_max = 300
click_items_max = 300
hot_items_max = 300
event_ids_max = 9999

[items.attributes]
city = "category"

[users]
erase_days_max = 3

[history]
hot = "1d"

[snapshots]
explain_days = 2

[[models]]
name = "taste"
kind = "popular"

[[placements]]
name = "default"
slate_size = 3

[[placements.sources]]
kind = "popular"

[[placements.sources]]
kind = "custom"
path = "crm:Crm"
"""
CRM = """
import msgspec

class Crm(msgspec.Struct, frozen=True):
    name: str = "crm"
    def retrieve(self, moment):
        raise LookupError(f"no row of {moment.query.user_id} of {moment.query.context.get('mail')} in the CRM")
"""


def forms(word):
    """Return the ways in which a word may stand in a file."""
    plain = word.encode()
    found = {plain, json.dumps(word)[1:-1].encode(), word.encode("utf-16-le"), word.encode("utf-16-be")}
    found |= {json.dumps(word)[1:-1].replace("\\", "\\\\").encode()}
    for shift in range(3):
        whole = b64encode(bytes(shift) + plain + bytes(3)).rstrip(b"=")
        # What an unknown byte beside the word has a part in is left out.
        found.add(whole[(0, 2, 3)[shift] : (8 * (shift + len(plain))) // 6])
    return found


FORMS = frozenset().union(*map(forms, WORDS))


def test_the_forms_are_found():
    """Else a proof by not finding them proves nothing."""
    for word in WORDS:
        for text in (word, json.dumps(word), json.dumps(json.dumps(word))):
            assert is_in(f"before {text} behind".encode())
        for coded in ("utf-16-le", "utf-16-be"):
            assert is_in(f"before {word} behind".encode(coded))
        for before in ("", "a", "ab", "abc"):
            packed = b64encode(f"{before}{word}d".encode())
            assert b64decode(packed).decode() == f"{before}{word}d"
            assert is_in(packed)
    assert not is_in(b64encode(bytes(range(256)) * 100))


def is_in(content):
    """Return whether one of the words stands in bytes, in any form."""
    return any(each in content for each in FORMS)


def unpacked(content):
    """Return what is packed in bytes, as far as it is."""
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if content[:4] == b"\x28\xb5\x2f\xfd":
        with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
            yield stream.read()
    if content[:1] == b"\x78":
        try:
            yield zlib.decompress(content)
        except zlib.error:
            return


def named_in(folder):
    """Return the files below a folder in which the user is, by name."""
    found = set()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        contents = [path.name.encode(), path.read_bytes()]
        contents += unpacked(contents[1])
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for column in table.columns:
                if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
                    contents.append(b"\n".join(each for each in column.cast(pa.binary()).to_pylist() if each))
        if any(map(is_in, contents)):
            found.add(path.relative_to(folder).as_posix())
    return found


def is_in_log(data):
    """Return whether the log names the user when it is read, whatever its frames look like."""
    reader = SegmentReader(data.log, RealDisk())
    end = LogPosition(survey_log(data.log, RealDisk()).end)
    return any(is_in(batch.text) for _, batch in everything(reader, end))


def bad_events(accept):
    """Return what becomes a dead letter, in each form in which it may come, and one of somebody else."""
    event = {"type": "viuw", "user_id": ANNA, "item_id": "lamp", "session_id": SESSION, "context": {"mail": MAIL}}
    own = {**event, "user_id": ANON, "attributes": json.dumps({"of": [ANON]}), "city": CITY}
    served = {"type": "served", "content_base64": b64encode(msgspec.msgpack.encode([5, ANNA])).decode()}
    alone = {"type": "viuw", "session_id": SESSION, "item_id": "lamp"}
    other = {"type": "viuw", "user_id": "bob", "item_id": "lamp", "context": {"page": "an annex of anna"}}
    for body in ([event, own, served, alone, other], {**event, "user_id": 7, "context": {ANNA: True}}):
        yield from decode(json.dumps(body).encode(), accept).rejected
    lines = (json.dumps(own, ensure_ascii=False), json.dumps(event)[:-1], f"view,{ANNA},lamp")
    yield from decode("\n".join(lines).encode(), accept, "application/x-ndjson").rejected
    columns = {name: [str(value)] for name, value in event.items() if name != "context"}
    table = pa.RecordBatch.from_pydict(columns)
    yield from decode_arrow(table, accept).rejected


def fill_letters(data, accept):
    """Keep what was refused."""
    letters = DeadLetters(data.dead_letters, RealDisk())
    letters.add([dead_letter(TimestampMs(NOW_MS), each.fault, each.raw) for each in bad_events(accept)])
    assert letters.counts.kept == 10
    letters.close()


OTHERS = ("bob", "eve")


def acts(user, of):
    """Return acts, impressions and an order of a user, who is named wherever a client may name one."""
    mine = {"session_id": user, "context": {"mail": f"{user}@example.com"}}
    own = {"session_id": SESSION, "context": {"mail": MAIL, "city": CITY}}
    told = {"user_id": user, **(mine if user in OTHERS else own)}
    for number in range(4):
        act = {"item_id": f"item-{number}", "event_id": f"{of}-{user}-{number}", **told}
        yield {"type": "view", "request_id": f"of-{user}", **act}
        yield {"type": "impression", **act, "event_id": f"{of}-{user}-{number}-seen"}
    items = [{"item_id": "item-1", "quantity": 2}, {"item_id": "item-2"}]
    yield {"type": "purchase", "items": items, "event_id": f"{of}-{user}", **told}
    if user not in OTHERS:
        yield {"type": "user", "user_id": user, "attributes": {"mail": MAIL, "city": CITY, "of": [{"who": user}]}}
        yield {"type": "view", "session_id": SESSION, "item_id": "item-4", "event_id": f"{of}-nobody"}


def asked(user):
    """Return what a user asks for."""
    if user in OTHERS:
        return Ask(user_id=user, session_id=user)
    return Ask(
        user_id=user, session_id=SESSION, context={"mail": MAIL}, exclude=(MAIL,), filter=f'item.city != "{CITY}"'
    )


def import_rejects(folder, config):
    """Import a file of which rows of the user are refused."""
    rows = (f"{ANNA},lamp,soon", f"{ANNA},lamp", f'{ANON},lamp,"{MAIL}"', "bob,lamp,soon")
    good = f"bob,lamp,{NOW_MS - 72 * HOUR_MS}"
    path = folder.parent / "clicks.csv"
    path.write_text("user_id,item_id,time\n" + "\n".join((*rows, good)) + "\n")
    summary = import_file(folder, config, path, ColumnOptions(constants={"type": "view"}))
    assert summary.rejected == len(rows)
    path.unlink()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop into which the user came in every way, with history, hourly snapshots and a trained model; and a clock."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "midstream.toml").write_text(TOML)
    (folder / "crm.py").write_text(CRM)
    import_rejects(folder, config_of(folder))
    clock = [NOW_MS - 48 * HOUR_MS]
    asyncio.run(fill(folder, clock))
    fit_and_publish(Fitting(folder, config_of(folder), "taste", made_ms=1), QUIET)
    return folder, clock


def batch_of(running, events):
    """Return events as a client sends them."""
    accept = msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock())
    decoded = decode_objects(list(events), accept)
    assert not decoded.rejected, decoded.rejected[0].fault
    return decoded.batch


async def fill(folder, clock):
    """Let two days go by in which two ids act, are served, and become one user, with all files that others have too."""
    running = open_running(folder, config_of(folder), EngineOptions(), Outside(clock=lambda: TimestampMs(clock[0])))
    await running.start()
    assert running.snapshotter
    assert running.sealer
    record = running.engine.record
    items = [{"type": "item", "item_id": f"item-{number}", "attributes": {"city": "Ulm"}} for number in range(7)]
    await record(batch_of(running, items))
    for hour in range(0, 49, 6):
        clock[0] = NOW_MS - (48 - hour) * HOUR_MS
        for user in (ANON, ANNA, *OTHERS):
            await record(batch_of(running, acts(user, f"{hour}")))
            await running.engine.recommend(asked(user))
        running.engine.flush_served()
        assert await running.snapshotter.write(compare=True)
    merge = {"type": "user", "user_id": ANNA, "operation": "merge", "attributes": {"from": ANON}}
    await record(batch_of(running, [merge]))
    assert await running.sealer.seal(hurried=True)
    fill_letters(DataFolder(folder / DATA_NAME), running.service.accept)
    await running.stop()


async def erase(folder, clock):
    """Erase the user and have the log rewritten, while others act."""
    running = open_running(folder, config_of(folder), EngineOptions(), Outside(clock=lambda: TimestampMs(clock[0])))
    await running.start()
    assert running.eraser
    assert running.snapshotter
    due = await running.engine.erase(ANON)
    assert due.ids_count == 2
    clock[0] += HOUR_MS
    await running.engine.record(batch_of(running, [{"type": "view", "user_id": "bob", "item_id": "item-1"}]))
    assert await running.snapshotter.write(compare=True)
    await running.eraser.begin(hurried=True)
    assert running.eraser.view.state == "done", running.eraser.view
    told = running.engine.metrics.text() + msgspec.json.encode(running.engine.health())
    await running.stop()
    return told


def test_no_byte_of_an_erased_user_is_in_any_file(shop, capfd):
    """Log, history, snapshots of every hour, records of slates with failed parts, letters, rejected rows, models,
    receipts, settings; a backup that is made then; what is said on standard error, in metrics and in health.
    """
    folder, clock = shop
    data = DataFolder(folder / DATA_NAME)
    before = named_in(folder)
    kinds = {name.split("/")[1] for name in before}
    assert kinds == {"log", "snapshots", "dead-letters.ndjson", "import-rejected.ndjson"}, before
    assert any(name.endswith(".parquet") for name in before)
    assert is_in_log(data)
    names = {path.name for path in data.snapshots.iterdir()}
    assert len(names) > 5
    assert len(list((data.models / "taste").iterdir())) == 1
    told = asyncio.run(erase(folder, clock))
    assert named_in(folder) == set()
    assert not is_in_log(data)
    assert not is_in(told)
    said = capfd.readouterr()
    assert not is_in((said.out + said.err).encode())
    assert not names & {path.name for path in data.snapshots.iterdir()}
    (receipt,) = receipts(data)
    assert (receipt.dead_letters, receipt.import_rejected) == (9, 3)
    left = [letter.raw for letter in read_letters(data.dead_letters, RealDisk())]
    assert ["bob" in raw for raw in left] == [True]
    assert ["bob" in letter.raw for letter in read_letters(data.import_rejected, RealDisk())] == [True]
    back_up(folder, folder.parent / "after.tar")
    with tarfile.open(folder.parent / "after.tar") as tar:
        tar.extractall(folder.parent / "after", filter="data")
    assert len(list((folder.parent / "after").rglob("*"))) > 10
    assert named_in(folder.parent / "after") == set()
