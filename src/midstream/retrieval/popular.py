"""What most people act on over a long time."""

import msgspec

from midstream.core.durations import Duration
from midstream.core.types import Moment, Proposal
from midstream.state.items import Items


class Popular(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="popular"):
    """Items with the highest sum of action weights, each act counting half as much after ``half_life``.

    A floor source: it runs in every request, so the last resort is always warm.
    """

    name: str = "popular"
    limit: int = 50
    half_life: Duration = Duration("7d")

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the hottest items, the hottest first; none before the first interaction."""
        return Proposal(*moment.table(Items).hottest(self.half_life.ms, self.limit))
