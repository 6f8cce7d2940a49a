"""Trainings of one model, for tests of what stands in front of an engine."""

from collections.abc import Sequence

from midstream.core.errors import NotFound, Overloaded
from midstream.engine.trainings.views import TrainingHistory, TrainingView
from midstream.training.decisions import TrainingDecision
from midstream.training.gates.results import refused

REFUSED = TrainingDecision(
    model="ranker",
    action="refused",
    candidate="0002-3fa9c2d41b22",
    champion="0001-ab7cc01d6e55",
    gates=(refused("offline", "it is worse", -0.2, -0.05),),
    reason="offline refused: it is worse",
)


class FakeTrainings:
    """One model, ``ranker``, that waits; ``is_busy`` while a candidate of it is tried."""

    is_busy = False

    def __init__(self) -> None:
        """Begin without an order."""
        self.orders: list[str] = []

    def views(self) -> Sequence[TrainingView]:
        """Return the one."""
        return [self._view()]

    def history(self, model: str) -> TrainingHistory:
        """Return its only decision."""
        self._require(model)
        return TrainingHistory([REFUSED])

    def order(self, model: str) -> TrainingView:
        """Keep an order."""
        self._require(model)
        if self.is_busy:
            raise Overloaded("it is tried")
        self.orders.append(model)
        return self._view()

    def _view(self) -> TrainingView:
        state = "queued" if self.orders else "waits"
        return TrainingView("ranker", state, 7, None, 0, REFUSED.champion, REFUSED)

    def _require(self, model: str) -> None:
        if model != "ranker":
            message = f"no [[trainings]] of {model!r} is configured; there are ranker"
            raise NotFound(message)
