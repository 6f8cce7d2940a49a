"""Child process that explains one logged request: state, rerun, comparison, reasons.

It runs beside the server at a lower priority, and changes nothing.
"""

from pathlib import Path

from midstream.app.explain.explain import explain_at
from midstream.core.answers.explanations import Explained
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Pace
from midstream.engine.explain.explainer import ExplainOrder


def run(order: ExplainOrder, pace: Pace) -> Explained:
    """Explain the request that was ordered; see ``explain_at``."""

    def told(stage: str, done: int, total: int) -> None:
        pace.say(stage, done, total)
        pace.rest()

    return explain_at(Path(order.folder), LogPosition(order.position), order.request_id, order.items, told)


if __name__ == "__main__":
    child_process.main(ExplainOrder, run)
