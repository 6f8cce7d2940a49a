"""JSON of served records, for the answer about a request and for records that leave the engine."""

import msgspec
import numpy as np

from midstream.ranking.record.served import ServedRecord


def served_json(record: ServedRecord) -> bytes:
    """Return a served record as ``GET /v1/requests/{request_id}`` gives it."""
    return msgspec.json.encode(record, enc_hook=listed)


def listed(value: object) -> object:
    """Return an array as lists, for JSON encoders; NaN becomes null there.

    Raises:
        TypeError: It is no array.
    """
    if not isinstance(value, np.ndarray):
        message = f"{type(value).__name__} has no form in JSON"
        raise TypeError(message)
    return value.tolist()
