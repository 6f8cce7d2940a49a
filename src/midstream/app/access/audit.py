"""Audit of a folder: the changes that its log records, and those of its API keys; also beside a running server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME
from midstream.core.answers.lists import AuditRow
from midstream.core.kinds import Kind
from midstream.engine.lists.audit_pages import audit_record_of
from midstream.events.schema import text_column
from midstream.serving.access.api_keys import ApiKey
from midstream.serving.access.key_file import KeyFile

KEYS_ROUTE = "midstream keys"
_OVER_HTTP: Final = {
    ("POST", "/v1/keys/{name}"): "create",
    ("POST", "/v1/keys/{name}/rotate"): "create",
    ("DELETE", "/v1/keys/{name}"): "revoke",
}
"""Changes of keys by method and route, as their file has them."""


def audit_of(folder: Path, limit: int, who: str = "", route: str = "") -> list[AuditRow]:
    """Return the newest changes, the newest first.

    Args:
        folder: Holds ``data``.
        limit: At most so many.
        who: Of this caller alone; empty = of all.
        route: By this route alone; ``midstream keys`` are changes of keys by commands.

    Raises:
        LogDamaged: The log cannot be trusted.
        ConfigInvalid: The file of keys cannot be read.

    Cost: a pass over the log.
    """
    stored = KeyFile(folder / DATA_NAME).read()
    keys = () if stored is None else stored.keys
    logged = list(_logged(folder))
    over_http = {change for row in logged for change in _changes_of_keys(row)}
    found = [*logged, *(row for key in keys for row in _of_key(key) if (row.method, key.id) not in over_http)]
    wanted = [row for row in found if who in {"", row.who} and route in {"", row.route}]
    wanted.sort(key=lambda row: row.time, reverse=True)
    return wanted[:limit]


def _logged(folder: Path) -> Iterator[AuditRow]:
    for batch in LogView(folder).batches():
        rows = np.flatnonzero(batch.rows["kind"] == int(Kind.CONTROL))
        for row, body in zip(rows.tolist(), text_column(batch, "body", rows), strict=True):
            record = audit_record_of(body)
            if record is not None:
                time_ms = int(batch.rows["log_time_ms"][row])
                said = record.who, record.address, record.method, record.route, record.target, record.status
                yield AuditRow(time_ms, *said)


def _changes_of_keys(row: AuditRow) -> Iterator[tuple[str, str]]:
    """Yield act and id of each key that a request changed; its record names them, so the file's line is left out."""
    act = _OVER_HTTP.get((row.method, row.route))
    if act is not None:
        for key_id in row.target.split()[1:]:
            yield act, key_id


def _of_key(key: ApiKey) -> Iterator[AuditRow]:
    """Yield the making and the revocation of a key, which its file has."""
    yield AuditRow(key.created_ms, key.created_by, "", "create", KEYS_ROUTE, f"{key.name} {key.id}")
    if key.revoked_ms:
        yield AuditRow(key.revoked_ms, key.revoked_by, "", "revoke", KEYS_ROUTE, f"{key.name} {key.id}")
