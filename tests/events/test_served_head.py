"""A record in parts is the record as a whole, byte for byte."""

import msgspec

from midstream.events.served_body import RECORD_VERSION, ServedBody, encode_body
from midstream.events.served_head import ITEM_FIELDS, ServedHead, ServedTail, joined_body

_encode = msgspec.msgpack.encode


def whole(**more: object) -> ServedBody:
    """A record with something in each field of its request and its items."""
    told = {
        "version": RECORD_VERSION, "log_position": 7, "request_id": "r", "placement": "home", "user_id": "ann",
        "session_id": None, "slate_size": 2, "now_ms": 9, "seed": 1 << 63, "items": ("a",), "exclude": ("b",),
        "filter": None, "context": {}, "fetched": {}, "config_hash": "c", "fold_version": "f", "scorer": "blend",
        "tier": "full", "retrieved_count": 3, "candidate_count": 2, "source_names": ("popular",),
        "retrieved": {"popular": 3}, "removed": {"repeats": 1}, "failures": (), "ids": ("x", "y"),
        "scores": b"12345678", "propensities": b"", "source_bits": (1, 300),
    }  # fmt: skip
    return ServedBody(**{**told, **more})  # type: ignore[arg-type]


def parts_of(body: ServedBody) -> tuple[ServedHead, bytes]:
    """Its head, and the encoded fields of its items."""
    head = ServedHead(*(getattr(body, name) for name in ServedHead.__struct_fields__))
    return head, b"".join(_encode(getattr(body, name)) for name in ITEM_FIELDS)


def test_without_a_tail_all_other_fields_have_their_defaults() -> None:
    """As of a slate without models and rules."""
    body = whole()
    assert joined_body(*parts_of(body)) == encode_body(body)
    assert joined_body(*parts_of(body), took_us=70_000) == encode_body(whole(took_us=70_000))


def test_the_tail_has_features_models_and_actions_of_rules() -> None:
    """Each of them at its place, and the fields around them with their defaults."""
    more = {
        "feature_names": ("price", "age"), "feature_values": b"\0" * 16, "models": {"ranker": "3"},
        "trace_rules": ("caps.category",), "traces": b"\0\x85\xff\xff", "trace_ids": ("z",),
    }  # fmt: skip
    body = whole(**more)
    actions = _encode(body.traces) + _encode(body.trace_ids)
    tail = ServedTail(body.feature_names, body.feature_values, body.models, body.trace_rules, actions)
    assert joined_body(*parts_of(body), tail.encoded()) == encode_body(body)
    assert joined_body(*parts_of(body), tail.encoded(), 9) == encode_body(msgspec.structs.replace(body, took_us=9))
