"""Routes: which placement answers a request, by its placement, unit and time.

Made anew when plans or experiments change, and read at each request: one dictionary by placement, then tables of bytes
by bucket. Held-out users come first and are in no experiment. A placement has its experiments in one layer, so a unit
is in one of them at most.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Self

import xxhash

from midstream.experiments.assignment import BUCKETS, by_bucket
from midstream.experiments.documents import Experiment, Holdout, exposed_at
from midstream.experiments.names import MARK

_hash = xxhash.xxh64_intdigest
"""In place of calls of ``bucket``, which are a tenth of the time of a request."""


class _Range(NamedTuple):
    """One experiment, by bucket."""

    first: int
    size: int
    salt: int
    steps: tuple[tuple[int, int], ...]
    """Time and exposed buckets of each step, the last one first."""
    variants: bytes
    """Place of the variant of each bucket of the experiment's own salt, (10,000,)."""
    names: tuple[str, ...]
    """Placement of each variant."""


class _Layer(NamedTuple):
    """Experiments of one placement."""

    salt: int
    experiments: bytes
    """1 + place of the experiment of each bucket of the layer, (10,000,); 0 = none."""
    ranges: tuple[_Range, ...]


class _Route(NamedTuple):
    """What is looked at for one placement."""

    held_out: str
    """Placement that answers held-out users."""
    layer: _Layer | None


class Routes:
    """Where the requests of each placement go."""

    def __init__(
        self,
        routes: dict[str, _Route],
        holdout: Holdout | None,
        suspended: Collection[str],
        teams: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Use ``Routes.of``."""
        self._routes = routes
        self.teams = teams
        """Placements that draft the slates of a placement, by its name; the control first."""
        self._salt = 0 if holdout is None else holdout.salt
        self._held_out = 0 if holdout is None else holdout.share
        self.suspended = frozenset(suspended)
        """Experiments with a variant that is not in force: none of their units is assigned."""

    @classmethod
    def of(cls, experiments: Iterable[Experiment], holdout: Holdout | None, placements: Collection[str]) -> Self:
        """Return the routes of what runs.

        Args:
            experiments: Of any state.
            holdout: None = no user is held out.
            placements: Names of those that have a plan. An experiment with a variant that is not among them is
                suspended, as its groups would no longer be what they were assigned to.
        """
        running: dict[str, list[Experiment]] = {}
        suspended: list[str] = []
        for each in experiments:
            if each.state != "running":
                continue
            if all(variant.placement in placements for variant in each.placements) and each.placement in placements:
                running.setdefault(each.placement, []).append(each)
            else:
                suspended.append(each.name)
        kept = () if holdout is None else holdout.variants
        held_out = {each.placement.partition(MARK)[0]: each.placement for each in kept if each.placement in placements}
        routes = {
            name: _Route(held_out.get(name, name), _layer_of(running.get(name, ()))) for name in {*running, *held_out}
        }
        teams = {
            each.draft.placement: tuple(variant.placement for variant in each.variants)
            for each in chain.from_iterable(running.values())
            if each.draft is not None
        }
        return cls(routes, holdout, suspended, teams)

    def __bool__(self) -> bool:
        """Return whether any placement is routed."""
        return bool(self._routes)

    def has(self, placement: str) -> bool:
        """Return whether requests for a placement are routed; its unit is needed then."""
        return placement in self._routes

    def placement(self, name: str, unit: bytes | None, now_ms: int, *, is_user: bool) -> str:
        """Return the placement that answers a request. Cost: three hashes and as many lookups.

        Args:
            name: Placement of the request; it is routed.
            unit: ``user_unit`` or ``session_unit``; None = the request has neither, and the placement itself answers.
            now_ms: Wall clock of the request.
            is_user: Whether the unit is a user: others are not held out.
        """
        if unit is None:
            return name
        held_out, layer = self._routes[name]
        if is_user and _hash(unit, self._salt) % BUCKETS < self._held_out:
            return held_out
        if layer is None:
            return name
        own = _hash(unit, layer.salt) % BUCKETS
        place = layer.experiments[own]
        if not place:
            return name
        first, size, salt, steps, variants, names = layer.ranges[place - 1]
        for from_ms, exposed in steps:
            if from_ms <= now_ms:
                # Of the whole range exactly where exposed is 10,000.
                return (
                    names[variants[_hash(unit, salt) % BUCKETS]] if (own - first) * BUCKETS < exposed * size else name
                )
        return name


def _layer_of(experiments: Sequence[Experiment]) -> _Layer | None:
    """Return the tables of a placement's experiments; None = it has none."""
    if not experiments:
        return None
    places = bytearray(BUCKETS)
    for number, each in enumerate(experiments, 1):
        places[each.first : each.end] = bytes([number]) * (each.end - each.first)
    return _Layer(experiments[0].layer_salt, bytes(places), tuple(map(_range_of, experiments)))


def _range_of(experiment: Experiment) -> _Range:
    answering = experiment.variants if experiment.draft is None else (experiment.draft,)
    return _Range(
        experiment.first,
        experiment.end - experiment.first,
        experiment.salt,
        tuple((each.from_ms, each.exposed) for each in reversed(experiment.steps)),
        by_bucket([each.share for each in answering]),
        tuple(each.placement for each in answering),
    )


def exposed_share_at(experiment: Experiment, now_ms: int) -> float:
    """Return the share of an experiment's units that have a variant at a time: whole buckets, as in ``Routes``."""
    size = experiment.end - experiment.first
    return -(-size * exposed_at(experiment, now_ms) // BUCKETS) / size


def shares_at(experiment: Experiment, now_ms: int) -> list[float]:
    """Return the share of all units outside the holdout that each variant has at a time, 0 to 1.

    Of an interleaving experiment all variants have the same units.
    """
    exposed = exposed_share_at(experiment, now_ms) * (experiment.end - experiment.first) / BUCKETS
    if experiment.draft is not None:
        return [exposed] * len(experiment.variants)
    return [exposed * each.share / BUCKETS for each in experiment.variants]
