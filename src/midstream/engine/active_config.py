"""Active configuration of an engine. It is replaced as a whole, in one turn with the state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from midstream.core.errors import Fault
from midstream.events.wire import Accept
from midstream.ranking.plan import Plan
from midstream.state.settings import FoldSettings

Configuration: TypeAlias = Any
"""The effective configuration, of a type that only ``app`` knows."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One configuration, made ready to serve."""

    config: Configuration
    config_hash: str
    settings: FoldSettings
    plans: Mapping[str, Plan]
    accept: Accept
    """The terms on which events are taken; ``now_ms`` is 0, limits are those of a program that embeds the engine."""
    file: Configuration
    """Configuration of the file, without the placements that were set through the API."""
    aside: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict[str, tuple[Fault, ...]])
    """Placements that were set and do not hold beside the file, and why."""

    def under(self, settings: FoldSettings) -> "Service":
        """Return it for a state of these settings, such as those of the file and a compaction."""
        version = settings.version()
        plans = {name: replace(plan, fold_version=version) for name, plan in self.plans.items()}
        return replace(self, settings=settings, plans=plans)
