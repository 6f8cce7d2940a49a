"""One structure of numba that holds what a kernel makes slates of scored candidates with, as ``state_kernel`` does.

This module imports numba, so it is imported when the first such plan is bound to a state.
"""

from typing import Any

from numba import types
from numba.experimental import structref

from midstream.ranking.compiled.room import AnswerRoom
from midstream.ranking.compiled.slate_kernel import finish_slate
from midstream.ranking.compiled.slate_room import SlateRoom, SlateRules
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.structures.kernel import optional_kernel


@structref.register  # pyright: ignore[reportUnknownMemberType]  # it has no types
class BoundSlateType(types.StructRef):
    """Type of the structure."""

    def preprocess_fields(self, fields: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        """Return the fields with types of values, as numba's documents say."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]


class BoundSlate(structref.StructRefProxy):
    """The structure as Python holds it: it keeps its arrays alive. Kernels read its fields."""

    ids: IdColumns
    room: AnswerRoom
    slate: SlateRoom
    rules: SlateRules


structref.define_proxy(BoundSlate, BoundSlateType, list(BoundSlate.__annotations__))  # type: ignore[no-untyped-call]


@optional_kernel
def make_slate(ids: IdColumns, room: AnswerRoom, slate: SlateRoom, rules: SlateRules) -> BoundSlate:
    """Return the structure of a plan over a state."""
    return BoundSlate(ids, room, slate, rules)  # type: ignore[no-untyped-call]


@optional_kernel
def finish_bound(bound: BoundSlate) -> int:
    """Make the slate of the room's shortlist and its scores; return ``ANSWERED``, or why the pipeline has to answer."""
    return finish_slate(bound.ids, bound.room, bound.slate, bound.rules)
