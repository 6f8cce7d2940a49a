"""A document says of each field what the newest event said of it, in whatever order the events came."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Operation
from midstream.state.attributes.documents import OVERHEAD_BYTES, Documents

FIELDS = st.sampled_from(["a", "b", "c", "ä"])
VALUES = st.sampled_from([None, 1, "x", [1, 2], {"k": {"z": 0.5}}, True])
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([Operation.PUT, Operation.PATCH, Operation.DELETE]),
        st.dictionaries(FIELDS, VALUES, max_size=3),
        st.integers(0, 5),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=12,
)


def apply_all(documents, changes):
    """Apply the changes; return the documents."""
    for operation, fields, time_ms, index, is_timed in changes:
        documents.apply(index, operation, json.dumps(fields).encode(), time_ms, is_timed=is_timed)
    return documents


def settled(changes):
    """Return the changes of one document, those without a time with that of the newest before them."""
    found: list[tuple[int, dict[str, object], int, int]] = []
    for operation, fields, time_ms, index, is_timed in changes:
        newest_ms = max((change[2] for change in found), default=time_ms)
        found.append((operation, fields, time_ms if is_timed else max(time_ms, newest_ms), index))
    return found


def newest(changes, concerns):
    """Return the last of the newest changes that concern something."""
    found = [(time_ms, place) for place, (op, fields, time_ms, _) in enumerate(changes) if concerns(op, fields)]
    return changes[max(found)[1]] if found else None


def twin(changes):
    """Return the document: for each field the newest event that says anything about it decides."""
    document = {}
    for name in ("a", "b", "c", "ä"):
        change = newest(changes, lambda op, fields, name=name: op != Operation.PATCH or name in fields)
        if change is not None and change[0] != Operation.DELETE and change[1].get(name) is not None:
            document[name] = change[1][name]
    return document


@given(CHANGES)
def test_for_each_field_the_newest_event_decides(changes):
    """Of equal times the later in the log; ``PUT`` and ``DELETE`` say something about every field."""
    documents = apply_all(Documents(10**6), changes)
    for index in (0, 1):
        mine = settled(change for change in changes if change[3] == index)
        assert documents.get(index) == twin(mine)
        last = newest(mine, lambda *_: True)
        assert documents.is_deleted(index) == (last is not None and last[0] == Operation.DELETE)
        assert (index in documents) == bool(mine)


@given(CHANGES, CHANGES)
def test_restored_documents_go_on_as_the_old_ones(before, after):
    """The arrays hold everything that later changes can depend on."""
    documents = apply_all(Documents(400), before)
    restored = Documents(400)
    restored.apply(7, Operation.PUT, b'{"was": "here"}', 1, is_timed=True)
    restored.restore(documents.arrays())
    assert restored.deleted().tolist() == documents.deleted().tolist()
    apply_all(documents, after)
    apply_all(restored, after)
    assert documents.bytes_used == restored.bytes_used
    for name, array in documents.arrays().items():
        assert array.tobytes() == restored.arrays()[name].tobytes(), name


@given(CHANGES, st.integers(0, 600))
def test_memory_is_bounded_and_refusals_change_nothing(changes, bytes_max):
    """What does not fit is refused whole, counted, and the document stays as it was."""
    documents = Documents(bytes_max)
    for change in changes:
        before = {name: array.tobytes() for name, array in documents.arrays().items() if name != "refused"}
        refused = documents.refused_count
        apply_all(documents, [change])
        if documents.refused_count > refused:
            after = {name: array.tobytes() for name, array in documents.arrays().items() if name != "refused"}
            assert after == before
        assert documents.bytes_used <= bytes_max
        texts = len(documents.arrays()["text"])
        assert documents.bytes_used == texts + OVERHEAD_BYTES * len(documents)


@given(st.sampled_from([b"[1]", b"3", b"{", b'{"a": 1e999}', b'{"a": "\xff"}', b"{" * 5_000, b'{"a":' * 5_000]))
def test_what_is_no_object_is_refused(body):
    """It is counted, and nothing is raised in the fold."""
    documents = Documents(10**6)
    assert not documents.apply(0, Operation.PUT, body, 1, is_timed=True)
    assert documents.refused_count == 1
    assert 0 not in documents


@pytest.mark.parametrize("operation", [Operation.PUT, Operation.PATCH, Operation.DELETE])
def test_a_change_without_a_time_takes_effect(operation):
    """The clock of whoever sent the change before it may have run ahead: what comes without a time is of now."""
    documents = Documents(10**6)
    documents.apply(0, Operation.PUT, b'{"a": 1}', 1_005, is_timed=True)
    assert documents.apply(0, operation, b'{"a": 2}', 1_000, is_timed=False)
    assert documents.is_deleted(0) == (operation == Operation.DELETE)
    assert documents.get(0) == ({} if operation == Operation.DELETE else {"a": 2})
    documents.apply(0, Operation.PUT, b'{"a": 3}', 1_004, is_timed=True)
    assert documents.get(0) != {"a": 3}


@given(CHANGES)
def test_what_is_deleted_is_known_at_once(changes):
    """The indices that are kept beside the texts are those whose text says so."""
    documents = apply_all(Documents(10_000), changes)
    said = [index for index, text in sorted(documents._texts.items()) if json.loads(text)[2]]
    assert documents.deleted().tolist() == said
    assert documents.deleted_count == len(said)
    assert [index for index in (0, 1, 2) if documents.is_deleted(index)] == said


def test_texts_are_joined_in_parts(monkeypatch):
    """Whatever their number, end to end."""
    whole = apply_all(Documents(10_000), [(Operation.PUT, {"a": number}, 1, number, True) for number in range(5)])
    once = whole.arrays()["text"].tobytes()
    monkeypatch.setattr("midstream.state.attributes.documents._JOINED_MAX", 2)
    assert whole.arrays()["text"].tobytes() == once == b"".join(whole._texts.values())


def test_a_dropped_document_leaves_nothing():
    """Its memory is free, and an older event counts again."""
    documents = Documents(10**6)
    documents.apply(0, Operation.DELETE, b"", 9, is_timed=True)
    documents.drop(0)
    documents.drop(0)
    assert documents.bytes_used == 0
    assert documents.apply(0, Operation.PUT, b'{"a": 1}', 3, is_timed=True)
    assert documents.get(0) == {"a": 1}


@given(st.dictionaries(st.text(max_size=3), st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, width=32)))
def test_numbers_come_back_as_they_were_sent(fields):
    """Values rest as text, so long integers and floats lose nothing."""
    documents = Documents(10**6)
    body = json.dumps({name: value for name, value in fields.items() if abs(value) < 1e300}).encode()
    documents.apply(0, Operation.PUT, body, 1, is_timed=True)
    assert documents.get(0) == msgspec.json.decode(body)


@given(CHANGES, CHANGES)
def test_a_merge_fills_what_the_first_does_not_say(mine, theirs):
    """What the first says wins, removed fields included; of the other what is newer than the first's last full word."""
    documents = Documents(1_000_000)
    changes = [(*each[:3], index, each[4]) for index, some in enumerate((mine, theirs)) for each in some]
    apply_all(documents, changes)
    first, other = ([each for each in changes if each[3] == index] for index in (0, 1))
    before, floor = twin(settled(first)), max_floor(settled(first))
    told = {name for name in ("a", "b", "c", "ä") if said(settled(first), name, floor)}
    taken = {} if documents.is_deleted(1) else twin(settled(other))
    when = {name: time_of(settled(other), name) for name in taken}
    documents.merge(0, 1)
    expected = {name: value for name, value in taken.items() if name not in told and when[name] > floor} | before
    assert documents.get(0) == expected
    fresh = Documents(1_000_000)
    fresh.restore(documents.arrays())
    assert fresh.bytes_used == documents.bytes_used


def max_floor(changes):
    """Return the time of the newest change that said something of every field."""
    return max((time for op, _, time, _ in changes if op != Operation.PATCH), default=-1)


def said(changes, name, floor):
    """Say whether a document has a word of a field, be it that it is not there."""
    newer = [(op, fields, time) for op, fields, time, _ in changes if name in fields and op != Operation.DELETE]
    return any(
        time > floor
        or (time == floor and name in twin(changes))
        or (time == floor and op == Operation.PATCH and after_floor(changes, fields, time))
        for op, fields, time in newer
    )


def after_floor(changes, fields, time):
    """Say whether a patch came after the last full word of the same time."""
    places = [place for place, change in enumerate(changes) if change[0] != Operation.PATCH and change[2] == time]
    return any(place > max(places, default=-1) for place, change in enumerate(changes) if change[1] is fields)


def time_of(changes, name):
    """Return when the newest word of a field was said."""
    found = newest(changes, lambda op, fields: op != Operation.PATCH or name in fields)
    return found[2] if found else -1


def test_a_merge_that_does_not_fit_takes_nothing():
    """Counted, and the first stays as it is."""
    documents = Documents(1_000)
    documents.apply(0, Operation.PUT, b'{"a":"%s"}' % (b"x" * 20), 1, is_timed=True)
    documents.apply(1, Operation.PATCH, b'{"b":"%s"}' % (b"y" * 40), 2, is_timed=True)
    documents.bytes_max = documents.bytes_used + 40
    used = documents.bytes_used
    assert not documents.merge(0, 1)
    assert (documents.get(0), documents.refused_count, documents.bytes_used) == ({"a": "x" * 20}, 1, used)
    documents.drop(1)
    assert not documents.merge(0, 1)


def test_what_the_first_says_wins_whatever_its_time():
    """A removed field too; what a newer PUT did not name stays away."""
    documents = Documents(10_000)
    documents.apply(0, Operation.PUT, b'{"a":1}', 3, is_timed=True)
    documents.apply(0, Operation.PATCH, b'{"b":null}', 4, is_timed=True)
    documents.apply(1, Operation.PATCH, b'{"c":1}', 3, is_timed=True)
    documents.apply(1, Operation.PATCH, b'{"a":2,"b":2,"d":2}', 9, is_timed=True)
    assert documents.merge(0, 1)
    assert documents.get(0) == {"a": 1, "d": 2}
