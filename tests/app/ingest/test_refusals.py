"""An import says why rows were refused: unknown items, erased users, a full catalogue, or what a server names."""

import json
from pathlib import Path

import numpy as np
import pytest

from midstream.app.config.schema import Config, ItemsSection
from midstream.app.ingest.import_file import IN_FLIGHT_MAX, import_file
from midstream.app.ingest.refusals import Refusals, ServerRejection
from midstream.cli.data.import_file import print_summary
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.types import Recorded
from midstream.events.json.encode import to_object
from midstream.events.schema import Event, build


def test_reasons_are_counted_apart():
    """Of an engine: rows of erased users, acts on unknown items, items without a place."""
    batch = build(
        [Event(kind=Kind.INTERACTION, user_id="ann", item_id=f"i{n}") for n in range(4)]
        + [Event(kind=Kind.ITEM, item_id="new")]
    )
    refusals = Refusals()
    outcome = np.array([3, 3, 3, 0, 3], dtype=np.uint8)
    refusals.add_refused(batch, Recorded(LogPosition(1), outcome, np.array([0], dtype=np.int32)))
    found = {each.first.came: (each.first.where, each.count) for each in refusals.groups}
    assert found == {
        '"i1" is not known here.': ("item_id", 2),
        "An event of a user who was erased, of a time before that.": ("user_id", 1),
        '"new" has no place: the catalogue is full.': ("item_id", 1),
    }
    assert "ann" not in str(found)


def test_what_a_server_names_is_counted_by_reason():
    """Which row of a request it was says nothing of the file."""
    refusals = Refusals()
    refusals.add_answer(
        [ServerRejection(f"row {n}: /type", '"erase" came.', "A type.", "/docs/events.md") for n in (4, 71)]
    )
    (group,) = refusals.groups
    assert (group.first.where, group.count) == ("type", 2)


def test_an_import_says_that_items_are_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Counted and named, not guessed."""
    rows = [{"type": "view", "user_id": "ann", "item_id": f"i{n}", "time": 1_700_000_000_000 + n} for n in range(3)]
    path = tmp_path / "a.ndjson"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    found = import_file(tmp_path, Config(items=ItemsSection(unknown_items="reject")), path)
    assert found.refused == sum(each.count for each in found.refusals) == 3
    print_summary(found)
    said = capsys.readouterr().out
    assert "3 refused:\nwhere: item_id (first of 3 rows like it)\n" in said
    assert "no reason" not in said


def test_only_the_first_refused_rows_are_named_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With several parts on their way; of all others the count and the reason are told, and that they are not kept."""
    monkeypatch.setattr("midstream.app.rejected_rows.REFUSED_NAMED_MAX", 4)
    monkeypatch.setattr("midstream.app.ingest.import_file.RECORD_ROWS", 3)
    named: list[str] = []

    def told(event: Event) -> dict[str, object]:
        named.append(event.item_id)
        return to_object(event)

    monkeypatch.setattr("midstream.app.ingest.refusals.to_object", told)
    path = tmp_path / "a.csv"
    path.write_text("type,user_id,item_id\nnothing,ann,i\n" + "".join(f"view,ann,i{n}\n" for n in range(60)))
    found = import_file(tmp_path, Config(items=ItemsSection(unknown_items="reject")), path)
    assert found.refused == sum(each.count for each in found.refusals) == 60
    assert (found.rejected, found.rejected_kept) == (1, 1)
    assert 4 <= len(named) <= 4 * IN_FLIGHT_MAX
    *letters, last = (tmp_path / "data" / found.rejected_file).read_text().splitlines()
    assert len(letters) == 5
    assert json.loads(last) == {"rejected_rows": 61, "kept": 5, "not_kept": 56}
