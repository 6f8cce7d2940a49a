"""Metrics files of scheduled commands, in the Prometheus text format.

The textfile collector of the node exporter reads them. A file is replaced as a whole, so that a scrape never meets half
of one. Every user of the machine may read it, whatever the umask: the exporter has a user of its own, and copies that
are made beside it call for a strict umask.
"""

import os
from collections.abc import Mapping
from pathlib import Path

TEXT_METRICS: Mapping[str, str] = {
    "midstream_backup_timestamp_seconds": "Time at which the newest backup was complete.",
    "midstream_backup_bytes": "Size of the newest backup.",
    "midstream_backup_log_position": "Events in the newest backup.",
    "midstream_restore_drill_success": "1 = the newest backup was restored to the state of its log.",
    "midstream_probe_success": "1 = the last probe saw its event in an answer in time.",
    "midstream_probe_acknowledged_seconds": "Time until the event of the last probe was acknowledged.",
    "midstream_probe_seen_seconds": "Time from sending it until an answer had it.",
    "midstream_probe_timestamp_seconds": "Time of the last probe.",
}
"""Every metric of such a file, all of them gauges, with its description."""
_MODE = 0o644


def write_metrics(path: Path, values: Mapping[str, float]) -> None:
    """Write gauges to a file; those of ``values`` alone are in it.

    Raises:
        KeyError: A name is not in ``TEXT_METRICS``.
        OSError: The folder cannot be written.
    """
    lines = [
        f"# HELP {name} {TEXT_METRICS[name]}\n# TYPE {name} gauge\n{name} {float(value)!r}\n"
        for name, value in values.items()
    ]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text("".join(lines), "utf-8")
        fresh.chmod(_MODE)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
