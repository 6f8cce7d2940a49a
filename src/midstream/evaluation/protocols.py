"""Next-item protocol: a session of n acts gives n - 1 questions, each about the very next item, over the catalogue.

*Leave-one-out* has one question a session, about its last act, and recommends no item of the history.

Questions are queries as in service: a ``Moment`` of the folded state, the session's items so far in the query, a
source's ``retrieve``. The state holds no event of a test session.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.protocols import Source
from midstream.core.types import Index, Models, Moment, Query, TimestampMs
from midstream.evaluation.data.interactions import InteractionTable, Rows, by_session
from midstream.state.fold import Fold

LIST_LENGTH = 20
_NO_MODELS = Models({})


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """The questions of a data set. All columns (n,)."""

    rows: InteractionTable
    """Session by session, inside each by time."""
    first: Rows
    """Row of the session's first act."""
    last: Rows
    """Row of the last act given; the wanted item is the one of the row after it."""
    end: Rows
    """Row behind the session's last act."""

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.last)


def questions_of(interactions: InteractionTable) -> Questions:
    """Return every position of every session but the last."""
    rows = by_session(interactions)
    is_first = np.ones(len(rows), dtype=np.bool_)
    is_first[1:] = rows.session_id[1:] != rows.session_id[:-1]
    starts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(starts, len(rows)))
    # A row asks when another of its session follows: all but the last row of each.
    asks = np.ones(len(rows), dtype=np.bool_)
    asks[starts + lengths - 1] = False
    return Questions(
        rows,
        np.repeat(starts, lengths)[asks],
        np.flatnonzero(asks),
        np.repeat(starts + lengths, lengths)[asks],
    )


def query_of(questions: Questions, number: int, given_max: int) -> Query:
    """Return one question as a request: at most the ``given_max`` last items of the session, no session id."""
    last = int(questions.last[number])
    begin = max(int(questions.first[number]), last + 1 - given_max)
    return Query(
        request_id="",
        placement="",
        user_id=None,
        session_id=None,
        slate_size=LIST_LENGTH,
        now_ms=TimestampMs(int(questions.rows.time_ms[last])),
        seed=0,
        items=tuple(questions.rows.item_id[begin : last + 1].tolist()),
    )


def put(questions: Questions, fold: Fold, numbers: Iterable[int]) -> Iterator[tuple[Moment, int, int]]:
    """Yield the questions of these numbers as moments of a state, one after another, so that none has to be kept.

    Returns:
        Of each the moment, valid until the next event is folded; the index of the right item, -1 = unknown to the
        state; the index of the last item.
    """
    item_index = fold.vocabulary.item_indices(questions.rows.item_id.tolist())
    given_max = fold.settings.limits.session_items_max
    for number in numbers:
        last = int(questions.last[number])
        moment = fold.moment(query_of(questions, number, given_max), _NO_MODELS)
        yield moment, int(item_index[last + 1]), int(item_index[last])


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """Questions put to one state, ready to be answered by any number of sources. All columns (n,)."""

    moments: Sequence[Moment]
    """Valid while nothing more is folded."""
    wanted: Index
    """-1 = an item that is unknown to the state: it cannot be found."""
    later: Sequence[Index]
    """Every later item of the session."""
    last: Index
    """The item acted on last."""
    session: Rows
    """The session of each question: questions of one session are not independent."""
    place: Rows
    """Number of the last act given, from 0."""
    session_ids: Sequence[str]
    repeat: bool
    """The last item may be recommended."""
    seen: Sequence[Index] | None = None
    """Items of each question's history, none of which may be recommended; None = they may be."""

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.wanted)


def exam_of(
    fold: Fold, asked: InteractionTable, *, repeat: bool, last_only: bool = False, unseen: bool = False
) -> Exam:
    """Return the questions of a data set for a state.

    Args:
        fold: The state.
        asked: Sessions of the questions.
        repeat: The last item may be recommended.
        last_only: Only the last act of each session is a question.
        unseen: No item of the session's history may be recommended.

    Cost: one ``Moment`` a question.
    """
    questions = questions_of(asked)
    if last_only:
        is_last = questions.last + 2 == questions.end
        questions = Questions(questions.rows, questions.first[is_last], questions.last[is_last], questions.end[is_last])
    rows = questions.rows
    item_index = fold.vocabulary.item_indices(rows.item_id.tolist())
    # What a query may send along is what the state keeps of an open session.
    given_max = fold.settings.limits.session_items_max
    spans = list(zip(questions.first.tolist(), questions.last.tolist(), questions.end.tolist(), strict=True))
    return Exam(
        moments=[fold.moment(query_of(questions, number, given_max), _NO_MODELS) for number in range(len(questions))],
        wanted=item_index[questions.last + 1],
        later=[item_index[last + 1 : end] for _, last, end in spans],
        last=item_index[questions.last],
        session=questions.first,
        place=questions.last - questions.first,
        session_ids=rows.session_id[questions.first].tolist(),
        repeat=repeat,
        seen=[item_index[first : last + 1] for first, last, _ in spans] if unseen else None,
    )


def answers(source: Source, exam: Exam, k: int = LIST_LENGTH) -> Index:
    """Return a source's lists, shape (n, k), padded with -1.

    Items that may not be recommended, the last one or the history, are removed, and the next ones move up: a source
    must propose that many more.

    Raises:
        SourceUnavailable: The source cannot propose.
    """
    lists = np.full((len(exam), k), -1, dtype=np.int32)
    for row, moment in enumerate(exam.moments):
        proposed = source.retrieve(moment).item_index
        if exam.seen is not None:
            proposed = proposed[~np.isin(proposed, exam.seen[row])]
        items = listed(proposed, int(exam.last[row]), k, repeat=exam.repeat)
        lists[row, : len(items)] = items
    return lists


def listed(proposed: Index, last: int, k: int, *, repeat: bool) -> Index:
    """Return the first k items, without the last act's where it may not come again."""
    return proposed[:k] if repeat else proposed[: k + 1][proposed[: k + 1] != last][:k]
