"""A file of one's own, cut in three by time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.session_data import cut_by_time, of_file
from midstream.evaluation.data.tables import FileColumns


@st.composite
def sessions(draw):
    """Rows of at least three sessions, in any order."""
    count = draw(st.integers(3, 15))
    rows = [(str(number), draw(st.integers(0, 50))) for number in range(count)]
    rows += draw(st.lists(st.tuples(st.integers(0, count - 1).map(str), st.integers(0, 50)), max_size=30))
    rows = draw(st.permutations(rows))
    text = np.array([row[0] for row in rows], dtype=np.str_)
    empty = np.full(len(rows), "", dtype=np.str_)
    return InteractionTable(empty, text, text, empty, np.array([row[1] for row in rows], dtype=np.int64))


@given(sessions())
def test_a_cut_by_time_keeps_sessions_whole_and_in_order(rows):
    """Every row is in one part, every session too, no part is empty, and none begins before a part before it did."""
    parts = cut_by_time(rows)
    assert sum(map(len, parts)) == len(rows)
    ids = [set(part.session_id.tolist()) for part in parts]
    assert all(ids)
    assert sum(map(len, ids)) == len(set(rows.session_id.tolist()))
    begins = [
        [int(part.time_ms[part.session_id == session].min()) for session in each]
        for part, each in zip(parts, ids, strict=True)
    ]
    assert max(begins[0]) <= min(begins[1])
    assert max(begins[1]) <= min(begins[2])
    assert all((np.diff(part.time_ms) >= 0).all() for part in parts)


def test_two_sessions_cannot_be_cut_in_three():
    """The error says how many there are."""
    text = np.array(["1", "2"], dtype=np.str_)
    with pytest.raises(Invalid, match="2 sessions"):
        cut_by_time(InteractionTable(text, text, text, text, np.array([1, 2], dtype=np.int64)))


def test_a_file_without_sessions_is_cut_by_silence(tmp_path):
    """Three visits of one user are three sessions, and the last of them is the test."""
    path = tmp_path / "clicks.csv"
    lines = [f"u,{item},{visit * 10_000_000 + place}" for visit in range(3) for place, item in enumerate("ab")]
    path.write_text("\n".join(["user,item,time", *lines]) + "\n")
    data = of_file(path, FileColumns(item="item", time="time", session=None, user="user"))
    assert set(data.reporting().asked.session_id.tolist()) == {"u#2"}
    assert set(data.reporting().learned.session_id.tolist()) == {"u#0", "u#1"}
    assert set(data.choosing().asked.session_id.tolist()) == {"u#1"}
