"""One structure of numba that holds a state's arrays, a program and its room: the kernel's only argument.

Sixty arrays one by one cost 7 µs a call, one structure that holds them 1.3 µs. It is made by a kernel, whose code is
cached: made from Python it would be compiled in each process. This module imports numba, so it is imported when the
first program is made.
"""

from typing import Any

from numba import types
from numba.experimental import structref

from midstream.ranking.compiled.answer_kernel import answer_of
from midstream.ranking.compiled.decision_kernel import decide_judged
from midstream.ranking.compiled.program import PlanProgram
from midstream.ranking.compiled.room import AnswerRoom
from midstream.state.ids.aliases import AliasColumns
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.pairs.covisitation import PairColumns
from midstream.state.sessions.session_index import IndexColumns
from midstream.state.sessions.sessions import OpenColumns
from midstream.state.structures.hot_lists import HotColumns
from midstream.state.structures.kernel import optional_kernel
from midstream.state.users.user_rows import RingColumns


@structref.register  # pyright: ignore[reportUnknownMemberType]  # it has no types
class BoundStateType(types.StructRef):
    """Type of the structure."""

    def preprocess_fields(self, fields: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        """Return the fields with types of values, as numba's documents say."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]


class BoundState(structref.StructRefProxy):
    """The structure as Python holds it: it keeps its arrays alive. Kernels read its fields."""

    ids: IdColumns
    aliases: AliasColumns
    held: OpenColumns
    rings: RingColumns
    hot: HotColumns
    index: IndexColumns
    pairs: PairColumns
    program: PlanProgram
    room: AnswerRoom


structref.define_proxy(BoundState, BoundStateType, list(BoundState.__annotations__))  # type: ignore[no-untyped-call]


@optional_kernel
def make_state(
    ids: IdColumns,
    aliases: AliasColumns,
    held: OpenColumns,
    rings: RingColumns,
    hot: HotColumns,
    index: IndexColumns,
    pairs: PairColumns,
    program: PlanProgram,
    room: AnswerRoom,
) -> BoundState:
    """Return the structure of a state and a program."""
    return BoundState(ids, aliases, held, rings, hot, index, pairs, program, room)  # type: ignore[no-untyped-call]


@optional_kernel
def answer_question(state: BoundState) -> int:
    """Answer the question in the room; return ``ANSWERED``, or why the pipeline has to answer."""
    return answer_of(
        state.ids,
        state.aliases,
        state.held,
        state.rings,
        state.hot,
        state.index,
        state.pairs,
        state.program,
        state.room,
    )


@optional_kernel
def answer_judged(state: BoundState) -> int:
    """Go on from the verdicts of all filters in the room; return what ``answer_question`` does."""
    return decide_judged(state.program, state.room)
