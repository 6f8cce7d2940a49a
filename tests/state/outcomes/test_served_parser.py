"""What is read of served records where they lie is what a plain reader of MessagePack says."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.events.kernel import frozen_columns
from midstream.events.schema import Event, build
from midstream.events.served_body import RECORD_VERSION, ServedBody, decode_body, encode_body
from midstream.state.outcomes.served_parser import COUNT, IDS, PLACEMENT, PLAN, SPANS, TIER, find_slates, hash_ids
from tests.support.events import served_body
from tests.support.ids import KEY, hash_of

TEXT = st.text(max_size=40)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=300) | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=30,
)
FIELDS = ServedBody.__struct_fields__


def bodies():
    """Return records: whole ones, ones with anything in a field, ones with a byte changed, ones that end early."""
    records = st.builds(
        lambda ids, names, fields: msgspec.structs.replace(
            decode_body(served_body("r", ids)),
            placement=names[0],
            config_hash=names[1],
            tier=names[2],
            item_fields={f"i{each}": {"price": 0.5} for each in range(fields)},
        ),
        st.lists(TEXT, max_size=40),
        st.tuples(TEXT, TEXT, TEXT),
        st.sampled_from([0, 3, 40]),
    )
    whole = records.map(encode_body)
    odd = st.builds(
        lambda record, place, value, more: msgspec.msgpack.encode(
            [*(value if place == at else each for at, each in enumerate(msgspec.structs.astuple(record))), *more]
        ),
        records,
        st.integers(1, len(FIELDS)),
        VALUE,
        st.lists(VALUE, max_size=2),
    )
    cut = st.builds(lambda body, at: body[: at % (len(body) + 1)], whole, st.integers(0, 2_000))
    short = records.map(lambda record: msgspec.msgpack.encode(msgspec.structs.astuple(record)[:-4]))
    bent = st.builds(
        lambda body, at, byte: body[: at % len(body)] + bytes([byte]) + body[at % len(body) + 1 :],
        whole,
        st.integers(0, 2_000),
        st.integers(0, 255),
    )
    return st.one_of(whole, odd, cut, short, bent, st.binary(max_size=50), st.just(b"\x91" * 5_000))


def read(body):
    """Return what the kernels say of a body: placement, plan, tier and hashes of the ids; None = no slate."""
    batch = build([Event(Kind.TICK), Event(Kind.SERVED, user_id="é", request_id="r", body=body), Event(Kind.TICK)])
    rows, text = frozen_columns(batch)
    found = np.zeros((1, SPANS), dtype=np.int64)
    find_slates(rows, text, np.array([1]), found)
    (spans,) = found.tolist()
    if spans[COUNT] < 0:
        return None
    hashes = np.zeros(spans[COUNT], dtype=np.uint64)
    hash_ids(text, found, np.array([0, spans[COUNT]]), KEY, hashes)
    names = [bytes(text[spans[at] : spans[at] + spans[at + 1]]) for at in (PLACEMENT, PLAN, TIER)]
    assert spans[IDS] > 0
    return (*names, hashes.tolist())


def plainly(body):
    """Return the same, by msgspec: all that is needed by its type, the rest as bytes that are not looked into."""
    types = {"placement": str, "config_hash": str, "tier": str, "ids": tuple[str, ...]}
    kind: Any = msgspec.defstruct(
        "Told", [(name, types.get(name, msgspec.Raw)) for name in FIELDS[:28]], array_like=True
    )
    try:
        told = msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return None
    if bytes(told.version) not in {bytes([each]) for each in range(1, RECORD_VERSION + 1)}:
        return None
    return told.placement.encode(), told.config_hash.encode(), told.tier.encode(), [hash_of(each) for each in told.ids]


@given(bodies())
def test_records_are_read_as_msgspec_reads_them(body):
    """Whole, with anything in any field, bent and cut: the same slate, or none."""
    found = read(body)
    try:
        expected = plainly(body)
    except UnicodeDecodeError:
        return  # whether texts are UTF-8 the kernels do not look at
    assert found == expected


@given(bodies())
def test_what_decodes_as_a_record_has_its_slate(body):
    """So whoever reads the body of a slate that is held can."""
    try:
        told = decode_body(body)
    except (ValueError, RecursionError):
        return
    names = (told.placement.encode(), told.config_hash.encode(), told.tier.encode())
    assert read(body) == (*names, [hash_of(each) for each in told.ids])


@pytest.mark.parametrize("ids", [None, "a", 3, [3], ["a", None], [["a"]], {}])
def test_ids_that_are_no_texts_make_no_slate(ids):
    """Rather than one without items."""
    values = list(msgspec.structs.astuple(decode_body(served_body("r", ["a", "b"]))))
    assert read(msgspec.msgpack.encode(values)) is not None
    values[FIELDS.index("ids")] = ids
    assert read(msgspec.msgpack.encode(values)) is None
