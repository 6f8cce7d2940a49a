"""Child processes without processes: what a child would do is done some time later, on the loop, at one moment."""

import asyncio
from importlib import import_module
from typing import Any

import msgspec

from midstream.core.errors import MidstreamError
from midstream.engine.child_process import Ended, Notify, Pace, WorkOrder, nobody
from tests.support.dice import Dice

DELAY_S_MAX = 1.0
"""However long a child of the real engine takes: here time enough for everything else to happen meanwhile."""


class Children:
    """Stands in for ``engine.child_process.run``."""

    def __init__(self, dice: Dice) -> None:
        """Draw from ``dice`` how long each takes."""
        self._dice = dice

    async def run(self, module: str, order: WorkOrder, notify: Notify = nobody, **_limits: float | None) -> Ended:
        """Do what the child of ``module`` is for; a cancellation comes before it, as a kill may."""
        part: Any = import_module(module)
        await asyncio.sleep(self._dice.between(0.001, DELAY_S_MAX))
        try:
            report = part.run(order, Pace(notify, hurried=True))
        except (MidstreamError, OSError) as error:
            return Ended(b"", f"{type(error).__name__}: {error}")
        return Ended(msgspec.json.encode(report), "")
