"""The process that explains one logged request: state of then, request again, comparison, reasons.

It runs beside the server and behind it in rank, and changes nothing.
"""

import sys
from pathlib import Path

import msgspec

from midstream.app.explain.explain import explain_at
from midstream.core.errors import MidstreamError
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.explain.explainer import ExplainOrder


def main() -> None:
    """Read the order, do it, report."""
    child_process.tell_bugs()
    child_process.begin()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=ExplainOrder)
    pace = child_process.Pace(child_process.say_progress)

    def told(stage: str, done: int, total: int) -> None:
        pace.say(stage, done, total)
        pace.rest()

    try:
        found = explain_at(Path(order.folder), LogPosition(order.position), order.request_id, order.items, told)
    except (MidstreamError, OSError, MemoryError) as error:
        child_process.fail(error)
    child_process.report(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
