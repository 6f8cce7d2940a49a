"""The kernel from a question's bytes to a slate's: asker, sources, decision and both texts."""

from midstream.ranking.compiled.asker_kernel import read_asker
from midstream.ranking.compiled.decision_kernel import ANSWERED, UNUSUAL, decide
from midstream.ranking.compiled.encode_kernel import encode
from midstream.ranking.compiled.program import PlanProgram
from midstream.ranking.compiled.proposal_kernel import propose_all
from midstream.ranking.compiled.room import SLATE, WANTED, AnswerRoom
from midstream.state.ids.aliases import AliasColumns
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.pairs.covisitation import PairColumns
from midstream.state.sessions.session_index import IndexColumns
from midstream.state.sessions.sessions import OpenColumns
from midstream.state.structures.hot_lists import HotColumns
from midstream.state.structures.kernel import kernel
from midstream.state.users.user_rows import RingColumns


@kernel
def answer_of(
    ids: IdColumns,
    aliases: AliasColumns,
    held: OpenColumns,
    rings: RingColumns,
    hot: HotColumns,
    index: IndexColumns,
    pairs: PairColumns,
    program: PlanProgram,
    room: AnswerRoom,
) -> int:
    """Answer the question in the room; return ``ANSWERED``, or why the pipeline has to answer."""
    read_asker(ids, aliases, held, room)
    proposed = propose_all(program, ids, held, rings, hot, index, pairs, room)
    if proposed < 0:
        return UNUSUAL
    code = decide(program, hot, room, proposed)
    if code != ANSWERED or room.ask[WANTED] != SLATE:
        return code
    return encode(ids, room)
