"""Experiments in a dict, for tests of what stands in front of an engine."""

from collections.abc import Sequence

import msgspec

from midstream.core.errors import NotFound
from midstream.engine.experiments.views import (
    ExperimentList,
    ExperimentView,
    HoldoutView,
    RampOrder,
    StartOrder,
    VariantView,
)
from midstream.engine.placements.control_changes import Said
from midstream.experiments.documents import RampStep


class FakeExperimenting:
    """What was ordered of each experiment, and of the holdout."""

    def __init__(self) -> None:
        """Begin with none."""
        self._views: dict[str, ExperimentView] = {}
        self._holdout: HoldoutView | None = None

    def listed(self) -> ExperimentList:
        """Return all."""
        return ExperimentList(list(self._views.values()), self._holdout)

    def view(self, name: str) -> ExperimentView:
        """Return one, or raise ``NotFound``."""
        if name not in self._views:
            message = f"no experiment {name!r} was started"
            raise NotFound(message)
        return self._views[name]

    async def start(self, name: str, order: StartOrder, said: Said) -> ExperimentView:
        """Keep what was ordered."""
        exposed = order.ramp[0].exposed
        variants = [VariantView(each.name, each.name, "0" * 64, each.weight, 0.5, 0) for each in order.variants]
        self._views[name] = ExperimentView(
            name, order.placement, "running", order.layer or "home", [0, 10_000], exposed,
            [RampStep(0, round(exposed * 10_000))], variants, 1, None, "", said.author, said.note, 1, 1, "0",
        )  # fmt: skip
        return self._views[name]

    async def ramp(self, name: str, steps: Sequence[RampOrder], said: Said) -> ExperimentView:
        """Expose as the last step says."""
        return self._change(name, said, exposed=steps[-1].exposed)

    async def stop(self, name: str, reason: str, said: Said, ship: str | None = None) -> ExperimentView:
        """Stop one."""
        return self._change(name, said, state="stopped", reason=f"{reason} {ship or ''}".strip())

    async def hold_out(self, share: float, placements: Sequence[str], said: Said) -> HoldoutView:
        """Keep the holdout."""
        variants = [VariantView("holdout", each, "0" * 64, 1.0, share, 0) for each in placements]
        self._holdout = HoldoutView(share, variants, 1, said.author, said.note)
        return self._holdout

    async def give_back_holdout(self, said: Said) -> None:
        """End the holdout, or raise ``NotFound``."""
        if self._holdout is None:
            message = f"no user is held out, {said.author}"
            raise NotFound(message)
        self._holdout = None

    def _change(self, name: str, said: Said, **changes: object) -> ExperimentView:
        found = msgspec.structs.replace(self.view(name), author=said.author, note=said.note, **changes)
        self._views[name] = found
        return found
