"""Routing of requests in service: control documents of one state and the plans beside it, as one lookup.

State, plans and routing are replaced together, so the variant of a request is a function of the log position, the
unit and the time of the request.
"""

from collections.abc import Collection, Iterable
from typing import Self

from midstream.experiments.documents import Experiment, Holdout, document_holdout, experiment_of
from midstream.experiments.names import EXPERIMENT_PREFIX, HOLDOUT_NAME
from midstream.experiments.routes import Routes
from midstream.experiments.units import UnitReader
from midstream.state.control.placements import Placements, PlacementVersion
from midstream.state.ids.vocabulary import Vocabulary


def experiments_in(rows: Iterable[PlacementVersion]) -> tuple[Experiment, ...]:
    """Return the experiments among control documents, by name; one that cannot be read is none."""
    named = (experiment_of(each.content) for each in rows if each.name.startswith(EXPERIMENT_PREFIX))
    return tuple(each for each in named if each is not None)


def holdout_in(rows: Iterable[PlacementVersion]) -> Holdout | None:
    """Return the holdout among control documents; None = no user is held out."""
    return next((document_holdout(each.content) for each in rows if each.name == HOLDOUT_NAME), None)


class Routing:
    """Where requests go, by placement, user or session, and time."""

    def __init__(self, routes: Routes, variants: Collection[str], units: UnitReader) -> None:
        """Use ``Routing.of``."""
        self.routes = routes
        self.variants = frozenset(variants)
        """Placements of experiments and of the holdout: no request names one."""
        self._units = units

    @classmethod
    def of(cls, table: Placements, vocabulary: Vocabulary, placements: Collection[str]) -> Self:
        """Return the routing of a state and its plans.

        Args:
            table: Control documents of the state.
            vocabulary: Of the state.
            placements: Names of the plans.
        """
        rows = table.current if len(table) else ()
        running = [each for each in experiments_in(rows) if each.state == "running"]
        holdout = holdout_in(rows)
        kept = () if holdout is None else holdout.variants
        variants = {each.placement for each in (*kept, *(variant for one in running for variant in one.placements))}
        return cls(Routes.of(running, holdout, placements), variants, UnitReader(vocabulary))

    def teams(self, placement: str) -> tuple[str, ...]:
        """Return the placements that draft the slates of one, the control first; empty = it answers by itself."""
        return self.routes.teams.get(placement, ())

    def placement(self, name: str, user_id: str | None, session_id: str | None, now_ms: int) -> str:
        """Return the placement that answers a request for one that ``routes`` has."""
        return self.routes.placement(name, self._units.unit(user_id, session_id), now_ms, is_user=bool(user_id))
