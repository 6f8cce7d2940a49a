"""Differences between a logged request and its rerun, field by field of the served record.

The rerun's record is encoded as the first one was and compared with the logged bytes, so every field is compared: the
slates are identical to the bit, or the difference is named.
"""

from typing import cast

import msgspec
import numpy as np

from midstream.core.answers.explanations import FieldDifference
from midstream.events.served_body import ServedBody

_FLOATS = frozenset({"scores", "propensities", "feature_values", "order_scores", "order_propensities"})
"""Fields that are packed as float32."""
_SHOWN_CHARACTERS = 200
_PASSED_BY = frozenset({"version", "took_us"})
"""Fields that are no content of the answer: the form of the record, and a measured time."""


def differences(then: ServedBody, now: ServedBody) -> tuple[FieldDifference, ...]:
    """Return the fields in which two records differ, in their order; none = they are identical to the bit."""
    found: list[FieldDifference] = []
    for name in ServedBody.__struct_fields__:
        old, new = getattr(then, name), getattr(now, name)
        if name not in _PASSED_BY and msgspec.msgpack.encode(old) != msgspec.msgpack.encode(new):
            found.append(_difference(name, old, new))
    return tuple(found)


def _difference(name: str, then: object, now: object) -> FieldDifference:
    """Return a difference in words; of lists the first place that differs."""
    old, new = _listed(name, then), _listed(name, now)
    if old is not None and new is not None:
        place = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        ends = [_shown(each[place]) if place < len(each) else "nothing" for each in (old, new)]
        return FieldDifference(f"{name}[{place}]", *ends)
    return FieldDifference(name, _shown(then), _shown(now))


def _listed(name: str, value: object) -> list[object] | None:
    """Return the entries of a field that has some, None of any other."""
    if name in _FLOATS and isinstance(value, bytes):
        return [f"{number:.9g}" for number in np.frombuffer(value, dtype="<f4").tolist()]
    return list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else None


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
