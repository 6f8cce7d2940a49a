"""Aliases of models: what the last control event said, however the log is cut, written down or said again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.control import promotions
from midstream.state.control.control_change import change_of
from midstream.state.control.promotions import Promotion, promotion_body
from midstream.state.fold import Fold
from midstream.state.ids.event_ids import EventAdmission, EventIds
from midstream.state.restate import restated
from tests.support.events import cuts, event_batches, tiny_settings
from tests.support.ids import KEY

SETTINGS = tiny_settings()


def folded(batch: EventBatch, at: list[int] | None = None) -> Fold:
    """Fold a batch, in pieces."""
    fold = Fold(SETTINGS)
    for start, stop in pairwise([0, *(at or []), len(batch)]):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def plain(batch: EventBatch) -> tuple[list[Promotion], int]:
    """The same in plain Python: the twin. What is a copy of another event is said by the window of ids."""
    found: dict[tuple[str, str], Promotion] = {}
    ids, refused = EventIds(SETTINGS.limits.event_ids_max, KEY), 0
    admitted = ids.admit(ids.fingerprints(batch), batch.rows["log_time_ms"].copy()).tolist()
    for place in range(len(batch)):
        event = event_at(batch, place)
        if event.kind != Kind.CONTROL or admitted[place] != EventAdmission.NEW:
            continue
        if change_of(event.body) == "placement":
            continue
        said = promotions.promotion_of(event.body)
        if said is None:
            refused += 1
            continue
        before = found.get((said.model, said.alias))
        if before is None:
            if said.version or said.manifest:
                row = Promotion(said.model, said.alias, said.version, said.manifest, "", "", place, event.log_time_ms)
                found[said.model, said.alias] = row
        elif (before.version, before.manifest) == (said.version, said.manifest):
            found[said.model, said.alias] = before._replace(position=place, log_time_ms=event.log_time_ms)
        else:
            found[said.model, said.alias] = before._replace(
                version=said.version,
                manifest=said.manifest,
                previous=before.version,
                previous_manifest=before.manifest,
                position=place,
                log_time_ms=event.log_time_ms,
            )
    return [found[key] for key in sorted(found)], refused


@given(st.data())
def test_an_alias_stands_for_what_was_said_last(data: st.DataObject) -> None:
    """Rows equal those of plain Python, in any pieces; a fold restored from its arrays has the same digest."""
    batch = data.draw(event_batches(people=True))
    fold = folded(batch, data.draw(cuts(len(batch))))
    assert (list(fold.promotions.rows), fold.promotions.refused_count) == plain(batch)
    again = Fold(SETTINGS)
    again.restore(fold.arrays())
    assert again.promotions.rows == fold.promotions.rows
    assert again.digest() == fold.digest()


@given(event_batches(people=True))
def test_aliases_outlive_the_events_that_made_them(batch: EventBatch) -> None:
    """A fold that begins with what is said again knows each alias, and what a rollback gives back."""
    fold = folded(batch)
    said = restated(fold, [batch]).events
    again = Fold(SETTINGS)
    again.begin_with(LogPosition(fold.log_position + len(said)), len(said), [said])

    def known(rows: object) -> list[tuple[str, ...]]:
        return [row[:6] for row in rows]  # type: ignore[attr-defined]  # position and log time are those of what is said

    assert known(again.promotions.rows) == known(fold.promotions.rows)


def promoting(model: str, version: str) -> Event:
    """Return the event that lets the champion of a model stand for a version, empty = none."""
    manifest = version and "a"
    return Event(Kind.CONTROL, body=promotion_body(model, "champion", version, manifest), log_time_ms=1_000)


def test_names_with_a_date_go_on_for_ever() -> None:
    """192 rows, those that were named last: one that stands for none makes room first, and to be named is enough."""
    rows = [promoting(f"m{number:03d}", "0001-aa") for number in range(192)]
    rows += [promoting("m000", "0001-aa"), promoting("m005", "")]
    rows += [promoting(f"n{number}", "0001-aa") for number in range(3)]
    whole = folded(build(rows))
    names = {row.model for row in whole.promotions.rows}
    assert len(whole.promotions) == promotions.PROMOTIONS_MAX
    assert {f"m{number:03d}" for number in range(192)} - names == {"m005", "m001", "m002"}
    assert names >= {"n0", "n1", "n2", "m000"}
    assert whole.counts()["control_refused"] == 0
    out = whole.promotions.next_out
    assert out is not None
    assert out.model == "m003"
    assert whole.sizes()["promotions"].bytes_now == whole.sizes()["promotions"].bytes_max
    for at in ([1, 191, 192, 193, 194, 196], list(range(1, len(rows)))):
        assert folded(build(rows), at).digest() == whole.digest()
    again = Fold(SETTINGS)
    again.restore(whole.arrays())
    for fold in (again, whole):
        fold.apply(LogPosition(len(rows)), build([promoting("later", "0001-aa")]))
    assert again.digest() == whole.digest()
    assert again.promotions.find("m003") is None
    said = restated(whole, []).events
    base = Fold(SETTINGS)
    base.begin_with(LogPosition(len(said)), len(said), [said])
    first = base.promotions.next_out
    assert first is not None
    assert first.model == "m004"
