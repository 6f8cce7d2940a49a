"""Outputs of a server without a broker: one that is called slates, at log position 40 of 100."""

from dataclasses import replace

from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.types import LogPosition
from midstream.engine.outbox.output_group import OutputView

END = 100


class FakeOutputs:
    """The routes' side of an ``OutputGroup``."""

    def __init__(self) -> None:
        self._view = OutputView("slates", "shop-slates", "served", "delivering", "", LogPosition(40), 60, 500, 3)

    def views(self) -> tuple[OutputView, ...]:
        """Return the one that there is."""
        return (self._view,)

    def view(self, name: str) -> OutputView:
        """Return it by its name."""
        if name != self._view.name:
            raise NotFound(name)
        return self._view

    async def move(self, name: str, to: LogPosition | str) -> OutputView:
        """Have it go on from elsewhere."""
        view = self.view(name)
        place = {"now": END, "beginning": 0}[to] if isinstance(to, str) else to
        if not 0 <= place <= END:
            raise Invalid((Fault("/to", f"{to} came.", f"From 0 to {END}.", "/docs/outputs.md"),))
        self._view = replace(view, log_position=LogPosition(place), lag_events=END - place)
        return self._view
