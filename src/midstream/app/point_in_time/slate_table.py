"""Served records as an Arrow table: what was shown to whom, by which plan, a row for each item of each slate."""

from pathlib import Path
from typing import Any

from midstream.app.opening import Outside, config_to_read
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.served_requests import ServedCounts, served_range, served_records
from midstream.events.loose_arrow import Batch, pa
from midstream.ranking.record.served import ServedRecord, decode_served

SCHEMA: Any = pa.schema(
    [
        *((name, pa.string()) for name in ("request_id", "placement", "user_id", "session_id", "tier", "scorer")),
        ("time", pa.timestamp("ms", "UTC")),
        ("served_position", pa.int64()),
        ("log_position", pa.int64()),
        ("took_us", pa.int64()),
        ("config_hash", pa.string()),
        ("position", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("propensity", pa.float32()),
        ("sources", pa.list_(pa.string())),
    ]
)
SLATES_OF_BATCH = 1_000
"""Some 20,000 rows, 3 MB."""


def slate_table(folder: str | Path, served: str) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return the slates of a range of served records; see ``midstream.slates``."""
    root = Path(folder)
    past = Past(root, config_to_read(root))
    wanted = served_range(served, Outside().clock(), "served")
    seen: set[str] = set()
    batches: list[Batch] = []
    records: list[tuple[int, ServedRecord]] = []
    for position, body, told in served_records(past, wanted, ServedCounts()):
        if told.request_id in seen:
            continue
        seen.add(told.request_id)
        records.append((position, decode_served(body)))
        if len(records) == SLATES_OF_BATCH:
            batches.append(_rows(records))
            records = []
    batches.append(_rows(records))
    return pa.Table.from_batches(batches, schema=SCHEMA)


def _rows(records: list[tuple[int, ServedRecord]]) -> Batch:
    rows: list[dict[str, object]] = []
    for served_position, record in records:
        query = record.query
        about = {
            "request_id": query.request_id,
            "placement": query.placement,
            "user_id": query.user_id,
            "session_id": query.session_id,
            "tier": record.tier,
            "scorer": record.scorer,
            "time": query.now_ms,
            "served_position": served_position,
            "log_position": record.log_position,
            "took_us": record.took_us,
            "config_hash": record.config_hash,
        }
        for position, item in enumerate(record.items, query.first_position):
            own = {"item_id": item.id, "score": item.score, "propensity": item.propensity, "sources": item.sources}
            rows.append({**about, "position": position, **own})
    made = [pa.array([row[each.name] for row in rows], each.type) for each in SCHEMA]
    return pa.RecordBatch.from_arrays(made, schema=SCHEMA)
