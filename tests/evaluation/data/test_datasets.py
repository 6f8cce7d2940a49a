"""Where data lies, how known sets are read, and how a file of one's own is cut in three by time."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.evaluation.data.datasets import (
    DATA_VARIABLE,
    amazon_sequences,
    cut_by_time,
    data_folder,
    of_file,
    yoochoose,
)
from midstream.evaluation.data.interactions import InteractionTable
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


def test_the_data_folder_is_named_or_beside_the_checkout(tmp_path):
    """The environment wins; without it a folder shared/data beside the checkout is taken, if there is one."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    assert data_folder({}, checkout) is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert data_folder({}, checkout) == (tmp_path / "shared" / "data").resolve()
    assert data_folder({DATA_VARIABLE: str(tmp_path)}, checkout) == tmp_path


def walked(rows):
    """The items of each session, in the order of the sessions."""
    found: dict[str, list[str]] = {}
    for session, item in zip(rows.session_id.tolist(), rows.item_id.tolist(), strict=True):
        found.setdefault(session, []).append(item)
    return list(found.values())


def test_prefixes_become_sessions_again(tmp_path):
    """The longest prefix and its target are a session; the last twentieth of the training sessions is for choosing."""
    folder = tmp_path / "yoochoose1_64"
    folder.mkdir()
    np.savez(
        folder / "sequences.npz",
        train_items=np.repeat(np.arange(40), 2),
        train_offsets=np.arange(0, 81, 2),
        test_items=np.array([7, 8, 9, 7, 8, 7, 3, 5]),
        test_offsets=np.array([0, 3, 5, 6, 7, 8]),
        test_targets=np.array([6, 9, 8, 4, 5]),
    )
    data = yoochoose(tmp_path)
    split = data.reporting()
    assert walked(split.asked) == [["7", "8", "9", "6"], ["3", "4"], ["5", "5"]]
    assert walked(split.learned) == [[str(item)] * 2 for item in range(40)]
    assert split.learned.time_ms.max() < split.asked.time_ms.min()
    split = data.choosing()
    assert (len(walked(split.learned)), walked(split.asked)) == (38, [["38", "38"], ["39", "39"]])
    assert data.repeat


def test_the_last_two_items_of_a_sequence_are_never_learned(tmp_path):
    """Choosing asks for the one before the last, reporting for the last, both from all before it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    with gzip.open(folder / "toy.txt.gz", "wt") as file:
        file.write("1 3 1 2 4\n2 1 2 5\n")
    data = amazon_sequences("toy", "toy.txt.gz")(tmp_path)
    assert (data.last_only, data.unseen, data.validation_learned) == (True, True, False)
    for split, asked in (
        (data.choosing(), [["3", "1", "2"], ["1", "2"]]),
        (data.reporting(), [["3", "1", "2", "4"], ["1", "2", "5"]]),
    ):
        assert walked(split.learned) == [["3", "1"], ["1"]]
        assert walked(split.asked) == asked
