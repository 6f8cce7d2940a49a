"""The process that explains one logged request: state of then, request again, comparison, reasons.

It runs beside the server and behind it in rank, and changes nothing.
"""

import sys
from pathlib import Path

import msgspec

from midstream.app.explaining import explain_at
from midstream.core.errors import MidstreamError
from midstream.core.types import LogPosition
from midstream.engine import child
from midstream.engine.explainer import Order


def main() -> None:
    """Read the order, do it, report."""
    child.tell_bugs()
    child.begin()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    pace = child.Pace(child.say_progress)

    def told(stage: str, done: int, total: int) -> None:
        pace.say(stage, done, total)
        pace.rest()

    try:
        found = explain_at(Path(order.folder), LogPosition(order.position), order.request_id, order.items, told)
    except (MidstreamError, OSError, MemoryError) as error:
        child.fail(error)
    child.report(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
