"""Experiments of a program that embeds the engine: the same orders as over HTTP, from any thread."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.views import ExperimentList, ExperimentView, HoldoutView, RampOrders, StartOrder
from midstream.engine.placements.control_changes import Said
from midstream.engine.requests.python_values import id_of, read_request

T = TypeVar("T")


class LoopCall(Protocol):
    """Call of work on the event loop of the engine, which returns its result."""

    def __call__(self, work: Callable[[], Awaitable[T]], /) -> T:
        """Return the result of the work."""
        ...


class ExperimentCalls:
    """Calls from other threads than the engine's."""

    def __init__(self, wait: LoopCall, experimenting: Callable[[], Experimenting]) -> None:
        """Call ``experimenting`` through ``wait``."""
        self._wait = wait
        self._experimenting = experimenting

    def list(self) -> ExperimentList:
        """Return all experiments that are kept, running ones first, and the holdout."""

        async def work() -> ExperimentList:
            return self._experimenting().listed()

        return self._wait(work)

    def show(self, name: str) -> ExperimentView:
        """Return all that is known of one experiment.

        Raises:
            NotFound: There is none of that name.
        """

        async def work() -> ExperimentView:
            return self._experimenting().view(name)

        return self._wait(work)

    def start(self, name: str, *, author: str, note: str = "", **order: object) -> ExperimentView:
        """Start an experiment; it assigns from the next request on, also after a restart, until it is stopped.

        Args:
            name: Never used before.
            author: Author of the change.
            note: Reason of the change.
            order: ``placement``, ``variants`` (dicts with ``name``, and ``placement`` or ``version``), and as needed
                ``layer``, ``share``, ``ramp``, ``metrics``,
                ``allocation`` and ``design``, as in ``POST /v1/experiments/{name}``.

        Raises:
            RequestInvalid: A field has the wrong type.
            ConfigInvalid: It cannot start; every fault is named, and nothing was changed. So with all that follow.
            RebuildRunning: A change of the configuration is running.
            Overloaded: The maximum is kept.
            AppendFailed: The log could not be made durable.
        """
        told, said = read_request(StartOrder, {}, order), Said(author, note)
        return self._wait(lambda: self._experimenting().start(id_of("name", name), told, said))

    def ramp(self, name: str, ramp: Sequence[Mapping[str, object]], *, author: str, note: str = "") -> ExperimentView:
        """Expose more units of an experiment, at once or by steps; none leaves its variant.

        Raises:
            NotFound: There is none of that name.
            MidstreamError: As ``start`` does.
        """
        told, said = read_request(RampOrders, {"ramp": ramp}, {}), Said(author, note)
        return self._wait(lambda: self._experimenting().ramp(name, told.ramp, said))

    def stop(self, name: str, reason: str, *, author: str, note: str = "", ship: str | None = None) -> ExperimentView:
        """Stop an experiment for a reason, which is kept; ``ship`` sets its placement to one of its variants.

        Raises:
            NotFound: There is none of that name, or no such variant.
            MidstreamError: As ``start`` does.
        """
        said = Said(author, note)
        return self._wait(lambda: self._experimenting().stop(name, reason, said, ship))

    def hold_out(self, share: float, placements: Sequence[str] = (), *, author: str, note: str = "") -> HoldoutView:
        """Hold a share of users out of all experiments, answered by some placements as they are now, for good.

        Raises:
            MidstreamError: As ``start`` does.
        """
        said = Said(author, note)
        return self._wait(lambda: self._experimenting().hold_out(share, placements, said))

    def give_back_holdout(self, *, author: str, note: str = "") -> None:
        """End the holdout.

        Raises:
            NotFound: There is none.
            MidstreamError: As ``start`` does.
        """
        said = Said(author, note)
        self._wait(lambda: self._experimenting().give_back_holdout(said))
