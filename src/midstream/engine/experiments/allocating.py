"""Allocation of running experiments: once a day shares move by the posterior of the primary rate.

The units are those that the watch of experiments keeps as the log grows, so a move costs no reading. A move is a
control event: it is in force in every process at the same log position, is kept in the document with its figures, and
comes after a restart if it did not before. Of several nodes of one log the one that watches experiments moves.
"""

import asyncio
from typing import Final

from midstream.core.errors import ConfigInvalid, NotFound, RebuildRunning
from midstream.engine.engine import Engine
from midstream.engine.experiments.designs import metrics_of
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.watch import ExperimentWatch, UnitsSeen
from midstream.engine.placements.control_changes import Said
from midstream.evaluation.experiments.posterior import posterior_of
from midstream.experiments.documents import Experiment
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.reallocation import SHARE_MIN, Reallocation, is_due, whole_shares
from midstream.experiments.routing import experiments_in

LOOK_S: Final = 30.0
AUTHOR: Final = "midstream"


class ExperimentAllocating:
    """An ``EngineService``."""

    def __init__(self, engine: Engine, experimenting: Experimenting, watch: ExperimentWatch) -> None:
        """Move nothing until it is started."""
        self._engine = engine
        self._experimenting = experimenting
        self._watch = watch
        self._service = engine.supervise("experiment_allocation", self.look, LOOK_S)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """End."""
        await self._service.stop()

    async def look(self) -> None:
        """Move the shares that are due."""
        if not self._watch.is_in_charge:
            return
        fold, now_ms = self._engine.fold, self._engine.clock()
        for told in experiments_in(fold.placements.current):
            if told.state != "running" or told.allocation != "thompson":
                continue
            if not is_due(told.began_ms, told.moves, now_ms):
                continue
            seen = self._watch.units_seen(told.name)
            if seen is None:
                continue
            primary = next(each for each in metrics_of(told, fold.settings.types) if each.role == "primary")
            made = await asyncio.to_thread(reallocation_of, told, primary, seen, now_ms)
            try:
                await self._experimenting.reallocate(told.name, made, Said(AUTHOR))
            except (ConfigInvalid, NotFound, RebuildRunning):
                continue  # it was stopped meanwhile, or its turn comes at the next look


def reallocation_of(told: Experiment, primary: ExperimentMetric, seen: UnitsSeen, now_ms: int) -> Reallocation:
    """Return the shares of an experiment from now on.

    Args:
        told: The experiment.
        primary: Its primary metric, a rate.
        seen: Its units, those of a sample where there are too many.
        now_ms: Wall clock.
    """
    column = seen.names.index(primary.counts)
    count = len(told.variants)
    found = posterior_of(seen.table, column, count, SHARE_MIN, is_less_better=primary.better == "lower")
    return Reallocation(
        from_ms=now_ms,
        shares=whole_shares([each.share for each in found]),
        best=tuple(each.best for each in found),
        units=tuple(each.units for each in found),
        successes=tuple(each.successes for each in found),
        rates=tuple(each.rate for each in found),
    )
