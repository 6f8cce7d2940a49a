"""Versions of placements: what control events said, however the log is cut, written down or said again."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.control import placements
from midstream.state.control.placements import (
    Placements,
    PlacementVersion,
    encode_placement,
    placement_body,
    placement_of,
)
from midstream.state.fold import Fold
from midstream.state.ids.event_ids import EventAdmission, EventIds
from midstream.state.restate import restated
from tests.support.events import cuts, event_batches, tiny_settings
from tests.support.ids import KEY

SETTINGS = tiny_settings()
SMALL = {"PLACEMENTS_MAX": 2, "VERSIONS_MAX": 3, "BYTES_MAX": 100}


def folded(batch: EventBatch, at: list[int] | None = None) -> Fold:
    """Fold a batch, in pieces."""
    fold = Fold(SETTINGS)
    for start, stop in pairwise([0, *(at or []), len(batch)]):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def plain(batch: EventBatch) -> list[PlacementVersion]:
    """The same in plain Python, as long as nothing has to make room: the twin."""
    found: dict[str, list[PlacementVersion]] = {}
    ids = EventIds(SETTINGS.limits.event_ids_max, KEY)
    admitted = ids.admit(ids.fingerprints(batch), batch.rows["log_time_ms"].copy()).tolist()
    for place in range(len(batch)):
        event = event_at(batch, place)
        said = (
            placement_of(event.body) if event.kind == Kind.CONTROL and admitted[place] == EventAdmission.NEW else None
        )
        if said is not None and said.version > max((each.version for each in found.get(said.name, [])), default=0):
            text = (said.content, said.sha256, said.author, said.note)
            row = PlacementVersion(said.name, said.version, *text, place, event.log_time_ms)
            found.setdefault(said.name, []).append(row)
    return [row for name in sorted(found) for row in found[name]]


def said(name: str, version: int, content: str) -> Event:
    """Return the event that says something of a placement."""
    body = encode_placement(placement_body(name, version, content, "ann", ""))
    return Event(Kind.CONTROL, body=body, log_time_ms=1_000)


@given(st.data())
def test_a_placement_has_the_versions_that_were_said(data: st.DataObject) -> None:
    """Rows equal those of plain Python, in any pieces; a fold restored from its arrays has the same digest."""
    batch = data.draw(event_batches(people=True))
    fold = folded(batch, data.draw(cuts(len(batch))))
    assert list(fold.placements.rows) == plain(batch)
    again = Fold(SETTINGS)
    again.restore(fold.arrays())
    assert again.placements.rows == fold.placements.rows
    assert again.placements.bytes_now == fold.placements.bytes_now
    assert again.digest() == fold.digest()


@given(event_batches(people=True))
def test_versions_outlive_the_events_that_made_them(batch: EventBatch) -> None:
    """A fold that begins with what is said again knows each version that was kept, with its number and its author."""
    fold = folded(batch)
    told = restated(fold, [batch]).events
    again = Fold(SETTINGS)
    again.begin_with(LogPosition(fold.log_position + len(told)), len(told), [told])
    assert [row[:6] for row in again.placements.rows] == [row[:6] for row in fold.placements.rows]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x" * 20, "y" * 40, "z" * 90])), max_size=30))
def test_bounds_hold_and_what_is_said_now_stays(changes: list[tuple[str, str]]) -> None:
    """Whatever comes: bounds hold, what a placement says now is never what goes, and what found no place is counted."""
    table, now, refused = Placements(), dict[str, str](), 0
    with pytest.MonkeyPatch.context() as patch:
        for bound, value in SMALL.items():
            patch.setattr(placements, bound, value)
        for place, (name, content) in enumerate(changes):
            before = table.versions(name)
            body = placement_body(name, before[-1].version + 1 if before else 1, content, "ann", "")
            taken = table.takes(body)
            event = build([Event(Kind.CONTROL, body=encode_placement(body), log_time_ms=place)])
            fold = Fold(SETTINGS)
            fold.placements.apply = table.apply  # type: ignore[method-assign]
            fold.begin_with(LogPosition(place + 1), 1, [event])
            refused += not taken
            now |= {name: content} if taken else {}
            known = {row.name: row.content for row in table.current}
            assert known == {each: now[each] for each in known}
            assert all(not now[each] for each in now.keys() - known.keys())
            assert len(table) <= 2
            assert all(len(table.versions(each)) <= 3 for each in known)
            assert sum(row.text_bytes for row in table.rows) <= 100
            assert table.refused_count == refused


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_version_that_is_not_the_next_is_passed_by(number: int) -> None:
    """Of two who wrote after the same version the first wins; the other is counted and changes nothing."""
    fold = folded(build([said("home", 1, "a"), said("home", 2, "b"), said("home", number, "c")]))
    assert [row.content for row in fold.placements.rows] == ["a", "b"]
    assert fold.counts()["control_refused"] == 1


@pytest.mark.parametrize(
    "change",
    [{"sha256": "0" * 64}, {"content": "x" * 65_537}, {"author": "é" * 513}, {"name": ""}, {"change": "other"}],
)
def test_what_does_not_hold_is_passed_by(change: dict[str, str]) -> None:
    """A content that is not the one of its hash, a text that is too long, no name: counted once."""
    body = msgspec.structs.replace(placement_body("home", 1, "a", "ann", ""), **change)
    if "content" in change:
        body = placement_body("home", 1, change["content"], "ann", "")
    fold = folded(build([Event(Kind.CONTROL, body=encode_placement(body), log_time_ms=1_000)]))
    assert (len(fold.placements), fold.counts()["control_refused"]) == (0, 1)
